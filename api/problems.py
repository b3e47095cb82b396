"""Answers errors as application/problem+json (RFC 9457).

A problem says what was expected, what the request contained, and what the caller can do.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match
from structlog.contextvars import get_contextvars

from api import refusals
from api.headers import RATE_LIMIT, headers
from api.refusals import Refusal
from domain.errors import ReinError

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
SHOWN_ERRORS, SHOWN_CHARS = 20, 80


class FieldError(BaseModel):
    """One field of the request that is not valid."""

    field: str = Field(examples=["body.goal"])
    expected: str = Field(examples=["String should have at least 3 characters"])
    came: str = Field(examples=["''"])


class Problem(BaseModel):
    """The body of every error answer.

    Programs can rely on `code`, which is stable. `detail` and `cure` are texts for people.
    """

    type: str = Field(examples=["urn:rein:problem:INVALID_REQUEST"])
    title: str = Field(examples=["The request does not fit"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["body.goal: String should have at least 3 characters; came ''"])
    code: str = Field(examples=["INVALID_REQUEST"])
    cure: str | None = Field(default=None, examples=["correct the fields named in `errors`"])
    trace_id: UUID | None = None
    request_id: str | None = Field(
        default=None, description="The answer's X-Request-Id, which the logs name too"
    )
    errors: list[FieldError] = []


_DESCRIPTIONS: dict[int | str, str] = {
    400: "The body is not JSON in UTF-8",
    401: "The API key is missing or not valid",
    403: "The key lacks the scope, or the request comes from another site",
    404: "Nothing of the caller's tenant is stored under this id",
    409: "The run is not in a state for this",
    413: "The body is larger than 64 KB",
    415: "The body is not application/json",
    422: "The request does not fit: `errors` says where",
    429: "A limit of the tenant is reached",
    503: "A part of Rein is away",
    "default": "Any other error",
}
_HEADERS: dict[int | str, tuple[str, ...]] = {
    401: ("WWW-Authenticate",),
    429: ("Retry-After", *RATE_LIMIT),
    503: ("Retry-After",),
}


def declared(*statuses: int | str) -> dict[int | str, dict[str, Any]]:
    """Describe error answers with these statuses, for a route or router in the OpenAPI document."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {
            "description": _DESCRIPTIONS[status],
            "content": content,
            "headers": headers(*_HEADERS.get(status, ())),
        }
        for status in statuses
    }


# Every endpoint that authenticates its caller may answer the errors in ALWAYS. An endpoint that
# reads a JSON body may also answer those in OF_BODIES.
ALWAYS = declared(401, 403, 422, 503, "default")
OF_BODIES = declared(400, 413, 415)


def codes() -> dict[str, str]:
    """Map every error code to a text with its status and title, for the OpenAPI document."""
    told = [(each.code, each.status, each.title) for each in _below(ReinError)]
    told += [(each.code, each.status, each.title) for each in refusals.ALL]
    return {code: f"{status}: {title}" for code, status, title in sorted(told)}


def _below(kind: type[ReinError]) -> Iterator[type[ReinError]]:
    for each in kind.__subclasses__():
        yield each
        yield from _below(each)


class ProblemResponse(Response):
    media_type = MEDIA_TYPE


def install(app: FastAPI) -> None:
    """Register handlers that answer all errors of the application as problems."""
    app.exception_handler(ReinError)(_of_rein)
    app.exception_handler(RequestValidationError)(_of_validation)
    app.exception_handler(HTTPException)(_of_http)


def refused(refusal: Refusal, detail: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """Build the answer for an error without a ReinError class, such as an unknown path."""
    return _render(
        status=refusal.status,
        code=refusal.code,
        title=refusal.title,
        detail=_visible(detail),
        cure=refusal.cure,
        headers=headers,
    )


def _render(
    *,
    status: int,
    code: str,
    title: str,
    detail: str,
    cure: str | None = None,
    trace_id: UUID | None = None,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    problem = Problem(
        type=f"urn:rein:problem:{code}",
        title=title,
        status=status,
        detail=detail,
        code=code,
        cure=cure,
        trace_id=trace_id,
        request_id=get_contextvars().get("request_id"),
        errors=list(errors),
    )
    body = problem.model_dump_json(exclude_none=True, exclude={"errors"} if not errors else None)
    return ProblemResponse(body, status, headers)


async def _of_rein(request: Request, error: ReinError) -> Response:
    if error.status >= 500:
        log.warning("refused", code=error.code, detail=error.detail, path=request.url.path)
    return _render(
        status=error.status,
        code=error.code,
        title=error.title,
        detail=_visible(error.detail),
        cure=error.cure,
        trace_id=error.trace_id or _trace_id(request),
        headers=error.headers,
    )


async def _of_http(request: Request, error: HTTPException) -> Response:
    headers = dict(error.headers or {})
    # The statuses 204 and 3xx are no errors, so their answers have no problem as their body.
    if error.status_code < 400:
        return Response(status_code=error.status_code, headers=headers)
    if error.status_code == 405:
        headers["Allow"] = ", ".join(sorted(_methods(request)))
    where = f"{request.method} {_shortened(request.url.path, quoted=False)}"
    other = refusals.REFUSED._replace(status=error.status_code)
    refusal = refusals.BY_STATUS.get(error.status_code, other)
    return refused(refusal, f"{where}: {error.detail}", headers=headers)


def _methods(request: Request) -> set[str]:
    """Return all methods that the requested path allows.

    Starlette names only the methods of one route, but several routes may have the same path.
    """
    return {
        method
        for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
        for route in request.app.routes
        if route.matches({**request.scope, "method": method})[0] == Match.FULL
    }


async def _of_validation(request: Request, error: RequestValidationError) -> Response:
    found = error.errors()
    if found and found[0]["type"] == "json_invalid":
        return _malformed(found[0])
    errors = [_field_error(item) for item in found[:SHOWN_ERRORS]]
    first = errors[0]
    return _render(
        status=422,
        code="INVALID_REQUEST",
        title="The request does not fit",
        detail=f"{first.field}: {first.expected}; came {first.came}",
        cure="correct the fields named in `errors`",
        trace_id=_trace_id(request),
        errors=errors,
    )


def _malformed(item: dict[str, Any]) -> Response:
    where = item["loc"][-1]
    why = item.get("ctx", {}).get("error", item["msg"])
    return refused(refusals.MALFORMED_BODY, f"not JSON at character {where}: {why}")


def _field_error(item: dict[str, Any]) -> FieldError:
    expected = str(item["msg"]).removeprefix("Value error, ")
    came = "nothing" if item["type"] == "missing" else _shortened(item.get("input"))
    return FieldError(
        field=_visible(".".join(_shortened(part, quoted=False) for part in item["loc"])),
        expected=_visible(expected),
        came=came,
    )


def _shortened(value: object, *, quoted: bool = True) -> str:
    # The value is shortened before `repr` is called, because the repr of a large body would take as
    # much time and memory as the body itself.
    if isinstance(value, str):
        text = value[: SHOWN_CHARS + 1]
    elif isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    else:
        text, quoted = repr(value)[: SHOWN_CHARS + 1], False
    cut = text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"
    return _visible(repr(cut) if quoted else cut)


def _visible(text: str) -> str:
    """Replace each lone surrogate by its escape, because it cannot be encoded as UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _trace_id(request: Request) -> UUID | None:
    try:
        return UUID(request.path_params["trace_id"])
    except (KeyError, ValueError):
        return None

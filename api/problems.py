"""Errors as application/problem+json (RFC 9457): what was expected, what came, what to do."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.routing import Match

from domain.errors import ReinError

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
SHOWN_ERRORS, SHOWN_CHARS = 20, 80

# Status -> code, title, cure of what the framework refuses before a route is reached.
_REFUSALS: dict[int, tuple[str, str, str]] = {
    400: ("MALFORMED_BODY", "The body cannot be read", "send one JSON object, encoded as UTF-8"),
    404: ("NO_SUCH_PAGE", "There is no such address", "GET /docs lists every address"),
    405: ("METHOD_NOT_ALLOWED", "The address has no such method", "see the Allow header"),
    406: ("NOT_ACCEPTABLE", "No such representation", "accept application/json"),
    413: ("TOO_LARGE", "The body is too large", "send at most 64 KB; a goal has 4,000 characters"),
    415: (
        "UNSUPPORTED_MEDIA_TYPE",
        "The body is not JSON",
        "send it with the header Content-Type: application/json",
    ),
}


class FieldError(BaseModel):
    """One field that does not fit."""

    field: str = Field(examples=["body.goal"])
    expected: str = Field(examples=["String should have at least 3 characters"])
    came: str = Field(examples=["''"])


class Problem(BaseModel):
    """Every error of this API. `code` is stable; `detail` and `cure` are for people."""

    type: str = Field(examples=["urn:rein:problem:INVALID_REQUEST"])
    title: str = Field(examples=["The request does not fit"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["body.goal: String should have at least 3 characters; came ''"])
    code: str = Field(examples=["INVALID_REQUEST"])
    cure: str | None = Field(default=None, examples=["correct the fields named in `errors`"])
    trace_id: UUID | None = None
    errors: list[FieldError] = []


def _declared(status: int, description: str) -> dict[int | str, dict[str, Any]]:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": description, "content": content}}


# What any endpoint may answer; declared once for all of them.
RESPONSES: dict[int | str, dict[str, Any]] = {
    **_declared(400, "The body is not JSON in UTF-8"),
    **_declared(404, "Nothing is stored under this id"),
    **_declared(409, "The run is not in a state for this"),
    **_declared(413, "The body is larger than 64 KB"),
    **_declared(415, "The body is not application/json"),
    **_declared(422, "The request does not fit: `errors` says where"),
    **_declared(503, "A part of Rein is away; see Retry-After"),
}


def schemas() -> dict[str, Any]:
    """What the declared answers refer to, for the OpenAPI document."""
    _, found = models_json_schema(
        [(Problem, "serialization")], ref_template="#/components/schemas/{model}"
    )
    shared: dict[str, Any] = found["$defs"]
    return shared


class ProblemResponse(Response):
    media_type = MEDIA_TYPE


def install(app: FastAPI) -> None:
    """Render every error the same way."""
    app.add_exception_handler(ReinError, _of_rein)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)


def refused(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """The answer to a request that no endpoint could take."""
    unknown = (f"HTTP_{status}", "The request was refused", "see /docs")
    code, title, cure = _REFUSALS.get(status, unknown)
    return _render(
        status=status, code=code, title=title, detail=_visible(detail), cure=cure, headers=headers
    )


def unhandled() -> Response:
    """The answer to an error that nobody foresaw: it says nothing of the inside."""
    return _render(
        status=500,
        code="INTERNAL",
        title="Something went wrong on our side",
        detail="An unexpected error was logged",
        cure="send the request again with an Idempotency-Key; tell the operator if it stays",
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
    headers: dict[str, str] | None = None,
) -> Response:
    problem = Problem(
        type=f"urn:rein:problem:{code}",
        title=title,
        status=status,
        detail=detail,
        code=code,
        cure=cure,
        trace_id=trace_id,
        errors=list(errors),
    )
    body = problem.model_dump_json(exclude_none=True, exclude={"errors"} if not errors else None)
    return ProblemResponse(body, status, headers)


async def _of_rein(request: Request, error: Exception) -> Response:
    if not isinstance(error, ReinError):
        raise error
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


async def _of_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    headers = dict(error.headers or {})
    if error.status_code < 400:  # 204 and redirects have no body
        return Response(status_code=error.status_code, headers=headers)
    if error.status_code == 405:
        headers["Allow"] = ", ".join(sorted(_methods(request)))
    where = f"{request.method} {_shortened(request.url.path, quoted=False)}"
    return refused(error.status_code, f"{where}: {error.detail}", headers)


def _methods(request: Request) -> set[str]:
    """All that an address allows; the framework names the methods of one of its routes."""
    return {
        method
        for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
        for route in request.app.routes
        if route.matches({**request.scope, "method": method})[0] == Match.FULL
    }


async def _of_validation(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
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
    code, title, cure = _REFUSALS[400]
    where = item["loc"][-1]
    detail = f"not JSON at character {where}: {item.get('ctx', {}).get('error', item['msg'])}"
    return _render(status=400, code=code, title=title, detail=detail, cure=cure)


def _field_error(item: dict[str, Any]) -> FieldError:
    expected = str(item["msg"]).removeprefix("Value error, ")
    came = "nothing" if item["type"] == "missing" else _shortened(item.get("input"))
    return FieldError(
        field=_visible(".".join(_shortened(part, quoted=False) for part in item["loc"])),
        expected=_visible(expected),
        came=came,
    )


def _shortened(value: object, *, quoted: bool = True) -> str:
    # Cut before it is shown: the repr of a large body costs as much as the body.
    if isinstance(value, str):
        text = value[: SHOWN_CHARS + 1]
    elif isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    else:
        text, quoted = repr(value)[: SHOWN_CHARS + 1], False
    cut = text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"
    return _visible(repr(cut) if quoted else cut)


def _visible(text: str) -> str:
    """A lone surrogate cannot be sent as UTF-8; show it as its escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def _trace_id(request: Request) -> UUID | None:
    try:
        return UUID(request.path_params["trace_id"])
    except (KeyError, ValueError):
        return None

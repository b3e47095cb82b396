"""A client of Opik that sends each request once and classifies the answer."""

import asyncio
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Literal, Self
from uuid import UUID

import httpx
from opik.rest_api.client import AsyncOpikApi
from opik.rest_api.core.api_error import ApiError
from opik.rest_api.core.client_wrapper import AsyncClientWrapper
from pydantic_core import from_json, to_json

from tracing.ids import timestamp_of
from tracing.outbox import Kind
from tracing.ship.queue import Claimed

# Opik servers may refuse to create entities whose id is more than 24 hours old. An id counts as too
# old already after this time, so that a request arrives before the server's limit.
CREATABLE = timedelta(hours=20)

# What an answer of Opik means. "sent": Opik has the rows. "wait": Opik asks for a pause (429).
# "unavailable": Opik cannot answer now. "refused": Opik will never accept some row of the batch.
# "too_old": Opik does not create ids of that age. "denied": the API key, workspace or address is
# wrong, and the rows are not at fault.
Outcome = Literal["sent", "wait", "unavailable", "refused", "too_old", "denied"]

_REFUSED = frozenset((400, 409, 413, 422))
_UNAVAILABLE = frozenset((408, 425, 500, 502, 503, 504))
# A server that answers with one of these statuses has not processed the request.
_NOT_HANDLED = frozenset((408, 425, 503))
_NOT_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
# The errors of Opik's client when Opik does not answer a read request, or answers with an error.
READ_ERRORS = (ApiError, httpx.HTTPError, TimeoutError)
QUESTIONS_AT_ONCE = 16
_ROUTES: dict[Kind, tuple[str, str, str]] = {
    "trace": ("POST", "v1/private/traces/batch", "traces"),
    "span": ("POST", "v1/private/spans/batch", "spans"),
    "score": ("PUT", "v1/private/traces/feedback-scores", "scores"),
}
_PATCH_ROUTES = {"trace": "v1/private/traces", "span": "v1/private/spans"}
# Opik accepts these fields when it creates an entity, but not in an update.
_CREATION_ONLY = ("id", "start_time", "last_updated_at")


@dataclass(frozen=True)
class Answer:
    """The result of one request to Opik.

    Attributes:
        status: HTTP status; 0 when no answer arrived.
        wait_s: Seconds that Opik asks to wait; None when it asks for no wait.
        maybe_delivered: True when Opik may have stored the rows, although its answer does not say
            so.
    """

    outcome: Outcome
    status: int = 0
    reason: str = ""
    wait_s: float | None = None
    maybe_delivered: bool = False


def classify(status: int, headers: Mapping[str, str], body: str) -> Answer:
    """Return what the HTTP answer to a write request means.

    Opik answers each successful write with 204. Another success, such as a page with status 200,
    comes from a proxy or a wrong address, so it counts as `denied`.
    """
    reason = f"{status} {body[:500]}".strip()
    if status == 204:
        return Answer("sent", status)
    if status == 429:
        return Answer("wait", status, reason, retry_after_s(headers))
    if status in _REFUSED:
        too_old = status == 400 and "ingestion window" in body
        return Answer("too_old" if too_old else "refused", status, reason)
    if status in _UNAVAILABLE or status > 504:
        maybe = status not in _NOT_HANDLED
        return Answer("unavailable", status, reason, retry_after_s(headers), maybe)
    return Answer("denied", status, reason)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the server asks to wait, or None when it does not ask.

    Opik's own header RateLimit-Reset is preferred to the standard header Retry-After.
    """
    for name in ("RateLimit-Reset", "Retry-After"):
        seconds = _seconds(headers.get(name, "").strip())
        if seconds is not None:
            return max(0.0, seconds)
    return None


@dataclass(frozen=True)
class OpikAddress:
    """The address of Opik, and the API key and workspace to use there."""

    url: str
    api_key: str | None = None
    workspace: str | None = None
    timeout_s: float = 20


class OpikClient:
    """Sends outbox rows to Opik and asks Opik about them.

    Use it as an async context manager, which closes the HTTP connections at the end.
    """

    def __init__(self, address: OpikAddress) -> None:
        self._timeout_s = address.timeout_s
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(address.timeout_s, connect=5))
        # PostgreSQL builds the JSON of the batches, so they use the HTTP layer of Opik's client
        # directly and skip its request models. A test validates the rows against these models.
        self._raw = AsyncClientWrapper(
            api_key=address.api_key,
            workspace_name=address.workspace,
            base_url=address.url.rstrip("/"),
            timeout=address.timeout_s,
            httpx_client=self._http,
        ).httpx_client
        self._api = AsyncOpikApi(
            base_url=address.url.rstrip("/"),
            api_key=address.api_key,
            workspace_name=address.workspace,
            httpx_client=self._http,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def send(self, rows: Sequence[Claimed]) -> Answer:
        """Send rows of one kind in one request.

        A row that needs an update or a deletion must be the only one in `rows`.
        """
        if len(rows) == 1 and rows[0].deleted:
            return await self._delete_score(rows[0])
        if len(rows) == 1 and needs_patch(rows[0]):
            return await self.patch(rows[0])
        method, path, key = _ROUTES[rows[0].kind]
        body = f'{{"{key}":[{",".join(row.wire for row in rows)}]}}'.encode()
        return await self._write(method, path, body, rows)

    async def patch(self, row: Claimed) -> Answer:
        """Update a row that Opik has, or create one whose id is too old for the batch route."""
        fields: dict[str, Any] = from_json(row.wire)
        identity = fields["id"]
        if not (row.sent_before or row.end_sent == "yes"):
            # An update cannot set the start time. If the update creates the trace, the trace's
            # metadata holds its start time instead.
            metadata = fields.get("metadata") or {}
            fields["metadata"] = {**metadata, "started_at": fields["start_time"]}
        # Opik runs its online rules on a trace for every request that contains `end_time`, so an
        # end that Opik already has is left out.
        dropped = (*_CREATION_ONLY, "end_time") if row.end_sent == "yes" else _CREATION_ONLY
        body = to_json({name: value for name, value in fields.items() if name not in dropped})
        return await self._write("PATCH", f"{_PATCH_ROUTES[row.kind]}/{identity}", body, [row])

    async def ask_about_ends(self, rows: Sequence[Claimed]) -> None:
        """Ask Opik whether it has the ends of those traces for which this is unknown.

        Sets `end_sent` of these rows to "yes" or "no". Raises one of READ_ERRORS when Opik does not
        answer.
        """
        unsure = [row for row in rows if row.end_sent == "maybe"]
        for start in range(0, len(unsure), QUESTIONS_AT_ONCE):
            some = unsure[start : start + QUESTIONS_AT_ONCE]
            asked = (self.is_missing("trace", str(row.wire_id), ended=True) for row in some)
            for row, missing in zip(some, await asyncio.gather(*asked), strict=True):
                row.end_sent = "no" if missing else "yes"

    async def _delete_score(self, row: Claimed) -> Answer:
        # Opik answers 404 when it does not have the score, which counts as a successful deletion.
        score: dict[str, str] = from_json(row.wire)
        path = f"v1/private/traces/{score['id']}/feedback-scores/delete"
        answer = await self._write("POST", path, to_json({"name": score["name"]}), [row])
        return Answer("sent", 404) if answer.status == 404 else answer

    async def is_missing(self, kind: Kind, identity: str, *, ended: bool, score: str = "") -> bool:
        """Tell whether Opik has lost a row that it accepted, or has only an older version of it.

        `ended` says that a version with an end was sent, so a version without an end is older. If
        the trace of a score is missing, the score does not count as missing. Raises one of
        READ_ERRORS when Opik does not answer.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                if kind == "span":
                    found = await self._api.spans.get_span_by_id(identity)
                    return ended and found.end_time is None
                trace = await self._api.traces.get_trace_by_id(identity)
        except ApiError as error:
            if error.status_code == 404:
                return kind != "score"
            raise
        if kind == "score":
            return score not in {each.name for each in trace.feedback_scores or ()}
        return ended and trace.end_time is None

    async def project(self, name: str) -> UUID:
        """Return Opik's id of a project, and create the project if it does not exist.

        Raises one of READ_ERRORS when Opik does not answer.
        """
        async with asyncio.timeout(self._timeout_s):
            try:
                found = await self._api.projects.retrieve_project(name=name)
            except ApiError as error:
                if error.status_code != 404:
                    raise
                await self._api.projects.create_project(name=name)
                found = await self._api.projects.retrieve_project(name=name)
        return UUID(str(found.id))

    async def _write(self, method: str, path: str, body: bytes, rows: Sequence[Claimed]) -> Answer:
        """Make a write request and set `end_sent` of the rows whose ends it contained."""
        ends = [row for row in rows if row.end_sent == "no"]
        for row in ends:
            # If the shipper is stopped during the request, the value stays "maybe".
            row.end_sent = "maybe"
        answer = await self._request(method, path, body)
        if answer.outcome == "sent" or not answer.maybe_delivered:
            for row in ends:
                row.end_sent = "yes" if answer.outcome == "sent" else "no"
        return answer

    async def _request(self, method: str, path: str, body: bytes) -> Answer:
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        packed = gzip.compress(body, 1)
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._raw.request(
                    path, method=method, content=packed, headers=headers
                )
        except (httpx.HTTPError, TimeoutError) as error:
            reason = f"{type(error).__name__} {error}".strip()
            maybe = not isinstance(error, _NOT_CONNECTED)
            return Answer("unavailable", reason=reason, maybe_delivered=maybe)
        return classify(response.status_code, response.headers, response.text)


def needs_patch(row: Claimed) -> bool:
    """Tell whether a row must be sent as an update (PATCH) instead of a create.

    This holds for a trace whose end Opik has, because another create would make Opik's online rules
    judge it again. It also holds for a row that Opik has and whose id is too old to be created
    again.
    """
    return row.end_sent == "yes" or (row.sent_before and is_old(row))


def is_old(row: Claimed) -> bool:
    """Tell whether a row's id is older than CREATABLE, so that Opik may refuse to create it."""
    return row.kind != "score" and datetime.now(UTC) - timestamp_of(row.wire_id) > CREATABLE


def _seconds(text: str) -> float | None:
    if text.replace(".", "", 1).isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (at.astimezone(UTC) - datetime.now(UTC)).total_seconds()

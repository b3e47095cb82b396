"""Opik over its own REST client: one try per request, and what the answer means."""

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

# Servers may refuse to create ids that are more than 24 h old; this leaves time for the way there.
CREATABLE = timedelta(hours=20)

# sent: Opik has the rows · wait: Opik says when to come again · unavailable: Opik cannot answer
# now · refused: something in the batch will never be accepted · too_old: an id is older than Opik
# creates · denied: our key, workspace or address is wrong, and no row is to blame.
Outcome = Literal["sent", "wait", "unavailable", "refused", "too_old", "denied"]

_REFUSED = frozenset((400, 409, 413, 422))
_UNAVAILABLE = frozenset((408, 425, 500, 502, 503, 504))
_NOT_HANDLED = frozenset((408, 425, 503))  # statuses of a server that did nothing with the request
_NOT_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
# What Opik's client raises when a question to Opik is not answered.
READ_ERRORS = (ApiError, httpx.HTTPError, TimeoutError)
QUESTIONS_AT_ONCE = 16
_ROUTES: dict[Kind, tuple[str, str, str]] = {
    "trace": ("POST", "v1/private/traces/batch", "traces"),
    "span": ("POST", "v1/private/spans/batch", "spans"),
    "score": ("PUT", "v1/private/traces/feedback-scores", "scores"),
}
_PATCH_ROUTES = {"trace": "v1/private/traces", "span": "v1/private/spans"}
_CREATION_ONLY = ("id", "start_time", "last_updated_at")  # fields that no update may carry


@dataclass(frozen=True)
class Answer:
    """How a request ended. `status` is 0 when there was no answer at all.

    `maybe_delivered`: Opik may have stored the rows, although its answer does not say so.
    """

    outcome: Outcome
    status: int = 0
    reason: str = ""
    wait_s: float | None = None
    maybe_delivered: bool = False


def classify(status: int, headers: Mapping[str, str], body: str) -> Answer:
    """The meaning of an HTTP answer to a write.

    Opik answers every write of ours with 204. Another success, such as a page with status 200,
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
    """Seconds that the server asks to wait, by Opik's own header, then by the standard one."""
    for name in ("RateLimit-Reset", "Retry-After"):
        seconds = _seconds(headers.get(name, "").strip())
        if seconds is not None:
            return max(0.0, seconds)
    return None


@dataclass(frozen=True)
class OpikAddress:
    """Where Opik is and who we are there."""

    url: str
    api_key: str | None = None
    workspace: str | None = None
    timeout_s: float = 20


class OpikClient:
    """Sends rows and asks about them. An async context manager around one connection pool."""

    def __init__(self, address: OpikAddress) -> None:
        self._timeout_s = address.timeout_s
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(address.timeout_s, connect=5))
        # Batches are sent as PostgreSQL's own JSON, so they pass the client's HTTP layer without
        # its models; a test holds the rows to these models.
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
        """Send rows of one kind in one request; only a single row can be updated or deleted."""
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
            # An update cannot set the start time, so the metadata of a trace that it creates does.
            metadata = fields.get("metadata") or {}
            fields["metadata"] = {**metadata, "started_at": fields["start_time"]}
        # Opik's rules judge a trace each time that its end is sent.
        dropped = (*_CREATION_ONLY, "end_time") if row.end_sent == "yes" else _CREATION_ONLY
        body = to_json({name: value for name, value in fields.items() if name not in dropped})
        return await self._write("PATCH", f"{_PATCH_ROUTES[row.kind]}/{identity}", body, [row])

    async def ask_about_ends(self, rows: Sequence[Claimed]) -> None:
        """Ask Opik for the traces whose end it was maybe sent, and settle the doubt.

        Raises one of READ_ERRORS when Opik does not say.
        """
        unsure = [row for row in rows if row.end_sent == "maybe"]
        for start in range(0, len(unsure), QUESTIONS_AT_ONCE):
            some = unsure[start : start + QUESTIONS_AT_ONCE]
            asked = (self.is_missing("trace", str(row.wire_id), ended=True) for row in some)
            for row, missing in zip(some, await asyncio.gather(*asked), strict=True):
                row.end_sent = "no" if missing else "yes"

    async def _delete_score(self, row: Claimed) -> Answer:
        # A score that Opik does not have counts as deleted.
        score: dict[str, str] = from_json(row.wire)
        path = f"v1/private/traces/{score['id']}/feedback-scores/delete"
        answer = await self._write("POST", path, to_json({"name": score["name"]}), [row])
        return Answer("sent", 404) if answer.status == 404 else answer

    async def is_missing(self, kind: Kind, identity: str, *, ended: bool, score: str = "") -> bool:
        """Whether Opik lost a row that it had accepted, or has only an older version of it.

        `ended` says that a version with an end was sent. If a score's trace is gone, the score is
        not missing. Raises one of READ_ERRORS when Opik does not say.
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
        """The id of a project, created if there is none. Raises one of READ_ERRORS."""
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
        """Make the request, and note whether Opik has the ends of these traces after it."""
        ends = [row for row in rows if row.end_sent == "no"]
        for row in ends:
            row.end_sent = "maybe"  # this stands if the shipper is stopped during the request
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
    """Whether a row must go as an update.

    Opik may refuse to see an old id created again; and a trace whose end it has would be judged
    again by its rules.
    """
    return row.end_sent == "yes" or (row.sent_before and is_old(row))


def is_old(row: Claimed) -> bool:
    """Whether a server with a window for new ids would refuse to create this row."""
    return row.kind != "score" and datetime.now(UTC) - timestamp_of(row.wire_id) > CREATABLE


def _seconds(text: str) -> float | None:
    if text.replace(".", "", 1).isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (at.astimezone(UTC) - datetime.now(UTC)).total_seconds()

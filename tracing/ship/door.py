"""The door to Opik: its own REST client, one try per request."""

import asyncio
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import httpx
from opik.rest_api.client import AsyncOpikApi
from opik.rest_api.core.api_error import ApiError
from opik.rest_api.core.client_wrapper import AsyncClientWrapper
from pydantic_core import from_json, to_json

from tracing.ids import born_at
from tracing.rows import Kind
from tracing.ship.answers import Answer, judge
from tracing.ship.queue import Claimed

# Opik's ids are created within 24 h of the time that they carry; this leaves it room.
CREATABLE = timedelta(hours=20)

_ROUTES: dict[Kind, tuple[str, str, str]] = {
    "trace": ("POST", "v1/private/traces/batch", "traces"),
    "span": ("POST", "v1/private/spans/batch", "spans"),
    "score": ("PUT", "v1/private/traces/feedback-scores", "scores"),
}
_PATCH_ROUTES = {"trace": "v1/private/traces", "span": "v1/private/spans"}
# What an update may not carry: the creation's own fields.
_CREATION_ONLY = ("id", "start_time", "last_updated_at")


@dataclass(frozen=True)
class OpikAddress:
    """Where Opik is and who we are there."""

    url: str
    api_key: str | None = None
    workspace: str | None = None
    timeout_s: float = 20


class Door:
    """Sends rows and asks about them. An async context manager around one connection pool."""

    def __init__(self, address: OpikAddress) -> None:
        self._timeout_s = address.timeout_s
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(address.timeout_s, connect=5))
        # The batch bodies are PostgreSQL's own JSON, so they go through the client's HTTP layer;
        # a test holds them to the client's models.
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

    async def send(self, kind: Kind, rows: Sequence[Claimed]) -> Answer:
        """Create or replace whole rows in one request."""
        method, path, key = _ROUTES[kind]
        body = f'{{"{key}":[{",".join(row.wire for row in rows)}]}}'.encode()
        return await self._request(method, path, body)

    async def patch(self, row: Claimed) -> Answer:
        """Change a row that Opik has, or whose id is too old to be created."""
        fields: dict[str, Any] = from_json(row.wire)
        identity = fields["id"]
        if not row.known:
            # A trace that begins as an update has no start time, so it says it in its metadata.
            metadata = fields.get("metadata") or {}
            fields["metadata"] = {**metadata, "started_at": fields["start_time"]}
        for name in _CREATION_ONLY:
            fields.pop(name, None)
        return await self._request(
            "PATCH", f"{_PATCH_ROUTES[row.kind]}/{identity}", to_json(fields)
        )

    async def withdraw(self, row: Claimed) -> Answer:
        """Take a score back; one that Opik does not have needs no more."""
        score: dict[str, str] = from_json(row.wire)
        path = f"v1/private/traces/{score['id']}/feedback-scores/delete"
        answer = await self._request("POST", path, to_json({"name": score["name"]}))
        return Answer("sent", 404) if answer.status == 404 else answer

    async def lacks(self, kind: Kind, identity: str, *, ended: bool, score: str = "") -> bool:
        """Whether Opik does not have a row that it took, or only an older version of it.

        Of a trace that is gone no score is missed. Raises ApiError or httpx.HTTPError when it
        does not say.
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
        """The id of a project, made if there is none. Raises ApiError or httpx.HTTPError."""
        async with asyncio.timeout(self._timeout_s):
            try:
                found = await self._api.projects.retrieve_project(name=name)
            except ApiError as error:
                if error.status_code != 404:
                    raise
                await self._api.projects.create_project(name=name)
                found = await self._api.projects.retrieve_project(name=name)
        return UUID(str(found.id))

    async def _request(self, method: str, path: str, body: bytes) -> Answer:
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        packed = gzip.compress(body, 1)
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._raw.request(
                    path, method=method, content=packed, headers=headers
                )
        except (httpx.HTTPError, TimeoutError) as error:
            return Answer("away", reason=f"{type(error).__name__} {error}".strip())
        return judge(response.status_code, response.headers, response.text)


def needs_patch(row: Claimed) -> bool:
    """Whether Opik has the row already and may refuse to see its id created once more."""
    return row.known and is_old(row)


def is_old(row: Claimed) -> bool:
    """Whether a server with a window for new ids would refuse to create this row."""
    return row.kind != "score" and datetime.now(UTC) - born_at(row.wire_id) > CREATABLE

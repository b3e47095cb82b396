"""What endpoints are handed: the services, a connection, and the headers they share."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header, Request
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ConfigDict, SecretStr
from starlette.exceptions import HTTPException
from temporalio.client import Client

from api.gauges import Gauges
from api.links import Addresses, TracePages
from db.events import Watchers
from db.pool import Connection, Pool, acquire
from domain.errors import InvalidRequest
from tracing import TraceContext

LONGEST_WAIT_S = 60


class Config(BaseModel):
    """The settings that endpoints need."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    task_queue: str
    model: str
    quality_threshold: float
    opik_project: str
    environment: str
    notice: str
    pseudonym_key: SecretStr


@dataclass(frozen=True)
class Services:
    """Made once per process, by the lifespan."""

    config: Config
    pool: Pool
    temporal: Client
    watchers: Watchers
    addresses: Addresses
    pages: TracePages
    registry: CollectorRegistry
    gauges: Gauges
    starting: set[asyncio.Task[bool]] = field(default_factory=set)

    async def all_started(self) -> None:
        """Wait until every accepted run is started, or left to the reconciler."""
        if self.starting:
            await asyncio.wait(self.starting)

    def context(self, trace_id: UUID) -> TraceContext:
        """The trace that a run writes to."""
        return TraceContext(
            trace_id=trace_id,
            project=self.config.opik_project,
            environment=self.config.environment,
        )


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Rein = Annotated[Services, Depends(_services)]


async def _connection(rein: Rein) -> AsyncIterator[Connection]:
    async with acquire(rein.pool) as conn:
        yield conn


async def _transaction(rein: Rein) -> AsyncIterator[Connection]:
    async with acquire(rein.pool) as conn, conn.transaction():
        yield conn


# scope="function": given back, and committed, before the answer is sent.
Reading = Annotated[Connection, Depends(_connection, scope="function")]
Transaction = Annotated[Connection, Depends(_transaction, scope="function")]


async def json_only(request: Request) -> None:
    """Refuse a body that does not say that it is JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    main, _, sub = kind.partition("/")
    if main != "application" or not (sub == "json" or sub.endswith("+json")):
        raise HTTPException(415, f"expected application/json, came {kind[:80] or 'nothing'}")


JsonOnly = Depends(json_only)

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]+$",
        description="Your own id of this request: sent again, it finds the same run",
    ),
]


def _wait(
    prefer: Annotated[
        list[str] | None,
        Header(
            description="`wait=N` answers with the result if it is ready in N seconds (0 to 60)",
            examples=[["wait=10"]],
        ),
    ] = None,
) -> int | None:
    """The seconds of `Prefer: wait=N` (RFC 7240); other preferences are ignored, as it says.

    The header may come several times, which is one list.
    """
    for preference in ",".join(prefer or ()).split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            seconds = value.strip().strip('"')
            if not (seconds.isascii() and seconds.isdigit() and len(seconds) <= 9):
                raise InvalidRequest(
                    f"Prefer: wait expects whole seconds, came {seconds[:20]!r}",
                    cure=f"send wait=0 to wait={LONGEST_WAIT_S}",
                )
            return min(int(seconds), LONGEST_WAIT_S)
    return None


Wait = Annotated[int | None, Depends(_wait)]

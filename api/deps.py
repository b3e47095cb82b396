"""Dependencies of the endpoints: the services of the process, and common request headers."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header, Path, Request
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic.json_schema import SkipJsonSchema
from starlette.exceptions import HTTPException
from temporalio.client import Client

from api.callers import Authenticator, NoAuthentication
from api.examples import TRACE_ID
from api.gauges import Gauges
from api.links import Addresses, TracePages
from api.starting import Starter
from db.events import Watchers
from db.pool import Connection, Pools, transaction
from domain.callers import Caller
from domain.errors import InvalidRequest

LONGEST_WAIT_S = 60

TraceId = Annotated[UUID, Path(description="The run's trace id", examples=[TRACE_ID])]


class Config(BaseModel):
    """The part of the settings that endpoints read."""

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
    """The objects that all endpoints share. The application's lifespan creates them once."""

    config: Config
    pools: Pools
    temporal: Client
    starter: Starter
    authenticator: Authenticator | NoAuthentication
    watchers: Watchers
    addresses: Addresses
    pages: TracePages
    registry: CollectorRegistry
    gauges: Gauges

    def transaction(self, caller: Caller) -> AbstractAsyncContextManager[Connection]:
        """Open a transaction that can see and change only the rows of the caller's tenant."""
        return transaction(self.pools.application, caller.tenant)


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


AppServices = Annotated[Services, Depends(_services)]


async def json_only(request: Request) -> None:
    """Raise HTTPException 415 unless the Content-Type is application/json or application/*+json."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    main, _, sub = kind.partition("/")
    if main != "application" or not (sub == "json" or sub.endswith("+json")):
        raise HTTPException(415, f"expected application/json, came {kind[:80] or 'nothing'}")


JsonOnly = Depends(json_only)

# SkipJsonSchema keeps `null` out of the OpenAPI document: a client may leave the header out, but it
# cannot send null.
IdempotencyKey = Annotated[
    Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[!-~]+$")] | SkipJsonSchema[None],
    Header(
        alias="Idempotency-Key",
        description="Your own id of this request: sent again, it finds the same run",
    ),
]


def _wait(
    request: Request,
    prefer: Annotated[
        str | SkipJsonSchema[None],
        Header(
            alias="Prefer",
            description="`wait=N` answers with the result if it is ready in N seconds (0 to 60)",
            examples=["wait=10"],
        ),
    ] = None,
) -> int | None:
    """Return N of `Prefer: wait=N` (RFC 7240) in seconds, at most 60; None without this preference.

    The function reads the raw headers, because a client may send Prefer several times and FastAPI
    passes on only the last one. Raises InvalidRequest when N is not a whole number.
    """
    for preference in ",".join(request.headers.getlist("prefer")).split(","):
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

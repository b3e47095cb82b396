"""Health checks for orchestrators, and metrics for Prometheus.

The port for callers serves only `/livez`. `/readyz` and `/metrics` are served on the port for
operators, which is not to be published.
"""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from datetime import timedelta
from typing import Literal, TypeVar

from fastapi import APIRouter, FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field
from starlette.datastructures import State
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from api import problems
from api.deps import AppServices, Services
from db.pool import acquire
from db.prompts import select_current_prompts
from db.runs import count_recent_runs, count_refused_starts
from domain.errors import Unavailable
from tracing import backlog
from workflows.options import SEARCH_ATTRIBUTES

CHECK_TIMEOUT_S = 2

# Maps each kind of run to the names of its stages, each of which needs a registered prompt.
Kinds = Mapping[str, Sequence[str]]
T = TypeVar("T")

router = APIRouter(tags=["operations"])


class Alive(BaseModel):
    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """PostgreSQL and Temporal answer, and at least one kind of run has all its prompts."""

    status: Literal["ready"] = "ready"
    postgresql: str
    temporal: str
    kinds: dict[str, str] = Field(description="The prompts of each kind of run, or what it lacks")


@router.head("/livez", include_in_schema=False)
@router.get("/livez")
async def live() -> Alive:
    """Check that the API process answers. PostgreSQL and Temporal are not checked."""
    return Alive()


def create_operations(state: State, kinds: Kinds) -> FastAPI:
    """Build the application for operators.

    `state` is the state of the application for callers; it holds the services that both share.
    """
    app = FastAPI(openapi_url=None)
    app.state = state
    problems.install(app)
    app.include_router(router)

    @app.head("/readyz")
    @app.get("/readyz")
    async def ready(services: AppServices) -> Ready:
        return await _check(services, kinds)

    @app.head("/metrics")
    @app.get("/metrics")
    async def metrics(services: AppServices) -> Response:
        await _read_gauges(services)
        return Response(generate_latest(services.registry), media_type=CONTENT_TYPE_LATEST)

    return app


async def _check(services: Services, kinds: Kinds) -> Ready:
    """Check PostgreSQL, the registered prompts and Temporal.

    Raises Unavailable (503), which names every check that failed.
    """
    postgresql, temporal = await asyncio.gather(
        _in_time("PostgreSQL", _ask_postgresql(services, kinds)),
        _in_time("Temporal", _ask_temporal(services)),
    )
    if isinstance(postgresql, Unavailable) or isinstance(temporal, Unavailable):
        away = [found for found in (postgresql, temporal) if isinstance(found, Unavailable)]
        raise Unavailable(
            "; ".join(error.detail for error in away),
            cure="start what is away; the API goes on by itself when it is back",
            retry_after=2,
        )
    return Ready(postgresql="answers", temporal=temporal, kinds=postgresql)


async def _in_time(name: str, check: Awaitable[T]) -> T | Unavailable:
    """Return the result of a check, or its failure, also when the check takes too long.

    The failure is returned instead of raised, so that one answer can report all failed checks.
    """
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S + 1):
            return await check
    except Unavailable as error:
        return error
    except TimeoutError:
        return Unavailable(f"{name} did not answer in time")


async def _ask_postgresql(services: Services, kinds: Kinds) -> dict[str, str]:
    async with acquire(services.pools.operations) as conn:
        prompts = await select_current_prompts(conn)
    missing = {
        kind: [stage for stage in stages if stage not in prompts] for kind, stages in kinds.items()
    }
    if all(missing.values()):
        unknown = dict.fromkeys(stage for stages in missing.values() for stage in stages)
        raise Unavailable(f"no prompt is registered for {', '.join(unknown)}: start a worker")
    return {
        kind: f"no prompt is registered for {', '.join(missing[kind])}"
        if missing[kind]
        else ", ".join(f"{stage} v{prompts[stage].version}" for stage in stages)
        for kind, stages in kinds.items()
    }


async def _ask_temporal(services: Services) -> str:
    try:
        answers = await services.temporal.service_client.check_health(
            timeout=timedelta(seconds=CHECK_TIMEOUT_S)
        )
        missing = await _missing_search_attributes(services.temporal)
    except (RPCError, RuntimeError) as error:
        said = error.message if isinstance(error, RPCError) else type(error).__name__
        raise Unavailable(f"Temporal does not answer as it should ({said})") from error
    if not answers:
        raise Unavailable("Temporal says that it is not serving")
    if missing:
        raise Unavailable(
            f"Temporal's namespace lacks the search attributes {', '.join(missing)}, so it refuses "
            "to start runs: start a worker that may add them, or add them"
        )
    return "answers"


async def _missing_search_attributes(client: Client) -> list[str]:
    """Return the names of Rein's search attributes that the Temporal namespace lacks.

    The list is also empty when Temporal does not let this process ask for them.
    """
    try:
        known = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace),
            timeout=timedelta(seconds=CHECK_TIMEOUT_S),
        )
    except RPCError as error:
        if error.status in (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED):
            return []
        raise
    return [key.name for key in SEARCH_ATTRIBUTES if key.name not in known.custom_attributes]


async def _read_gauges(services: Services) -> None:
    services.gauges.starts_waiting(len(services.starter))
    try:
        async with acquire(services.pools.operations) as conn:
            runs, refused = await count_recent_runs(conn), await count_refused_starts(conn)
            services.gauges.set(runs, refused, await backlog(conn))
    except Unavailable:
        services.gauges.unreadable()

"""Is it alive, is it ready, how is it doing: for orchestrators and Prometheus."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import Literal

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from temporalio.service import RPCError

from api.deps import Rein, Services
from db.pool import acquire
from db.prompts import select_current_prompts
from db.results import count_recent_runs
from domain.errors import Unavailable
from domain.runs import STAGES
from tracing import backlog

router = APIRouter(tags=["operations"])

CHECK_TIMEOUT_S = 2


class Alive(BaseModel):
    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """Everything that a new goal needs is there."""

    status: Literal["ready"] = "ready"
    postgresql: str
    temporal: str
    prompts: str


@router.get("/livez")
async def live() -> Alive:
    """The process answers. Says nothing of what it needs."""
    return Alive()


@router.get("/readyz")
async def ready(rein: Rein) -> Ready:
    """PostgreSQL and Temporal answer and prompts are registered; 503 says which does not."""
    postgresql, temporal = await asyncio.gather(
        _said("PostgreSQL", _ask_postgresql(rein)), _said("Temporal", _ask_temporal(rein))
    )
    prompts, away = postgresql[0], [*postgresql[1], *temporal[1]]
    if away:
        raise Unavailable(
            "; ".join(away),
            cure="start what is away; the API goes on by itself when it is back",
            retry_after=2,
        )
    return Ready(postgresql="answers", temporal=temporal[0], prompts=prompts)


@router.get("/metrics", response_class=Response)
async def metrics(rein: Rein) -> Response:
    """Prometheus text: HTTP by route, runs by status, the tracing outbox."""
    try:
        async with acquire(rein.pool) as conn:
            rein.gauges.set(await count_recent_runs(conn), await backlog(conn))
    except Unavailable:
        rein.gauges.unreadable()
    return Response(generate_latest(rein.registry), media_type=CONTENT_TYPE_LATEST)


async def _ask_postgresql(rein: Services) -> str:
    async with acquire(rein.pool) as conn:
        prompts = await select_current_prompts(conn)
    missing = [stage for stage in STAGES if stage not in prompts]
    if missing:
        raise Unavailable(f"no prompt is registered for {', '.join(missing)}: start a worker")
    return ", ".join(f"{stage} v{prompts[stage].version}" for stage in STAGES)


async def _ask_temporal(rein: Services) -> str:
    try:
        answers = await rein.temporal.service_client.check_health(
            timeout=timedelta(seconds=CHECK_TIMEOUT_S)
        )
    except (RPCError, RuntimeError) as error:
        raise Unavailable(f"Temporal does not answer ({type(error).__name__})") from error
    if not answers:
        raise Unavailable("Temporal says that it is not serving")
    return "answers"


async def _said(name: str, check: Awaitable[str]) -> tuple[str, list[str]]:
    """What a check found, or what is away."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S + 1):
            return await check, []
    except Unavailable as error:
        return "", [error.detail]
    except TimeoutError:
        return "", [f"{name} did not answer in time"]

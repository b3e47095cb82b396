"""Endpoints that read one resolution or one plan by its own id."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path

from api.callers import GoalsRead
from api.deps import AppServices
from api.examples import PLAN_ID, RESOLUTION_ID
from api.models import StoredPlan, StoredResolution
from api.problems import ALWAYS, declared
from db.results import select_stored_plan, select_stored_resolution
from domain.errors import NotFound

router = APIRouter(prefix="/api", tags=["goals"], responses=ALWAYS | declared(404))


@router.get("/resolutions/{resolution_id}")
async def read_resolution(
    resolution_id: Annotated[UUID, Path(examples=[RESOLUTION_ID])],
    services: AppServices,
    caller: GoalsRead,
) -> StoredResolution:
    """Read a resolution by its id.

    This may also be a draft that was not kept as the result of its run.
    """
    async with services.transaction(caller) as conn:
        found = await select_stored_resolution(conn, caller.tenant, resolution_id)
    if found is None:
        raise NotFound(f"there is no resolution {resolution_id}", cure="see a goal's `resolution`")
    trace_id, resolution = found
    link = services.addresses.run(trace_id)
    return StoredResolution(**dict(resolution), trace_id=trace_id, link=link)


@router.get("/plans/{plan_id}")
async def read_plan(
    plan_id: Annotated[UUID, Path(examples=[PLAN_ID])],
    services: AppServices,
    caller: GoalsRead,
) -> StoredPlan:
    """Read a weekly plan with its dates by its id."""
    async with services.transaction(caller) as conn:
        found = await select_stored_plan(conn, caller.tenant, plan_id)
    if found is None:
        raise NotFound(f"there is no plan {plan_id}", cure="see a goal's `plan`")
    trace_id, plan = found
    return StoredPlan(**dict(plan), trace_id=trace_id, link=services.addresses.run(trace_id))

"""Single resolutions and plans, by their own ids."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path

from api.deps import Reading, Rein
from api.examples import PLAN_ID, RESOLUTION_ID
from api.models import StoredPlan, StoredResolution
from db.results import select_plan_by_id, select_resolution
from domain.errors import NotFound

router = APIRouter(prefix="/api", tags=["goals"])


@router.get("/resolutions/{resolution_id}")
async def read_resolution(
    resolution_id: Annotated[UUID, Path(examples=[RESOLUTION_ID])], conn: Reading, rein: Rein
) -> StoredResolution:
    """A resolution, kept or not."""
    found = await select_resolution(conn, resolution_id)
    if found is None:
        raise NotFound(f"there is no resolution {resolution_id}", cure="see a run's `resolution`")
    trace_id, resolution = found
    link = rein.addresses.goal(trace_id)
    return StoredResolution(**dict(resolution), trace_id=trace_id, link=link)


@router.get("/plans/{plan_id}")
async def read_plan(
    plan_id: Annotated[UUID, Path(examples=[PLAN_ID])], conn: Reading, rein: Rein
) -> StoredPlan:
    """A plan with its dates."""
    found = await select_plan_by_id(conn, plan_id)
    if found is None:
        raise NotFound(f"there is no plan {plan_id}", cure="see a run's `plan`")
    trace_id, plan = found
    return StoredPlan(**dict(plan), trace_id=trace_id, link=rein.addresses.goal(trace_id))

"""Taking over what an earlier run made, for a run that repeats it from a stage."""

from uuid import UUID

from temporalio import activity

from db.goals import (
    insert_evaluation,
    insert_plan,
    insert_resolution,
    select_clarified_goal,
    select_evaluation,
    select_kept_resolution,
    select_plan,
    update_clarified_goal,
)
from db.pool import Connection, Pool, acquire
from domain.evaluations import Evaluation
from domain.goals import ClarifiedGoal, GoalRequest, TakenOver
from domain.plans import PlanRef
from domain.resolutions import Resolution
from domain.results import redone_stages
from domain.runs import part_id


class RerunActivities:
    """Copies rows from run to run; the old ones stay as they are."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @activity.defn
    async def take_over(self, request: GoalRequest) -> TakenOver:
        """Copy into a rerun what the earlier run made before the stage it starts from."""
        if request.rerun is None:
            return TakenOver()
        redo = redone_stages(request.rerun.from_stage)
        source, trace_id = request.rerun.source_trace_id, request.trace_id
        async with acquire(self._pool) as conn, conn.transaction():
            goal = None if "preprocess" in redo else await _copy_goal(conn, source, trace_id)
            if "generate" in redo:
                return TakenOver(goal=goal)
            old = await select_kept_resolution(conn, source)
            if old is None:
                return TakenOver(goal=goal)
            resolution = await _copy_resolution(conn, old, trace_id)
            return TakenOver(
                goal=goal,
                resolution=resolution,
                evaluation=None
                if "evaluate" in redo
                else await _copy_evaluation(conn, source, old, resolution, trace_id),
                plan=None
                if "plan" in redo
                else await _copy_plan(conn, source, old, resolution, trace_id),
            )


async def _copy_goal(conn: Connection, source: UUID, trace_id: UUID) -> ClarifiedGoal | None:
    goal = await select_clarified_goal(conn, source)
    if goal is None:
        return None
    return await update_clarified_goal(conn, goal.model_copy(update={"trace_id": trace_id}))


async def _copy_resolution(conn: Connection, old: Resolution, trace_id: UUID) -> Resolution:
    copy = old.model_copy(update={"resolution_id": part_id(trace_id, "resolution", 1), "draft": 1})
    return await insert_resolution(conn, trace_id, copy)


async def _copy_evaluation(
    conn: Connection, source: UUID, old: Resolution, new: Resolution, trace_id: UUID
) -> Evaluation | None:
    evaluation = await select_evaluation(conn, source, old.resolution_id)
    if evaluation is None:
        return None
    ids = {
        "evaluation_id": part_id(trace_id, "evaluation", new.resolution_id),
        "resolution_id": new.resolution_id,
    }
    return await insert_evaluation(conn, trace_id, evaluation.model_copy(update=ids))


async def _copy_plan(
    conn: Connection, source: UUID, old: Resolution, new: Resolution, trace_id: UUID
) -> PlanRef | None:
    plan = await select_plan(conn, source, old.resolution_id)
    if plan is None:
        return None
    ids = {
        "plan_id": part_id(trace_id, "plan", new.resolution_id),
        "resolution_id": new.resolution_id,
    }
    return (await insert_plan(conn, trace_id, plan.model_copy(update=ids))).ref()

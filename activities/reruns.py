"""Reruns: a run that repeats another one from a stage on, and refers to its earlier results."""

from datetime import date
from uuid import UUID

from pydantic import BaseModel
from temporalio import activity

from db.goals import select_clarified_goal, select_evaluation, select_plan, select_resolution
from db.pool import Connection, Pool, transaction
from db.results import select_goal
from domain.errors import DeadlinePassed, NotFound, NotReady
from domain.goals import GoalRequest, GoalRerun, TakenOver, redone_stages
from domain.results import GoalReport
from domain.runs import Rerun, RunRequest, Stage


class RerunActivities:
    """The activity that reads the earlier results that a rerun starts from."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @activity.defn
    async def take_over(self, request: GoalRequest) -> TakenOver:
        """Return the results that the rerun's request refers to; all None for a new run."""
        named = request.rerun
        if named is None:
            return TakenOver()
        async with transaction(self._pool, request.tenant) as conn:
            plan = await select_plan(conn, named.plan_id) if named.plan_id else None
            return TakenOver(
                goal=await select_clarified_goal(conn, named.clarified_by)
                if named.clarified_by
                else None,
                resolution=await select_resolution(conn, named.resolution_id)
                if named.resolution_id
                else None,
                evaluation=await select_evaluation(conn, named.evaluation_id)
                if named.evaluation_id
                else None,
                plan=plan.ref() if plan else None,
            )


async def repeat_run(conn: Connection, source: RunRequest, from_stage: Stage, today: date) -> Rerun:
    """Describe a rerun that takes no results over, so that all its stages run again.

    This is the default for kinds of runs that have no function of their own.
    """
    return Rerun(source_trace_id=source.trace_id, from_stage=from_stage)


async def repeat_goal(
    conn: Connection, source: RunRequest, from_stage: Stage, today: date
) -> GoalRerun:
    """Describe the rerun of a goal, with the ids of the results that it takes over.

    Raises NotFound for an unknown run, NotReady if the repeated run lacks a result that
    `from_stage` needs, and DeadlinePassed if the goal's deadline is before `today`.
    """
    report = await select_goal(conn, source.tenant, source.trace_id)
    if report is None:
        raise NotFound(f"no goal has the trace id {source.trace_id}")
    _check_stored(report, from_stage)
    if from_stage != "evaluate":
        _check_deadline(report, from_stage, today)
    redone = redone_stages(from_stage)

    def kept(stage: Stage, made: BaseModel | None, name: str) -> UUID | None:
        return getattr(made, name) if made and stage not in redone else None

    return GoalRerun(
        source_trace_id=source.trace_id,
        from_stage=from_stage,
        clarified_by=kept("preprocess", report.clarified_goal, "trace_id"),
        resolution_id=kept("generate", report.resolution, "resolution_id"),
        evaluation_id=kept("evaluate", report.evaluation, "evaluation_id"),
        plan_id=kept("plan", report.plan, "plan_id"),
    )


def _check_stored(source: GoalReport, from_stage: Stage) -> None:
    clarified = source.clarified_goal is not None and source.clarified_goal.verdict == "goal"
    if from_stage == "generate" and not clarified:
        raise NotReady(
            "the run has no clarified goal to generate from", cure="rerun from 'preprocess'"
        )
    if from_stage in ("evaluate", "plan") and not (clarified and source.resolution):
        raise NotReady(
            f"the run has no resolution to {from_stage}",
            cure=f"rerun from {'generate' if clarified else 'preprocess'!r}",
        )


def _check_deadline(source: GoalReport, from_stage: Stage, today: date) -> None:
    stated, clarified = source.context.deadline, source.clarified_goal
    if stated and stated < today:
        raise DeadlinePassed(
            f"the goal was due on {stated}, and today is {today}",
            cure="send the goal again with a later deadline: POST /api/goals",
        )
    read = clarified.deadline if clarified and from_stage != "preprocess" else None
    if read and not stated and read < today:
        raise DeadlinePassed(
            f"the goal was understood to be due on {read}, and today is {today}",
            cure="rerun from 'preprocess', which reads the goal's date anew",
        )

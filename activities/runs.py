"""How a run ends: its row, its last event, its scores and the end of its trace, all at once."""

from typing import Any, get_args

from temporalio import activity

from db.goals import select_last_evaluation, update_kept_resolution
from db.pool import Connection, Pool, acquire
from db.runs import append_event, finish_run
from domain.evaluations import Evaluation
from domain.goals import GoalOutcome
from domain.runs import RunStatus
from tracing import RunEnd, Score, close_trace, put_scores


class RunActivities:
    """What every kind of run shares."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @activity.defn
    async def complete(self, end: RunEnd) -> None:
        """Record the end of a run; the tracing interceptor calls it, whatever the end is."""
        async with acquire(self._pool) as conn, conn.transaction():
            await record_end(conn, end, activity.info().workflow_run_id or "")


async def record_end(conn: Connection, end: RunEnd, workflow_run_id: str) -> bool:
    """Store how a run ended and close its trace; False when that was done before."""
    outcome = None if end.result is None else GoalOutcome.model_validate(end.result)
    finished = await finish_run(
        conn,
        trace_id=end.trace_id,
        workflow_run_id=workflow_run_id,
        status=_status(end),
        error_code=end.error_type,
        error_message=end.error_message,
        outcome=end.result,
        ended_at=end.ended_at,
    )
    if not finished:
        if end.root:  # a workflow that somebody started past the API: a trace, but no row
            await close_trace(conn, end, output=end.result, metadata=_facts(end, None))
        return False
    if outcome and outcome.resolution_id:
        await update_kept_resolution(conn, end.trace_id, outcome.resolution_id)
    kept = outcome.evaluation_id if outcome else None
    evaluation = await select_last_evaluation(conn, end.trace_id, kept)
    if evaluation:
        await put_scores(conn, end.trace_id, end.project, _scores(evaluation), at=end.ended_at)
    await close_trace(conn, end, output=end.result, metadata=_facts(end, evaluation))
    await append_event(
        conn,
        end.trace_id,
        f"{workflow_run_id}:finished",
        "finished",
        None,
        _sentence(end, outcome),
        {"status": end.status, "code": end.error_type},
    )
    return True


def _status(end: RunEnd) -> RunStatus:
    for status in get_args(RunStatus):
        if status == end.status:
            return status  # type: ignore[no-any-return]
    raise ValueError(f"{end.status!r} is no status of a run")


def _scores(evaluation: Evaluation) -> list[Score]:
    overall = Score(
        name="evaluation_logged.overall", value=evaluation.overall, reason=evaluation.status
    )
    return [overall] + [
        Score(name=f"evaluation_logged.{name}", value=dimension.score, reason=dimension.why)
        for name, dimension in evaluation.scores().items()
    ]


def _facts(end: RunEnd, evaluation: Evaluation | None) -> dict[str, Any]:
    return {
        "status": end.status,
        "quality_score": evaluation.overall if evaluation else None,
        "quality_status": evaluation.status if evaluation else None,
    }


def _sentence(end: RunEnd, outcome: GoalOutcome | None) -> str:
    if outcome and outcome.status == "refused":
        return f"Refused: {outcome.refusal_reason}"
    if outcome:
        return f"Done: {outcome.title}"
    return f"Ended: {end.status}" + (f" ({end.error_type})" if end.error_type else "")

"""The end of a run of any kind: it updates the row, appends the last event, closes the trace."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from temporalio import activity

from activities.calls import lost_span
from activities.metrics import Metrics
from activities.shares import store_cost_shares
from db.events import append_event
from db.pool import Connection, Pool, acquire
from db.runs import finish_run, lock_run, select_end
from domain.run_errors import run_error_code
from domain.runs import Message, RunKind, RunOutcome, RunStatus
from tracing import RunEnd, Score, close_trace, put_scores, store_lost_steps


@dataclass(frozen=True)
class Ending:
    """The scores, and the metadata (`facts`), that a kind of run adds to its trace at its end."""

    scores: list[Score] = field(default_factory=list)
    output: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


# The function of a kind of run that is called in the transaction that records a run's end.
Finish = Callable[[Connection, RunEnd], Awaitable[Ending]]


async def finish_nothing(conn: Connection, end: RunEnd) -> Ending:
    """Add nothing to the trace; the default for kinds without a function of their own."""
    return Ending()


class Recorded(Message):
    """What a run's workflow is told when its end is recorded."""

    cost_usd: float | None


class RunActivities:
    """The activity that all kinds of runs share.

    `pool` has the role of operations, because the activity records the runs of every tenant.
    """

    def __init__(
        self, pool: Pool, finish: Mapping[RunKind, Finish], metrics: Metrics | None = None
    ) -> None:
        self._pool = pool
        self._finish = finish
        self._metrics = metrics or Metrics()

    @activity.defn
    async def complete(self, end: RunEnd) -> Recorded | None:
        """Record the end of a run. The tracing interceptor calls this at the end of every run.

        Returns what the workflow cannot know; None when the run has no row.
        """
        run_id = activity.info().workflow_run_id or ""
        async with acquire(self._pool) as conn, conn.transaction():
            is_new = await record_end(conn, end, run_id, self._finish)
            ended = await select_end(conn, end.trace_id)
        if ended is None:
            return None
        if is_new:
            self._metrics.end(ended.kind, ended.status, ended.duration)
        return Recorded(cost_usd=None if ended.cost_usd is None else float(ended.cost_usd))


async def record_end(
    conn: Connection, end: RunEnd, workflow_run_id: str, finish: Mapping[RunKind, Finish]
) -> bool:
    """Store how a run ended and close its trace.

    Returns False if this was done before, or if the run has no row. Raises ValidationError for a
    result that is not a RunOutcome, and ValueError for an unknown status; both are bugs in the
    workflow.
    """
    outcome = None if end.result is None else RunOutcome.model_validate(end.result)
    code = run_error_code(end.error_type) if end.error_type else None
    kind = await lock_run(conn, end.trace_id)
    calls = await finish_run(
        conn,
        trace_id=end.trace_id,
        workflow_run_id=workflow_run_id,
        status=_status(end),
        error_code=code,
        error_message=end.error_message,
        outcome=end.result,
        ended_at=end.ended_at,
    )
    if kind is None or calls is None:
        if end.root:  # started without the API: a trace, but no row
            await close_trace(conn, end, output=end.result, metadata={"status": end.status})
        return False
    await append_event(
        conn,
        end.trace_id,
        f"{workflow_run_id}:finished",
        "finished",
        None,
        _sentence(end, outcome, code),
        {"status": end.status, "code": code},
    )
    await store_lost_steps(conn, end, [lost_span(call) for call in calls])
    shares = await store_cost_shares(conn, end.trace_id)
    ending = await finish.get(kind, finish_nothing)(conn, end)
    await put_scores(conn, end.trace_id, end.project, ending.scores, at=end.ended_at)
    output = {**end.result, **ending.output} if end.result else end.result
    await close_trace(
        conn, end, output=output, metadata={"status": end.status, **shares, **ending.facts}
    )
    return True


def _status(end: RunEnd) -> RunStatus:
    for status in get_args(RunStatus.__value__):
        if status == end.status:
            return status  # type: ignore[no-any-return]
    raise ValueError(f"{end.status!r} is no status of a run")


def _sentence(end: RunEnd, outcome: RunOutcome | None, code: str | None) -> str:
    if outcome and outcome.status == "refused":
        return f"Refused: {outcome.refusal_reason}"
    if outcome:
        return f"Done: {outcome.title}"
    return f"Ended: {end.status}" + (f" ({code})" if code else "")

"""Housekeeping: accepted runs that never started, ended runs whose row does not know it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import structlog
from temporalio import activity
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus

from activities.runs import record_end
from db.pool import Pool, acquire
from db.runs import select_unstarted_requests
from domain.goals import GoalRequest
from domain.monitoring import Reconciled
from domain.runs import RunStatus, traced_run
from tracing.closing import RunEnd

log = structlog.get_logger()

# The API starts a run at once; what is still waiting after this was cut off in between.
GRACE = timedelta(seconds=20)

ENDINGS: dict[WorkflowExecutionStatus, RunStatus] = {
    WorkflowExecutionStatus.TERMINATED: "terminated",
    WorkflowExecutionStatus.TIMED_OUT: "timed_out",
    WorkflowExecutionStatus.FAILED: "failed",
    WorkflowExecutionStatus.CANCELED: "cancelled",
}


class MonitoringActivities:
    """Compares rows with workflows and mends the difference; every step may be repeated."""

    def __init__(
        self,
        pool: Pool,
        client: Client,
        *,
        project: str,
        start: Callable[[GoalRequest], Awaitable[None]],
    ) -> None:
        self._pool = pool
        self._client = client
        self._project = project
        self._start = start

    @activity.defn
    async def start_accepted(self) -> Reconciled:
        """Start the runs whose row was stored but whose workflow was not started."""
        async with acquire(self._pool) as conn:
            requests = await select_unstarted_requests(conn, GRACE)
        for request in requests:
            await self._start(request)
            activity.heartbeat()
            log.info("accepted_run_started", trace_id=str(request.trace_id))
        return Reconciled(started=len(requests))

    @activity.defn
    async def close_ended(self) -> Reconciled:
        """Record the end of runs that were terminated, timed out or lost from outside."""
        closed = 0
        async for execution in self._ended_unawares():
            activity.heartbeat()
            closed += await self._close(execution)
        return Reconciled(closed=closed)

    def _ended_unawares(self) -> AsyncIterator[WorkflowExecution]:
        """A run that ends by itself sets its status; one that was ended still says running."""
        return self._client.list_workflows(
            "ReinStatus = 'running' AND ExecutionStatus IN "
            "('Terminated', 'TimedOut', 'Failed', 'Canceled')"
        )

    async def _close(self, execution: WorkflowExecution) -> bool:
        trace_id = traced_run(execution.id)
        if trace_id is None or execution.status not in ENDINGS or execution.close_time is None:
            return False
        status = ENDINGS[execution.status]
        end = RunEnd(
            trace_id=trace_id,
            project=self._project,
            status=status,
            error_type=f"Workflow{execution.status.name.title().replace('_', '')}",
            error_message=f"The workflow was ended from outside ({status})",
            ended_at=execution.close_time,
        )
        async with acquire(self._pool) as conn, conn.transaction():
            closed = await record_end(conn, end, execution.run_id)
        if closed:
            log.info("ended_run_closed", trace_id=str(trace_id), status=status)
        return closed

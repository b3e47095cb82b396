"""Housekeeping: every accepted run has a workflow, and every row knows how its workflow ended."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta

import structlog
from temporalio import activity
from temporalio.api.enums.v1 import WorkflowExecutionStatus as Status
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import ListWorkflowExecutionsRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.runs import record_end
from db.pool import Pool, acquire
from db.runs import select_requests, select_unfinished
from domain.goals import GoalRequest
from domain.reconcile import Reconciled
from domain.runs import RunStatus, traced_run
from tracing import lost_end

log = structlog.get_logger()

# The API starts a run at once; what has no workflow after this was cut off in between.
GRACE = timedelta(seconds=20)
# A run that an operator reset may be ended from outside once more, when its row has ended before.
LOOK_BACK = timedelta(hours=1)
AT_ONCE = 100

ENDINGS: dict[int, RunStatus] = {
    Status.WORKFLOW_EXECUTION_STATUS_TERMINATED: "terminated",
    Status.WORKFLOW_EXECUTION_STATUS_TIMED_OUT: "timed_out",
    Status.WORKFLOW_EXECUTION_STATUS_FAILED: "failed",
    Status.WORKFLOW_EXECUTION_STATUS_CANCELED: "cancelled",
}


class ReconcileActivities:
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
    async def reconcile(self) -> Reconciled:
        """Start runs that Temporal does not know; record the end of those that ended unawares.

        A run has no workflow when the process that accepted it died in between, or when Temporal
        lost its database: starting it again buys no stored answer twice.
        """
        async with acquire(self._pool) as conn:
            unfinished = await select_unfinished(conn, GRACE)
        started = closed = 0
        for ids in _pages(dict.fromkeys([*unfinished, *await self._ended_lately()])):
            newest = await self._newest(ids)
            started += await self._start_all([each for each in ids if each not in newest])
            for execution in newest.values():
                activity.heartbeat()
                closed += await self._close(execution)
        return Reconciled(started=started, closed=closed)

    async def _ended_lately(self) -> list[str]:
        """A run that ends by itself sets its status; one that was ended still says running."""
        since = (datetime.now(UTC) - LOOK_BACK).isoformat()
        found = await self._list(
            "ReinStatus = 'running' AND ExecutionStatus IN "
            f"('Terminated', 'TimedOut', 'Failed', 'Canceled') AND CloseTime > '{since}'"
        )
        return [each.execution.workflow_id for each in found]

    async def _newest(self, ids: Sequence[str]) -> dict[str, WorkflowExecutionInfo]:
        """The last execution of each workflow: a reset ends one and begins another."""
        quoted = ", ".join(f"'{each}'" for each in ids)
        found = await self._list(f"WorkflowId IN ({quoted})")
        found.sort(key=lambda each: each.start_time.ToNanoseconds())
        return {each.execution.workflow_id: each for each in found}

    async def _list(self, query: str) -> list[WorkflowExecutionInfo]:
        """Raw, because the SDK's own list fails on a paused run, whose status it does not know."""
        request = ListWorkflowExecutionsRequest(
            namespace=self._client.namespace, query=query, page_size=1000
        )
        answer = await self._client.workflow_service.list_workflow_executions(request)
        return list(answer.executions)

    async def _start_all(self, ids: Sequence[str]) -> int:
        if not ids:
            return 0
        async with acquire(self._pool) as conn:
            requests = await select_requests(conn, ids)
        started = 0
        for request in requests:
            activity.heartbeat()
            try:
                await self._start(request)
            except RPCError as error:
                if error.status != RPCStatusCode.INVALID_ARGUMENT:
                    raise
                log.exception("run_not_startable", trace_id=str(request.trace_id))
            else:
                started += 1
                log.info("accepted_run_started", trace_id=str(request.trace_id))
        return started

    async def _close(self, execution: WorkflowExecutionInfo) -> bool:
        trace_id = traced_run(execution.execution.workflow_id)
        if trace_id is None or execution.status not in ENDINGS:
            return False
        status = ENDINGS[execution.status]
        ended_at = execution.close_time.ToDatetime(UTC)
        end = lost_end(trace_id, status, ended_at, project=self._project)
        async with acquire(self._pool) as conn, conn.transaction():
            closed = await record_end(conn, end, execution.execution.run_id)
        if closed:
            log.info("ended_run_closed", trace_id=str(trace_id), status=status)
        return closed


def _pages(ids: Iterable[str]) -> list[list[str]]:
    every = list(ids)
    return [every[start : start + AT_ONCE] for start in range(0, len(every), AT_ONCE)]

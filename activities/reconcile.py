"""The reconciler: it starts accepted runs that have no workflow, and closes rows of ended ones."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

import structlog
from pydantic import ValidationError
from temporalio import activity
from temporalio.api.enums.v1 import WorkflowExecutionStatus as Status
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import ListWorkflowExecutionsRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.runs import Finish, record_end
from db.idempotency import delete_expired_keys
from db.pool import Pool, acquire
from db.runs import StoredRequest, select_requests, select_unfinished
from domain.errors import Unavailable
from domain.reconcile import Reconciled
from domain.runs import RunKind, RunOutcome, RunStatus, trace_id_of
from tracing import RunEnd, lost_end

log = structlog.get_logger()

T = TypeVar("T")

# The API starts a run's workflow as soon as it has stored the run. If there is still no workflow
# after this time, the start failed or was interrupted, and the reconciler starts the run.
GRACE = timedelta(seconds=20)
# The reconciler also checks workflows that closed within this time, because a run that an operator
# reset may be terminated although its row has an end already.
LOOK_BACK = timedelta(hours=1)
PAGE = 100
EXPIRED_KEYS_A_ROUND = 10_000

LOST: dict[int, RunStatus] = {
    Status.WORKFLOW_EXECUTION_STATUS_TERMINATED: "terminated",
    Status.WORKFLOW_EXECUTION_STATUS_TIMED_OUT: "timed_out",
    Status.WORKFLOW_EXECUTION_STATUS_FAILED: "failed",
    Status.WORKFLOW_EXECUTION_STATUS_CANCELED: "cancelled",
}
# With these answers Temporal itself is unreachable or overloaded, so the whole round fails and is
# retried. Any other error concerns one run, which is counted as failed.
TEMPORAL_AWAY = frozenset(
    (
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.CANCELLED,
    )
)


class ReconcileActivities:
    """Compares the rows of runs with their workflows and repairs what differs.

    Every step is idempotent. A run that cannot be repaired is logged with its trace id and counted,
    and the reconciler continues with the other runs.
    """

    def __init__(
        self,
        pool: Pool,
        client: Client,
        *,
        project: str,
        start: Callable[[StoredRequest], Awaitable[None]],
        finish: Mapping[RunKind, Finish],
    ) -> None:
        self._pool = pool
        self._client = client
        self._project = project
        self._start = start
        self._finish = finish

    @activity.defn
    async def reconcile(self) -> Reconciled:
        """Start accepted runs that have no workflow, and record ends that no row has yet.

        A run has no workflow if the process that accepted it died before it started the workflow,
        or if Temporal lost its database. A restarted run does not pay again for stored answers.
        """
        async with acquire(self._pool) as conn:
            unfinished = await select_unfinished(conn, GRACE)
            await delete_expired_keys(conn, EXPIRED_KEYS_A_ROUND)
        total = Reconciled()
        for ids in _pages(dict.fromkeys([*unfinished, *await self._ended_lately()])):
            newest = await self._newest(ids)
            missing = [each for each in ids if each not in newest]
            total = _sum(total, await self._start_all(missing))
            total = _sum(total, await self._close_all(newest.values()))
        return total

    async def _ended_lately(self) -> list[str]:
        """Return the ids of workflows that were ended from outside, for example terminated.

        A workflow that ends by itself sets its attribute ReinStatus; one that was ended from
        outside still has the value `running`.
        """
        since = (datetime.now(UTC) - LOOK_BACK).isoformat()
        found = await self._list(
            "ReinStatus = 'running' AND ExecutionStatus IN "
            f"('Terminated', 'TimedOut', 'Failed', 'Canceled') AND CloseTime > '{since}'"
        )
        return [each.execution.workflow_id for each in found]

    async def _newest(self, ids: Sequence[str]) -> dict[str, WorkflowExecutionInfo]:
        """Return the newest execution of each workflow by workflow id.

        A workflow that an operator reset has several executions.
        """
        quoted = ", ".join(f"'{each}'" for each in ids)
        found = await self._list(f"WorkflowId IN ({quoted})")
        found.sort(key=lambda each: each.start_time.ToNanoseconds())
        return {each.execution.workflow_id: each for each in found}

    async def _list(self, query: str) -> list[WorkflowExecutionInfo]:
        """Return the executions that match the query.

        This is the raw gRPC call, because the SDK's own method fails on paused workflows, whose
        status it does not know.
        """
        request = ListWorkflowExecutionsRequest(
            namespace=self._client.namespace, query=query, page_size=1000
        )
        answer = await self._client.workflow_service.list_workflow_executions(request)
        return list(answer.executions)

    async def _start_all(self, ids: Sequence[str]) -> Reconciled:
        if not ids:
            return Reconciled()
        async with acquire(self._pool) as conn:
            requests = await select_requests(conn, ids)
        return await _each(requests, self._start_one)

    async def _start_one(self, stored: StoredRequest) -> Reconciled:
        try:
            await self._start(stored)
        except Exception as error:
            return _not_mended(error, "run_not_startable", stored.trace_id)
        log.info("accepted_run_started", trace_id=str(stored.trace_id))
        return Reconciled(started=1)

    async def _close_all(self, executions: Iterable[WorkflowExecutionInfo]) -> Reconciled:
        return await _each(executions, self._close)

    async def _close(self, execution: WorkflowExecutionInfo) -> Reconciled:
        workflow_id, run_id = execution.execution.workflow_id, execution.execution.run_id
        trace_id = trace_id_of(workflow_id)
        completed = execution.status == Status.WORKFLOW_EXECUTION_STATUS_COMPLETED
        if trace_id is None or not (completed or execution.status in LOST):
            return Reconciled()
        ended_at = execution.close_time.ToDatetime(UTC)
        try:
            if completed:
                end = await self._told_end(trace_id, workflow_id, run_id, ended_at)
            else:
                status = LOST[execution.status]
                end = lost_end(trace_id, status, ended_at, project=self._project)
            closed = await self._record(end, run_id)
        except Exception as error:
            return _not_mended(error, "run_not_closable", trace_id)
        if closed:
            log.info("ended_run_closed", trace_id=str(trace_id), status=end.status)
        return Reconciled(closed=int(closed))

    async def _told_end(
        self, trace_id: UUID, workflow_id: str, run_id: str, ended_at: datetime
    ) -> RunEnd:
        """Build the end of a run from the result of its completed workflow.

        This happens if the workflow could not record its end in PostgreSQL itself.
        """
        handle = self._client.get_workflow_handle(workflow_id, run_id=run_id)
        result = await handle.result()
        try:
            outcome = RunOutcome.model_validate(result)
        except ValidationError:
            return RunEnd(
                trace_id=trace_id,
                project=self._project,
                status="failed",
                ended_at=ended_at,
                error_type="OUTCOME_INVALID",
                error_message="The workflow returned what is no outcome of a run",
            )
        return RunEnd(
            trace_id=trace_id,
            project=self._project,
            status=outcome.status,
            ended_at=ended_at,
            result=result,
            workflow_id=workflow_id,
            run_id=run_id,
        )

    async def _record(self, end: RunEnd, run_id: str) -> bool:
        """Record the end of a run; return False if it was recorded before.

        If the `finish` function of the run's kind fails, the end is recorded without it, because
        every run has to end.
        """
        try:
            async with acquire(self._pool) as conn, conn.transaction():
                return await record_end(conn, end, run_id, self._finish)
        except Unavailable:
            raise
        except Exception:
            log.exception("run_finish_failed", trace_id=str(end.trace_id))
        async with acquire(self._pool) as conn, conn.transaction():
            return await record_end(conn, end, run_id, {})


async def _each(items: Iterable[T], mend: Callable[[T], Awaitable[Reconciled]]) -> Reconciled:
    total = Reconciled()
    for item in items:
        activity.heartbeat()
        total = _sum(total, await mend(item))
    return total


def _not_mended(error: Exception, event: str, trace_id: UUID) -> Reconciled:
    """Log and count one run that could not be repaired.

    Raises the error if it concerns all runs: PostgreSQL or Temporal is unreachable.
    """
    if isinstance(error, Unavailable):
        raise error
    if isinstance(error, RPCError) and error.status in TEMPORAL_AWAY:
        raise error
    log.error(event, trace_id=str(trace_id), exc_info=error)
    return Reconciled(failed=1)


def _sum(one: Reconciled, other: Reconciled) -> Reconciled:
    return Reconciled(
        started=one.started + other.started,
        closed=one.closed + other.closed,
        failed=one.failed + other.failed,
    )


def _pages(ids: Iterable[str]) -> list[list[str]]:
    every = list(ids)
    return [every[start : start + PAGE] for start in range(0, len(every), PAGE)]

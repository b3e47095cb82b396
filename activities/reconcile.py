"""Housekeeping: every accepted run has a workflow, and every row knows how its workflow ended."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from pydantic import ValidationError
from temporalio import activity
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import HistoryEventFilterType
from temporalio.api.enums.v1 import WorkflowExecutionStatus as Status
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    GetWorkflowExecutionHistoryRequest,
    ListWorkflowExecutionsRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.runs import Finish, record_end
from db.idempotency import delete_expired_keys
from db.pool import Pool, acquire
from db.runs import (
    Ended,
    StoredRequest,
    select_not_closed,
    select_quiet,
    select_request_of,
)
from domain.errors import Unavailable
from domain.reconcile import Cursor, Reconciled
from domain.runs import RunKind, RunOutcome, RunStatus, trace_id_of
from tracing import RunEnd, lost_end

log = structlog.get_logger()

# The API starts a run at once; what has no workflow after this was cut off in between.
GRACE = timedelta(seconds=20)
# After an operator's reset a run whose row has ended may be terminated later: look back this far.
LOOK_BACK = timedelta(hours=1)
# Runs that one round looks at: a second of Temporal's time, and nobody else's.
A_ROUND = 500
AT_ONCE = 16
# Temporal allows a namespace 10 lists and counts a second by default, the operators' included.
BETWEEN_LISTS_S = 0.5
LISTED = 1000
EXPIRED_KEYS_A_ROUND = 10_000

LOST: dict[int, RunStatus] = {
    Status.WORKFLOW_EXECUTION_STATUS_TERMINATED: "terminated",
    Status.WORKFLOW_EXECUTION_STATUS_TIMED_OUT: "timed_out",
    Status.WORKFLOW_EXECUTION_STATUS_FAILED: "failed",
    Status.WORKFLOW_EXECUTION_STATUS_CANCELED: "cancelled",
}
# Temporal itself is away or overloaded: the whole round is tried again, not one run counted bad.
TEMPORAL_AWAY = frozenset(
    (
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.CANCELLED,
    )
)


class ReconcileActivities:
    """Compares rows with workflows and mends the difference; every step may be repeated.

    A run that cannot be mended is logged by its trace id and counted; the others go on.
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
    async def reconcile(self, after: Cursor | None = None) -> Reconciled:
        """Start runs that Temporal does not know; record the end of those that ended unawares.

        A run has no workflow when the process that accepted it died in between, or when Temporal
        lost its database: starting it again buys no stored answer twice. A round looks at no more
        than `A_ROUND` quiet runs and says how far it came; the next one goes on `after` that.
        """
        async with acquire(self._pool) as conn:
            quiet = await select_quiet(conn, GRACE, after, A_ROUND)
            await delete_expired_keys(conn, EXPIRED_KEYS_A_ROUND)
        ids = dict.fromkeys(each.workflow_id for each in quiet)
        async for page in self._ended_lately():
            async with acquire(self._pool) as conn:
                ids |= dict.fromkeys(await select_not_closed(conn, page))
        total = await _each(ids, self._mend)
        reached = quiet[-1].cursor if len(quiet) == A_ROUND else None
        return total.model_copy(update={"reached": reached})

    async def _ended_lately(self) -> AsyncIterator[list[Ended]]:
        """A run that ends by itself sets its status; one that was ended still says running.

        Raw, because the SDK's own list fails on a paused run, whose status it does not know.
        """
        since = (datetime.now(UTC) - LOOK_BACK).isoformat()
        request = ListWorkflowExecutionsRequest(
            namespace=self._client.namespace,
            query="ReinStatus = 'running' AND ExecutionStatus IN "
            f"('Terminated', 'TimedOut', 'Failed', 'Canceled') AND CloseTime > '{since}'",
            page_size=LISTED,
        )
        while True:
            answer = await self._client.workflow_service.list_workflow_executions(
                request, retry=True
            )
            yield [_ended(each) for each in answer.executions]
            if not answer.next_page_token:
                return
            request.next_page_token = answer.next_page_token
            activity.heartbeat()
            await asyncio.sleep(BETWEEN_LISTS_S)

    async def _mend(self, workflow_id: str) -> Reconciled:
        """Start or close one run, if it needs that. Raises what concerns all of them."""
        try:
            execution = await self._newest(workflow_id)
            if execution is None:
                return await self._start_run(workflow_id)
            return await self._close(execution)
        except Unavailable:
            raise
        except Exception as error:
            if isinstance(error, RPCError) and error.status in TEMPORAL_AWAY:
                raise
            trace_id = str(trace_id_of(workflow_id))
            log.error("run_not_mended", trace_id=trace_id, exc_info=error)
            return Reconciled(failed=1)

    async def _newest(self, workflow_id: str) -> WorkflowExecutionInfo | None:
        """The last execution of a workflow: a reset ends one and begins another."""
        request = DescribeWorkflowExecutionRequest(
            namespace=self._client.namespace, execution=WorkflowExecution(workflow_id=workflow_id)
        )
        service = self._client.workflow_service
        try:
            answer = await service.describe_workflow_execution(request, retry=True)
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return None
            raise
        return answer.workflow_execution_info

    async def _start_run(self, workflow_id: str) -> Reconciled:
        async with acquire(self._pool) as conn:
            stored = await select_request_of(conn, workflow_id)
        if stored is None:
            return Reconciled()
        await self._start(stored)
        log.info("accepted_run_started", trace_id=str(stored.trace_id))
        return Reconciled(started=1)

    async def _close(self, execution: WorkflowExecutionInfo) -> Reconciled:
        trace_id = trace_id_of(execution.execution.workflow_id)
        completed = execution.status == Status.WORKFLOW_EXECUTION_STATUS_COMPLETED
        if trace_id is None or not (completed or execution.status in LOST):
            return Reconciled()
        end = await (self._told_end if completed else self._lost_end)(trace_id, execution)
        closed = await self._record(end, execution.execution.run_id)
        if closed:
            log.info("ended_run_closed", trace_id=str(trace_id), status=end.status)
        return Reconciled(closed=int(closed))

    async def _told_end(self, trace_id: UUID, execution: WorkflowExecutionInfo) -> RunEnd:
        """The end of a run that told its outcome to Temporal, but could not record it itself."""
        ended = _ended(execution)
        handle = self._client.get_workflow_handle(ended.workflow_id, run_id=ended.run_id)
        result = await handle.result()
        try:
            outcome = RunOutcome.model_validate(result)
        except ValidationError:
            return RunEnd(
                trace_id=trace_id,
                project=self._project,
                status="failed",
                ended_at=ended.at,
                error_type="OUTCOME_INVALID",
                error_message="The workflow returned what is no outcome of a run",
            )
        return RunEnd(
            trace_id=trace_id,
            project=self._project,
            status=outcome.status,
            ended_at=ended.at,
            result=result,
            workflow_id=ended.workflow_id,
            run_id=ended.run_id,
        )

    async def _lost_end(self, trace_id: UUID, execution: WorkflowExecutionInfo) -> RunEnd:
        """The end of a run that could not record it, as its last event in Temporal tells it."""
        answer = await self._client.workflow_service.get_workflow_execution_history(
            GetWorkflowExecutionHistoryRequest(
                namespace=self._client.namespace,
                execution=execution.execution,
                history_event_filter_type=(
                    HistoryEventFilterType.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT
                ),
            ),
            retry=True,
        )
        closed = answer.history.events[-1]
        end = lost_end(
            trace_id,
            LOST[execution.status],
            execution.close_time.ToDatetime(UTC),
            project=self._project,
            # What an operator wrote when terminating the run.
            reason=closed.workflow_execution_terminated_event_attributes.reason,
        )
        failure = closed.workflow_execution_failed_event_attributes.failure
        while not failure.HasField("application_failure_info") and failure.HasField("cause"):
            failure = failure.cause
        if code := failure.application_failure_info.type:
            return end.model_copy(update={"error_type": code, "error_message": failure.message})
        return end

    async def _record(self, end: RunEnd, run_id: str) -> bool:
        """Record an end; without its kind's own part when that fails, because a run has to end."""
        try:
            async with acquire(self._pool) as conn, conn.transaction():
                return await record_end(conn, end, run_id, self._finish)
        except Unavailable:
            raise
        except Exception:
            log.exception("run_finish_failed", trace_id=str(end.trace_id))
        async with acquire(self._pool) as conn, conn.transaction():
            return await record_end(conn, end, run_id, {})


async def _each(ids: Iterable[str], mend: Callable[[str], Awaitable[Reconciled]]) -> Reconciled:
    """Mend all of them, `AT_ONCE` at a time."""
    waiting, total = iter(ids), Reconciled()

    async def work() -> None:
        nonlocal total
        for workflow_id in waiting:
            activity.heartbeat()
            done = await mend(workflow_id)
            total = total.plus(done)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(work())
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return total


def _ended(execution: WorkflowExecutionInfo) -> Ended:
    named = execution.execution
    return Ended(named.workflow_id, named.run_id, execution.close_time.ToDatetime(UTC))

"""The reconciler: it starts accepted runs that have no workflow, and closes rows of ended ones."""

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

from activities.metrics import Metrics
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

# The API starts a run's workflow as soon as it has stored the run. The reconciler checks a run that
# is older than this and has no event as recent as this: its workflow may be missing or ended.
GRACE = timedelta(seconds=20)
# The reconciler also checks workflows that closed within this time, because a run that an operator
# reset may be terminated although its row has an end already.
LOOK_BACK = timedelta(hours=1)
# The number of runs that one round checks, AT_ONCE at a time, with one request to Temporal per run.
# The limit keeps a round short: this many requests take Temporal about a second.
A_ROUND = 500
AT_ONCE = 16
# The seconds between two list requests. By default Temporal allows 10 list and count requests per
# second and namespace, which the reconciler shares with the operators.
BETWEEN_LISTS_S = 0.5
LISTED = 1000
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
        metrics: Metrics | None = None,
    ) -> None:
        self._pool = pool
        self._client = client
        self._project = project
        self._start = start
        self._finish = finish
        self._metrics = metrics or Metrics()

    @activity.defn
    async def reconcile(self, after: Cursor | None = None) -> Reconciled:
        """Start accepted runs that have no workflow, and record ends that no row has yet.

        A run has no workflow if the process that accepted it died before it started the workflow,
        or if Temporal lost its database. A restarted run does not pay again for stored answers.
        A round checks at most `A_ROUND` unfinished runs without recent events, the oldest first.
        Its result says how far it came (`reached`), and the next round continues `after` that run.
        """
        async with acquire(self._pool) as conn:
            quiet = await select_quiet(conn, GRACE, after, A_ROUND)
            await delete_expired_keys(conn, EXPIRED_KEYS_A_ROUND)
        ids = dict.fromkeys(each.workflow_id for each in quiet)
        async for page in self._ended_lately():
            async with acquire(self._pool) as conn:
                ids |= dict.fromkeys(await select_not_closed(conn, page))
        total = await _each(ids, self._mend)
        self._metrics.reconciled(total)
        reached = quiet[-1].cursor if len(quiet) == A_ROUND else None
        return total.model_copy(update={"reached": reached})

    async def _ended_lately(self) -> AsyncIterator[list[Ended]]:
        """List the workflows that were ended from outside lately, in pages.

        A workflow that ends by itself sets its attribute ReinStatus; one that was ended from
        outside, for example terminated, still has the value `running`. This is the raw gRPC call,
        because the SDK's own method fails on paused workflows, whose status it does not know.
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
        """Start or close one run, if that is necessary.

        An error of this run is logged and counted. Raises the errors that concern all runs:
        PostgreSQL or Temporal is unreachable.
        """
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
        """Return the newest execution of a workflow; None if Temporal does not know the workflow.

        A workflow that an operator reset has several executions.
        """
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
        """Build the end of a run from the result of its completed workflow.

        This happens if the workflow could not record its end in PostgreSQL itself.
        """
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
        """Build the end of a run without a result from the last event of its workflow's history."""
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
            # The reason that an operator gave for terminating the workflow; often empty.
            reason=closed.workflow_execution_terminated_event_attributes.reason,
        )
        failure = closed.workflow_execution_failed_event_attributes.failure
        while not failure.HasField("application_failure_info") and failure.HasField("cause"):
            failure = failure.cause
        if code := failure.application_failure_info.type:
            return end.model_copy(update={"error_type": code, "error_message": failure.message})
        return end

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


async def _each(ids: Iterable[str], mend: Callable[[str], Awaitable[Reconciled]]) -> Reconciled:
    """Call `mend` for each workflow id, `AT_ONCE` at a time, and return the sum of the results.

    The first error of `mend` stops the others and is raised.
    """
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

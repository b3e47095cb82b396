"""Temporal interceptors: they pass the trace context on, and end a run's trace with the run.

Workflow code emits nothing, so a replay has nothing to repeat.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

from temporalio import activity, client, worker, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception

from tracing.context import (
    Root,
    TraceContext,
    attach,
    attached,
    derived,
    from_headers,
    of_activity,
    to_headers,
)
from tracing.redaction import as_plain
from tracing.traces import CANCELLED, RunEnd

# An error of one of these types is a bug or a wrong value, so a repeat would meet it again.
# Everything else (PostgreSQL away, above all) may pass, so it is retried.
PERMANENT = (
    ValueError,  # pydantic's ValidationError is one
    TypeError,
    LookupError,
    AttributeError,
    NameError,
    ArithmeticError,
    AssertionError,
    NotImplementedError,
)


@dataclass(frozen=True)
class Options:
    """What `TracingPlugin` was given."""

    project: str
    environment: str | None
    complete: str
    close_timeout: timedelta
    untraced: frozenset[str]


class TracingInterceptor(client.Interceptor, worker.Interceptor):
    """Registered once, on the client; workers made from it inherit it."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def intercept_client(self, next: client.OutboundInterceptor) -> client.OutboundInterceptor:
        """See base class."""
        return _ClientOutbound(next)

    def intercept_activity(
        self, next: worker.ActivityInboundInterceptor
    ) -> worker.ActivityInboundInterceptor:
        """See base class."""
        return _ActivityInbound(next, self._options)

    def workflow_interceptor_class(
        self, input: worker.WorkflowInterceptorClassInput
    ) -> type[worker.WorkflowInboundInterceptor]:
        """See base class."""
        # Temporal instantiates the class with one argument, so this one carries the options.
        options = self._options

        class Inbound(_WorkflowInbound):
            def __init__(self, next: worker.WorkflowInboundInterceptor) -> None:
                super().__init__(next, options)

        return Inbound


class _ClientOutbound(client.OutboundInterceptor):
    async def start_workflow(
        self, input: client.StartWorkflowInput
    ) -> client.WorkflowHandle[Any, Any]:
        # The SDK sends signal-with-start through this method as well.
        _inject(input)
        return await super().start_workflow(input)

    async def start_update_with_start_workflow(
        self, input: client.StartWorkflowUpdateWithStartInput
    ) -> client.WorkflowUpdateHandle[Any]:
        _inject(input.start_workflow_input)
        return await super().start_update_with_start_workflow(input)


def _inject(input: client.StartWorkflowInput | client.UpdateWithStartStartWorkflowInput) -> None:
    context = attached()
    if context is None:
        return
    # A workflow that an activity starts joins the activity's trace, whose owner ends it.
    owner = context.owner or input.id
    input.headers = to_headers(context.model_copy(update={"owner": owner}), input.headers)


class _ActivityInbound(worker.ActivityInboundInterceptor):
    def __init__(self, next: worker.ActivityInboundInterceptor, options: Options) -> None:
        super().__init__(next)
        self._options = options

    async def execute_activity(self, input: worker.ExecuteActivityInput) -> Any:
        context = from_headers(input.headers) or of_activity(
            activity.info(),
            project=self._options.project,
            environment=self._options.environment,
        )
        with attach(context):
            try:
                return await super().execute_activity(input)
            except PERMANENT as error:
                if activity.info().activity_type != self._options.complete:
                    raise
                name = type(error).__name__
                raise ApplicationError(str(error), type=name, non_retryable=True) from error


class _WorkflowInbound(worker.WorkflowInboundInterceptor):
    """Holds the run's context, and ends its trace when the run ends."""

    def __init__(self, next: worker.WorkflowInboundInterceptor, options: Options) -> None:
        super().__init__(next)
        self._options = options
        self._context: TraceContext | None = None

    def init(self, outbound: worker.WorkflowOutboundInterceptor) -> None:
        super().init(_WorkflowOutbound(outbound, self))

    @property
    def context(self) -> TraceContext:
        """The header's, else derived. Not read in `init`, where `workflow.info()` fails."""
        if self._context is None:
            self._context = from_headers(workflow.info().headers) or self._derived()
        return self._context

    async def execute_workflow(self, input: worker.ExecuteWorkflowInput) -> Any:
        if not self._ends_the_trace():
            return await super().execute_workflow(input)
        try:
            result = await super().execute_workflow(input)
        except (Exception, asyncio.CancelledError) as error:
            # Any other error fails only the workflow task, which Temporal tries again.
            if _is_cancellation(error) or workflow.is_failure_exception(error):
                await self._close(self._end(*_failure(error)))
            raise
        await self._close(self._end(_status_of(result), result=_as_object(result)))
        return result

    def is_untraced(self) -> bool:
        """Whether the run's end is not the end of a trace."""
        return workflow.info().workflow_type in self._options.untraced

    def _ends_the_trace(self) -> bool:
        info = workflow.info()
        if self.is_untraced():
            return False
        # Continue-as-new and reset keep the workflow's id; a child has another one.
        owner = self.context.owner
        return owner == info.workflow_id if owner else info.parent is None

    def _derived(self) -> TraceContext:
        info = workflow.info()
        return derived(
            Root(
                name=info.workflow_type,
                workflow_id=info.workflow_id,
                run_id=info.run_id,
                started_at=info.workflow_start_time,
            ),
            namespace=info.namespace,
            # Temporal chains the runs of a cron job, but each of them is a run with its own trace.
            first_run_id=info.run_id if info.cron_schedule else info.first_execution_run_id,
            project=self._options.project,
            environment=self._options.environment,
        )

    def _end(
        self,
        status: str,
        error_type: str | None = None,
        error_message: str | None = None,
        result: dict[str, Any] | None = None,
    ) -> RunEnd:
        info, context = workflow.info(), self.context
        return RunEnd(
            trace_id=context.trace_id,
            project=context.project,
            status=status,
            error_type=error_type,
            error_message=error_message,
            ended_at=workflow.now(),
            result=result,
            workflow_id=info.workflow_id,
            run_id=info.run_id,
            thread_id=context.thread_id,
            environment=context.environment,
            root=context.root,
        )

    async def _close(self, end: RunEnd) -> None:
        """End the trace; a cancellation that arrives meanwhile does not stop that.

        This never holds the run: if it fails for good or takes too long, the run ends with its own
        result, and whoever reconciles runs with traces ends the trace later.
        """
        closing = workflow.start_local_activity(
            self._options.complete,
            end,
            schedule_to_close_timeout=self._options.close_timeout,
            start_to_close_timeout=timedelta(seconds=15),
            # Shorter than any wait, so that every wait is a timer of the workflow. The SDK's own
            # retry loop heeds neither the timeout above nor the worker's shutdown.
            local_retry_threshold=timedelta(milliseconds=100),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(milliseconds=200),
                maximum_interval=timedelta(seconds=10),
            ),
            summary="End the trace",
        )
        try:
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError:
                # A run is cancelled at most once; a second CancelledError is a cache eviction.
                await closing
        except FailureError as error:  # a local activity raises its failure unwrapped
            workflow.logger.warning("The trace could not be ended", exc_info=error)


class _WorkflowOutbound(worker.WorkflowOutboundInterceptor):
    """Passes the context on to everything that the workflow starts."""

    def __init__(self, next: worker.WorkflowOutboundInterceptor, inbound: _WorkflowInbound) -> None:
        super().__init__(next)
        self._inbound = inbound

    def start_activity(self, input: worker.StartActivityInput) -> workflow.ActivityHandle[Any]:
        input.headers = to_headers(self._inbound.context, input.headers)
        return super().start_activity(input)

    def start_local_activity(
        self, input: worker.StartLocalActivityInput
    ) -> workflow.ActivityHandle[Any]:
        input.headers = to_headers(self._inbound.context, input.headers)
        return super().start_local_activity(input)

    async def start_child_workflow(
        self, input: worker.StartChildWorkflowInput
    ) -> workflow.ChildWorkflowHandle[Any, Any]:
        # A child's stages belong to its parent's trace, which the parent ends. An untraced parent
        # ends none, so its child gets a trace of its own.
        if not self._inbound.is_untraced():
            input.headers = to_headers(self._inbound.context, input.headers)
        return await super().start_child_workflow(input)

    def continue_as_new(self, input: worker.ContinueAsNewInput) -> NoReturn:
        input.headers = to_headers(self._inbound.context, input.headers)
        super().continue_as_new(input)


def _is_cancellation(error: BaseException) -> bool:
    return workflow.cancellation_reason() is not None and is_cancelled_exception(error)


def _failure(error: BaseException) -> tuple[str, str | None, str | None]:
    """Status, error type and message; Temporal's errors wrap the one that tells the cause."""
    if _is_cancellation(error):
        return CANCELLED, None, None
    cause: BaseException = error
    while cause.__cause__ is not None and not isinstance(cause, ApplicationError):
        cause = cause.__cause__
    named = cause.type if isinstance(cause, ApplicationError) else None
    message = cause.message if isinstance(cause, ApplicationError) else str(cause)
    return "failed", named or type(cause).__name__, message


def _status_of(result: object) -> str:
    return str(getattr(result, "status", None) or "success")


def _as_object(result: object) -> dict[str, Any] | None:
    plain = as_plain(result)
    if plain is None or isinstance(plain, dict):
        return plain
    return {"value": plain}

"""Temporal interceptors that pass the trace context on and end a run's trace with the run.

Workflow code itself writes no spans, so a replay of a workflow cannot write spans twice.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

from temporalio import activity, client, worker, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import (
    ApplicationError,
    FailureError,
    TimeoutError,
    is_cancelled_exception,
)

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

# An error of one of these types comes from a bug or a wrong value, so a retry of the activity that
# ends the trace would fail again. Other errors, such as PostgreSQL being unavailable, are retried.
PERMANENT = (
    ValueError,  # pydantic.ValidationError is a subclass
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
    """The arguments of `TracingPlugin`, whose docstring explains them."""

    project: str
    environment: str | None
    complete: str
    close_timeout: timedelta
    untraced: frozenset[str]
    closed: Callable[[Any], None]


class TracingInterceptor(client.Interceptor, worker.Interceptor):
    """The interceptor for clients and workers.

    Register it on the client only: the SDK also applies it to every worker made from that client.
    """

    def __init__(self, options: Options) -> None:
        self._options = options

    def intercept_client(self, next: client.OutboundInterceptor) -> client.OutboundInterceptor:
        """Wrap the client, so that workflows it starts carry the attached trace context."""
        return _ClientOutbound(next)

    def intercept_activity(
        self, next: worker.ActivityInboundInterceptor
    ) -> worker.ActivityInboundInterceptor:
        """Wrap the activities, so that each runs with its trace context attached."""
        return _ActivityInbound(next, self._options)

    def workflow_interceptor_class(
        self, input: worker.WorkflowInterceptorClassInput
    ) -> type[worker.WorkflowInboundInterceptor]:
        """Return the class that Temporal instantiates once for each workflow run."""
        # Temporal passes only `next` when it creates an instance, so the class itself holds the
        # options.
        options = self._options

        class Inbound(_WorkflowInbound):
            def __init__(self, next: worker.WorkflowInboundInterceptor) -> None:
                super().__init__(next, options)

        return Inbound


class _ClientOutbound(client.OutboundInterceptor):
    async def start_workflow(
        self, input: client.StartWorkflowInput
    ) -> client.WorkflowHandle[Any, Any]:
        # The SDK calls this method for signal-with-start too.
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
    # A workflow that is started by an activity joins the activity's trace and keeps its owner,
    # which ends the trace. Any other workflow owns its trace.
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
    """Hold the trace context of a workflow run, and end the trace when the run ends."""

    def __init__(self, next: worker.WorkflowInboundInterceptor, options: Options) -> None:
        super().__init__(next)
        self._options = options
        self._context: TraceContext | None = None

    def init(self, outbound: worker.WorkflowOutboundInterceptor) -> None:
        super().init(_WorkflowOutbound(outbound, self))

    @property
    def context(self) -> TraceContext:
        """The context from the run's header, or else derived from the run's ids.

        It is computed at the first use, because `workflow.info()` still fails inside `init`.
        """
        if self._context is None:
            self._context = from_headers(workflow.info().headers) or self._derived()
        return self._context

    async def execute_workflow(self, input: worker.ExecuteWorkflowInput) -> Any:
        if not self._ends_the_trace():
            return await super().execute_workflow(input)
        try:
            result = await super().execute_workflow(input)
        except (Exception, asyncio.CancelledError) as error:
            # Any other error fails only the workflow task. Temporal retries the task, so the run
            # goes on.
            if _is_cancellation(error) or workflow.is_failure_exception(error):
                await self._close(self._end(*_failure(error)))
            raise
        await self._close(self._end(_status_of(result), result=_as_object(result)))
        return result

    def is_untraced(self) -> bool:
        """Tell whether this workflow type is listed in `TracingPlugin(untraced=…)`."""
        return workflow.info().workflow_type in self._options.untraced

    def _ends_the_trace(self) -> bool:
        info = workflow.info()
        if self.is_untraced():
            return False
        # The workflow that owns the trace is the one that ends it. A run that continue-as-new or a
        # reset made keeps the owner's workflow id, but a child workflow has another one. Where no
        # owner is set, a run without a parent is the owner.
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
            # Temporal counts all runs of a cron job as one chain. Each of them gets its own trace,
            # so each counts as its own first run here.
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
        """Run the local activity that ends the trace, even if the run is cancelled meanwhile.

        The run waits for it at most `close_timeout`. If the activity fails for good or the time
        runs out, the run still ends with its own result, and the reconciler ends the trace later.
        """
        closing = workflow.start_local_activity(
            self._options.complete,
            end,
            schedule_to_close_timeout=self._options.close_timeout,
            start_to_close_timeout=timedelta(seconds=15),
            # A threshold below every retry interval makes each wait between two attempts a timer of
            # the workflow. The SDK's own wait in the worker ignores both schedule_to_close_timeout
            # and the worker's shutdown.
            local_retry_threshold=timedelta(milliseconds=100),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(milliseconds=200),
                maximum_interval=timedelta(seconds=10),
            ),
            summary="End the trace",
        )
        try:
            try:
                recorded = await asyncio.shield(closing)
            except asyncio.CancelledError:
                # Temporal cancels a run at most once. If another CancelledError interrupts this
                # second wait, the worker is evicting the run from its cache, and the error is
                # passed on.
                recorded = await closing
        # A local activity raises its own error, not an ActivityError around it.
        except FailureError as error:
            workflow.logger.warning("The trace could not be ended", exc_info=error)
            return
        if recorded is not None:
            self._options.closed(recorded)


class _WorkflowOutbound(worker.WorkflowOutboundInterceptor):
    """Add the trace context to the headers of everything that the workflow starts."""

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
        # The stages of a child workflow belong to the parent's trace, which the parent ends. An
        # untraced parent ends no trace, so its child gets no header and derives a trace of its own.
        if not self._inbound.is_untraced():
            input.headers = to_headers(self._inbound.context, input.headers)
        return await super().start_child_workflow(input)

    def continue_as_new(self, input: worker.ContinueAsNewInput) -> NoReturn:
        input.headers = to_headers(self._inbound.context, input.headers)
        super().continue_as_new(input)


def _is_cancellation(error: BaseException) -> bool:
    return workflow.cancellation_reason() is not None and is_cancelled_exception(error)


def _failure(error: BaseException) -> tuple[str, str | None, str | None]:
    """Return the status, error type and error message of a run that failed or was cancelled.

    Temporal wraps the original error in others, so the causes are followed to the first
    ApplicationError or to the last cause.
    """
    if _is_cancellation(error):
        return CANCELLED, None, None
    cause: BaseException = error
    while cause.__cause__ is not None and not isinstance(cause, ApplicationError):
        cause = cause.__cause__
    named = cause.type if isinstance(cause, ApplicationError) else None
    if isinstance(cause, TimeoutError):
        named = "TIMED_OUT"
    message = cause.message if isinstance(cause, ApplicationError) else str(cause)
    return "failed", named or type(cause).__name__, message


def _status_of(result: object) -> str:
    return str(getattr(result, "status", None) or "success")


def _as_object(result: object) -> dict[str, Any] | None:
    plain = as_plain(result)
    if plain is None or isinstance(plain, dict):
        return plain
    return {"value": plain}

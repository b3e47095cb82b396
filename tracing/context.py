"""The trace context: one header that travels with a run and says which trace it belongs to."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadConverter

from tracing.ids import timestamp_of, uuid7

HEADER = "opik-trace-v1"
_TRACE_AT_END = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")


class Root(BaseModel):
    """How a run without a header began: enough to open its trace later."""

    model_config = ConfigDict(frozen=True)

    name: str
    workflow_id: str
    run_id: str
    started_at: datetime


class TraceContext(BaseModel):
    """The trace that a workflow or an activity belongs to.

    Attributes:
        v: Version of the header; a reader ignores fields that it does not know.
        parent_span_id: The span above the run's stages; None puts them directly under the trace.
        owner: Id of the workflow that ends the trace; a child workflow carries its parent's.
        root: Set only when the run came without a header, because nobody has opened its trace.
    """

    model_config = ConfigDict(frozen=True)

    v: int = 1
    trace_id: UUID
    parent_span_id: UUID | None = None
    project: str
    thread_id: str | None = None
    environment: str | None = None
    owner: str | None = None
    root: Root | None = None


_attached: ContextVar[TraceContext | None] = ContextVar("opik_trace_context", default=None)


@contextmanager
def attach(context: TraceContext) -> Iterator[None]:
    """Workflows that are started inside the block, and stages run in it, belong to this trace."""
    token = _attached.set(context)
    try:
        yield
    finally:
        _attached.reset(token)


def attached() -> TraceContext | None:
    """The context of the enclosing `attach`, if there is one."""
    return _attached.get()


def current() -> TraceContext:
    """The running activity's context: from its header, else derived from its workflow.

    Raises RuntimeError outside of an activity and of `attach`.
    """
    context = _attached.get()
    if context is None:
        return of_activity(activity.info(), project="default", environment=None)
    return context


def to_headers(context: TraceContext, headers: Mapping[str, Payload]) -> dict[str, Payload]:
    """The headers with the context added."""
    carried = context.model_dump(mode="json", exclude_none=True)
    return {**headers, HEADER: PayloadConverter.default.to_payload(carried)}


def from_headers(headers: Mapping[str, Payload]) -> TraceContext | None:
    """The context in `headers`, or None without one."""
    payload = headers.get(HEADER)
    if payload is None:
        return None
    return TraceContext.model_validate(PayloadConverter.default.from_payload(payload))


def derived(
    root: Root, *, namespace: str, first_run_id: str, project: str, environment: str | None
) -> TraceContext:
    """The context of a run that came without a header: the same on every replay and worker.

    If the workflow id ends in a version-7 UUID, that is the trace's id; otherwise the trace's id is
    derived from the first run of the workflow's chain (retries, continue-as-new, resets).
    """
    named = _TRACE_AT_END.search(root.workflow_id)
    seed = f"trace|{namespace}|{root.workflow_id}|{first_run_id}"
    return TraceContext(
        trace_id=UUID(named[0]) if named else uuid7(_began_at(first_run_id, root), seed),
        project=project,
        environment=environment,
        owner=root.workflow_id,
        root=root,
    )


def of_activity(info: activity.Info, *, project: str, environment: str | None) -> TraceContext:
    """The context of an activity without a header: its workflow's worker has no interceptor."""
    run_id = info.workflow_run_id or info.activity_run_id or info.activity_id
    root = Root(
        name=info.workflow_type or info.activity_type,
        workflow_id=info.workflow_id or info.activity_id,
        run_id=run_id,
        started_at=info.scheduled_time,
    )
    return derived(
        root,
        namespace=info.namespace,
        first_run_id=run_id,
        project=project,
        environment=environment,
    )


def _began_at(first_run_id: str, root: Root) -> datetime:
    # A retried run has a start of its own, but all runs of a chain know the first one's id, and
    # Temporal's run ids carry their time.
    is_v7 = _TRACE_AT_END.fullmatch(first_run_id) is not None
    return timestamp_of(UUID(first_run_id)) if is_v7 else root.started_at

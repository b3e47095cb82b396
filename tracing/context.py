"""The trace context: a Temporal header that says which trace a workflow or activity belongs to."""

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
    """The name, ids and start of a run that began without the trace header.

    Nobody has opened the trace of such a run, so the first writer opens it from these facts.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    workflow_id: str
    run_id: str
    started_at: datetime


class TraceContext(BaseModel):
    """The trace that a workflow or an activity belongs to.

    Attributes:
        v: Version of the header format. Readers ignore fields that they do not know.
        parent_span_id: Id of the span above the run's stages. None puts the stages directly under
            the trace.
        owner: Id of the workflow that ends the trace. A child workflow carries its parent's owner,
            so the child does not end the trace.
        root: The facts to open the trace from. It is set only for a run that began without the
            header, because nobody has opened that run's trace.
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
    """Make `context` the current trace context inside the block.

    Workflows that are started and stages that are run inside the block belong to its trace.
    """
    token = _attached.set(context)
    try:
        yield
    finally:
        _attached.reset(token)


def attached() -> TraceContext | None:
    """Return the context of the enclosing `attach` block, or None outside of any."""
    return _attached.get()


def current() -> TraceContext:
    """Return the trace context of the running activity.

    The tracing interceptor attaches it. Without the interceptor it is derived from the ids of the
    activity's workflow. Raises RuntimeError outside of both an activity and an `attach` block.
    """
    context = _attached.get()
    if context is None:
        return of_activity(activity.info(), project="default", environment=None)
    return context


def to_headers(context: TraceContext, headers: Mapping[str, Payload]) -> dict[str, Payload]:
    """Return a copy of Temporal headers with the trace context added."""
    carried = context.model_dump(mode="json", exclude_none=True)
    return {**headers, HEADER: PayloadConverter.default.to_payload(carried)}


def from_headers(headers: Mapping[str, Payload]) -> TraceContext | None:
    """Return the trace context that Temporal headers carry, or None when they carry none."""
    payload = headers.get(HEADER)
    if payload is None:
        return None
    return TraceContext.model_validate(PayloadConverter.default.from_payload(payload))


def derived(
    root: Root, *, namespace: str, first_run_id: str, project: str, environment: str | None
) -> TraceContext:
    """Return the trace context of a run that began without the trace header.

    The result is the same on every replay and every worker. If the workflow id ends with a
    version-7 UUID, that UUID becomes the trace id. Otherwise the trace id is derived from
    `first_run_id`, which all runs of a chain (retries, continue-as-new, resets) share.
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
    """Return the trace context of an activity that received no trace header.

    This happens when the worker that runs the activity's workflow has no tracing interceptor, or
    when a client started the activity without a workflow.
    """
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
    # All runs of a chain must derive the same trace id, but a retried run has its own start time.
    # The first run's id is the same for all; if it is a version-7 UUID, it contains a time.
    is_v7 = _TRACE_AT_END.fullmatch(first_run_id) is not None
    return timestamp_of(UUID(first_run_id)) if is_v7 else root.started_at

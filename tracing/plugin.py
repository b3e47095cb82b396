"""The Temporal plugin that turns tracing on: `Client.connect(..., plugins=[TracingPlugin(…)])`."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from temporalio.plugin import SimplePlugin

from tracing.interceptor import Options, TracingInterceptor
from tracing.redaction import TextMode, configure


class TracingPlugin(SimplePlugin):
    """Pass trace contexts on to everything that runs start, and end each run's trace with the run.

    The plugin is given to the client; workers made from that client use it too.

    Args:
        project: Opik project for runs that begin without a trace header.
        environment: Environment that the traces of those runs show.
        complete: Name of the activity that takes a `RunEnd` and calls `close_trace`. Every worker
            must have it. It runs as a local activity, which adds one event to the run's history.
        close_timeout: Longest time that a run waits at its end for `complete`, for instance while
            PostgreSQL is unavailable. After it the run ends with its own result, and its trace
            stays open.
        untraced: Workflow types, such as housekeeping, whose end ends no trace. Their child
            workflows get traces of their own.
        text: How much personal text is sent to Opik. None keeps the process's current redaction.
        text_key: Secret key of the hashes that replace redacted texts.
        closed: Called in the workflow with what `complete` returned, if that is not None; it may
            give commands, so it must be deterministic.
        plain_metadata: Names of metadata fields that never hold personal text and are not redacted.
    """

    def __init__(
        self,
        *,
        project: str,
        environment: str | None = None,
        complete: str = "complete",
        close_timeout: timedelta = timedelta(minutes=5),
        untraced: Iterable[str] = (),
        text: TextMode | None = None,
        text_key: str = "",
        plain_metadata: Iterable[str] = (),
        closed: Callable[[Any], None] = lambda _recorded: None,
    ) -> None:
        options = Options(
            project, environment, complete, close_timeout, frozenset(untraced), closed
        )
        super().__init__("opik-tracing", interceptors=[TracingInterceptor(options)])
        if text is not None:
            configure(text, key=text_key, plain_metadata=plain_metadata)

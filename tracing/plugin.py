"""Tracing in one line: `Client.connect(..., plugins=[TracingPlugin(project="…")])`."""

from collections.abc import Iterable
from datetime import timedelta

from temporalio.plugin import SimplePlugin

from tracing.interceptor import Options, TracingInterceptor
from tracing.redaction import TextMode, configure


class TracingPlugin(SimplePlugin):
    """Carries every run's trace context and ends its trace; workers inherit it from the client.

    Args:
        project: Opik project of runs that came without a header.
        environment: Environment of those runs.
        complete: Name of the activity that takes a `RunEnd` and calls `close_trace`; the worker
            must have it. It runs as a local activity, which costs one history event.
        close_timeout: Time that a run waits at its end for `complete`, for instance while
            PostgreSQL is away. After it the run ends with its own result, its trace still open.
        untraced: Workflow types (housekeeping) whose end is not the end of a trace; their children
            have traces of their own.
        text: How much personal text goes to Opik; None leaves the process's redaction as it is.
        text_key: Keys the hashes of redacted text.
        plain_metadata: Names of metadata that never hold personal text.
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
    ) -> None:
        options = Options(project, environment, complete, close_timeout, frozenset(untraced))
        super().__init__("opik-tracing", interceptors=[TracingInterceptor(options)])
        if text is not None:
            configure(text, key=text_key, plain_metadata=plain_metadata)

"""Builds the URLs of a run in the API, in the Temporal UI and in Opik."""

from uuid import UUID

from pydantic import BaseModel, Field

from db.pool import Connection
from domain.runs import RunKind, run_path, workflow_id
from tracing import project_id, trace_url, workflow_url
from workflows.kinds import KINDS


class RunLinks(BaseModel):
    """The URLs of a run in this API, in Opik and in the Temporal UI."""

    self: str
    result: str = Field(description="All that came of the run, as its kind has it")
    events: str = Field(description="Server-sent events: the run's progress, live")
    trace: str = Field(description="The run's trace in Opik")
    workflow: str = Field(description="The run in the Temporal UI")
    cancel: str = Field(description="POST here to cancel")
    rerun: str = Field(description="POST here to repeat from a stage")
    feedback: str = Field(description="POST here what the person says about the result")


class Addresses:
    """Builds links from the addresses under which the API and the Temporal UI are reachable."""

    def __init__(self, *, public_url: str, temporal_ui_url: str, namespace: str) -> None:
        self._public = public_url.rstrip("/")
        self._temporal_ui = temporal_ui_url
        self._namespace = namespace

    def run(self, trace_id: UUID) -> str:
        return f"{self._public}{run_path(trace_id)}"

    def result(self, kind: RunKind, trace_id: UUID) -> str:
        """Return the URL under which the API shows a run with all its results.

        A kind of run without an endpoint for that has its results under the run's own URL.
        """
        path = KINDS[kind].path
        return f"{self._public}{path}/{trace_id}" if path else self.run(trace_id)

    def trace(self, trace_id: UUID) -> str:
        """Return the API's permanent URL of the trace.

        The API redirects it to the trace's page in Opik as soon as the URL of that page is known.
        """
        return f"{self.run(trace_id)}/trace"

    def workflow(self, kind: RunKind, trace_id: UUID) -> str:
        name = workflow_id(kind, trace_id)
        return workflow_url(self._temporal_ui, self._namespace, name)

    def links(self, kind: RunKind, trace_id: UUID, *, trace: str | None) -> RunLinks:
        """Build all links of a run. `trace` is the URL of its page in Opik; None if unknown yet."""
        run = self.run(trace_id)
        return RunLinks(
            self=run,
            result=self.result(kind, trace_id),
            events=f"{run}/events",
            trace=trace or self.trace(trace_id),
            workflow=self.workflow(kind, trace_id),
            cancel=f"{run}/cancel",
            rerun=f"{run}/rerun",
            feedback=f"{self._public}/api/feedback",
        )


class TracePages:
    """Builds the URLs of traces' pages in Opik.

    Each URL contains the id of Opik's project. The shipper stores that id in PostgreSQL; this class
    reads it once and caches it.
    """

    def __init__(self, *, ui_url: str, workspace: str, project: str) -> None:
        self._ui_url = ui_url
        self._workspace = workspace
        self._project = project
        self._project_id: UUID | None = None

    async def find(self, conn: Connection, trace_id: UUID) -> str | None:
        """Return the URL of a trace's page; None until the shipper has stored the project's id."""
        if self._project_id is None:
            self._project_id = await project_id(conn, self._project)
        if self._project_id is None:
            return None
        return trace_url(self._ui_url, self._workspace, self._project_id, trace_id)

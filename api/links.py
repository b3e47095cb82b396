"""Addresses that a caller, an operator or an analyst can open."""

from uuid import UUID

from pydantic import BaseModel, Field

from db.pool import Connection
from domain.runs import workflow_id
from tracing import project_id, trace_url, workflow_url


class RunLinks(BaseModel):
    """Where to go from a run."""

    self: str
    events: str = Field(description="Server-sent events: the run's progress, live")
    trace: str = Field(description="The run's trace in Opik")
    workflow: str = Field(description="The run in the Temporal UI")
    cancel: str = Field(description="POST here to cancel")
    rerun: str = Field(description="POST here to repeat from a stage")
    feedback: str = Field(description="POST here what the person says about the result")


class Addresses:
    """Makes the links; knows where the API, the Temporal UI and Opik are seen from outside."""

    def __init__(self, *, public_url: str, temporal_ui_url: str, namespace: str) -> None:
        self._public = public_url.rstrip("/")
        self._temporal_ui = temporal_ui_url
        self._namespace = namespace

    def goal(self, trace_id: UUID) -> str:
        return f"{self._public}/api/goals/{trace_id}"

    def trace(self, trace_id: UUID) -> str:
        """A lasting link to the trace: it leads on to Opik's page, once that is known."""
        return f"{self._public}/api/traces/{trace_id}"

    def workflow(self, trace_id: UUID) -> str:
        name = workflow_id("goal_generation", trace_id)
        return workflow_url(self._temporal_ui, self._namespace, name)

    def run(self, trace_id: UUID, *, trace: str | None) -> RunLinks:
        """All links of a run; `trace` is Opik's own page, if it is known."""
        goal = self.goal(trace_id)
        return RunLinks(
            self=goal,
            events=f"{goal}/events",
            trace=trace or self.trace(trace_id),
            workflow=self.workflow(trace_id),
            cancel=f"{goal}/cancel",
            rerun=f"{goal}/rerun",
            feedback=f"{self._public}/api/feedback",
        )


class TracePages:
    """Opik's own pages of traces. The project's id is read until it is known, then kept."""

    def __init__(self, *, ui_url: str, workspace: str, project: str) -> None:
        self._ui_url = ui_url
        self._workspace = workspace
        self._project = project
        self._project_id: UUID | None = None

    async def find(self, conn: Connection, trace_id: UUID) -> str | None:
        """The page of a trace; None until the shipper has learned the project's id."""
        if self._project_id is None:
            self._project_id = await project_id(conn, self._project)
        if self._project_id is None:
            return None
        return trace_url(self._ui_url, self._workspace, self._project_id, trace_id)

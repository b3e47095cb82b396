"""Links both ways: from Temporal to the trace, from the trace to Temporal."""

from urllib.parse import quote
from uuid import UUID

from tracing.outbox import Connection


async def project_id(conn: Connection, project: str) -> UUID | None:
    """Opik's id of a project; None until the shipper has asked for it."""
    found: UUID | None = await conn.fetchval(
        "SELECT project_id FROM trace_projects WHERE name = $1", project
    )
    return found


def trace_url(ui_url: str, workspace: str, project_id: UUID | str, trace_id: UUID | str) -> str:
    """The page of one trace in Opik."""
    project = f"{ui_url.rstrip('/')}/{quote(workspace, safe='')}/projects/{project_id}"
    return f"{project}/logs?logsType=traces&trace={trace_id}"


def workflow_url(ui_url: str, namespace: str, workflow_id: str, run_id: str | None = None) -> str:
    """The page of one workflow in the Temporal UI; without `run_id`, of its latest run."""
    workflow = f"namespaces/{quote(namespace, safe='')}/workflows/{quote(workflow_id, safe='')}"
    tail = f"/{run_id}/history" if run_id else ""
    return f"{ui_url.rstrip('/')}/{workflow}{tail}"

"""Addresses of a trace's page in Opik and of a workflow's page in the Temporal UI."""

from urllib.parse import quote
from uuid import UUID

from tracing.outbox import Connection


async def project_id(conn: Connection, project: str) -> UUID | None:
    """Return Opik's id of a project, or None until the shipper has asked Opik and stored the id."""
    found: UUID | None = await conn.fetchval(
        "SELECT project_id FROM trace_projects WHERE name = $1", project
    )
    return found


def trace_url(ui_url: str, workspace: str, project_id: UUID | str, trace_id: UUID | str) -> str:
    """Return the address of a trace's page in Opik. `ui_url` is the base address of Opik's UI."""
    project = f"{ui_url.rstrip('/')}/{quote(workspace, safe='')}/projects/{project_id}"
    return f"{project}/logs?logsType=traces&trace={trace_id}"


def workflow_url(ui_url: str, namespace: str, workflow_id: str, run_id: str | None = None) -> str:
    """Return the address of a workflow's page in the Temporal UI.

    Without `run_id` the page shows the latest run of the workflow.
    """
    workflow = f"namespaces/{quote(namespace, safe='')}/workflows/{quote(workflow_id, safe='')}"
    tail = f"/{run_id}/history" if run_id else ""
    return f"{ui_url.rstrip('/')}/{workflow}{tail}"

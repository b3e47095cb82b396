"""Health, login and projects: what the SDK asks before it starts."""

import sqlite3

from starlette.responses import Response

from devstack.opik.calls import Call, Routes, named, paged
from devstack.opik.errors import Refused
from devstack.opik.rules import from_pico, from_us, new_id, now_us
from devstack.opik.store import Doc, find_project
from devstack.opik.views import AUTHORS

routes = Routes("")
# At or above 2.2.8 the SDK inserts dataset items in parallel, as with a current server.
VERSION = "2.2.122"


@routes("GET", "/is-alive/ping")
def ping(call: Call) -> Doc:
    """Healthy."""
    return {"message": "Healthy Server", "healthy": True}


@routes("GET", "/is-alive/ver")
def version(call: Call) -> Doc:
    """The version this receiver behaves like."""
    return {"version": VERSION}


@routes("POST", "/v1/private/auth")
@routes("GET", "/v1/private/auth/workspace")
def workspace(call: Call) -> Doc:
    """Any key is accepted, and the workspace is the one that the client names."""
    return {"workspace_name": call.headers.get("comet-workspace", "default")}


def all_projects(db: sqlite3.Connection) -> list[Doc]:
    """ProjectPublic of every project, the one used last first."""
    rows = db.execute(
        "SELECT p.*, (SELECT max(t.updated_us) FROM traces t WHERE t.project_id = p.id) AS last_us"
        " FROM projects p ORDER BY last_us DESC"
    )
    return [
        {
            "id": row["id"],
            "name": row["name"],
            "description": row["description"],
            "visibility": "private",
            "created_at": from_us(row["created_us"]),
            "last_updated_at": from_us(row["updated_us"]),
            "last_updated_trace_at": row["last_us"] and from_us(row["last_us"]),
            **AUTHORS,
        }
        for row in rows
    ]


@routes("POST", "/v1/private/projects")
def create(call: Call) -> Response:
    """A project by name; the name must be new."""
    doc, name, now, identity = call.doc(), call.name(), now_us(), new_id()
    with call.store.write() as db:
        if find_project(db, name) is not None:
            raise Refused(409, "Project already exists")
        row = (identity, name, doc.get("description"), now, now)
        db.execute("INSERT INTO projects VALUES (?, ?, ?, ?, ?)", row)
    return call.created(identity)


@routes("POST", "/v1/private/projects/retrieve")
def retrieve(call: Call) -> Doc:
    """A project by name, or 404."""
    name = call.name()
    found = [each for each in all_projects(call.store.read()) if each["name"] == name]
    if not found:
        raise Refused(404, "Project not found")
    return found[0]


@routes("GET", "/v1/private/projects")
def page(call: Call) -> Doc:
    """A page of projects, by a part of the name."""
    return paged(call, named(all_projects(call.store.read()), call.query.get("name", "")))


@routes("GET", "/v1/private/projects/stats")
def stats(call: Call) -> Doc:
    """Counts and cost of each project."""
    rows = call.store.read().execute(
        "SELECT p.id, count(t.id) AS traces,"
        " count(json_extract(t.body, '$.error_info')) AS errors,"
        " (SELECT sum(s.cost_pico) FROM spans s WHERE s.project_id = p.id) AS cost_pico"
        " FROM projects p LEFT JOIN traces t ON t.project_id = p.id GROUP BY p.id"
    )
    content = [
        {
            "project_id": row["id"],
            "trace_count": row["traces"],
            "error_count": {"count": row["errors"], "deviation": 0},
            "total_estimated_cost_sum": from_pico(row["cost_pico"]),
        }
        for row in rows
    ]
    return paged(call, content)

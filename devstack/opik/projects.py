"""Projects: found by name, made on demand."""

import sqlite3

from devstack.opik.http import Call, Doc, Refused, Reply, Routes
from devstack.opik.queries import like
from devstack.opik.rules import from_us, new_id, now_us
from devstack.opik.store import find_project
from devstack.opik.views import AUTHOR

routes = Routes("/v1/private/projects")
LAST_TRACE = "(SELECT max(t.updated_us) FROM traces t WHERE t.project_id = p.id) AS last_us"


def project_doc(row: sqlite3.Row) -> Doc:
    """ProjectPublic."""
    last = row["last_us"]
    return {
        "id": row["id"],
        "name": row["name"],
        "description": row["description"],
        "visibility": "private",
        "created_at": from_us(row["created_us"]),
        "created_by": AUTHOR,
        "last_updated_at": from_us(row["updated_us"]),
        "last_updated_by": AUTHOR,
        "last_updated_trace_at": None if last is None else from_us(last),
    }


def all_projects(db: sqlite3.Connection) -> list[sqlite3.Row]:
    """Every project, the one used last first."""
    return db.execute(f"SELECT p.*, {LAST_TRACE} FROM projects p ORDER BY last_us DESC").fetchall()  # noqa: S608


def _get(db: sqlite3.Connection, identity: str | None) -> Doc:
    row = db.execute(f"SELECT p.*, {LAST_TRACE} FROM projects p WHERE id = ?", (identity,))  # noqa: S608
    found = row.fetchone()
    if found is None:
        raise Refused(404, "Project not found")
    return project_doc(found)


@routes("POST", "")
def create(call: Call) -> Reply:
    """A project by name; the name must be new."""
    doc = call.doc()
    name, now, identity = doc.get("name"), now_us(), new_id()
    if not isinstance(name, str) or not name.strip():
        raise Refused(422, "name must not be blank")
    with call.store.write() as db:
        if find_project(db, name) is not None:
            raise Refused(409, "Project already exists")
        row = (identity, name, doc.get("description"), now, now)
        db.execute("INSERT INTO projects VALUES (?, ?, ?, ?, ?)", row)
    return Reply(201, None, {"Location": f"{call.base}/api{call.path}/{identity}"})


@routes("POST", "/retrieve")
def retrieve(call: Call) -> Reply:
    """A project by name, or 404."""
    name = call.doc().get("name")
    if not isinstance(name, str) or not name:
        raise Refused(422, "name must not be blank")
    db = call.store.read()
    return Reply(200, _get(db, find_project(db, name)))


@routes("GET", "")
def page(call: Call) -> Reply:
    """A page of projects, filtered by a part of the name."""
    number, size = call.number("page", 1), call.number("size", 10, 1000)
    db = call.store.read()
    pattern = like("%{}%", call.query.get("name", ""))
    rows = db.execute(
        f"SELECT p.*, {LAST_TRACE} FROM projects p WHERE name LIKE ? ESCAPE '\\'"  # noqa: S608
        " ORDER BY p.id DESC LIMIT ? OFFSET ?",
        (pattern, size, (number - 1) * size),
    ).fetchall()
    total = db.execute("SELECT count(*) FROM projects WHERE name LIKE ? ESCAPE '\\'", (pattern,))
    return Reply(
        200,
        {
            "page": number,
            "size": len(rows),
            "total": total.fetchone()[0],
            "content": [project_doc(row) for row in rows],
            "sortableBy": ["id", "name"],
        },
    )


@routes("GET", "/{id}")
def one(call: Call) -> Reply:
    """One project by id."""
    return Reply(200, _get(call.store.read(), call.params["id"]))


@routes("PATCH", "/{id}")
def update(call: Call) -> Reply:
    """Rename or describe a project."""
    doc = call.doc()
    with call.store.write() as db:
        _get(db, call.params["id"])
        db.execute(
            "UPDATE projects SET name = coalesce(?, name), description = coalesce(?, description),"
            " updated_us = ? WHERE id = ?",
            (doc.get("name"), doc.get("description"), now_us(), call.params["id"]),
        )
    return Reply(204)

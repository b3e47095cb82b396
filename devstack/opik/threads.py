"""Threads, which are traces with one thread_id; and taking traces and spans away."""

import sqlite3
from collections.abc import Iterable

from devstack.opik.http import Call, Doc, Refused, Reply, Routes
from devstack.opik.paging import lines, paged
from devstack.opik.queries import project_scope
from devstack.opik.reads import select
from devstack.opik.rows import project_of
from devstack.opik.rules import from_us
from devstack.opik.store import documents, put_document
from devstack.opik.views import comments_of, score_doc, scores_of, trace_docs
from devstack.opik.writes import batch_update

routes = Routes("/v1/private")


def _thread(db: sqlite3.Connection, project: str, name: str) -> Doc | None:
    """TraceThread: what the traces of one thread_id add up to."""
    where = "e.project_id = ? AND e.thread_id = ?"
    rows = select(db, "traces", where, [project, name], "ORDER BY e.start_us, e.id")
    if not rows:
        return None
    traces = trace_docs(db, rows)
    start = rows[0]["start_us"]
    end = max([row["end_us"] for row in rows if row["end_us"]], default=None)
    costs = [each["total_estimated_cost"] for each in traces if "total_estimated_cost" in each]
    usage: dict[str, int] = {}
    for each in traces:
        for key, value in (each.get("usage") or {}).items():
            usage[key] = usage.get(key, 0) + value
    scores = scores_of(db, "thread", [name])[project, name]
    return {
        "id": name,
        "thread_model_id": traces[0]["id"],
        "project_id": project,
        "start_time": from_us(start),
        "end_time": None if end is None else from_us(end),
        "duration": None if end is None else (end - start) / 1000,
        "first_message": traces[0].get("input"),
        "last_message": traces[-1].get("output"),
        "status": _status(db, project, name),
        "number_of_messages": 2 * len(rows),
        "total_estimated_cost": sum(costs) if costs else None,
        "usage": usage or None,
        "feedback_scores": [score_doc(row) for row in scores] or None,
        "comments": comments_of(db, "thread", [name]).get(name),
        "created_at": traces[0]["created_at"],
        "last_updated_at": max(each["last_updated_at"] for each in traces),
    }


def _status(db: sqlite3.Connection, project: str, name: str) -> str:
    found = documents(db, "thread", identity=f"{project}/{name}")
    return str(found[0]["status"]) if found else "active"


def _threads(call: Call, asked: Doc) -> list[Doc]:
    """All threads of a project, the one that moved last first."""
    db, project = call.store.read(), project_scope(call.store.read(), asked)
    names = db.execute(
        "SELECT thread_id FROM traces WHERE project_id = ? AND thread_id IS NOT NULL"
        " GROUP BY thread_id ORDER BY max(start_us) DESC",
        (project,),
    )
    found = (_thread(db, project, row["thread_id"]) for row in names.fetchall())
    return [each for each in found if each is not None]


@routes("GET", "/traces/threads")
def page(call: Call) -> Reply:
    """A page of threads."""
    return paged(call, _threads(call, dict(call.query)))


@routes("POST", "/traces/threads/search")
def search(call: Call) -> Reply:
    """Threads as a stream."""
    doc = call.doc()
    found = _threads(call, doc)
    ids = [each["thread_model_id"] for each in found]
    last = doc.get("last_retrieved_thread_model_id")
    start = ids.index(last) + 1 if last in ids else 0
    return lines(found[start : start + int(doc.get("limit") or 500)])


@routes("POST", "/traces/threads/retrieve")
def retrieve(call: Call) -> Reply:
    """One thread by its id."""
    doc, db = call.doc(), call.store.read()
    found = _thread(db, project_scope(db, doc), str(doc.get("thread_id")))
    if found is None:
        raise Refused(404, f"Thread id: {doc.get('thread_id')} not found")
    return Reply(200, found)


def _mark(call: Call, status: str) -> Reply:
    doc = call.doc()
    names = doc.get("thread_ids") or [doc.get("thread_id")]
    with call.store.write() as db:
        project = project_of(db, doc, {})
        for name in filter(None, names):
            put_document(db, "thread", {"id": f"{project}/{name}", "status": status})
    return Reply(204)


@routes("PUT", "/traces/threads/close")
def close(call: Call) -> Reply:
    """No message follows."""
    return _mark(call, "inactive")


@routes("PUT", "/traces/threads/open")
def reopen(call: Call) -> Reply:
    """Messages may follow again."""
    return _mark(call, "active")


def _remove_traces(db: sqlite3.Connection, ids: Iterable[str]) -> None:
    for identity in ids:
        _remove_spans(db, "trace_id", identity)
        db.execute("DELETE FROM scores WHERE entity = 'trace' AND entity_id = ?", (identity,))
        db.execute("DELETE FROM traces WHERE id = ?", (identity,))


def _remove_spans(db: sqlite3.Connection, column: str, identity: str) -> None:
    some = f"SELECT id FROM spans WHERE {column} = ?"  # noqa: S608
    sql = f"DELETE FROM scores WHERE entity = 'span' AND entity_id IN ({some})"  # noqa: S608
    db.execute(sql, (identity,))
    db.execute(f"DELETE FROM spans WHERE {column} = ?", (identity,))  # noqa: S608


@routes("DELETE", "/traces/{id}")
def delete_trace(call: Call) -> Reply:
    """A trace with its spans and scores."""
    with call.store.write() as db:
        _remove_traces(db, [call.params["id"]])
    return Reply(204)


@routes("POST", "/traces/delete")
def delete_traces(call: Call) -> Reply:
    """Many traces."""
    with call.store.write() as db:
        _remove_traces(db, [str(each) for each in call.doc().get("ids") or ()])
    return Reply(204)


@routes("POST", "/traces/threads/delete")
def delete_threads(call: Call) -> Reply:
    """All traces of threads."""
    doc = call.doc()
    with call.store.write() as db:
        project = project_scope(db, doc)
        for name in doc.get("thread_ids") or ():
            sql = "SELECT id FROM traces WHERE project_id = ? AND thread_id = ?"
            _remove_traces(db, [row["id"] for row in db.execute(sql, (project, name)).fetchall()])
    return Reply(204)


@routes("DELETE", "/spans/{id}")
def delete_span(call: Call) -> Reply:
    """A span with its scores."""
    with call.store.write() as db:
        _remove_spans(db, "id", call.params["id"])
    return Reply(204)


@routes("PATCH", "/traces/batch")
def update_traces(call: Call) -> Reply:
    """The same change to many traces."""
    return batch_update(call, "traces")


@routes("PATCH", "/spans/batch")
def update_spans(call: Call) -> Reply:
    """The same change to many spans."""
    return batch_update(call, "spans")

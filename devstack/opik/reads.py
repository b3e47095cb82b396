"""The read routes of traces and spans: one, a page, a stream."""

import sqlite3
from typing import Any

from pydantic_core import to_json

from devstack.opik.http import Call, Doc, Refused, Reply, Routes
from devstack.opik.queries import SORTABLE, Table, order_of, where_of
from devstack.opik.views import span_docs, trace_docs

routes = Routes("/v1/private")
DOCS = {"traces": trace_docs, "spans": span_docs}


def select(
    db: sqlite3.Connection, table: Table, where: str, params: list[Any], tail: str = ""
) -> list[sqlite3.Row]:
    """Rows of `e` that fit; `where` and `tail` are SQL of our own."""
    return db.execute(f"SELECT e.* FROM {table} e WHERE {where} {tail}", params).fetchall()  # noqa: S608


def _page(call: Call, table: Table) -> Reply:
    db = call.store.read()
    page, size = call.number("page", 1), call.number("size", 10, 2000)
    where = where_of(call, table, dict(call.query))
    order, order_params = order_of(table, call.query.get("sorting"))
    tail = f"ORDER BY {order} LIMIT ? OFFSET ?"
    limits = [size, (page - 1) * size]
    rows = select(db, table, where.sql(), [*where.params, *order_params, *limits], tail)
    total = db.execute(
        f"SELECT count(*) FROM {table} e WHERE {where.sql()}",  # noqa: S608
        where.params,
    ).fetchone()[0]
    content = _without(DOCS[table](db, rows), call.query.get("exclude"))
    body = {"page": page, "size": len(rows), "total": total, "content": content}
    return Reply(200, {**body, "sortableBy": SORTABLE[table]})


def _without(docs: list[Doc], exclude: str | None) -> list[Doc]:
    names = set(exclude.strip("[]").replace('"', "").split(",")) if exclude else set()
    names -= {"", "id", "start_time"}
    return [{k: v for k, v in doc.items() if k not in names} for doc in docs] if names else docs


def _one(call: Call, table: Table) -> Reply:
    db = call.store.read()
    tail = "ORDER BY e.updated_us DESC LIMIT 1"
    rows = select(db, table, "e.id = ?", [call.params["id"]], tail)
    if not rows:
        raise Refused(404, f"{table[:-1].capitalize()} id: {call.params['id']} not found")
    return Reply(200, DOCS[table](db, rows)[0])


def _stream(call: Call, table: Table) -> Reply:
    """Newest first, one JSON document a line; `last_retrieved_id` is the cursor."""
    asked = call.doc()
    try:
        where = where_of(call, table, asked)
    except Refused as refused:
        if refused.status == 404:
            return Reply(200, b"", media="application/octet-stream")
        raise
    if asked.get("last_retrieved_id"):
        where.add("e.id < ?", asked["last_retrieved_id"])
    limit = asked.get("limit") or 500
    if not isinstance(limit, int) or limit < 1:
        raise Refused(422, "limit must be greater than or equal to 1")
    db = call.store.read()
    tail = "ORDER BY e.id DESC LIMIT ?"
    rows = select(db, table, where.sql(), [*where.params, min(limit, 2000)], tail)
    lines = [to_json(doc) + b"\n" for doc in DOCS[table](db, rows)]
    return Reply(200, b"".join(lines), media="application/octet-stream")


@routes("GET", "/traces")
def traces(call: Call) -> Reply:
    """A page of a project's traces."""
    return _page(call, "traces")


@routes("GET", "/spans")
def spans(call: Call) -> Reply:
    """A page of spans of a project or of one trace."""
    return _page(call, "spans")


@routes("POST", "/traces/search")
def search_traces(call: Call) -> Reply:
    """Traces as a stream."""
    return _stream(call, "traces")


@routes("POST", "/spans/search")
def search_spans(call: Call) -> Reply:
    """Spans as a stream."""
    return _stream(call, "spans")


@routes("GET", "/traces/exists")
def traces_exist(call: Call) -> Reply:
    """Whether an id is known."""
    row = call.store.read().execute(
        "SELECT 1 FROM traces WHERE id = ?", (call.query.get("id", call.query.get("trace_id")),)
    )
    return Reply(200, {"exists": row.fetchone() is not None})


@routes("GET", "/traces/{id}")
def trace(call: Call) -> Reply:
    """One trace with what its spans add up to."""
    return _one(call, "traces")


@routes("GET", "/spans/{id}")
def span(call: Call) -> Reply:
    """One span."""
    return _one(call, "spans")

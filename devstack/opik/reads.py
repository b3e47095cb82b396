"""The read routes of traces and spans: one, a page, a stream."""

from starlette.responses import Response

from devstack.opik.calls import Call, Routes, json_lines
from devstack.opik.errors import Refused
from devstack.opik.queries import Table, select, where_of
from devstack.opik.store import Doc
from devstack.opik.views import span_docs, trace_docs

routes = Routes("/v1/private")
DOCS = {"traces": trace_docs, "spans": span_docs}


def _page(call: Call, table: Table) -> Doc:
    """A page, newest first."""
    db = call.store.read()
    page, size = call.number("page", 1), call.number("size", 10)
    where = where_of(db, table, dict(call.query))
    params = [*where.params, size, (page - 1) * size]
    rows = select(db, table, where.sql(), params, "ORDER BY e.id DESC LIMIT ? OFFSET ?")
    total = db.execute(
        f"SELECT count(*) FROM {table} e WHERE {where.sql()}",  # noqa: S608
        where.params,
    ).fetchone()[0]
    content = DOCS[table](db, rows)
    return {"page": page, "size": len(rows), "total": total, "content": content, "sortableBy": []}


def _one(call: Call, table: Table) -> Doc:
    db, identity = call.store.read(), call.params["id"]
    rows = select(db, table, "e.id = ?", [identity], "ORDER BY e.updated_us DESC LIMIT 1")
    if not rows:
        raise Refused(404, f"{table[:-1].capitalize()} id: {identity} not found")
    return DOCS[table](db, rows)[0]


def _stream(call: Call, table: Table) -> Response:
    """Newest first, one JSON document a line; `last_retrieved_id` is the cursor."""
    asked, db = call.doc(), call.store.read()
    try:
        where = where_of(db, table, asked)
    except Refused as refused:
        if refused.status_code == 404:
            return json_lines([])
        raise
    if asked.get("last_retrieved_id"):
        where.add("e.id < ?", asked["last_retrieved_id"])
    limit = asked.get("limit") or 500
    if not isinstance(limit, int) or limit < 1:
        raise Refused(422, "limit must be greater than or equal to 1")
    params = [*where.params, min(limit, 2000)]
    rows = select(db, table, where.sql(), params, "ORDER BY e.id DESC LIMIT ?")
    return json_lines(DOCS[table](db, rows))


def _register(table: Table) -> None:
    routes("GET", f"/{table}")(lambda call: _page(call, table))
    routes("GET", f"/{table}/{{id}}")(lambda call: _one(call, table))
    routes("POST", f"/{table}/search")(lambda call: _stream(call, table))


_register("traces")
_register("spans")

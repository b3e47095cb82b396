"""The write routes of traces, spans and feedback scores."""

import sqlite3
from typing import Literal

from pydantic_core import from_json

from devstack.opik.http import Call, Doc, Refused, Reply, Routes
from devstack.opik.rows import (
    UPSERT_SPAN,
    UPSERT_TRACE,
    Stamp,
    check_span,
    check_trace,
    project_of,
    span_row,
    trace_row,
)
from devstack.opik.rules import BadId, from_us, new_id, now_us, score_value
from devstack.opik.shapes import ScoreShape, SpanShape, TraceShape, check_shape

routes = Routes("/v1/private")

UPSERT_SCORE = """
INSERT INTO scores (entity, project_id, entity_id, name, value, reason, category, source,
    created_us, updated_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (entity, entity_id, project_id, name) DO UPDATE SET value = excluded.value,
    reason = excluded.reason, category = excluded.category, source = excluded.source,
    updated_us = excluded.updated_us
"""
# What a PATCH may not change, and what it says about tags beside replacing them.
FIXED = {"id", "project_id", "project_name", "trace_id", "last_updated_at"}
TAG_CHANGES = {"tags_to_add", "tags_to_remove"}


@routes("POST", "/traces/batch")
def create_traces(call: Call) -> Reply:
    """Whole rows; the newest last_updated_at wins."""
    docs = call.docs("traces")
    for doc in docs:
        doc["id"] = doc.get("id") or new_id()
        check_trace(doc, call.rules)
    known: dict[str | None, str] = {}
    now = now_us()
    with call.store.write() as db:
        rows = [trace_row(doc, Stamp(project_of(db, doc, known), now)) for doc in docs]
        db.executemany(UPSERT_TRACE, rows)
    return Reply(204, items=len(docs))


@routes("POST", "/spans/batch")
def create_spans(call: Call) -> Reply:
    """Whole rows; the newest last_updated_at wins. The trace need not exist yet."""
    docs = call.docs("spans")
    for doc in docs:
        doc["id"] = doc.get("id") or new_id()
        check_span(doc, call.rules)
    known: dict[str | None, str] = {}
    now = now_us()
    with call.store.write() as db:
        rows = [span_row(doc, Stamp(project_of(db, doc, known), now)) for doc in docs]
        db.executemany(UPSERT_SPAN, rows)
    return Reply(204, items=len(docs))


def _latest(
    db: sqlite3.Connection, table: Literal["traces", "spans"], identity: str
) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(
        f"SELECT * FROM {table} WHERE id = ? ORDER BY updated_us DESC LIMIT 1",  # noqa: S608
        (identity,),
    ).fetchone()
    return row


def _completed(old: sqlite3.Row, doc: Doc) -> Doc:
    """A partial row made by PATCH, completed by its create: what the PATCH said stays."""
    said = {k: v for k, v in from_json(old["body"]).items() if v is not None and k != "start_time"}
    return {**doc, **said}


def _created(call: Call, identity: str) -> Reply:
    return Reply(201, None, {"Location": f"{call.base}/api{call.path}/{identity}"})


@routes("POST", "/traces")
def create_trace(call: Call) -> Reply:
    """One trace: completes a partial row; a complete one already there is a conflict."""
    doc = call.doc()
    doc["id"] = doc.get("id") or new_id()
    check_trace(doc, call.rules)
    with call.store.write() as db:
        old = _latest(db, "traces", doc["id"])
        if old is not None and not old["partial"]:
            raise Refused(409, "Trace already exists")
        project = project_of(db, doc, {})
        if old is not None and old["project_id"] != project:
            raise Refused(409, "Project name and workspace name do not match the existing trace")
        whole = doc if old is None else _completed(old, doc)
        db.execute(UPSERT_TRACE, trace_row(whole, Stamp(project, now_us(), updated_us=now_us())))
    return _created(call, doc["id"])


@routes("POST", "/spans")
def create_span(call: Call) -> Reply:
    """One span: completes a partial row; a complete one already there is left as it is."""
    doc = call.doc()
    doc["id"] = doc.get("id") or new_id()
    check_span(doc, call.rules)
    with call.store.write() as db:
        old = _latest(db, "spans", doc["id"])
        if old is not None and not old["partial"]:
            return _created(call, doc["id"])
        project = project_of(db, doc, {})
        if old is not None and (old["project_id"], old["trace_id"]) != (project, doc["trace_id"]):
            raise Refused(409, "trace_id or project does not match the existing span")
        whole = doc if old is None else _completed(old, doc)
        db.execute(UPSERT_SPAN, span_row(whole, Stamp(project, now_us(), updated_us=now_us())))
    return _created(call, doc["id"])


def merged(old: Doc, change: Doc) -> Doc:
    """PATCH: only the fields it gives change; tags may also be added or taken away."""
    given = {k: v for k, v in change.items() if v is not None and k not in FIXED | TAG_CHANGES}
    new = {**old, **given}
    if any(change.get(name) for name in TAG_CHANGES):
        gone = set(change.get("tags_to_remove") or ())
        tags = [*(new.get("tags") or ()), *(change.get("tags_to_add") or ())]
        new["tags"] = [tag for tag in dict.fromkeys(tags) if tag not in gone]
    return new


def _known_ids(call: Call, doc: Doc, *names: str) -> None:
    try:
        call.rules.check_known(call.params["id"], "id")
        for name in names:
            if doc.get(name) is not None:
                call.rules.check_known(doc[name], name)
    except BadId as error:
        raise Refused(400, *error.args) from error


def _partial(call: Call, change: Doc, **fixed: object) -> Doc:
    start = {"id": call.params["id"], "start_time": from_us(0)}
    return merged({**start, **{k: v for k, v in fixed.items() if v is not None}}, change)


@routes("PATCH", "/traces/{id}")
def update_trace(call: Call) -> Reply:
    """Read, merge, rewrite with the server's time; before the create it leaves a partial row."""
    change = call.doc()
    check_shape(TraceShape, change)
    _known_ids(call, change)
    now = now_us()
    with call.store.write() as db:
        old = _latest(db, "traces", call.params["id"])
        if old is None:
            fixed = {"project_name": change.get("project_name")}
            stamp = Stamp(project_of(db, change, {}), now, now, partial=True)
            db.execute(UPSERT_TRACE, trace_row(_partial(call, change, **fixed), stamp))
            return Reply(204)
        if _other_project(db, old, change):
            raise Refused(409, "Project name and workspace name do not match the existing trace")
        stamp = Stamp(old["project_id"], now, _after(old, now), partial=bool(old["partial"]))
        db.execute(UPSERT_TRACE, trace_row(merged(from_json(old["body"]), change), stamp))
    return Reply(204)


@routes("PATCH", "/spans/{id}")
def update_span(call: Call) -> Reply:
    """As for a trace; the body repeats the span's trace and parent, which never change."""
    change = call.doc()
    check_shape(SpanShape, change)
    if change.get("trace_id") is None:
        raise Refused(422, "traceId must not be null")
    _known_ids(call, change, "trace_id", "parent_span_id")
    now = now_us()
    with call.store.write() as db:
        old = _latest(db, "spans", call.params["id"])
        if old is None:
            fixed = {name: change.get(name) for name in ("project_name", "trace_id")}
            stamp = Stamp(project_of(db, change, {}), now, now, partial=True)
            db.execute(UPSERT_SPAN, span_row(_partial(call, change, **fixed), stamp))
            return Reply(204)
        placed = (change["trace_id"], change.get("parent_span_id"))
        if (old["trace_id"], old["parent_span_id"]) != placed:
            raise Refused(409, "trace_id or parent_span_id does not match the existing span")
        if _other_project(db, old, change):
            raise Refused(409, "Project name and workspace name do not match the existing span")
        stamp = Stamp(old["project_id"], now, _after(old, now), partial=bool(old["partial"]))
        db.execute(UPSERT_SPAN, span_row(merged(from_json(old["body"]), change), stamp))
    return Reply(204)


def _other_project(db: sqlite3.Connection, old: sqlite3.Row, change: Doc) -> bool:
    # A body that names no project means the default one, also for a row that exists.
    return project_of(db, change, {}) != str(old["project_id"])


def _after(old: sqlite3.Row, now: int) -> int:
    # A client clock ahead of ours must not make the PATCH lose to the row it just read.
    return max(now, int(old["updated_us"]) + 1)


def put_scores(call: Call, entity: str, docs: list[Doc], key: str = "id") -> Reply:
    """Upsert by (entity, name); the project is found by name, the entity need not exist."""
    known: dict[str | None, str] = {}
    now = now_us()
    for doc in docs:
        check_shape(ScoreShape, doc)
    try:
        for doc in docs if key == "id" else ():
            call.rules.check_known(doc.get("id"), entity)
        values = [score_value(doc.get("value")) for doc in docs]
    except BadId as error:
        raise Refused(400, *error.args) from error
    except ValueError as error:
        raise Refused(422, str(error)) from error
    if not all(doc.get("name") and doc.get(key) for doc in docs):
        raise Refused(422, f"name and {key} must not be blank")
    with call.store.write() as db:
        db.executemany(
            UPSERT_SCORE,
            [
                (
                    entity,
                    project_of(db, doc, known),
                    doc[key],
                    doc["name"],
                    value,
                    doc.get("reason"),
                    doc.get("category_name"),
                    doc.get("source") or "sdk",
                    now,
                    now,
                )
                for doc, value in zip(docs, values, strict=True)
            ],
        )
    return Reply(204, items=len(docs))


@routes("PUT", "/traces/feedback-scores")
def score_traces(call: Call) -> Reply:
    """Scores of traces."""
    return put_scores(call, "trace", call.docs("scores"))


@routes("PUT", "/spans/feedback-scores")
def score_spans(call: Call) -> Reply:
    """Scores of spans."""
    return put_scores(call, "span", call.docs("scores"))


@routes("PUT", "/traces/threads/feedback-scores")
def score_threads(call: Call) -> Reply:
    """Scores of threads."""
    return put_scores(call, "thread", call.docs("scores"), key="thread_id")


def batch_update(call: Call, table: Literal["traces", "spans"]) -> Reply:
    """One change to many rows that exist; `merge_tags` adds the tags instead of replacing them."""
    doc = call.doc()
    change, ids = doc.get("update"), doc.get("ids")
    if not isinstance(change, dict) or not isinstance(ids, list) or not 1 <= len(ids) <= 1000:
        raise Refused(422, "ids size must be between 1 and 1000 and update must not be null")
    if doc.get("merge_tags"):
        rest = {name: value for name, value in change.items() if name != "tags"}
        change = {**rest, "tags_to_add": change.get("tags") or []}
    check_shape(TraceShape if table == "traces" else SpanShape, change)
    now = now_us()
    row_of, sql = (trace_row, UPSERT_TRACE) if table == "traces" else (span_row, UPSERT_SPAN)
    with call.store.write() as db:
        for identity in ids:
            old = _latest(db, table, str(identity))
            if old is not None:
                stamp = Stamp(old["project_id"], now, _after(old, now), bool(old["partial"]))
                db.execute(sql, row_of(merged(from_json(old["body"]), change), stamp))
    return Reply(204, items=len(ids))

"""The write routes of traces and spans."""

import sqlite3

from pydantic_core import from_json
from starlette.responses import Response

from devstack.opik.calls import Call, Routes
from devstack.opik.errors import Refused
from devstack.opik.rows import SPANS, TRACES, Entity, Row, Version
from devstack.opik.rules import from_us, new_id, now_us
from devstack.opik.store import Doc, project_of

routes = Routes("/v1/private")

# What a PATCH may not change, and what it says about tags beside replacing them.
FIXED = {"id", "project_id", "project_name", "trace_id", "last_updated_at"}
TAG_CHANGES = {"tags_to_add", "tags_to_remove"}


def _new(call: Call, entity: Entity, doc: Doc) -> Doc:
    doc["id"] = doc.get("id") or new_id()
    entity.check(doc, call.rules)
    call.rules.check_new(doc["id"], entity.table[:-1])
    return doc


def _create_batch(call: Call, entity: Entity) -> None:
    """Store whole rows; of two with one id only the newer one is stored."""
    docs = [_new(call, entity, doc) for doc in call.docs(entity.table)]
    now = now_us()
    newest: dict[tuple[str, str], Row] = {}
    with call.store.write() as db:
        for doc in docs:
            row = entity.row(doc, Version(project_of(db, doc), now))
            key = (row["project_id"], row["id"])
            if key not in newest or row["updated_us"] >= newest[key]["updated_us"]:
                newest[key] = row
        db.executemany(entity.upsert, newest.values())
        if entity is TRACES:
            _trigger_rules(db, [r["id"] for r in newest.values() if r["end_us"] is not None])


def _trigger_rules(db: sqlite3.Connection, trace_ids: list[str]) -> None:
    """Count a run of the online rules: Opik starts one at every write that ends a trace, even when
    the row that is stored already is newer."""
    db.executemany(
        "INSERT INTO rule_triggers VALUES (?, 1)"
        " ON CONFLICT (trace_id) DO UPDATE SET count = count + 1",
        [(identity,) for identity in trace_ids],
    )


@routes("POST", "/traces/batch")
def create_traces(call: Call) -> None:
    """Whole rows; the newest last_updated_at wins."""
    _create_batch(call, TRACES)


@routes("POST", "/spans/batch")
def create_spans(call: Call) -> None:
    """Whole rows; the newest last_updated_at wins. The trace need not exist yet."""
    _create_batch(call, SPANS)


def _latest(db: sqlite3.Connection, entity: Entity, identity: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(
        f"SELECT * FROM {entity.table} WHERE id = ? ORDER BY updated_us DESC LIMIT 1",  # noqa: S608
        (identity,),
    ).fetchone()
    return row


def _create(db: sqlite3.Connection, entity: Entity, doc: Doc, partial: sqlite3.Row | None) -> None:
    """Store one row; what a PATCH put into a partial row before stays."""
    project, now = project_of(db, doc), now_us()
    if partial is not None:
        if partial["project_id"] != project:
            raise Refused(409, "Project name and workspace name do not match the existing entity")
        given = from_json(partial["body"])
        doc = doc | {k: v for k, v in given.items() if v is not None and k != "start_time"}
    db.execute(entity.upsert, entity.row(doc, Version(project, now, updated_us=now)))


@routes("POST", "/traces")
def create_trace(call: Call) -> Response:
    """One trace; it completes a partial row, and conflicts with a complete one."""
    doc = _new(call, TRACES, call.doc())
    with call.store.write() as db:
        old = _latest(db, TRACES, doc["id"])
        if old is not None and not old["partial"]:
            raise Refused(409, "Trace already exists")
        _create(db, TRACES, doc, old)
        _trigger_rules(db, [doc["id"]] if doc.get("end_time") else [])
    return call.created(doc["id"])


@routes("POST", "/spans")
def create_span(call: Call) -> Response:
    """One span; it completes a partial row, and leaves a complete one as it is."""
    doc = _new(call, SPANS, call.doc())
    with call.store.write() as db:
        old = _latest(db, SPANS, doc["id"])
        if old is None or old["partial"]:
            if old is not None and old["trace_id"] != doc["trace_id"]:
                raise Refused(409, "trace_id does not match the existing span")
            _create(db, SPANS, doc, old)
    return call.created(doc["id"])


def merged(old: Doc, change: Doc) -> Doc:
    """A document after a PATCH: only the fields it gives change; tags may be added or removed."""
    given = {k: v for k, v in change.items() if v is not None and k not in FIXED | TAG_CHANGES}
    new = {**old, **given}
    if any(change.get(name) for name in TAG_CHANGES):
        removed = set(change.get("tags_to_remove") or ())
        tags = [*(new.get("tags") or ()), *(change.get("tags_to_add") or ())]
        new["tags"] = [tag for tag in dict.fromkeys(tags) if tag not in removed]
    return new


def _update(
    call: Call, db: sqlite3.Connection, entity: Entity, change: Doc, old: sqlite3.Row | None
) -> None:
    """Read, merge, rewrite with the server's time; before the create it leaves a partial row."""
    now = now_us()
    # A body that names no project means the default one, also for a row that exists.
    project = project_of(db, change)
    if old is None:
        version = Version(project, now, now, partial=True)
        fixed = {"id": call.params["id"], "start_time": from_us(0)}
        fixed |= {k: change[k] for k in ("project_name", "trace_id") if change.get(k) is not None}
        doc = merged(fixed, change)
    else:
        if project != old["project_id"]:
            raise Refused(409, "Project name and workspace name do not match the existing entity")
        # A client clock ahead of ours must not make the PATCH lose to the row it just read.
        updated_us = max(now, int(old["updated_us"]) + 1)
        version = Version(project, now, updated_us, partial=bool(old["partial"]))
        doc = merged(from_json(old["body"]), change)
    db.execute(entity.upsert, entity.row(doc, version))


@routes("PATCH", "/traces/{id}")
def update_trace(call: Call) -> None:
    """Change the fields that are given."""
    change = call.doc()
    TRACES.check(change, call.rules)
    call.rules.check_known(call.params["id"], "id")
    with call.store.write() as db:
        _update(call, db, TRACES, change, _latest(db, TRACES, call.params["id"]))
        _trigger_rules(db, [call.params["id"]] if change.get("end_time") else [])


@routes("PATCH", "/spans/{id}")
def update_span(call: Call) -> None:
    """As for a trace; the body repeats the span's trace and parent, which never change."""
    change = call.doc()
    SPANS.check(change, call.rules)
    call.rules.check_known(call.params["id"], "id")
    with call.store.write() as db:
        old = _latest(db, SPANS, call.params["id"])
        placed = (change["trace_id"], change.get("parent_span_id"))
        if old is not None and (old["trace_id"], old["parent_span_id"]) != placed:
            raise Refused(409, "trace_id or parent_span_id does not match the existing span")
        _update(call, db, SPANS, change, old)

"""From an Opik document to a stored row, for traces and for spans."""

import sqlite3
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from devstack.opik.http import Doc, Refused
from devstack.opik.rules import BadId, Rules, to_pico, to_us
from devstack.opik.shapes import SpanShape, TraceShape, check_shape
from devstack.opik.store import project_id

SPAN_TYPES = ("general", "tool", "llm", "guardrail")

TRACE_COLUMNS = (
    "project_id, id, name, status, user, thread_id, start_us, end_us, created_us, updated_us,"
    " partial, body"
)
SPAN_COLUMNS = (
    "project_id, trace_id, id, parent_span_id, name, type, provider, model, usage, cost_pico,"
    " start_us, end_us, created_us, updated_us, partial, body"
)


def _upsert(table: str, columns: str, key: str) -> str:
    """Insert, or replace the whole row unless the stored one is newer (no field is merged)."""
    names = columns.split(", ")
    kept = (*key.split(", "), "created_us")
    new = ", ".join(f"{name} = excluded.{name}" for name in names if name not in kept)
    return (
        f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608
        f" ON CONFLICT ({key}) DO UPDATE SET {new}"
        f" WHERE excluded.updated_us >= {table}.updated_us"
    )


UPSERT_TRACE = _upsert("traces", TRACE_COLUMNS, "project_id, id")
UPSERT_SPAN = _upsert("spans", SPAN_COLUMNS, "project_id, trace_id, id")


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a row carries beside its document. `updated_us` None means: as the document says."""

    project: str
    now_us: int
    updated_us: int | None = None
    partial: bool = False

    def updated(self, doc: Doc) -> int:
        """The row's version."""
        if self.updated_us is not None:
            return self.updated_us
        said = doc.get("last_updated_at")
        return self.now_us if said is None else _time(said, "lastUpdatedAt")


def _time(value: object, what: str) -> int:
    try:
        return to_us(value)
    except ValueError as error:
        raise Refused(400, "Unable to process JSON", f"{what}: {error}") from error


def _times(doc: Doc) -> tuple[int, int | None]:
    if doc.get("start_time") is None:
        raise Refused(422, "startTime must not be null")
    end = doc.get("end_time")
    start_us = _time(doc["start_time"], "startTime")
    return start_us, None if end is None else _time(end, "endTime")


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def status_of(doc: Doc) -> str:
    """A trace's status: running until it ends, then what its metadata says, else by its error."""
    metadata = doc.get("metadata")
    said = _word(metadata.get("status")) if isinstance(metadata, dict) else None
    if doc.get("end_time") is None:
        return "running"
    return said or ("failed" if doc.get("error_info") else "success")


def user_of(doc: Doc) -> str | None:
    """Whom a trace is for, as its metadata says."""
    metadata = doc.get("metadata")
    if not isinstance(metadata, dict):
        return None
    return next((w for k in ("user_id", "userId", "user") if (w := _word(metadata.get(k)))), None)


def trace_row(doc: Doc, stamp: Stamp) -> tuple[Any, ...]:
    """Values in the order of TRACE_COLUMNS."""
    start_us, end_us = _times(doc)
    return (
        stamp.project,
        doc["id"],
        doc.get("name"),
        status_of(doc),
        user_of(doc),
        doc.get("thread_id"),
        start_us,
        end_us,
        stamp.now_us,
        stamp.updated(doc),
        stamp.partial,
        to_json(doc).decode(),
    )


def span_row(doc: Doc, stamp: Stamp) -> tuple[Any, ...]:
    """Values in the order of SPAN_COLUMNS."""
    start_us, end_us = _times(doc)
    usage = doc.get("usage")
    kind = doc.get("type") or "general"
    if kind not in SPAN_TYPES:
        raise Refused(400, "Unable to process JSON", f"unknown span type '{kind}'")
    return (
        stamp.project,
        doc["trace_id"],
        doc["id"],
        doc.get("parent_span_id"),
        doc.get("name"),
        kind,
        doc.get("provider"),
        doc.get("model"),
        to_json(usage).decode() if usage else None,
        to_pico(doc.get("total_estimated_cost")),
        start_us,
        end_us,
        stamp.now_us,
        stamp.updated(doc),
        stamp.partial,
        to_json(doc).decode(),
    )


def check_trace(doc: Doc, rules: Rules) -> None:
    """The types and the id rules of a trace being created. Raises Refused(400)."""
    check_shape(TraceShape, doc)
    try:
        rules.check_new(doc.get("id"), "trace")
    except BadId as error:
        raise Refused(400, *error.args) from error


def check_span(doc: Doc, rules: Rules) -> None:
    """Types and ids of a span being created: its own id is new, the ids it names are known."""
    check_shape(SpanShape, doc)
    try:
        rules.check_new(doc.get("id"), "span")
        rules.check_known(doc.get("trace_id"), "trace")
        if doc.get("parent_span_id") is not None:
            rules.check_known(doc["parent_span_id"], "parent span")
    except BadId as error:
        raise Refused(400, *error.args) from error


def project_of(db: sqlite3.Connection, doc: Doc, known: dict[str | None, str]) -> str:
    """The project an item belongs to; `known` saves look-ups within one batch."""
    if doc.get("project_id"):
        return str(doc["project_id"])
    name = doc.get("project_name")
    if name not in known:
        known[name] = project_id(db, name)
    return known[name]

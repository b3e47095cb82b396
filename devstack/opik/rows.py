"""From a trace or a span as a client sends it to a stored row."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic_core import to_json

from devstack.opik.errors import Refused
from devstack.opik.rules import Rules, to_pico, to_us
from devstack.opik.shapes import SpanShape, TraceShape, check_shape
from devstack.opik.store import Doc

# A row is a dictionary of the columns below.
Row = dict[str, Any]
SHARED = "project_id id name start_us end_us created_us updated_us partial body"


@dataclass(frozen=True, slots=True)
class Version:
    """Which project a row belongs to, and how new it is. Without `updated_us` the document's own
    `last_updated_at` says it. A `partial` row was made by a PATCH before its create."""

    project: str
    now_us: int
    updated_us: int | None = None
    partial: bool = False


def _time(value: object, what: str) -> int:
    try:
        return to_us(value)
    except ValueError as error:
        raise Refused(400, "Unable to process JSON", f"{what}: {error}") from error


def _shared(doc: Doc, version: Version) -> Row:
    if doc.get("start_time") is None:
        raise Refused(422, "startTime must not be null")
    end, updated_us = doc.get("end_time"), version.updated_us
    if updated_us is None and doc.get("last_updated_at") is not None:
        updated_us = _time(doc["last_updated_at"], "lastUpdatedAt")
    return {
        "project_id": version.project,
        "id": doc["id"],
        "name": doc.get("name"),
        "start_us": _time(doc["start_time"], "startTime"),
        "end_us": None if end is None else _time(end, "endTime"),
        "created_us": version.now_us,
        "updated_us": version.now_us if updated_us is None else updated_us,
        "partial": version.partial,
        "body": to_json(doc).decode(),
    }


def _trace_row(doc: Doc, version: Version) -> Row:
    """An ended trace has the status that its metadata names, else that of its error."""
    ended = _text(doc, "status") or ("failed" if doc.get("error_info") else "success")
    return {
        **_shared(doc, version),
        "status": ended if doc.get("end_time") else "running",
        "user": _text(doc, "user_id"),
    }


def _text(doc: Doc, name: str) -> str | None:
    """A text in the metadata, which may be any JSON at all."""
    metadata = doc.get("metadata")
    value = metadata.get(name) if isinstance(metadata, dict) else None
    return value if isinstance(value, str) and value else None


def _span_row(doc: Doc, version: Version) -> Row:
    usage = doc.get("usage")
    return {
        **_shared(doc, version),
        "trace_id": doc["trace_id"],
        "parent_span_id": doc.get("parent_span_id"),
        "type": doc.get("type") or "general",
        "provider": doc.get("provider"),
        "model": doc.get("model"),
        "usage": to_json(usage).decode() if usage else None,
        "cost_pico": to_pico(doc.get("total_estimated_cost")),
    }


def _upsert(table: str, columns: str, key: str) -> str:
    """Insert, or replace the whole row unless the stored one is newer (no field is merged)."""
    names = columns.split()
    kept = (*key.split(", "), "created_us")
    new = ", ".join(f"{name} = excluded.{name}" for name in names if name not in kept)
    return (
        f"INSERT INTO {table} ({', '.join(names)})"  # noqa: S608 - names of our own
        f" VALUES ({', '.join(f':{name}' for name in names)})"
        f" ON CONFLICT ({key}) DO UPDATE SET {new}"
        f" WHERE excluded.updated_us >= {table}.updated_us"
    )


@dataclass(frozen=True, slots=True)
class Entity:
    """What differs between traces and spans when they are written. `references` are the fields
    that hold ids of others."""

    table: Literal["traces", "spans"]
    shape: type[TraceShape]
    row: Callable[[Doc, Version], Row]
    upsert: str
    references: tuple[str, ...] = ()

    def check(self, doc: Doc, rules: Rules) -> None:
        """The types and references of a document or of a change. Raises Refused(400 or 422)."""
        check_shape(self.shape, doc)
        for name in self.references:
            if doc.get(name) is not None:
                rules.check_known(doc[name], name)
        if "trace_id" in self.references and doc.get("trace_id") is None:
            raise Refused(422, "traceId must not be null")


TRACES = Entity(
    "traces",
    TraceShape,
    _trace_row,
    _upsert("traces", f"{SHARED} status user", "project_id, id"),
)
SPANS = Entity(
    "spans",
    SpanShape,
    _span_row,
    _upsert(
        "spans",
        f"{SHARED} trace_id parent_span_id type provider model usage cost_pico",
        "project_id, trace_id, id",
    ),
    references=("trace_id", "parent_span_id"),
)

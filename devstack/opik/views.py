"""Stored rows as Opik's public documents: TracePublic, SpanPublic, FeedbackScorePublic."""

import sqlite3
from collections import defaultdict
from collections.abc import Sequence

from pydantic_core import from_json

from devstack.opik.rules import from_pico, from_us
from devstack.opik.store import Doc

AUTHOR = "admin"
# The fields that say who made a document and who changed it.
AUTHORS = {"created_by": AUTHOR, "last_updated_by": AUTHOR}


def placeholders(values: Sequence[object]) -> str:
    """Question marks for an IN list."""
    return ", ".join("?" * len(values))


def _totals(db: sqlite3.Connection, trace_ids: Sequence[str]) -> dict[str, Doc]:
    """What the spans of each trace add up to."""
    found: dict[str, Doc] = {}
    of_traces = f"WHERE s.trace_id IN ({placeholders(trace_ids)}) GROUP BY s.trace_id"
    for row in db.execute(
        "SELECT s.trace_id, count(*) AS spans, sum(s.type = 'llm') AS llm_spans,"  # noqa: S608
        " sum(s.cost_pico) AS cost_pico, json_group_array(DISTINCT s.provider) AS providers"
        f" FROM spans s {of_traces}",
        trace_ids,
    ):
        found[row["trace_id"]] = {
            "total_estimated_cost": from_pico(row["cost_pico"]),
            "span_count": row["spans"],
            "llm_span_count": row["llm_spans"],
            "providers": sorted(filter(None, from_json(row["providers"]))) or None,
        }
    for trace_id, name, tokens in db.execute(
        "SELECT s.trace_id, u.key, sum(u.value)"  # noqa: S608
        f" FROM spans s, json_each(s.usage) u {of_traces}, u.key",
        trace_ids,
    ):
        found[trace_id].setdefault("usage", {})[name] = tokens
    return found


def score_doc(row: sqlite3.Row) -> Doc:
    """FeedbackScorePublic."""
    return {
        "name": row["name"],
        "category_name": row["category"],
        "value": row["value"],
        "reason": row["reason"],
        "source": row["source"],
        "created_at": from_us(row["created_us"]),
        "last_updated_at": from_us(row["updated_us"]),
        **AUTHORS,
    }


Key = tuple[str, str]


def scores_of(
    db: sqlite3.Connection, entity: str, ids: Sequence[str]
) -> dict[Key, list[sqlite3.Row]]:
    """Score rows by (project, entity id): a score under another project is another entity's."""
    found: dict[Key, list[sqlite3.Row]] = defaultdict(list)
    listed = f"entity_id IN ({placeholders(ids)})"
    sql = f"SELECT * FROM scores WHERE entity = ? AND {listed} ORDER BY name"  # noqa: S608
    for row in db.execute(sql, (entity, *ids)):
        found[row["project_id"], row["entity_id"]].append(row)
    return found


def _public(row: sqlite3.Row, scores: list[sqlite3.Row], **more: object) -> Doc:
    """What traces and spans share; fields without a value are left out."""
    start, end = row["start_us"], row["end_us"]
    doc = {
        **from_json(row["body"]),
        "id": row["id"],
        "project_id": row["project_id"],
        "start_time": from_us(start),
        "end_time": None if end is None else from_us(end),
        "duration": None if end is None else (end - start) / 1000,
        "created_at": from_us(row["created_us"]),
        "last_updated_at": from_us(row["updated_us"]),
        "feedback_scores": [score_doc(each) for each in scores] or None,
        **AUTHORS,
        **more,
    }
    return {key: value for key, value in doc.items() if value is not None}


def trace_docs(db: sqlite3.Connection, rows: Sequence[sqlite3.Row]) -> list[Doc]:
    """TracePublic of each row."""
    ids = [row["id"] for row in rows]
    totals, scores = _totals(db, ids), scores_of(db, "trace", ids)
    none = {"span_count": 0, "llm_span_count": 0}
    return [
        _public(row, scores[row["project_id"], row["id"]], **totals.get(row["id"], none))
        for row in rows
    ]


def span_docs(db: sqlite3.Connection, rows: Sequence[sqlite3.Row]) -> list[Doc]:
    """SpanPublic of each row."""
    scores = scores_of(db, "span", [row["id"] for row in rows])
    return [_public(row, scores[row["project_id"], row["id"]], type=row["type"]) for row in rows]

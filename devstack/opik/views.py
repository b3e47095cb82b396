"""Stored rows as Opik's public documents: TracePublic, SpanPublic, FeedbackScorePublic."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic_core import from_json

from devstack.opik.rules import from_pico, from_us
from devstack.opik.store import Doc

AUTHOR = "admin"
# The fields that say who made a document and who changed it.
AUTHORS = {"created_by": AUTHOR, "last_updated_by": AUTHOR}


@dataclass
class Totals:
    """What a trace's spans add up to."""

    usage: Counter[str] = field(default_factory=Counter)
    cost_pico: int | None = None
    spans: int = 0
    llm_spans: int = 0
    providers: set[str] = field(default_factory=set)

    def add(self, row: sqlite3.Row) -> None:
        """Count one span in."""
        self.spans += 1
        self.llm_spans += row["type"] == "llm"
        if row["usage"]:
            self.usage.update({k: int(v) for k, v in from_json(row["usage"]).items()})
        if row["cost_pico"] is not None:
            self.cost_pico = (self.cost_pico or 0) + row["cost_pico"]
        if row["provider"]:
            self.providers.add(row["provider"])


def marks(values: Sequence[object]) -> str:
    """Question marks for an IN list."""
    return ", ".join("?" * len(values))


def _totals(db: sqlite3.Connection, trace_ids: Sequence[str]) -> dict[str, Totals]:
    found: dict[str, Totals] = defaultdict(Totals)
    sql = "SELECT trace_id, type, provider, usage, cost_pico FROM spans WHERE trace_id IN"
    for row in db.execute(f"{sql} ({marks(trace_ids)})", trace_ids):
        found[row["trace_id"]].add(row)
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
    sql = f"SELECT * FROM scores WHERE entity = ? AND entity_id IN ({marks(ids)}) ORDER BY name"  # noqa: S608
    for row in db.execute(sql, (entity, *ids)):
        found[row["project_id"], row["entity_id"]].append(row)
    return found


def averages(scores: Sequence[Doc]) -> dict[str, float]:
    """The average of every score name."""
    values: dict[str, list[float]] = defaultdict(list)
    for score in scores:
        values[score["name"]].append(score["value"])
    return {name: sum(each) / len(each) for name, each in sorted(values.items())}


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
    return [
        _public(
            row,
            scores[row["project_id"], row["id"]],
            usage=dict(totals[row["id"]].usage) or None,
            total_estimated_cost=from_pico(totals[row["id"]].cost_pico),
            span_count=totals[row["id"]].spans,
            llm_span_count=totals[row["id"]].llm_spans,
            providers=sorted(totals[row["id"]].providers) or None,
        )
        for row in rows
    ]


def span_docs(db: sqlite3.Connection, rows: Sequence[sqlite3.Row]) -> list[Doc]:
    """SpanPublic of each row."""
    scores = scores_of(db, "span", [row["id"] for row in rows])
    return [_public(row, scores[row["project_id"], row["id"]], type=row["type"]) for row in rows]

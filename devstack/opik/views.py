"""Stored rows as Opik's public documents: TracePublic, SpanPublic, FeedbackScorePublic."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pydantic_core import from_json

from devstack.opik.http import Doc
from devstack.opik.rules import from_pico, from_us

AUTHOR = "admin"


@dataclass
class Totals:
    """What a trace's spans add up to."""

    usage: Counter[str] = field(default_factory=Counter)
    cost_pico: int | None = None
    spans: int = 0
    llm_spans: int = 0
    tools: bool = False
    providers: set[str] = field(default_factory=set)

    def add(self, row: sqlite3.Row) -> None:
        """Count one span in."""
        self.spans += 1
        self.llm_spans += row["type"] == "llm"
        self.tools = self.tools or row["type"] == "tool"
        if row["usage"]:
            self.usage.update({k: int(v) for k, v in from_json(row["usage"]).items()})
        if row["cost_pico"] is not None:
            self.cost_pico = (self.cost_pico or 0) + row["cost_pico"]
        if row["provider"]:
            self.providers.add(row["provider"])


def marks(values: Sequence[object]) -> str:
    """Question marks for an IN list."""
    return ", ".join("?" * len(values))


def totals(db: sqlite3.Connection, trace_ids: Sequence[str]) -> dict[str, Totals]:
    """Sums over the spans of each trace."""
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
        "created_by": AUTHOR,
        "last_updated_by": AUTHOR,
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


def comments_of(db: sqlite3.Connection, entity: str, ids: Sequence[str]) -> dict[str, list[Doc]]:
    """Comments by entity id."""
    found: dict[str, list[Doc]] = defaultdict(list)
    sql = f"SELECT parent, body FROM documents WHERE kind = ? AND parent IN ({marks(ids)})"  # noqa: S608
    for row in db.execute(f"{sql} ORDER BY created_us", (f"comment:{entity}", *ids)):
        found[row["parent"]].append(from_json(row["body"]))
    return found


def _base(row: sqlite3.Row) -> Doc:
    start, end = row["start_us"], row["end_us"]
    return {
        **from_json(row["body"]),
        "id": row["id"],
        "project_id": row["project_id"],
        "start_time": from_us(start),
        "end_time": None if end is None else from_us(end),
        "duration": None if end is None else (end - start) / 1000,
        "created_at": from_us(row["created_us"]),
        "last_updated_at": from_us(row["updated_us"]),
        "created_by": AUTHOR,
        "last_updated_by": AUTHOR,
    }


def _present(doc: Doc) -> Doc:
    return {key: value for key, value in doc.items() if value is not None}


def _averages(rows: Iterable[sqlite3.Row]) -> list[Doc]:
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        values[row["name"]].append(row["value"])
    return [
        {"name": name, "value": round(sum(each) / len(each), 9), "source": "sdk"}
        for name, each in sorted(values.items())
    ]


def _span_scores(db: sqlite3.Connection, ids: Sequence[str]) -> dict[str, list[Doc]]:
    sql = (
        "SELECT s.trace_id, f.name, f.value FROM spans s JOIN scores f ON f.entity = 'span'"  # noqa: S608
        " AND f.entity_id = s.id AND f.project_id = s.project_id"
        f" WHERE s.trace_id IN ({marks(ids)})"
    )
    rows: dict[str, list[sqlite3.Row]] = defaultdict(list)
    for row in db.execute(sql, ids):
        rows[row["trace_id"]].append(row)
    return {trace_id: _averages(each) for trace_id, each in rows.items()}


def trace_docs(db: sqlite3.Connection, rows: Sequence[sqlite3.Row]) -> list[Doc]:
    """TracePublic of each row."""
    ids = [row["id"] for row in rows]
    sums, scores = totals(db, ids), scores_of(db, "trace", ids)
    span_scores, comments = _span_scores(db, ids), comments_of(db, "trace", ids)
    found = []
    for row in rows:
        of_trace = sums.get(row["id"], Totals())
        doc = {
            **_base(row),
            "usage": dict(of_trace.usage) or None,
            "total_estimated_cost": from_pico(of_trace.cost_pico),
            "span_count": of_trace.spans,
            "llm_span_count": of_trace.llm_spans,
            "has_tool_spans": of_trace.tools,
            "providers": sorted(of_trace.providers) or None,
            "feedback_scores": [score_doc(each) for each in scores[row["project_id"], row["id"]]],
            "span_feedback_scores": span_scores.get(row["id"]),
            "comments": comments.get(row["id"]),
            "visibility_mode": "default",
        }
        found.append(_present({**doc, "feedback_scores": doc["feedback_scores"] or None}))
    return found


def span_docs(db: sqlite3.Connection, rows: Sequence[sqlite3.Row]) -> list[Doc]:
    """SpanPublic of each row."""
    ids = [row["id"] for row in rows]
    scores, comments = scores_of(db, "span", ids), comments_of(db, "span", ids)
    return [
        _present(
            {
                **_base(row),
                "type": row["type"],
                "feedback_scores": [score_doc(s) for s in scores[row["project_id"], row["id"]]]
                or None,
                "comments": comments.get(row["id"]),
            }
        )
        for row in rows
    ]

"""What many traces or spans add up to: counts, averages, percentiles."""

import sqlite3
from collections import defaultdict
from collections.abc import Sequence

from pydantic_core import from_json

from devstack.opik.http import Call, Doc, Reply, Routes
from devstack.opik.projects import all_projects
from devstack.opik.queries import LIKES, Table, Where, like, where_of
from devstack.opik.rules import from_pico

routes = Routes("/v1/private")
POINTS = (50, 90, 99)


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """p50, p90 and p99 with linear interpolation; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)

    def at(percent: int) -> float:
        place = (len(ordered) - 1) * percent / 100
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (place - low)

    return {f"p{percent}": at(percent) for percent in POINTS}


class Sums:
    """Everything the stats routes say, over the rows `e` of a condition."""

    def __init__(self, db: sqlite3.Connection, table: Table, where: Where) -> None:
        self.db, self.table, self.where = db, table, where
        row = self._rows(
            "count(*) AS count, sum(json_extract(e.body, '$.error_info') IS NOT NULL) AS errors,"
            " sum(json_extract(e.body, '$.input') IS NOT NULL) AS input,"
            " sum(json_extract(e.body, '$.output') IS NOT NULL) AS output,"
            " sum(json_extract(e.body, '$.metadata') IS NOT NULL) AS metadata,"
            " avg(coalesce(json_array_length(e.body, '$.tags'), 0)) AS tags"
        )[0]
        self.count: int = row["count"]
        self.errors: int = row["errors"] or 0
        self.present = {name: row[name] or 0 for name in ("input", "output", "metadata")}
        self.tags: float = row["tags"] or 0
        ended = "(e.end_us - e.start_us) / 1000.0 AS ms"
        self.durations = [r["ms"] for r in self._rows(ended) if r["ms"] is not None]
        self._spans()

    def _rows(self, columns: str, more: str = "") -> list[sqlite3.Row]:
        sql = f"SELECT {columns} FROM {self.table} e {more} WHERE {self.where.sql()}"  # noqa: S608
        return self.db.execute(sql, self.where.params).fetchall()

    def _spans(self) -> None:
        joined = "JOIN spans s ON s.trace_id = e.id AND s.project_id = e.project_id"
        spans = self.table == "spans"
        columns = "s.trace_id, s.type, s.usage, s.cost_pico"
        rows = self._rows(
            columns.replace("s.", "e.") if spans else columns, "" if spans else joined
        )
        self.span_count = len(rows)
        self.llm_span_count = sum(row["type"] == "llm" for row in rows)
        costs = [row["cost_pico"] for row in rows if row["cost_pico"] is not None]
        self.cost_pico: int | None = sum(costs) if costs else None
        self.usage: dict[str, int] = defaultdict(int)
        for row in rows:
            for name, value in (from_json(row["usage"]) if row["usage"] else {}).items():
                self.usage[name] += int(value)

    def scores(self) -> list[Doc]:
        """Average of every score name."""
        entity = self.table.removesuffix("s")
        join = (
            f"JOIN scores f ON f.entity = '{entity}' AND f.entity_id = e.id"
            " AND f.project_id = e.project_id"
        )
        values: dict[str, list[float]] = defaultdict(list)
        for row in self._rows("f.name, f.value", join):
            values[row["name"]].append(row["value"])
        return [{"name": name, "value": sum(v) / len(v)} for name, v in sorted(values.items())]

    def average_usage(self) -> dict[str, float]:
        """Tokens of each kind for one row."""
        return {name: value / self.count for name, value in sorted(self.usage.items())}

    def average_cost(self) -> float | None:
        """Dollars for one row."""
        total = from_pico(self.cost_pico)
        return None if total is None or not self.count else total / self.count

    def stats(self) -> list[Doc]:
        """ProjectStatsPublic's list."""
        one = self.table.removesuffix("s")
        found: list[Doc] = [_stat(f"{one}_count", "COUNT", self.count)]
        if not self.count:
            return found
        if self.durations:
            found.append(_stat("duration", "PERCENTAGE", percentiles(self.durations)))
        found += [_stat(name, "COUNT", value) for name, value in self.present.items()]
        found.append(_stat("tags", "AVG", self.tags))
        if self.table == "traces":
            found.append(_stat("span_count", "AVG", self.span_count / self.count))
        found.append(_stat("llm_span_count", "AVG", self.llm_span_count / self.count))
        found += [_stat(f"usage.{k}", "AVG", v) for k, v in self.average_usage().items()]
        found += [_stat(f"feedback_scores.{s['name']}", "AVG", s["value"]) for s in self.scores()]
        if self.cost_pico is not None:
            found.append(_stat("total_estimated_cost", "AVG", self.average_cost()))
            found.append(_stat("total_estimated_cost_sum", "AVG", from_pico(self.cost_pico)))
        found.append(_stat("error_count", "COUNT", self.errors))
        return found


def _stat(name: str, kind: str, value: object) -> Doc:
    return {"name": name, "type": kind, "value": value}


def of_project(db: sqlite3.Connection, table: Table, project: str) -> Sums:
    """The sums of a whole project."""
    where = Where()
    where.add("e.project_id = ?", project)
    return Sums(db, table, where)


@routes("GET", "/traces/stats")
def trace_stats(call: Call) -> Reply:
    """Of the traces that fit the filters."""
    where = where_of(call, "traces", dict(call.query))
    return Reply(200, {"stats": Sums(call.store.read(), "traces", where).stats()})


@routes("GET", "/spans/stats")
def span_stats(call: Call) -> Reply:
    """Of the spans that fit the filters."""
    where = where_of(call, "spans", dict(call.query))
    return Reply(200, {"stats": Sums(call.store.read(), "spans", where).stats()})


@routes("GET", "/projects/stats")
def project_stats(call: Call) -> Reply:
    """One summary a project."""
    db = call.store.read()
    page, size = call.number("page", 1), call.number("size", 10, 1000)
    part = call.query.get("name", "").lower()
    rows = [row for row in all_projects(db) if part in row["name"].lower()]
    chosen = rows[(page - 1) * size : page * size]
    content = [_summary(db, row["id"]) for row in chosen]
    body = {"page": page, "size": len(content), "total": len(rows), "content": content}
    return Reply(200, {**body, "sortableBy": []})


def _summary(db: sqlite3.Connection, project: str) -> Doc:
    sums = of_project(db, "traces", project)
    threads = db.execute(
        "SELECT count(DISTINCT thread_id) FROM traces WHERE project_id = ?", (project,)
    ).fetchone()[0]
    return {
        "project_id": project,
        "trace_count": sums.count,
        "thread_count": threads,
        "guardrails_failed_count": 0,
        "error_count": {"count": sums.errors, "deviation": 0},
        "duration": percentiles(sums.durations),
        "usage": sums.average_usage() if sums.count else {},
        "total_estimated_cost": sums.average_cost(),
        "total_estimated_cost_sum": from_pico(sums.cost_pico),
        "feedback_scores": sums.scores(),
    }


@routes("GET", "/projects/{id}/token-usage/names")
def usage_names(call: Call) -> Reply:
    """The names of all token counts of a project."""
    sums = of_project(call.store.read(), "spans", call.params["id"])
    return Reply(200, {"names": sorted(sums.usage)})


def score_names(db: sqlite3.Connection, entity: str, project: str | None) -> list[Doc]:
    """The names of all scores, of one project or of all."""
    rows = db.execute(
        "SELECT DISTINCT name FROM scores WHERE entity LIKE ? ESCAPE '\\'"
        " AND (? IS NULL OR project_id = ?) ORDER BY name",
        (like(LIKES["starts_with"], entity), project, project),
    )
    return [{"name": row["name"], "type": "numeric"} for row in rows]

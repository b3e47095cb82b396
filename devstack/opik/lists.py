"""The list of traces as the page shows it: filters, rows, paging."""

import sqlite3
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from devstack.opik.queries import LIKES, Where, like
from devstack.opik.rules import now_us

PAGE = 25
OVERALL = "evaluation_logged.overall"
RATING = "user_feedback.rating"
# label, at least, below
SCORES: dict[str, tuple[str, float, float]] = {
    "excellent": ("9 and more", 9, 11),
    "good": ("7.5 to 9", 7.5, 9),
    "fair": ("6 to 7.5", 6, 7.5),
    "low": ("Below 6", -1, 6),
    "none": ("Not scored", 0, 0),
}
DATES: dict[str, tuple[str, int]] = {
    "hour": ("Last hour", 3600),
    "day": ("Last 24 hours", 86_400),
    "week": ("Last 7 days", 7 * 86_400),
    "month": ("Last 30 days", 30 * 86_400),
}
FIELDS = ("status", "score", "date", "search", "kind", "user", "thread", "sort")
SCORE_OF = (
    "(SELECT value FROM scores f WHERE f.entity = 'trace' AND f.entity_id = e.id"
    " AND f.project_id = e.project_id AND f.name = '{}')"
)
# The partial row of a PATCH has no time of its own; its id carries the one of its making.
STARTED = "CASE WHEN e.start_us > 0 THEN e.start_us ELSE e.created_us END"
# label, order over the columns that `trace_list` selects
SORTS: dict[str, tuple[str, str]] = {
    "oldest": ("Oldest", "started_us"),
    "slowest": ("Slowest", "e.end_us - started_us DESC NULLS LAST"),
    "costliest": ("Most costly", "cost_pico DESC NULLS LAST"),
    "worst": ("Lowest score", "score NULLS LAST"),
    "best": ("Highest score", "score DESC NULLS LAST"),
    "disliked": ("Lowest rating", "rating NULLS LAST"),
}
NEWEST = "started_us DESC, e.id DESC"


@dataclass(frozen=True)
class Filters:
    """What the reader has chosen; "" means any."""

    project: str
    chosen: dict[str, str]
    page: int = 1

    @classmethod
    def read(cls, project: str, query: dict[str, str]) -> "Filters":
        """From a query string; what makes no sense counts as not chosen."""
        chosen = {name: query.get(name, "").strip()[:200] for name in FIELDS}
        chosen["score"] = chosen["score"] if chosen["score"] in SCORES else ""
        chosen["date"] = chosen["date"] if chosen["date"] in DATES else ""
        chosen["sort"] = chosen["sort"] if chosen["sort"] in SORTS else ""
        page = query.get("page", "")
        number = int(page) if page.isdecimal() and len(page) < 7 else 1
        return cls(project, chosen, max(number, 1))

    @property
    def any(self) -> bool:
        """Whether anything is filtered at all."""
        return any(value for name, value in self.chosen.items() if name != "sort")

    def link(self, page: int) -> str:
        """The address of another page of the same list."""
        given = {name: value for name, value in self.chosen.items() if value}
        return "/traces?" + urlencode({"project": self.project, **given, "page": page})

    def order(self) -> str:
        """The text after ORDER BY; newest first where nothing else decides."""
        _, order = SORTS.get(self.chosen["sort"], ("", ""))
        return f"{order}, {NEWEST}" if order else NEWEST

    def where(self) -> Where:
        """The conditions over `traces e`."""
        where = Where()
        where.add("e.project_id = ?", self.project)
        chosen = self.chosen
        for name, column in (("status", "status"), ("kind", "name"), ("thread", "thread_id")):
            if chosen[name]:
                where.add(f"e.{column} = ?", chosen[name])
        if chosen["user"]:
            where.add("e.user LIKE ? ESCAPE '\\'", like(LIKES["contains"], chosen["user"]))
        if chosen["search"]:
            text = like(LIKES["contains"], chosen["search"])
            where.add("(e.body LIKE ? ESCAPE '\\' OR e.id LIKE ? ESCAPE '\\')", text, text)
        if chosen["date"]:
            where.add(f"{STARTED} >= ?", now_us() - DATES[chosen["date"]][1] * 1_000_000)
        if chosen["score"] == "none":
            where.add(f"{SCORE_OF.format(OVERALL)} IS NULL")
        elif chosen["score"]:
            _, least, below = SCORES[chosen["score"]]
            where.add(f"{SCORE_OF.format(OVERALL)} >= ?", least)
            where.add(f"{SCORE_OF.format(OVERALL)} < ?", below)
        return where


@dataclass(frozen=True)
class TraceList:
    """One page of traces."""

    rows: list[sqlite3.Row]
    total: int
    filters: Filters
    statuses: list[str]
    kinds: list[str]

    @property
    def first(self) -> int:
        """The number of the first row."""
        return (self.filters.page - 1) * PAGE + 1

    @property
    def last(self) -> int:
        """The number of the last row."""
        return self.first + len(self.rows) - 1


def _words(db: sqlite3.Connection, column: str, project: str) -> list[str]:
    sql = f"SELECT DISTINCT {column} FROM traces WHERE project_id = ? AND {column} IS NOT NULL"  # noqa: S608
    return [row[0] for row in db.execute(f"{sql} ORDER BY 1", (project,))]


def trace_list(db: sqlite3.Connection, filters: Filters) -> TraceList:
    """The rows of the chosen page, in the chosen order; a page past the end is the last one."""
    where = filters.where()
    count = db.execute(f"SELECT count(*) FROM traces e WHERE {where.sql()}", where.params)  # noqa: S608
    total = count.fetchone()[0]
    filters = replace(filters, page=min(filters.page, max(-(-total // PAGE), 1)))
    columns = (
        "e.id, e.name, e.status, e.user, e.thread_id, e.end_us, e.partial,"  # noqa: S608
        f" {STARTED} AS started_us, json_extract(e.body, '$.input') AS input,"
        f" {SCORE_OF.format(OVERALL)} AS score, {SCORE_OF.format(RATING)} AS rating,"
        " (SELECT sum(cost_pico) FROM spans s WHERE s.trace_id = e.id) AS cost_pico,"
        " json_extract(e.body, '$.error_info.exception_type') AS error"
    )
    limits: list[Any] = [PAGE, (filters.page - 1) * PAGE]
    rows = db.execute(
        f"SELECT {columns} FROM traces e WHERE {where.sql()}"  # noqa: S608
        f" ORDER BY {filters.order()} LIMIT ? OFFSET ?",
        [*where.params, *limits],
    ).fetchall()
    project = filters.project
    statuses, kinds = _words(db, "status", project), _words(db, "name", project)
    return TraceList(rows, total, filters, statuses, kinds)

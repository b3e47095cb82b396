"""The list of traces as the page shows it: filters, rows, paging."""

import sqlite3
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from devstack.opik.queries import Where, containing
from devstack.opik.rules import now_us

PAGE = 25
# label, at least, below
SCORES: dict[str, tuple[str, float, float]] = {
    "excellent": ("9 and more", 9, 11),
    "good": ("7.5 to 9", 7.5, 9),
    "fair": ("6 to 7.5", 6, 7.5),
    "low": ("Below 6", -1, 6),
    "none": ("Not scored", 0, 0),
}
# label, seconds
DATES: dict[str, tuple[str, int]] = {
    "hour": ("Last hour", 3600),
    "day": ("Last 24 hours", 86_400),
    "week": ("Last 7 days", 7 * 86_400),
    "month": ("Last 30 days", 30 * 86_400),
}
FIELDS = ("status", "score", "date", "search")
# The score that the list shows and filters by.
SCORE = (
    "(SELECT value FROM scores f WHERE f.entity = 'trace' AND f.entity_id = e.id"
    " AND f.project_id = e.project_id AND f.name = 'evaluation_logged.overall')"
)
# The partial row of a PATCH has no start of its own, so the time of its creation stands in.
STARTED = "CASE WHEN e.start_us > 0 THEN e.start_us ELSE e.created_us END"


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
        page = query.get("page", "")
        number = int(page) if page.isdecimal() and len(page) < 7 else 1
        return cls(project, chosen, max(number, 1))

    @property
    def any(self) -> bool:
        """Whether anything is filtered at all."""
        return any(self.chosen.values())

    def link(self, page: int) -> str:
        """The address of another page of the same list."""
        given = {name: value for name, value in self.chosen.items() if value}
        return "/traces?" + urlencode({"project": self.project, **given, "page": page})

    def where(self) -> Where:
        """The conditions over `traces e`."""
        where, chosen = Where(), self.chosen
        where.add("e.project_id = ?", self.project)
        if chosen["status"]:
            where.add("e.status = ?", chosen["status"])
        if chosen["search"]:
            text = containing(chosen["search"])
            where.add("(e.body LIKE ? ESCAPE '\\' OR e.id LIKE ? ESCAPE '\\')", text, text)
        if chosen["date"]:
            where.add(f"{STARTED} >= ?", now_us() - DATES[chosen["date"]][1] * 1_000_000)
        if chosen["score"] == "none":
            where.add(f"{SCORE} IS NULL")
        elif chosen["score"]:
            _, least, below = SCORES[chosen["score"]]
            where.add(f"{SCORE} >= ? AND {SCORE} < ?", least, below)
        return where


@dataclass(frozen=True)
class TraceList:
    """One page of traces."""

    rows: list[sqlite3.Row]
    total: int
    filters: Filters
    statuses: list[str]

    @property
    def first(self) -> int:
        """The number of the first row, from 1."""
        return (self.filters.page - 1) * PAGE + 1


def trace_list(db: sqlite3.Connection, filters: Filters) -> TraceList:
    """The rows of the chosen page, newest first; a page past the end is the last one."""
    where = filters.where()
    counted = db.execute(f"SELECT count(*) FROM traces e WHERE {where.sql()}", where.params)  # noqa: S608
    total = counted.fetchone()[0]
    filters = replace(filters, page=min(filters.page, max(-(-total // PAGE), 1)))
    rows = db.execute(
        "SELECT e.id, e.name, e.status, e.user, e.end_us,"  # noqa: S608
        f" {STARTED} AS started_us, json_extract(e.body, '$.input') AS input, {SCORE} AS score,"
        " (SELECT sum(cost_pico) FROM spans s WHERE s.trace_id = e.id) AS cost_pico,"
        " json_extract(e.body, '$.error_info.exception_type') AS error"
        f" FROM traces e WHERE {where.sql()}"
        " ORDER BY started_us DESC, e.id DESC LIMIT ? OFFSET ?",
        [*where.params, PAGE, (filters.page - 1) * PAGE],
    ).fetchall()
    statuses = db.execute(
        "SELECT DISTINCT status FROM traces WHERE project_id = ? ORDER BY 1", (filters.project,)
    )
    return TraceList(rows, total, filters, [row["status"] for row in statuses])

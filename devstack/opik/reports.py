"""What the Feedback and Evaluations pages say: averages and counts over a window of days."""

import sqlite3
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta

from devstack.opik.lists import OVERALL, RATING
from devstack.opik.rules import EPOCH, now_us

DAY_US = 86_400_000_000
FEEDBACK = "user_feedback."
EVALUATION = "evaluation_logged."
DIMENSIONS = ("clarity", "specificity", "measurability", "actionability")
ANSWERS = ("usefulness", "clarity", "motivation", "personalization")


@dataclass(frozen=True)
class Answer:
    """A yes/no question: how many said yes of how many who answered."""

    name: str
    yes: int
    answered: int

    @property
    def percent(self) -> float:
        """Per cent of those who answered."""
        return 100 * self.yes / self.answered if self.answered else 0


@dataclass(frozen=True)
class Average:
    """The average of one score name."""

    name: str
    value: float
    count: int


@dataclass(frozen=True)
class Feedback:
    """Ratings in the window."""

    average: float | None
    count: int
    stars: list[tuple[int, int]]
    answers: list[Answer]
    recent: list[sqlite3.Row]


@dataclass(frozen=True)
class Evaluations:
    """Evaluation scores in the window; `days` are (label, average or None, count), oldest first."""

    overall: Average | None
    dimensions: list[Average]
    days: list[tuple[str, float | None, int]]
    lowest: list[sqlite3.Row]


def _since(days: int) -> int:
    return now_us() - days * DAY_US


def _averages(db: sqlite3.Connection, project: str, prefix: str, days: int) -> dict[str, Average]:
    rows = db.execute(
        "SELECT name, avg(value) AS value, count(*) AS count, sum(value >= 0.5) AS yes FROM scores"
        " WHERE entity = 'trace' AND project_id = ? AND name GLOB ? AND updated_us >= ?"
        " GROUP BY name",
        (project, f"{prefix}*", _since(days)),
    )
    return {
        name: Average(name, row["value"], row["count"])
        for row in rows
        if (name := str(row["name"]).removeprefix(prefix))
    }


def _traces_by(
    db: sqlite3.Connection, project: str, name: str, days: int, order: str, limit: int
) -> list[sqlite3.Row]:
    return db.execute(
        "SELECT f.value, f.reason, f.updated_us, f.entity_id AS trace_id, t.name, t.user,"  # noqa: S608
        " json_extract(t.body, '$.input') AS input"
        " FROM scores f LEFT JOIN traces t ON t.id = f.entity_id AND t.project_id = f.project_id"
        " WHERE f.entity = 'trace' AND f.project_id = ? AND f.name = ? AND f.updated_us >= ?"
        f" ORDER BY {order} LIMIT ?",
        (project, name, _since(days), limit),
    ).fetchall()


def feedback(db: sqlite3.Connection, project: str, days: int) -> Feedback:
    """What users said. A half star counts to the upper whole one; the average is exact."""
    averages = _averages(db, project, FEEDBACK, days)
    rating = averages.get("rating")
    counts: dict[int, int] = defaultdict(int)
    for row in db.execute(
        "SELECT value FROM scores WHERE entity = 'trace' AND project_id = ? AND name = ?"
        " AND updated_us >= ?",
        (project, RATING, _since(days)),
    ):
        counts[min(5, max(1, int(-(-row["value"] // 1))))] += 1
    answers = [
        # The values are 1 and 0, so the sum of an average is the number of those who said yes.
        Answer(name, round(found.value * found.count), found.count)
        for name in ANSWERS
        if (found := averages.get(name))
    ]
    return Feedback(
        rating.value if rating else None,
        rating.count if rating else 0,
        [(star, counts[star]) for star in (5, 4, 3, 2, 1)],
        answers,
        _traces_by(db, project, RATING, days, "f.updated_us DESC", 20),
    )


def evaluations(db: sqlite3.Connection, project: str, days: int) -> Evaluations:
    """What the evaluator said."""
    averages = _averages(db, project, EVALUATION, days)
    overall = averages.pop("overall", None)
    ordered = [averages.pop(name) for name in DIMENSIONS if name in averages]
    return Evaluations(
        overall,
        [*ordered, *averages.values()],
        _daily(db, project, days),
        _traces_by(db, project, OVERALL, days, "f.value, f.updated_us DESC", 5),
    )


def _daily(db: sqlite3.Connection, project: str, days: int) -> list[tuple[str, float | None, int]]:
    today = now_us() // DAY_US
    found = {
        row["day"]: (row["value"], row["count"])
        for row in db.execute(
            "SELECT updated_us / ? AS day, avg(value) AS value, count(*) AS count FROM scores"
            " WHERE entity = 'trace' AND project_id = ? AND name = ? AND updated_us >= ?"
            " GROUP BY day",
            (DAY_US, project, OVERALL, (today - days + 1) * DAY_US),
        )
    }
    return [
        ((EPOCH + timedelta(days=day)).strftime("%d %b"), *found.get(day, (None, 0)))
        for day in range(today - days + 1, today + 1)
    ]

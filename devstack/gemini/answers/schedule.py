"""The arithmetic of a plan: its phases, weekdays and minutes, and how much is reached when."""

import re
from typing import Any

from devstack.gemini.answers.reading import Reading


class Schedule:
    """What a plan for a request can hold: `times` sessions a week in the topic's phases."""

    def __init__(self, read: Reading) -> None:
        self.read = read
        # The last phase ends with the goal, which may lie beyond the weeks that are planned.
        course: list[tuple[str, list[Any]]] = [*read.topic["course"].items()]
        phases = course[: -1 if read.span > read.weeks + 4 else None]
        self.phases = [*phases[: min(len(phases), read.weeks) - 1], phases[-1]]
        self.times = max(1, min(3, 7 - len(read.closed), int(read.hours * 4)))

    def last_week(self, index: int, count: int) -> int:
        """The last week of the part `index` (from 0) when the weeks are cut into `count` parts."""
        return min(self.read.weeks, -(-(index + 1) * self.read.weeks // count))

    def phase(self, week: int) -> tuple[str, list[Any]]:
        """The phase of a week, as "name: focus", and its tasks, as (what, done when)."""
        ends = [self.last_week(index, len(self.phases)) for index in range(len(self.phases))]
        return next(phase for phase, end in zip(self.phases, ends, strict=True) if week <= end)

    def easier(self, week: int) -> bool:
        return week % 4 == 0 and 0 < week < self.read.weeks

    def days(self, week: int) -> list[int]:
        """The weekdays (Monday is 0) of a week's sessions, in the order in which they come."""
        today, deadline = self.read.today, self.read.deadline
        left = (deadline - today).days - 7 * (week - 1) + 1 if today and deadline and week else 7
        first = today.weekday() if today else 0
        order = [(first + day) % 7 for day in range(max(1, min(7, left)))]
        free = [day for day in order if day not in self.read.closed] or order
        count = min(self.times, len(free))
        return [free[(2 * each + 1) * len(free) // (2 * count)] for each in range(count)]

    def minutes(self, week: int) -> int:
        """The length of a session: within the hours a week, and shorter in the first weeks."""
        amount, pace = self.read.amount, 0.75 + 0.25 * min(1.0, 2 * week / self.read.weeks)
        most = amount.value if amount and amount.unit.lower().startswith("min") else 90.0
        pace = 1.0 if not week else pace * 0.8 if self.easier(week) else pace
        found = min(most, self.read.hours * 60 / self.times * pace)
        return max(1, int(found // 5 * 5 if found >= 10 else found))

    @property
    def one_go(self) -> bool:
        """Whether the number is reached in one session; 365 km are the sum of many."""
        amount = self.read.amount
        if amount is None or not amount.grows or "begin" not in self.read.topic:
            return False
        return amount.value <= 50 or not re.match(r"k|mi", amount.unit, re.I)

    def level(self, week: int, *, bare: bool = False) -> str | None:
        """How much of the goal's number is reached at the end of a week."""
        amount = self.read.amount
        if amount is None or not amount.grows:
            return None
        begin = self.read.topic["begin"] if self.one_go else 0.0
        return amount.show(amount.at(begin + (1 - begin) * week / self.read.span), bare=bare)

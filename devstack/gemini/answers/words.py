"""What the texts' braces are filled with: the goal's own words and numbers, week by week."""

import re
from collections import Counter
from datetime import timedelta
from functools import cached_property, partial
from typing import Any, NamedTuple

from devstack.gemini.answers.brief import Brief
from devstack.gemini.answers.dates import spell
from devstack.gemini.answers.scores import lines_of, marks

_BRACES = re.compile(r"\{(\w+)\}")
_HIDDEN = (
    "by",
    "due",
    "target",
    "reached",
    "times",
    "hours",
    "weeks",
    "sessions",
    "most",
    "half",
    "so_far",
)
_COMMON = re.compile(
    r"(?:about|after|again|because|before|could|every|first|from|have|just|more|much|really|should|some"
    r"|still|than|that|their|them|then|there|these|they|thing|things|this|very|were|what|when|with|would)"
)
_JUDGED = ("resolution", "draft", "answer", "reply", "output", "plan")

Text = str | list[Any] | dict[str, Any]


class Spot(NamedTuple):
    """Where in the answer: the week (0: none), the number of the track or task, the dimension."""

    week: int = 0
    track: int = 0
    dimension: str = ""


NOWHERE = Spot()


class Words:
    """The words of one brief, and the arithmetic of its weeks, sessions and levels."""

    def __init__(self, brief: Brief) -> None:
        self.brief = brief
        self.weeks = brief.weeks
        # The last phase ends with the goal, which may lie beyond the weeks that are planned.
        phases = brief.topic.phases[: -1 if brief.span > brief.weeks + 4 else None]
        self.phases = [*phases[: min(len(phases), brief.weeks) - 1], phases[-1]]
        self.times = max(1, min(3, 7 - len(brief.closed), int(brief.hours * 4)))
        self._once = self._fixed()

    # Weeks, days and minutes.

    def last_week(self, index: int, count: int) -> int:
        """The last week of the part `index` (from 0) when the weeks are cut into `count` parts."""
        return min(self.weeks, -(-(index + 1) * self.weeks // count))

    def first_week(self, index: int, count: int) -> int:
        return min(self.weeks, self.last_week(index - 1, count) + 1) if index else 1

    def easier(self, week: int) -> bool:
        return week % 4 == 0 and 0 < week < self.weeks

    def days(self, week: int) -> list[int]:
        """The weekdays (Monday is 0) of a week's sessions, in the order in which they come."""
        today, deadline = self.brief.today, self.brief.deadline
        first = today.weekday() if today else 0
        left = 7
        if today and deadline and week:
            left = max(1, min(7, (deadline - today).days - 7 * (week - 1) + 1))
        order = [(first + day) % 7 for day in range(left)]
        free = [day for day in order if day not in self.brief.closed] or order
        count = min(self.times, len(free))
        return [free[(2 * each + 1) * len(free) // (2 * count)] for each in range(count)]

    def minutes(self, week: int) -> int:
        """The length of a session: within the hours a week, and short in the first weeks."""
        pace = 0.75 + 0.25 * min(1.0, 2 * week / self.weeks) if week else 1.0
        amount = self.brief.amount
        most = amount.value if amount and amount.unit.lower().startswith("min") else 90.0
        found = min(
            most, self.brief.hours * 60 / self.times * pace * (0.8 if self.easier(week) else 1)
        )
        return max(1, int(found // 5 * 5 if found >= 10 else found))

    def level(self, week: int) -> float:
        """How much of the goal's number is reached at the end of a week."""
        amount, begin = self.brief.amount, self.brief.topic.begin if self.one_go else 0.0
        return amount.at(begin + (1 - begin) * week / self.brief.span) if amount else 0.0

    @property
    def one_go(self) -> bool:
        """Whether the number is done in one session; 365 km are a sum of many."""
        amount = self.brief.amount
        far = (
            amount is not None
            and amount.value > 50
            and amount.unit[:2].lower() in ("km", "ki", "mi")
        )
        return self.brief.topic.begin > 0 and not far

    # Words.

    def fill(self, text: Text, spot: Spot) -> list[str]:
        """The text with its braces filled; of alternatives the first that can be. Empty when none can.

        A brace that stands for a list makes one text for each of its items.
        """
        if isinstance(text, list):
            return next((filled for each in text if (filled := self.fill(each, spot))), [])
        words = {name: self.word(name, spot) for name in _BRACES.findall(str(text))}
        if any(word is None or word == [] for word in words.values()):
            return []
        count = max((len(word) for word in words.values() if isinstance(word, list)), default=1)

        def put(index: int, brace: re.Match[str]) -> str:
            word = words[brace[1]]
            return word[index % len(word)] if isinstance(word, list) else str(word)

        return [_BRACES.sub(partial(put, index), str(text)) for index in range(count)]

    def word(self, name: str, spot: Spot) -> str | list[str] | None:
        """What stands for a brace; None when that is not known."""
        if name in self._once:
            return self._once[name]
        phase = self.phase(spot.week)
        task = phase["tasks"][spot.track % len(phase["tasks"])]
        nested: dict[str, Text] = {
            "phase": phase["name"],
            "phase_focus": phase["focus"],
            "task": task["what"],
            "task_done": task["done_when"],
            "first": self.brief.topic.texts["first"],
            "level": self.brief.topic.texts["level"],
            "reached": self.brief.topic.texts.get("reached", []),
        }
        if name in nested:
            return next(iter(self.fill(nested[name], spot)), None)
        found = self._of_week(name, spot.week)
        return self._counted(name, spot.dimension) if found is None else found

    def phase(self, week: int) -> dict[str, Any]:
        count = len(self.phases)
        return next(p for i, p in enumerate(self.phases) if week <= self.last_week(i, count))

    def _fixed(self) -> dict[str, str | None]:
        brief, amount = self.brief, self.brief.amount
        sessions = self.times * self.weeks
        end = brief.deadline
        if brief.revised and end is None and brief.today:
            end = brief.today + timedelta(days=7 * self.weeks - 1)
        target = amount.said if amount else f"{sessions} sessions" if brief.revised else None
        by = f" in {_weeks(self.weeks)}"
        if end:
            by = f"{', until' if brief.lasts else ' by'} {spell(end)}"
        elif brief.lasts:
            by = ""
        rate = (
            amount
            and amount.grows
            and amount.sign
            and amount.show(round(amount.value / brief.span, 2))
        )
        conditions = {
            "foreign": brief.foreign,
            "other_locale": brief.other_locale and not brief.foreign,
            "gone": brief.gone,
            "undated": brief.deadline is None and not brief.gone,
            "guessed": not brief.hours_heard,
            "uncounted": amount is None,
            "one_go": self.one_go,
            "long": self.weeks > 4,
        }
        words = {
            "goal": brief.goal,
            "Goal": brief.goal[:1].upper() + brief.goal[1:],
            "said": brief.said,
            "date_said": brief.date_said if brief.gone or brief.deadline else None,
            "due": spell(end) if end else None,
            "by": by,
            "whole": target if amount is None or amount.grows or not amount.value else None,
            "target": target,
            "start": amount.show(self.level(0))
            if amount and amount.grows and self.one_go
            else None,
            "rate": rate or None,
            "times": str(self.times),
            "hours": f"{brief.hours:g} hour{'' if brief.hours == 1 else 's'}",
            "weeks": str(self.weeks),
            "for_weeks": _weeks(self.weeks),
            "span": str(brief.span),
            "half": str(max(1, self.weeks // 2)),
            "sessions": str(sessions),
            "most": str(sessions * 4 // 5),
            "lines": str(brief.lines) if brief.lines > 1 else None,
        }
        if brief.vague and not brief.revised:
            words |= dict.fromkeys(_HIDDEN)
        return {**words, **{name: "" if holds else None for name, holds in conditions.items()}}

    def _of_week(self, name: str, week: int) -> str | None:
        amount = self.brief.amount
        if name in ("v", "n"):
            if amount is None or not amount.grows:
                return None
            level = self.level(week or self.weeks)
            return amount.show(level) if name == "v" else amount.bare(level)
        if name == "final":
            reached = week >= self.weeks and self.brief.span <= self.weeks
            return self._once["Goal"] if reached else None
        known = {
            "min": str(self.minutes(week)),
            "easier": ", easier week" if self.easier(week) else "",
            "so_far": str(self.times * week) if week and self._once["sessions"] else None,
        }
        return known.get(name)

    # What is counted in the texts of others.

    @cached_property
    def judged(self) -> str:
        """The text that is to be judged: the resolution, a reply, or all that was given."""
        parts = self.brief.parts
        named = next((parts[name] for name in _JUDGED if parts.get(name)), "")
        return named or "\n".join(self.brief.data.values()) or self.brief.said

    @cached_property
    def marks(self) -> dict[str, Any]:
        return marks(self.judged)

    def share(self, dimension: str) -> float:
        """The score of a dimension, or the mean of all, from 0 to 1."""
        mark = self.marks.get(dimension)
        return float(
            mark.share if mark else sum(m.share for m in self.marks.values()) / len(self.marks)
        )

    @cached_property
    def keywords(self) -> list[tuple[str, list[str]]]:
        """Up to three words that most lines hold, each with its lines."""
        lines = lines_of(self.brief.parts.get("comments") or self.judged)
        found = [
            {w for w in re.findall(r"[^\W\d_]{4,}", line.lower()) if not _COMMON.fullmatch(w)}
            for line in lines
        ]
        counts = Counter(word for words in found for word in sorted(words))
        return [
            (word, [line for line, words in zip(lines, found, strict=True) if word in words])
            for word, _ in counts.most_common(3)
        ]

    def _counted(self, name: str, dimension: str) -> str | list[str] | None:
        if name == "counted":
            if dimension in self.marks:
                return str(self.marks[dimension].why)
            return " ".join(mark.why for mark in self.marks.values())
        by_share = sorted(self.marks.items(), key=lambda item: item[1].share)
        lists = {
            "suggestion": [mark.advice for _, mark in by_share if mark.share < 0.75],
            "strength": [f"{n.capitalize()}: {m.why}" for n, m in by_share[:-3:-1]],
            "keyword": [word for word, _ in self.keywords],
            "mentions": [str(len(lines)) for _, lines in self.keywords],
            "keyword_line": [lines[0][:200] for _, lines in self.keywords],
        }
        return lists.get(name)


def _weeks(count: int) -> str:
    return f"{count} week{'' if count == 1 else 's'}"

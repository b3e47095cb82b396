"""What the texts' braces are filled with, and the arithmetic of weeks, sessions and levels."""

import re
from collections import Counter
from datetime import timedelta
from functools import cached_property
from typing import Any, NamedTuple

from devstack.gemini.answers.dates import spell
from devstack.gemini.answers.reading import Reading, load
from devstack.gemini.answers.scores import Mark, lines_of, marks

Text = str | list[Any] | dict[str, Any]

_BRACES = re.compile(r"\{(\w+)\}")
# What a vague goal does not get before it is revised.
_HIDDEN = (
    "due",
    "target",
    "times",
    "hours",
    "weeks",
    "for_weeks",
    "sessions",
    "most",
    "half",
    "so_far",
)
_JUDGED = ("resolution", "draft", "answer", "reply", "output", "plan")
_SMALL = re.compile(
    r"(?:about|after|again|because|before|could|every|first|from|have|just|more|much|really|should"
    r"|some|still|than|that|their|them|then|there|these|they|things?|this|very|were|what|when|with)"
)


class Place(NamedTuple):
    """A field of the answer, or (`part`) an item of the list of that name.

    `holder` is the list whose item the field belongs to, `at` of `count` is the item's place in it,
    and `item` is what the texts say for that item. `week` is 0 where no week is meant, and `track`
    counts the tasks of a week.
    """

    name: str = ""
    holder: str = ""
    at: int = 0
    size: int = 1
    part: bool = False
    item: dict[str, Any] | None = None
    week: int = 0
    track: int = 0
    dimension: str = ""
    depth: int = 0


class Words:
    """The words for one request."""

    def __init__(self, user: str) -> None:
        self.read = read = Reading(user)
        # The last phase ends with the goal, which may lie beyond the weeks that are planned.
        phases = read.topic["course"][: -1 if read.span > read.weeks + 4 else None]
        self.phases = [*phases[: min(len(phases), read.weeks) - 1], phases[-1]]
        self.times = max(1, min(3, 7 - len(read.closed), int(read.hours * 4)))
        self.fixed = self._fixed()

    def last_week(self, index: int, count: int) -> int:
        """The last week of the part `index` (from 0) when the weeks are cut into `count` parts."""
        return min(self.read.weeks, -(-(index + 1) * self.read.weeks // count))

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
        pace = 1.0 if not week else pace * 0.8 if self._easier(week) else pace
        found = min(most, self.read.hours * 60 / self.times * pace)
        return max(1, int(found // 5 * 5 if found >= 10 else found))

    def _easier(self, week: int) -> bool:
        return week % 4 == 0 and 0 < week < self.read.weeks

    def _level(self, week: int, *, bare: bool = False) -> str | None:
        """How much of the goal's number is reached at the end of a week."""
        amount = self.read.amount
        if amount is None or not amount.grows:
            return None
        begin = self.read.topic["begin"] if self.one_go else 0.0
        return amount.show(amount.at(begin + (1 - begin) * week / self.read.span), bare=bare)

    @property
    def one_go(self) -> bool:
        """Whether the number is reached in one session; 365 km are the sum of many."""
        amount = self.read.amount
        if amount is None or not amount.grows or "begin" not in self.read.topic:
            return False
        return amount.value <= 50 or not re.match(r"k|mi", amount.unit, re.I)

    def fill(self, text: Text, place: Place) -> list[str]:
        """The text with its braces filled; of alternatives the first that can be, or none.

        A brace that stands for a list makes one text for each of the list's items.
        """
        if isinstance(text, list):
            return next((found for each in text if (found := self.fill(each, place))), [])
        words = {name: self._word(name, place) for name in _BRACES.findall(str(text))}
        if not all(words.values()):
            return []

        def filled(index: int) -> str:
            return _BRACES.sub(lambda m: words[m[1]][index % len(words[m[1]])], str(text))

        return [filled(i) for i in range(max((len(word) for word in words.values()), default=1))]

    def _word(self, name: str, place: Place) -> list[str]:
        """What stands for a brace: nothing when that is not known, else one word or several."""
        for words in (self.fixed, self._of_week(place.week, place.track)):
            if name in words:
                word = words[name]
                return (
                    self.fill(word, place)
                    if isinstance(word, list)
                    else []
                    if word is None
                    else [str(word)]
                )
        counted = self._counted(place.dimension)
        return counted[name] if name in counted else self.fill(self.text(name), place)[:1]

    def text(self, name: str) -> Text:
        """What the topic, or else every topic, says under a name."""
        found: Text = self.read.topic.get(name) or load("common").get(name, [])
        return found

    def _fixed(self) -> dict[str, str | None]:
        read, amount, sessions = self.read, self.read.amount, self.times * self.read.weeks
        end = read.deadline
        if read.revised and not end and read.today:
            end = read.today + timedelta(days=7 * read.weeks - 1)
        words = {
            "goal": read.goal,
            "Goal": read.goal[:1].upper() + read.goal[1:],
            "said": read.said,
            "date_said": read.date_said if read.gone or read.deadline else None,
            "due": spell(end) if end else None,
            "target": amount.said if amount else f"{sessions} sessions" if read.revised else None,
            "start": self._level(0) if self.one_go else None,
            "times": str(self.times),
            "hours": f"{read.hours:g} hour{'' if read.hours == 1 else 's'}",
            "weeks": str(read.weeks),
            "for_weeks": f"{read.weeks} week{'' if read.weeks == 1 else 's'}",
            "span": str(read.span),
            "half": str(max(1, read.weeks // 2)),
            "sessions": str(sessions),
            "most": str(sessions * 4 // 5),
            "lines": str(read.lines) if read.lines > 1 else None,
        }
        if read.vague and not read.revised:
            words |= dict.fromkeys(_HIDDEN)
        conditions = {
            "foreign": read.foreign,
            "other_locale": read.other_locale and not read.foreign,
            "gone": read.gone,
            "undated": not read.deadline and not read.gone,
            "guessed": not read.hours_heard,
            "uncounted": amount is None,
            "grows": amount is None or amount.grows or not amount.value,
            "one_go": self.one_go,
            "lasts": read.lasts,
            "long": read.weeks > 4,
        }
        return {**words, **{name: "" if holds else None for name, holds in conditions.items()}}

    def _of_week(self, week: int, track: int) -> dict[str, Text | None]:
        count, weeks = len(self.phases), self.read.weeks
        phase = next(p for i, p in enumerate(self.phases) if week <= self.last_week(i, count))
        task = phase["tasks"][track % len(phase["tasks"])]
        return {
            "phase": phase["name"],
            "phase_focus": phase["focus"],
            "task": [task["what"]],
            "task_done": [task["done_when"]],
            "v": self._level(week or weeks),
            "n": self._level(week or weeks, bare=True),
            "min": str(self.minutes(week)),
            "easier": ", easier week" if self._easier(week) else "",
            "so_far": str(self.times * week) if week and self.fixed["sessions"] else None,
            "at_end": "" if week >= weeks == self.read.span else None,
        }

    @cached_property
    def _judged(self) -> str:
        """The text that is to be judged: the resolution, a reply, or all that was given."""
        named = [self.read.data[name] for name in _JUDGED if self.read.data.get(name)]
        return named[0] if named else "\n".join(self.read.data.values()) or self.read.said

    @property
    def dimensions(self) -> dict[str, str]:
        """The names of the dimensions, each with what would raise its score."""
        found: dict[str, str] = load("common")["advice"]
        return found

    @cached_property
    def marks(self) -> dict[str, Mark]:
        return marks(self._judged)

    def share(self, dimension: str) -> float:
        """The score of a dimension, or the mean of all, from 0 to 1."""
        mean = sum(mark.share for mark in self.marks.values()) / len(self.marks)
        return self.marks[dimension].share if dimension in self.marks else mean

    @cached_property
    def keywords(self) -> dict[str, list[str]]:
        """Up to three words that most lines hold, each with its lines."""
        lines = lines_of(self.read.data.get("comments") or self._judged)
        found = [dict.fromkeys(re.findall(r"[^\W\d_]{4,}", line.lower())) for line in lines]
        counts = Counter(word for words in found for word in words if not _SMALL.fullmatch(word))
        return {
            word: [line for line, words in zip(lines, found, strict=True) if word in words]
            for word, _ in counts.most_common(3)
        }

    def _counted(self, dimension: str) -> dict[str, list[str]]:
        marked = [self.marks[dimension]] if dimension in self.marks else [*self.marks.values()]
        order = sorted(self.marks, key=lambda name: self.marks[name].share)
        return {
            "counted": [" ".join(mark.why for mark in marked)],
            "suggestion": [
                self.dimensions[name] for name in order if self.marks[name].share < 0.75
            ],
            "strength": [f"{name.capitalize()}: {self.marks[name].why}" for name in order[:-3:-1]],
            "keyword": [*self.keywords],
            "mentions": [str(len(lines)) for lines in self.keywords.values()],
            "keyword_line": [lines[0][:200] for lines in self.keywords.values()],
        }

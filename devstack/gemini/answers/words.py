"""What the texts' braces are filled with."""

import re
from collections import Counter
from datetime import timedelta
from functools import cache, cached_property
from typing import Any, NamedTuple

from devstack.gemini.answers.dates import spell
from devstack.gemini.answers.reading import Reading, load
from devstack.gemini.answers.schedule import Schedule
from devstack.gemini.answers.scores import Mark, lines_of, marks

Text = str | list[Any] | dict[str, Any]

_BRACES = re.compile(r"\{(\w+)\}")
# What a vague goal does not get before it is revised.
_HIDDEN = ("due", "target", "times", "hours", "weeks", "for_weeks", "sessions", "most", "half")
_SMALL = re.compile(
    r"(?:about|after|again|because|before|could|every|first|really|should|still|their|there|these"
    r"|things?|think|those|would)"
)


class Place(NamedTuple):
    """A field of the answer, or (`part`) an item of the list of that name.

    `holder` is the list whose item the field belongs to, `at` of `size` is the item's place in it,
    and `item` is the text for that item, or its texts by field. `week` is 0 where no week is meant,
    and `track` counts the tasks of a week.
    """

    name: str = ""
    holder: str = ""
    at: int = 0
    size: int = 1
    part: bool = False
    item: str | dict[str, Any] = ""
    week: int = 0
    track: int = 0
    dimension: str = ""
    depth: int = 0


class Words:
    """The words for one request."""

    def __init__(self, user: str) -> None:
        self.read = Reading(user)
        self.schedule = Schedule(self.read)
        self.advice: dict[str, str] = load("common")["advice"]  # by dimension
        self._fixed = self._of_goal() | self._conditions()
        self._of_week = cache(self._words_of_week)  # every sentence of a week needs them

    def text(self, name: str) -> Text:
        """What the topic, or else every topic, says under a name."""
        found: Text = self.read.topic.get(name) or load("common").get(name, [])
        return found

    def fill(self, text: Text, place: Place) -> list[str]:
        """The text with its braces filled, once for each item of a brace that stands for a list;
        of alternatives the first that can be filled. Empty when none can."""
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
        if name in self._fixed:  # these hold the person's words, in which a brace is just a brace
            word = self._fixed[name]
            return [] if word is None else [word]
        of_week = self._of_week(place.week, place.track)
        if name in of_week:
            text = of_week[name]
            return [] if text is None else self.fill([text], place)
        counted = self._counted(place.dimension)
        return counted[name] if name in counted else self.fill(self.text(name), place)[:1]

    def _of_goal(self) -> dict[str, str | None]:
        read, amount, times = self.read, self.read.amount, self.schedule.times
        end, sessions = read.deadline, times * read.weeks
        if read.revised and not end and read.today:
            end = read.today + timedelta(days=7 * read.weeks - 1)
        words = {
            "due": spell(end) if end else None,
            "target": amount.said if amount else f"{sessions} sessions" if read.revised else None,
            "times": str(times),
            "hours": f"{read.hours:g} hour{'' if read.hours == 1 else 's'}",
            "weeks": str(read.weeks),
            "for_weeks": f"{read.weeks} week{'' if read.weeks == 1 else 's'}",
            "half": str(max(1, read.weeks // 2)),
            "sessions": str(sessions),
            "most": str(sessions * 4 // 5),
        }
        words |= dict.fromkeys(_HIDDEN) if read.vague and not read.revised else {}
        return words | {
            "goal": read.goal,
            "Goal": read.goal[:1].upper() + read.goal[1:],
            "said": read.said,
            "limits": read.limits,
            "date_said": ((read.gone or read.deadline) and read.date_said) or None,
            "start": self.schedule.level(0),
            "span": str(read.span),
            "lines": str(read.lines) if read.lines > 1 else None,
        }

    def _conditions(self) -> dict[str, str | None]:
        """All that is true or false of a request: words that stand for nothing where they hold."""
        amount = self.read.amount
        holds = {name: value for name, value in vars(self.read).items() if isinstance(value, bool)}
        holds |= {"one_go": self.schedule.one_go, "long": self.read.weeks > 4}
        holds["grows"] = amount is None or amount.grows or not amount.value
        return {name: "" if value else None for name, value in holds.items()}

    def _words_of_week(self, week: int, track: int) -> dict[str, Text | None]:
        schedule, weeks = self.schedule, self.read.weeks
        phase, tasks = schedule.phase(week)
        name, _, focus = phase.partition(": ")
        what, done_when = tasks[track % len(tasks)]
        return {
            "phase": name,
            "phase_focus": focus[:1].upper() + focus[1:],
            "task": what,
            "task_done": done_when,
            "v": schedule.level(week or weeks),
            "n": schedule.level(week or weeks, bare=True),
            "min": str(schedule.minutes(week)),
            "easier": ", easier week" if schedule.easier(week) else "",
            "so_far": str(schedule.times * week) if week and self._fixed["sessions"] else None,
            "at_end": "" if week >= weeks == self.read.span else None,
        }

    @cached_property
    def _judged(self) -> str:
        """The text that is to be judged: the resolution, or all that was given."""
        data = self.read.data
        return data.get("resolution") or "\n".join(data.values()) or self.read.said

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
        lines = lines_of(self._judged)
        found = [dict.fromkeys(re.findall(r"[^\W\d_]{5,}", line.lower())) for line in lines]
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
            "suggestion": [self.advice[name] for name in order if self.marks[name].share < 0.75],
            "strength": [f"{name.capitalize()}: {self.marks[name].why}" for name in order[:-3:-1]],
            "other_line": self.read.other_lines,
            "keyword": [*self.keywords],
            "mentions": [str(len(lines)) for lines in self.keywords.values()],
            "keyword_line": [lines[0][:200] for lines in self.keywords.values()],
        }

"""A goal as a coach hears it: what, how much, until when, with how many hours, and how sharply said.

`hours_said`: the hours stand in the goal's own words.
"""

import re
from dataclasses import dataclass, field
from datetime import date

from devstack.gemini.answers.dates import spell
from devstack.gemini.answers.topic import Topic

_FOREIGN = re.compile(
    r"[^\W\d_\u0000-\u024F]|\b(?:ich|möchte|je|veux|quiero|voglio|quero|ik\s+wil|jag\s+vill|chcę)\b",
    re.I,
)


@dataclass(frozen=True)
class Goal:
    """`sharp`: 0 vague, 1 a topic without a measure or a date, 2 a measure and a date."""

    phrase: str
    topic: Topic
    noun: str
    amount: float
    given: bool
    start: float
    deadline: date | None
    said: str
    today: date | None
    weeks: int
    span: int
    hours: float
    hours_given: bool
    hours_said: bool
    sharp: int
    experience: str
    constraints: str
    memo: dict[int, dict[str, str]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def target(self) -> str:
        return self.topic.show(self.amount)

    @property
    def title(self) -> str:
        return self.phrase[:1].upper() + self.phrase[1:]

    @property
    def due(self) -> str:
        if self.deadline is not None:
            return spell(self.deadline)
        return f"the end of week {self.weeks}"

    def level(self, week: int) -> float:
        """What is reached at the end of a week; week 0 is the start."""
        share = min(1.0, week / self.span)
        if self.topic.curve == "grow":
            share = min(1.0, share * 1.05)
        return self.start + (self.amount - self.start) * share

    @property
    def foreign(self) -> bool:
        """Whether the words are not English, so that only known names and numbers were read."""
        return bool(_FOREIGN.search(self.phrase))

    @property
    def seasoned(self) -> bool:
        """Whether what the person can do already spares them the topic's first phase."""
        known = self.topic.seasoned
        return bool(known and re.search(known, self.experience, re.I))

    @property
    def rushed(self) -> bool:
        """Whether the topic knows a safe pace and this goal is faster."""
        pace = abs(self.amount - self.start) / self.span
        return 0 < self.topic.fast < pace

    def words(self, week: int = 0) -> dict[str, str]:
        """What the texts' places are filled with; kept, since every sentence of a week needs them."""
        if week in self.memo:
            return self.memo[week]
        topic, now, before = self.topic, self.level(week), self.level(max(0, week - 1))
        part = abs(now - before) if week else abs(self.amount - self.start) / self.span
        filled = self.memo[week] = {
            "goal": self.phrase,
            "target": self.target,
            "start": topic.show(self.start),
            "v": topic.show(now),
            "vn": topic.show(now).split(" ")[0],
            "prev": topic.show(before),
            "part": topic.show(max(part, topic.step)),
            "left": topic.show(abs(self.amount - now)),
            "half": topic.show((self.start + self.amount) / 2),
            "fast": topic.show(topic.fast),
            "noun": self.noun,
            "n": str(week),
            "weeks": str(self.weeks),
            "span": str(self.span),
            "due": self.due,
            "hours": f"{self.hours:g} hour{'' if self.hours == 1 else 's'}",
        }
        return filled

    def say(self, text: str, week: int = 0, minutes: int = 0) -> str:
        """A topic's text with the goal's own words and numbers in it."""
        words = self.words(week)
        said = text.format_map({**words, "min": str(minutes)} if minutes else words)
        return said[:1].upper() + said[1:]

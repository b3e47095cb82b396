"""One writer for any response schema: the schema says what is valid, the fields' names what is said."""

import random
import re
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import cache
from typing import Any

from devstack.gemini.answers.brief import by_name, load, read
from devstack.gemini.answers.scores import DIMENSIONS, marks
from devstack.gemini.answers.words import NOWHERE, Spot, Words
from devstack.gemini.protocol import Ask
from devstack.gemini.schema import Node, compiled

MAX_DEPTH = 6
# What stands in a field that needs a date when the request names no day at all.
SOME_DAY = date(2026, 1, 1)
_DAY_NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SCORE = re.compile(r"score|rating|overall|quality|grade|points|confidence|probability")
_REFUSAL = re.compile(r"refus")
_WEEK = re.compile(r"week|^until|^through")
_EASIER = re.compile(r"easier|lighter|deload|rest_|closed|unavailable")
_TASKS = re.compile(r"task|session|rhythm|track|routine|exercise|activit|^days$")
_DATE = re.compile(r"(?:^|_)(?:deadline|due|date|starts_on|ends_on|due_on)$")
_FORMATS = {
    "time": "09:00:00",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "email": "someone@example.org",
    "uri": "https://example.org/",
}
_LISTS = {"stages": "phases", "blocks": "phases", "checkpoints": "milestones"}
_POSITIVE = re.compile(
    r"\b(?:love|great|good|helpful|clear|easy|useful|thank|perfect|motivat)", re.I
)
_NEGATIVE = re.compile(
    r"\b(?:bad|hard|too|late|slow|missing|unclear|confus|boring|not|never|wrong)", re.I
)


@cache
def _texts() -> dict[str, Any]:
    return by_name(load("common"))


def write(ask: Ask, rng: random.Random) -> Any:
    """The answer to a request: a JSON value when a schema asks for one, else text."""
    brief = read(ask.user)
    words = Words(brief)
    if ask.schema is None:
        said = (
            brief.reason
            if brief.verdict == "harmful"
            else words.fill(_texts()["reply"], NOWHERE)[0]
        )
        return {"answer": said} if ask.wants_json else said
    return Writer(words, rng).write(compiled(ask.schema))


@dataclass(frozen=True)
class Place:
    """A field, or an item of the list of that name.

    `holder` is the list whose item the field belongs to, `number` of `count` is the item's number
    in it, and `item` is what the texts say for that item. A `part` is an item of a plain list.
    """

    name: str = ""
    holder: str = ""
    number: int = 0
    count: int = 1
    part: bool = False
    item: dict[str, Any] = field(default_factory=dict)
    spot: Spot = NOWHERE
    depth: int = 0


class Writer:
    """Writes one answer."""

    def __init__(self, words: Words, rng: random.Random) -> None:
        self.words = words
        self.brief = words.brief
        self.rng = rng
        self.refusing = False

    def write(self, root: Node) -> Any:
        """The whole answer. A refusal leaves everything empty but the fields that are made for it."""
        places = root.properties.items()
        verdict = self.brief.verdict
        offered = any(verdict in node.choices or _REFUSAL.search(name) for name, node in places)
        self.refusing = verdict == "harmful" or (verdict != "goal" and offered)
        if not self.refusing or not root.properties:
            return self.value(root, Place())
        return {name: self._refused(node, Place(_snake(name)), offered) for name, node in places}

    def _refused(self, node: Node, at: Place, offered: bool) -> Any:
        if node.choices or _REFUSAL.search(at.name):
            return self.value(node, at)
        if node.nullable:
            return None
        if node.kind == "array" and not node.shortest:
            return []
        return (
            "" if offered and node.kind == "string" and not node.shortest else self.value(node, at)
        )

    def value(self, node: Node, at: Place) -> Any:
        """A value that the schema allows at this place."""
        if node.choices:
            return self._choice(node, at)
        if node.nullable and at.depth >= MAX_DEPTH:
            return None
        if node.options:
            option = node.options[0]
            return self.value(
                replace(option, nullable=node.nullable), replace(at, depth=at.depth + 1)
            )
        match node.kind:
            case "object":
                return self._object(node, at)
            case "array":
                return self._array(node, at)
            case "boolean":
                bad = re.search(r"harm|unsafe|crisis|block|refus|risk|help", at.name)
                return (self.brief.verdict == "goal") is not bool(bad)
            case "null":
                return None
            case "integer" | "number":
                number = self._number(node, at)
                if number is None and node.nullable:
                    return None
                return node.bounded(at.number + 1 if number is None else number)
        text = self._string(node, at)
        return None if text is None and node.nullable else _fitted(node, text or "")

    def _object(self, node: Node, at: Place) -> dict[str, Any]:
        names = node.required if at.depth >= MAX_DEPTH else node.properties.keys()
        spot = at.spot
        if at.part and not any(_WEEK.search(_snake(name)) for name in node.properties):
            spot = spot._replace(track=at.number)
        elif at.part and not spot.week:
            spot = spot._replace(week=self.words.last_week(at.number, at.count))
        found = {}
        for name, child in node.properties.items():
            own = spot._replace(dimension=name) if name in DIMENSIONS else spot
            place = replace(at, name=_snake(name), part=False, spot=own, depth=at.depth + 1)
            if name in names:
                found[name] = self.value(child, place)
        return found

    def _array(self, node: Node, at: Place) -> list[Any]:
        name = _LISTS.get(at.name, at.name)
        entries = self._entries(name, at.spot)
        count = node.size(self._count(name, node, at, len(entries)))
        kinds = [*node.first, *[node.items or Node("string")] * (count - len(node.first))]
        found = []
        for number, kind in enumerate(kinds):
            entry = entries[number % len(entries)] if entries else ""
            place = replace(at, name=name, holder=name, number=number, count=len(kinds), part=True)
            item = entry if isinstance(entry, dict) else {name: entry} if entry else {}
            found.append(self.value(kind, replace(place, item=item, depth=at.depth + 1)))
        return found

    def _entries(self, name: str, spot: Spot) -> list[str | dict[str, Any]]:
        """The texts for the items of a list, those that can be filled."""
        text = self.brief.topic.texts.get(name, _texts().get(name, []))
        found: list[str | dict[str, Any]] = []
        for each in text if isinstance(text, list) else [text]:
            if not isinstance(each, dict):
                found += self.words.fill(each, spot)
            elif all(self.words.fill(child, spot) for child in each.values()):
                found.append(each)
        return found

    def _count(self, name: str, node: Node, at: Place, entries: int) -> int:
        items = node.items or Node("string")
        weekly = any(_WEEK.search(_snake(child)) for child in items.properties)
        if at.depth >= MAX_DEPTH:
            return 0
        if name == "weeks":
            return self.words.weeks
        if _EASIER.search(name):
            easier = [w for w in range(1, self.words.weeks + 1) if self.words.easier(w)]
            return len(easier) if "week" in name else len(self.brief.closed)
        if name in ("phases", "milestones") or (weekly and at.holder and not at.spot.week):
            return len(self.words.phases)
        if entries:
            return entries
        if _TASKS.search(name):
            return len(self.words.days(at.spot.week))
        return 0 if items.kind == "string" and not items.choices else 2 if at.depth < 3 else 1

    def _string(self, node: Node, at: Place) -> str | None:
        if self.refusing:
            return self.brief.reason
        if _REFUSAL.search(at.name):
            return None
        if node.format in _FORMATS:
            return _FORMATS[node.format]
        if node.format in ("date", "date-time") or _DATE.search(at.name):
            day = self._date(node, at)
            clock = "T09:00:00Z" if node.format == "date-time" else ""
            return None if day is None else f"{day}{clock}"
        if at.name in ("day", "weekday"):
            return _DAY_NAMES[self._day(at)].capitalize()
        for text in (
            at.item.get(at.name),
            self._text(f"{at.holder}.{at.name}"),
            self._text(at.name),
        ):
            filled = self.words.fill(text or [], at.spot)
            if filled:
                return filled[at.number % len(filled)]
        label = at.name.replace("_", " ").strip().capitalize() or "Answer"
        return None if node.nullable else f"{label}: {self.brief.said or 'nothing was said'}"

    def _text(self, name: str) -> Any:
        return self.brief.topic.texts.get(name, _texts().get(name))

    def _day(self, at: Place) -> int:
        """A weekday: of those without time in a list of such, the last one for what is done once."""
        if _EASIER.search(at.holder):
            return sorted(self.brief.closed)[at.number % len(self.brief.closed)]
        days = self.words.days(at.spot.week)
        return days[-1] if at.holder == "once" else days[at.spot.track % len(days)]

    def _date(self, node: Node, at: Place) -> date | None:
        today, deadline = self.brief.today, self.brief.deadline
        if re.search(r"start|today|begin|from", at.name) and today:
            return today
        if today and (at.spot.week or not node.nullable):
            end = today + timedelta(days=7 * (at.spot.week or self.words.weeks) - 1)
            return min(end, deadline) if deadline else end
        return deadline or (None if node.nullable else SOME_DAY)

    def _number(self, node: Node, at: Place) -> float | None:
        name, words, spot = at.name, self.words, at.spot
        if at.spot.dimension or _SCORE.search(name):
            low, small = node.low or 0.0, bool(re.search("confidence|probability", name))
            high = node.high if node.high is not None else 1.0 if small else 10.0
            step = 0.5 if high - low > 2 else 0.01
            return round((low + words.share(spot.dimension) * (high - low)) / step) * step
        if _EASIER.search(at.holder or name):
            return 4.0 * (at.number + 1)
        if re.search(r"minute|duration", name):
            shorter = at.part and at.number + 1 < at.count
            return words.minutes(spot.week) * 0.7 // 1 if shorter else words.minutes(spot.week)
        if "hour" in name:
            return self.brief.hours if self.brief.hours_heard or not node.nullable else None
        if re.search(r"(?:start|first|from).*week", name):
            return words.first_week(at.number, at.count)
        if _WEEK.search(name):
            return spot.week or words.weeks
        if re.search(r"session|per_week|times", name):
            return words.times
        if re.search(r"mention|count|occurrence|frequency", name) and words.keywords:
            return len(words.keywords[at.number % len(words.keywords)][1])
        amount = self.brief.amount
        if re.search(r"target|amount|value", name) and amount:
            return amount.value
        return None

    def _choice(self, node: Node, at: Place) -> Any:
        """The choice that fits: verdict, category, weekday, the better text, mood, or a modest one."""
        named = {str(choice).lower(): choice for choice in node.choices}
        days = {choice[:3]: choice for choice in named}
        if len(days.keys() & set(_DAY_NAMES)) > 1:
            return named.get(days.get(_DAY_NAMES[self._day(at)], ""), node.choices[0])
        wanted = [
            self.brief.verdict,
            *self._better(list(named)),
            self._mood(at),
            "other",
            "none",
            "tie",
        ]
        if self.brief.verdict == "goal":
            wanted.insert(0, self.brief.topic.category)
        if None in node.choices:
            wanted.append("none")
        found = next((named[word] for word in wanted if word in named), node.choices)
        return self.rng.choice(found) if found is node.choices else found

    def _better(self, choices: list[str]) -> list[str]:
        """Of choices that name parts of the prompt ("a" names <answer_a>), the one that counts best."""
        sums = {}
        for choice in choices:
            for name, text in self.brief.parts.items():
                if name == choice or name.endswith(f"_{choice}") or name.startswith(f"{choice}_"):
                    sums[choice] = sum(mark.share for mark in marks(text).values())
        best = [choice for choice, total in sums.items() if total == max(sums.values())]
        return best if len(sums) > 1 and len(best) == 1 else ["tie"]

    def _mood(self, at: Place) -> str:
        found = self.words.keywords if at.holder else []
        text = " ".join(found[at.number % len(found)][1]) if found else self.brief.said
        good, bad = len(_POSITIVE.findall(text)), len(_NEGATIVE.findall(text))
        return (
            "mixed"
            if good == bad > 0
            else "positive"
            if good > bad
            else "negative"
            if bad
            else "neutral"
        )


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_").lower()


def _fitted(node: Node, text: str) -> str:
    """The text in the length that the schema allows."""
    while len(text) < node.shortest:
        text += f" {text or 'nothing to say'}"
    return text if node.longest is None else text[: node.longest]

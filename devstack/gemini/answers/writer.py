"""One writer for any response schema: it says what is valid, its fields' names what is said."""

import re
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from typing import Any

from devstack.gemini.answers.reading import DAYS, SOME_DAY
from devstack.gemini.answers.scores import marks
from devstack.gemini.answers.words import Place, Words
from devstack.gemini.protocol import Ask
from devstack.gemini.schema import Node, compiled

MAX_DEPTH = 6
_FORMATS = {"time": "09:00:00", "uuid": "00000000-0000-4000-8000-000000000000"}
_WEEK = re.compile(r"week|^until|^through")
_SPARED = re.compile(r"easier|lighter|deload|rest_|closed|unavailable")
_TASKS = re.compile(r"task|session|rhythm|track|routine|exercise|activit|^days$")
_DATE = re.compile(r"(?:^|_)(?:deadline|due|date|starts_on|ends_on)$")
_SCORE = re.compile(r"score|rating|overall|quality|grade|points|confidence|probability")
_BAD = re.compile(r"harm|unsafe|crisis|block|refus|risk|help")
_GLAD = re.compile(r"\b(?:lov|great|good|helpful|clear|easy|useful|thank|perfect|motivat)", re.I)
_SORRY = re.compile(
    r"\b(?:bad|hard|too|late|slow|missing|unclear|confus|boring|not|never|wrong)", re.I
)


def write(ask: Ask) -> Any:
    """The answer to a request: a JSON value when a schema asks for one, else text."""
    words = Words(ask.user)
    if ask.schema is not None:
        return Writer(words).write(compiled(ask.schema))
    harmful = words.read.verdict == "harmful"
    text = words.read.reason if harmful else words.fill(words.text("reply"), Place())[0]
    return {"answer": text} if ask.wants_json else text


class Writer:
    """Writes one answer."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.read, self.schedule = words.read, words.schedule
        self.refusing = self.offered = False

    def write(self, root: Node) -> Any:
        """The whole answer. A refusal leaves empty what is not made for it."""
        verdict, places = self.read.verdict, root.properties.items()
        self.offered = any(verdict in node.choices or "refus" in name for name, node in places)
        self.refusing = verdict == "harmful" or (verdict != "goal" and self.offered)
        return self.value(root, Place())

    def value(self, node: Node, place: Place) -> Any:
        """A value that the schema allows at this place."""
        spared = place.depth >= MAX_DEPTH or (self.refusing and "refus" not in place.name)
        if node.choices:
            return self._choice(node, place)
        if node.nullable and spared:
            return None
        if node.options:
            option = replace(node.options[0], nullable=node.nullable)
            return self.value(option, place._replace(depth=place.depth + 1))
        if node.kind == "object":
            return self._object(node, place)
        if node.kind == "array":
            return self._array(node, place)
        if node.kind == "boolean":
            return (self.read.verdict == "goal") is not bool(_BAD.search(place.name))
        if node.kind in ("integer", "number"):
            number = self._number(node, place)
            known = number is not None or not node.nullable
            return node.bounded(place.at + 1 if number is None else number) if known else None
        text = None if node.kind == "null" else self._string(node, place)
        return None if text is None else _fitted(node, text)

    def _object(self, node: Node, place: Place) -> dict[str, Any]:
        if place.part and not any(_WEEK.search(_snake(name)) for name in node.properties):
            place = place._replace(track=place.at)
        elif place.part and not place.week:
            place = place._replace(week=self.schedule.last_week(place.at, place.size))
        found = {}
        for name, child in node.properties.items():
            if place.depth < MAX_DEPTH or name in node.required:
                dimension = name if name in self.words.advice else place.dimension
                inner = place._replace(name=_snake(name), part=False, dimension=dimension)
                found[name] = self.value(child, inner._replace(depth=place.depth + 1))
        return found

    def _array(self, node: Node, place: Place) -> list[Any]:
        name, items = place.name, node.items or Node("string")
        entries = self._entries(name, place)
        count = node.size(self._count(name, items, place, len(entries)))
        kinds = [*node.first, *[items] * (count - len(node.first))]
        place = place._replace(
            name=name, holder=name, size=len(kinds), part=True, depth=place.depth + 1
        )
        found = []
        for at, kind in enumerate(kinds):
            item = entries[at % len(entries)] if entries else ""
            found.append(self.value(kind, place._replace(at=at, item=item)))
        return found

    def _entries(self, name: str, place: Place) -> list[str | dict[str, Any]]:
        """The texts for the items of a list, those that can be filled."""
        text, found = self.words.text(name), list[str | dict[str, Any]]()
        for each in text if isinstance(text, list) else [text]:
            if not isinstance(each, dict):
                found += self.words.fill(each, place)
            elif all(self.words.fill(child, place) for child in each.values()):
                found.append(each)
        return found

    def _count(self, name: str, items: Node, place: Place, entries: int) -> int:
        """How many items a list has, before the schema's own bounds."""
        weekly = any(_WEEK.search(_snake(child)) for child in items.properties)
        if place.depth >= MAX_DEPTH or self.refusing:
            return 0
        if name == "weeks":
            return self.read.weeks
        if _SPARED.search(name):
            return (self.read.weeks - 1) // 4 if "week" in name else len(self.read.closed)
        if name in ("phases", "milestones") or (weekly and place.holder and not place.week):
            return len(self.schedule.phases)
        if not entries and _TASKS.search(name):
            return len(self.schedule.days(place.week))
        unknown = 0 if items.kind == "string" and not items.choices else 2 if place.depth < 3 else 1
        return entries or unknown

    def _string(self, node: Node, place: Place) -> str | None:
        if self.refusing:
            empty = self.offered and "refus" not in place.name and not node.shortest
            return "" if empty else self.read.reason
        if "refus" in place.name:
            return None if node.nullable else ""
        if node.format in _FORMATS:
            return _FORMATS[node.format]
        if node.format in ("date", "date-time") or _DATE.search(place.name):
            day = self._date(node, place)
            clock = "T09:00:00Z" if node.format == "date-time" else ""
            return None if day is None else f"{day}{clock}"
        if place.name in ("day", "weekday"):
            return DAYS[self._day(place)].capitalize()
        item, own_names = place.item, ("text", "title", place.holder[:-1])
        if item and isinstance(item, str) and (place.part or place.name in own_names):
            return item
        own = item.get(place.name, []) if isinstance(item, dict) else []
        texts = (own, self.words.text(f"{place.holder}.{place.name}"), self.words.text(place.name))
        filled = next((found for text in texts if (found := self.words.fill(text, place))), [])
        if filled or node.nullable:
            return filled[place.at % len(filled)] if filled else None
        label = place.name.replace("_", " ").strip().capitalize() or "Answer"
        return f"{label}: {self.read.said or 'nothing was said'}"

    def _day(self, place: Place) -> int:
        """A weekday: the last one for what is done once, one without time in a list of such."""
        if _SPARED.search(place.holder) and self.read.closed:
            return sorted(self.read.closed)[place.at % len(self.read.closed)]
        days = self.schedule.days(place.week)
        return days[-1] if place.holder == "once" else days[place.track % len(days)]

    def _date(self, node: Node, place: Place) -> date | None:
        today, deadline = self.read.today or SOME_DAY, self.read.deadline
        if re.search(r"start|today|begin|from", place.name):
            return today
        if not place.week and (deadline or node.nullable):
            return deadline
        end = today + timedelta(days=7 * (place.week or self.read.weeks) - 1)
        return min(end, deadline) if deadline else end

    def _number(self, node: Node, place: Place) -> float | None:
        """The number for the first pattern that the field's name fits, or None."""
        if place.dimension or _SCORE.search(place.name):
            low = node.low or 0.0
            most = 1.0 if re.search("confidence|probability", place.name) else 10.0
            high = most if node.high is None else node.high
            step = 0.5 if high - low > 2 else 0.01
            return round((low + self.words.share(place.dimension) * (high - low)) / step) * step
        name = place.holder if _SPARED.search(place.holder) else place.name
        schedule, read, amount = self.schedule, self.read, self.read.amount
        before = schedule.last_week(place.at - 1, place.size) if place.at else 0
        shorter = 0.7 if place.part and place.at + 1 < place.size else 1
        lines = [len(lines) for lines in self.words.keywords.values()]
        rules = {
            _SPARED.pattern: 4 * (place.at + 1),
            "minute|duration": schedule.minutes(place.week) * shorter,
            "hour": None if read.guessed else read.hours,
            "(?:start|first|from).*week": min(read.weeks, before + 1),
            _WEEK.pattern: place.week or read.weeks,
            "session|per_week|times": schedule.times,
            "mention|count|occurrence|frequency": lines[place.at % len(lines)] if lines else None,
            "target|amount|value": amount.value if amount else None,
        }
        return next((number for pattern, number in rules.items() if re.search(pattern, name)), None)

    def _choice(self, node: Node, place: Place) -> Any:
        """The choice that fits: category, verdict, weekday, the better text, a mood, or none."""
        named = {str(choice).lower(): choice for choice in node.choices}
        days = {name[:3]: choice for name, choice in named.items()}
        if len(days.keys() & set(DAYS)) > 1:
            return days.get(DAYS[self._day(place)], node.choices[0])
        goal = self.read.verdict == "goal"
        wanted = [self.read.topic["category"] if goal else "other", self.read.verdict]
        wanted += [self._better([*named]), self._mood(place), "other", "none", "tie"]
        return next((named[word] for word in wanted if word in named), node.choices[0])

    def _better(self, choices: list[str]) -> str:
        """Of choices that name parts of the prompt ("a" names <answer_a>), what counts best."""
        sums = {
            choice: sum(mark.share for mark in marks(text).values())
            for choice in choices
            for name, text in self.read.data.items()
            if re.search(rf"(?:^|_){re.escape(choice)}(?:_|$)", name)
        }
        best = [choice for choice, total in sums.items() if total == max(sums.values())]
        return best[0] if len(sums) > 1 and len(best) == 1 else "tie"

    def _mood(self, place: Place) -> str:
        found = [*self.words.keywords.values()] if place.holder else []
        text = " ".join(found[place.at % len(found)]) if found else self.read.said
        glad, sorry = len(_GLAD.findall(text)), len(_SORRY.findall(text))
        if glad == sorry:
            return "mixed" if glad else "neutral"
        return "positive" if glad > sorry else "negative"


@cache
def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_").lower()


def _fitted(node: Node, text: str) -> str:
    """The text in the length that the schema allows."""
    while len(text) < node.shortest:
        text += f" {text or 'nothing to say'}"
    return text if node.longest is None else text[: node.longest]

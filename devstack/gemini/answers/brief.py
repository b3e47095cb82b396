"""What a request says, as far as rules can read it: the goal, its number, its date, its limits."""

import re
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from devstack.gemini.answers.amounts import Amount, find_amount
from devstack.gemini.answers.dates import find_deadline
from devstack.gemini.text import parts_of, read_date, read_json

DEFAULT_WEEKS, MOST_WEEKS, DEFAULT_HOURS = 12, 104, 3.0
TOPICS = ("run", "read", "language", "save", "project")  # the first whose pattern is found

_LEAD_IN = re.compile(
    r"^(?:(?:my|the|one)\b[\w\s]{0,30}?\b(?:goal|resolution|dream|plan|aim|wish)\b"
    r"[\w\s]{0,12}?(?:\bis\b|:)\s*(?:to\s+)?"
    r"|(?:(?:this\s+year,?\s+)?I\b|.{0,100}?\b(?:and|but|so)\b)['’\w\s]{0,14}?\b(?:want|like|love|hope"
    r"|plan|planning|going|aim|trying|need|wish|will|intend)\s+to\s+(?:be\s+able\s+to\s+)?"
    r"|I\s+(?:want|need)\s+|(?:I['’]ll|I\s+will)\s+|(?:please\s+)?help\s+me\s+(?:to\s+)?"
    r"|how\s+(?:can|do|could|should)\s+I\s+|to\s+|goal\s*:\s*)",
    re.I,
)
_LASTS = re.compile(r"\b(?:for|over|during)\b[\w\s]*\b(?:day|week|month|year)s?\b", re.I)
_HOURS = re.compile(
    r"(?:[,;]?\s*\b(?:with|in|for|at|and|I\s+have|about)\s+)*"
    r"\b(\d+(?:\.\d+)?)\s*(?:hours?|hrs?|h)\s*(?:a|per|each|every|/)\s*week\b"
    r"|hours_per_week\W+(\d+(?:\.\d+)?)",
    re.I,
)
_VAGUE = re.compile(
    r"\b(?:better|things?|stuff|improve|life|happ(?:y|ier)|success(?:ful)?|more|less|chang(?:e|es)"
    r"|somehow|something|good|great|productive|health(?:y|ier)|grow|everything|motivated)\b",
    re.I,
)
_ENGLISH = re.compile(
    r"\b(?:a|an|the|to|i|my|by|in|of|and|for|with|at|on|be|is|do|want|more|less|learn|read|run|save"
    r"|write|get|stop|every|day|week|month|year|from|without|before|until|who|how|what)\b",
    re.I,
)
_FOREIGN = re.compile(
    r"[^\W\d_\u0000-\u024f]|\b(?:ich|und|der|das|möchte|bis|je|veux|les|une|des|quiero|para|los|el|que"
    r"|hasta|voglio|entro|quero|ik|wil|jag|och|att|chcę|się)\b",
    re.I,
)
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_NO_TIME = re.compile(
    r"(?:\b(?:no|not|never|can['’]?t|cannot|busy|except|without|rest|off)\b)([^.\n]{0,80})", re.I
)
# Which days are left out is a limit, not a part of the goal's title.
_LIMIT = re.compile(r"[\s,;]*\b(?:no|not|never|only|but)\b[^,.;]*?(?:day|weekend)s?\b", re.I)


@dataclass(frozen=True)
class Topic:
    """One YAML file. `begin` is the share of the goal's number that the first week starts at."""

    category: str
    pattern: str
    phases: list[dict[str, Any]]
    texts: dict[str, Any]
    begin: float = 0.0
    kilometres: bool = False


def load(name: str) -> dict[str, Any]:
    """A file of texts, its keys as they stand there."""
    text = (Path(__file__).parent / "texts" / f"{name}.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def by_name(texts: dict[str, Any]) -> dict[str, Any]:
    """The texts with one key for each name."""
    return {name: text for names, text in texts.items() for name in names.split("|")}


@cache
def topics() -> tuple[Topic, ...]:
    found = []
    for name in TOPICS:
        data = load(name)
        known = {key: data.pop(key) for key in list(data) if key in Topic.__dataclass_fields__}
        found.append(Topic(**known, texts=by_name(data)))
    return tuple(found)


@cache
def _verdicts() -> list[tuple[str, str, list[re.Pattern[str]]]]:
    return [
        (
            verdict,
            entry["reason"],
            [re.compile(pattern, re.I | re.S) for pattern in entry["patterns"]],
        )
        for verdict, entries in load("verdicts").items()
        for entry in entries
    ]


def judge(text: str) -> tuple[str, str]:
    """("goal", "") or why the text is not coached: the verdict and one sentence for the person."""
    for verdict, reason, patterns in _verdicts():
        if any(pattern.search(text.strip()) for pattern in patterns):
            return verdict, reason
    return "goal", ""


@dataclass(frozen=True)
class Brief:
    """What the answer is made from.

    `closed` are the weekdays (Monday is 0) without time. `span` is the weeks until the deadline,
    of which the plan has `weeks`. `date_said` is the phrase that was read as a date, `gone` says
    that this date is past. What `lasts` is done until the deadline, not by it. A `vague` goal gets a vague resolution, until it is `revised`.
    """

    said: str
    goal: str
    topic: Topic
    amount: Amount | None
    today: date | None
    deadline: date | None
    date_said: str
    gone: bool
    weeks: int
    span: int
    hours: float
    hours_heard: bool
    closed: frozenset[int]
    lines: int
    foreign: bool
    other_locale: bool
    lasts: bool
    vague: bool
    revised: bool
    verdict: str
    reason: str
    parts: dict[str, str]

    @property
    def data(self) -> dict[str, str]:
        """The parts that are not about the request itself."""
        return {name: text for name, text in self.parts.items() if name not in _ABOUT_THE_REQUEST}


def _first(parts: dict[str, str], *names: str) -> str:
    return next((parts[name] for name in names if parts.get(name)), "")


def _sentence(text: str) -> str:
    """The sentence that says what is wanted."""
    parts = re.split(r"(?<=[a-z][.!?])\s+|\n+", text)
    found = [s for part in parts if (s := re.sub(r"^\s*(?:\d+[.)]|[-*•])\s+", "", part).strip())]
    return next((s for s in found if _LEAD_IN.match(s)), found[0] if found else "")


def _phrase(sentence: str, date_said: str) -> str:
    text = _HOURS.sub(" ", sentence.replace(date_said, " ") if date_said else sentence)
    text = re.sub(r"\s+", " ", _LEAD_IN.sub("", text.strip())).strip(" .!?;,:–-")
    text = re.sub(r"[\s,;–-]+(?:by|in|and|with|for|on|at)$", "", _LIMIT.sub("", text))
    text = re.sub(r"(?:\s*,)+", ",", text).replace(": ", ", ")
    if len(text) > 110:
        text = text[:110].rsplit(" ", 1)[0].rstrip(" ,;")
    return text if text[:2].isupper() else text[:1].lower() + text[1:]


def _is_foreign(text: str) -> bool:
    foreign, english = len(_FOREIGN.findall(text)), len(_ENGLISH.findall(text))
    words = len(re.findall(r"[^\W\d_]{2,}", text))
    return foreign > max(1, english) or (words > 3 and english == 0)


def _closed(text: str) -> frozenset[int]:
    """The weekdays that "no time on Tuesdays" or "only weekends" leave out."""
    text = text.lower()
    if re.search(r"\b(?:only|just)\s+(?:on\s+|at\s+)?(?:the\s+)?weekends?|weekends?\s+only", text):
        return frozenset(range(5))
    shut = " ".join(match[1] for match in _NO_TIME.finditer(text))
    named = {
        day for day, name in enumerate(_DAYS) if re.search(rf"\b{name}(?:[a-z]*day)?s?\b", shut)
    }
    named |= {5, 6} if "weekend" in shut else set()
    return frozenset(named) if len(named) < 7 else frozenset()


def read(user: str) -> Brief:
    """The brief in a prompt's user part."""
    parts = parts_of(user)
    clarified = read_json(parts.get("clarified_goal", ""))
    data = {name: text for name, text in parts.items() if name not in _ABOUT_THE_REQUEST}
    title = str(read_json(_first(parts, "resolution")).get("title") or "")
    text = str(clarified.get("clarified_goal") or "").split(": ")[0] or title
    text = text or _first(parts, "goal") or "\n".join(data.values()) or ("" if parts else user)
    said = _first(parts, "message", "question", "comments", "comment", "feedback") or text
    return _brief(text, said, parts, clarified)


_ABOUT_THE_REQUEST = {"today", "locale", "weeks", "context", "revision", "problem", "schema"}


def _brief(text: str, said: str, parts: dict[str, str], clarified: dict[str, Any]) -> Brief:
    context = parts.get("context", "")
    today = read_date(parts.get("today", ""))
    sentence = _sentence(text)
    found = find_deadline(sentence, today or date(2026, 1, 1))
    lasts = bool(found and _LASTS.search(found.said))
    phrase = _phrase(sentence, found.said if found and not lasts else "")
    found = found or find_deadline(text, today or date(2026, 1, 1))
    named = re.search(r"deadline\W+(\d{4}-\d\d-\d\d)", context)
    if clarified:
        due = read_date(str(clarified.get("deadline") or ""))
    else:
        due = found.day if found and (today or re.search(r"\d{4}", found.said)) else None
    due = read_date(named[1]) if named else due
    gone = due is not None and today is not None and due <= today
    deadline = None if gone else due
    span = max(1, ((deadline - today).days + 1) // 7) if deadline and today else DEFAULT_WEEKS
    asked = re.search(r"\d+", parts.get("weeks", ""))
    weeks = max(1, min(MOST_WEEKS, int(asked[0]) if asked else span))
    hours = next((m[1] or m[2] for m in map(_HOURS.search, (context, text)) if m), None)
    topic = next(topic for topic in topics() if re.search(topic.pattern, phrase, re.I))
    foreign = _is_foreign(text)
    amount = find_amount(phrase, kilometres=topic.kilometres)
    verdict, reason = judge(said)
    return Brief(
        said=re.sub(r"\s+", " ", said)[:160],
        goal=phrase or "reach the goal",
        topic=topics()[-1] if foreign else topic,
        amount=None if foreign else amount,
        today=today,
        deadline=deadline,
        date_said=found.said.strip(" ,") if found else "",
        gone=gone,
        weeks=weeks,
        span=max(span, weeks) if deadline else weeks,
        hours=float(hours) if hours else DEFAULT_HOURS,
        hours_heard=bool(hours),
        closed=_closed(f"{context}\n{text}"),
        lines=len([line for line in text.splitlines() if line.strip()]),
        foreign=foreign,
        other_locale=not parts.get("locale", "en").lower().startswith("en"),
        lasts=bool(_LASTS.search(phrase)),
        vague=bool(
            topic is topics()[-1] and not (amount or deadline or foreign) and _VAGUE.search(phrase)
        ),
        revised=bool(parts.get("revision") or parts.get("resolution")),
        verdict=verdict,
        reason=reason,
        parts=parts,
    )

"""What a request says, as far as rules can read it: the goal, its number, its date, its limits."""

import html
import json
import re
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from devstack.gemini.answers.amounts import find_amount
from devstack.gemini.answers.dates import find_deadline

DEFAULT_WEEKS, MOST_WEEKS, DEFAULT_HOURS = 12, 104, 3.0
TOPICS = ("run", "read", "language", "save", "project")  # the first whose pattern is found
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
# What "in 5 weeks" counts from when the request names no day.
SOME_DAY = date(2026, 1, 1)

_PART = re.compile(r"<([a-z][\w-]*)(?:\s[^<>]*)?>((?:(?!<\1[\s>]).)*?)</\1\s*>", re.S | re.I)
_ABOUT_THE_REQUEST = {"today", "locale", "weeks", "context", "revision", "problem", "schema"}
_LEAD_IN = re.compile(
    r"^(?:(?:my|the)\b[\w\s]{0,40}?\b(?:goal|resolution|dream|plan|aim|wish)\b[\w\s]{0,12}?(?:\bis\b|:)"
    r"\s*(?:to\s+)?|(?:(?:this\s+year,?\s+)?I\b|.{0,100}?\b(?:and|but|so)\b)['’\w\s]{0,14}?\b(?:want|like"
    r"|love|hope|plan|planning|going|aim|trying|need|wish|intend)\s+to\s+(?:be\s+able\s+to\s+)?"
    r"|I\s+(?:want|need|will)\s+|I['’]ll\s+|(?:please\s+)?help\s+me\s+(?:to\s+)?"
    r"|how\s+(?:can|do|could|should)\s+I\s+|(?:to|goal\s*:)\s+)",
    re.I,
)
_HOURS = re.compile(
    r"(?:[,;]?\s*\b(?:with|in|for|at|and|I\s+have|about)\s+)*"
    r"\b(\d+(?:\.\d+)?)\s*(?:hours?|hrs?|h)\s*(?:a|per|each|every|/)\s*week\b"
    r"|hours_per_week\W+(\d+(?:\.\d+)?)",
    re.I,
)
# Which days are left out is a limit, not a part of the goal's title.
_LIMIT = re.compile(r"[\s,;]*\b(?:no|not|never|only|but)\b[^,.;]*?(?:day|weekend)s?\b", re.I)
_OTHER_LOCALE = re.compile(r"(?!en\b)[a-z]{2,3}(?:-|$)", re.I)
_NO_TIME = re.compile(
    r"\b(?:no|not|never|can['’]?t|cannot|busy|except|without|rest|off)\b([^.\n]{0,80})", re.I
)
_LASTS = re.compile(r"\b(?:for|over|during)\b[\w\s]*\b(?:day|week|month|year)s?\b", re.I)
_VAGUE = re.compile(
    r"\b(?:better|things?|stuff|improve|life|happ(?:y|ier)|success(?:ful)?|more|less|changes?"
    r"|somehow|something|good|great|productive|health(?:y|ier)|grow|everything|motivated)\b",
    re.I,
)
# Words that few other languages have.
_ENGLISH = re.compile(
    r"\b(?:the|to|my|by|of|and|for|with|at|is|want|more|learn|read|run|save|write|get|stop|every|how|do"
    r"|(?:day|week|month|year)s?|make|build|become|start|finish|lose|find|go|new|own|your|me|not|up)\b",
    re.I,
)


def parts_of(text: str) -> dict[str, str]:
    """The delimited parts by lower-case name; the first of each name counts."""
    found: dict[str, str] = {}
    for match in _PART.finditer(text):
        found.setdefault(match[1].lower().replace("-", "_"), html.unescape(match[2]).strip())
    return found


def read_json(text: str) -> dict[str, Any]:
    """The first JSON object in the text, or an empty one."""
    start = text.find("{")
    try:
        value, _ = json.JSONDecoder().raw_decode(text[start:] if start >= 0 else "")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _read_date(text: str) -> date | None:
    match = re.search(r"\b\d{4}-\d{2}-\d{2}\b", text)
    try:
        return date.fromisoformat(match[0]) if match else None
    except ValueError:
        return None


@cache
def load(name: str) -> dict[str, Any]:
    """A file of texts, with one key for each of the names that share one ("a|b")."""
    text = (Path(__file__).parent / "texts" / f"{name}.yaml").read_text(encoding="utf-8")
    return {key: value for keys, value in yaml.safe_load(text).items() for key in keys.split("|")}


def _fits(patterns: list[str], text: str) -> bool:
    return any(re.search(pattern, text, re.I | re.S) for pattern in patterns)


def judge(text: str) -> tuple[str, str]:
    """("goal", ""), or the verdict on a text that is not coached and a sentence for the person."""
    for verdict, entries in load("verdicts").items():
        for entry in entries:
            if _fits(entry["patterns"], text):
                return verdict, entry["reason"]
    return "goal", ""


def _sentence(text: str) -> str:
    """The sentence that says what is wanted."""
    parts = re.split(r"(?<=\w\w[.!?])\s+|\n+", text)
    found = [s for part in parts if (s := re.sub(r"^\s*(?:\d+[.)]|[-*•])\s+", "", part).strip())]
    return next((s for s in found if _LEAD_IN.match(s)), found[0] if found else "")


def _phrase(sentence: str, date_said: str) -> str:
    """What is wanted, without the date, the hours and the words that lead to it."""
    text = _HOURS.sub(" ", sentence.replace(date_said, " ") if date_said else sentence)
    text = _LIMIT.sub("", re.sub(r"\s+", " ", _LEAD_IN.sub("", text.strip())))
    text = re.sub(r"(?:\s*,)+", ",", text).replace(": ", ", ").strip(" .!?;,:–-")
    text = re.sub(r"[\s,;–-]+(?:by|in|and|with|for|on|at)$", "", text)
    if len(text) > 110:
        text = text[:110].rsplit(" ", 1)[0].rstrip(" ,;")
    return text if text[:2].isupper() else text[:1].lower() + text[1:]


def _is_foreign(text: str) -> bool:
    """Whether the text is in another script, or long enough and without one English word."""
    long = len(re.findall(r"[^\W\d_]{2,}", text)) > 3
    return bool(re.search(r"[^\W\d_\u0000-\u024f]", text)) or (long and not _ENGLISH.search(text))


def _closed(text: str) -> set[int]:
    """The weekdays (Monday is 0) that "no time on Tuesdays" or "only weekends" leave out."""
    if re.search(r"\b(?:only|just)\s+(?:\w+\s+){0,2}weekends?|weekends?\s+only", text, re.I):
        return set(range(5))
    shut = " ".join(match[1] for match in _NO_TIME.finditer(text)).lower()
    named = {
        day for day, name in enumerate(DAYS) if re.search(rf"\b{name}(?:[a-z]*day)?s?\b", shut)
    }
    named |= {5, 6} if "weekend" in shut else set()
    return named if len(named) < 7 else set()


class Reading:
    """A prompt's user part, read.

    Of `span` weeks until the deadline the plan has `weeks`. `date_said` is the phrase that was read
    as a date; `gone` says that it is past, `undated` that there is none. What `lasts` is done until
    the deadline, not by it. The hours a week may be `guessed`. A `vague` goal gets a vague
    resolution, until it is `revised`.
    """

    def __init__(self, user: str) -> None:
        self.parts = parts = parts_of(user)
        self.data = {name: text for name, text in parts.items() if name not in _ABOUT_THE_REQUEST}
        self.clarified = read_json(parts.get("clarified_goal", ""))
        whole = str(self.clarified.get("clarified_goal") or "")
        text = whole.split(": ")[0] or str(
            read_json(parts.get("resolution", "")).get("title") or ""
        )
        text = text or parts.get("goal") or "\n".join(self.data.values()) or ("" if parts else user)
        said = [parts[name] for name in ("message", "question", "comments") if parts.get(name)]
        self.said = re.sub(r"\s+", " ", said[0] if said else text)[:160]
        # What people say in comments is reported, not judged.
        asked = said[0] if said else text
        self.verdict, self.reason = ("goal", "") if "comments" in parts else judge(asked.strip())
        self.revised = bool(parts.get("revision") or parts.get("resolution"))
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        self.lines = len(lines)
        self.other_lines = [line[:200] for line in lines if _sentence(text) not in line]
        self.foreign = _is_foreign(text)
        # Instead of a locale there may be words, such as "the language of the goal".
        self.other_locale = not self.foreign and bool(_OTHER_LOCALE.match(parts.get("locale", "")))
        self._read_goal(text)
        self._read_limits(whole or text)

    def _read_goal(self, text: str) -> None:
        self.today = _read_date(self.parts.get("today", ""))
        sentence, start = _sentence(text), self.today or SOME_DAY
        found = find_deadline(sentence, start)
        removed = found[1] if found and not _LASTS.search(found[1]) else ""
        self.goal = _phrase(sentence, removed) or "reach the goal"
        found = found or find_deadline(text, start)
        self.date_said = found[1].strip(" ,") if found else ""
        self.lasts = bool(_LASTS.search(self.goal))
        due = _read_date(re.sub(r"^.*?deadline|$", "", self.parts.get("context", ""), flags=re.S))
        if due is None and self.clarified:
            due = _read_date(str(self.clarified.get("deadline")))
        elif due is None and found and (self.today or re.search(r"\d{4}", found[1])):
            due = found[0]
        self.gone = bool(due and self.today and due <= self.today)
        self.undated, self.deadline = due is None, None if self.gone else due
        topics = [load(name) for name in TOPICS]
        self.topic = next(topic for topic in topics if _fits(topic["patterns"], self.goal))
        amount = find_amount(self.goal, kilometres="kilometres" in self.topic)
        self.amount = None if self.foreign else amount
        self.uncounted = self.amount is None
        heard = amount or self.deadline or self.foreign or self.topic is not topics[-1]
        self.vague = not heard and bool(_VAGUE.search(self.goal))

    def _read_limits(self, text: str) -> None:
        ahead = (self.deadline - self.today).days + 1 if self.deadline and self.today else 0
        span = max(1, ahead // 7) if ahead else DEFAULT_WEEKS
        asked = re.search(r"\d+", self.parts.get("weeks", ""))
        self.weeks = max(1, min(MOST_WEEKS, int(asked[0]) if asked else span))
        self.span = max(span, self.weeks) if ahead else self.weeks
        context = self.parts.get("context", "")
        own, shut = _HOURS.search(text), sorted(_closed(text))
        hours = _HOURS.search(context) or own
        self.guessed = hours is None
        self.hours = float(hours[1] or hours[2]) if hours else DEFAULT_HOURS
        self.closed = _closed(context).union(shut)
        # The later stages hear only the clarified goal, so that has to hold the limits.
        self.limits = f" {own[1]} hours a week." if own else ""
        self.limits += (
            f" No time on {' and '.join(DAYS[day].title() for day in shut)}." if shut else ""
        )

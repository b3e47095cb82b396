"""Reading a prompt: its delimited data parts, whatever exactly they are called."""

import html
import json
import re
from dataclasses import dataclass, field
from datetime import date

from devstack.gemini.protocol import Json

_PART = re.compile(r"<([a-z][\w-]*)(?:\s[^<>]*)?>((?:(?!<\1[\s>]).)*?)</\1\s*>", re.S | re.I)
_ISO = re.compile(r"\b(\d{4})-(\d{2})-(\d{2})\b")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
_HOURS = (
    re.compile(r"hours?[\s_]*(?:a|per)[\s_]*week\"?\s*[:=]\s*\"?(\d+(?:\.\d+)?)", re.I),
    re.compile(r"(\d+(?:\.\d+)?)\s*(?:hours|hrs|h)\b[^.\n]{0,12}\bweek", re.I),
    re.compile(r"hours?[^\n:]{0,20}:\s*(\d+(?:\.\d+)?)", re.I),
)
_EMPTY = {"", "none", "null", "-", "–", "n/a", "unknown", "not given", "nothing", "not said"}


def words_of(text: str) -> list[str]:
    return re.findall(r"[\w'’-]+", re.sub(r"<[^<>]*>", " ", text))[:400]


def parts_of(text: str) -> dict[str, str]:
    """The delimited parts by lower-case name; the first of each name counts."""
    found: dict[str, str] = {}
    for match in _PART.finditer(text):
        found.setdefault(match[1].lower().replace("-", "_"), html.unescape(match[2]).strip())
    return found


def _first(parts: dict[str, str], *names: str) -> str:
    return next((parts[name] for name in names if parts.get(name)), "")


def read_json(text: str) -> Json:
    """The first JSON object in the text, or an empty one."""
    start = text.find("{")
    if start < 0:
        return {}
    try:
        value, _ = json.JSONDecoder().raw_decode(text[start:])
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def read_date(text: str) -> date | None:
    match = _ISO.search(text)
    try:
        return date(int(match[1]), int(match[2]), int(match[3])) if match else None
    except ValueError:
        return None


def _hours(text: str) -> float | None:
    found = (pattern.search(text) for pattern in _HOURS)
    match = next((m for m in found if m), None)
    return float(match[1]) if match else None


def _labelled(text: str, label: str) -> str:
    match = re.search(rf"\"?{label}s?\"?[^\n:]*:\s*\"?([^\n\"]+)", text, re.I)
    value = match[1].strip().strip(',"') if match else ""
    return "" if value.lower().rstrip(".") in _EMPTY else value


@dataclass(frozen=True)
class Request:
    """What the prompt gives: texts as the person wrote them, numbers where there are any."""

    goal: str
    clarified: Json = field(default_factory=dict)
    resolution: Json = field(default_factory=dict)
    resolution_text: str = ""
    revision: str = ""
    today: date | None = None
    weeks: int | None = None
    hours: float | None = None
    experience: str = ""
    constraints: str = ""
    deadline: date | None = None

    @classmethod
    def read(cls, user: str) -> "Request":
        parts = parts_of(user)
        context = _first(parts, "context", "about", "person")
        clarified = read_json(_first(parts, "clarified_goal", "clarified", "goal_json"))
        raw = _first(parts, "goal", "raw_goal", "user_goal", "goal_text", "text")
        if not clarified and raw.startswith("{"):
            clarified = read_json(raw)
        goal = str(clarified.get("clarified_goal") or "") or raw
        resolution = _first(parts, "resolution", "resolution_json")
        weeks = _NUMBER.search(_first(parts, "weeks", "plan_weeks", "number_of_weeks"))
        due = read_date(str(clarified.get("deadline") or "")) or read_date(
            _labelled(context, "deadline")
        )
        return cls(
            goal=goal or ("" if parts else user),
            clarified=clarified,
            resolution=read_json(resolution),
            resolution_text=resolution,
            revision=_first(parts, "revision", "rejected", "rejected_draft", "suggestions"),
            today=read_date(_first(parts, "today", "date", "now")),
            weeks=int(float(weeks[0])) if weeks else None,
            hours=_hours(context),
            experience=_labelled(context, "experience"),
            constraints=_labelled(context, "constraint"),
            deadline=due,
        )

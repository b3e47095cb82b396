"""Scores by counting: dates, numbers, actions and details in a text, and nothing that is understood."""

import re
from dataclasses import dataclass
from typing import Any

from devstack.gemini.text import read_json

_MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"
_DATE = re.compile(
    rf"\b\d{{4}}-\d\d-\d\d\b|\b\d{{1,2}} (?:{_MONTH})\b(?: \d{{4}})?|\b(?:{_MONTH}) \d{{1,2}}\b"
    r"|\bweek \d+|\b(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day\b"
)
_MEASURE = re.compile(r"[€$£]\s?\d[\d.,]*|\d[\d.,]*(?:\s?%|[\s-]?[^\W\d_]+)")
# Minutes and sessions say what is put in; these say what comes out.
_RESULT = re.compile(
    r"[€$£]\s?\d|\b[ABC][12]\b|\d(?:k\b|[\s-]?(?!(?:min|hour|day|week|month|year|session|time|line|of|or|to"
    r"|and|is|are|a|in|on|stand|fall|go)\w*)[^\W\d_]{1,}|\s?%)",
    re.I,
)
_ACTION = re.compile(
    r"\b(?:after|before|every|each|when|if|once|daily|twice|until)\b|\b\d+ (?:times|sessions|minutes)\b",
    re.I,
)
_VAGUE = re.compile(
    r"\b(?:better|things?|stuff|somehow|something|improve|progress|regularly|over time|as you go"
    r"|motivat\w+|feels?|different|smoothly|a bit|often|sometimes|maybe|try|matters)\b",
    re.I,
)

_DETAIL = re.compile(r"\d[\d.,]*\b|(?<=[a-z,] )[A-Z]\w+")
DIMENSIONS = ("clarity", "specificity", "measurability", "actionability")


def lines_of(text: str) -> list[str]:
    """The texts in a JSON document, or the sentences of plain text."""
    document = read_json(text)
    return _leaves(document) if document else [s for s in re.split(r"(?<=[.!?])\s+|\n+", text) if s]


def _leaves(value: Any) -> list[str]:
    if isinstance(value, dict | list):
        children = value.values() if isinstance(value, dict) else value
        return [leaf for child in children for leaf in _leaves(child)]
    return [value] if isinstance(value, str) and value else []


@dataclass(frozen=True)
class Mark:
    """A share of the best score (0 to 1), what was counted for it, and what would raise it."""

    share: float
    why: str
    advice: str


def marks(text: str) -> dict[str, Mark]:
    """The four dimensions of a text."""
    lines = lines_of(text)
    head, whole = " ".join(lines[:2]), " ".join(lines)
    dates, vague = len(_DATE.findall(head)), len(_VAGUE.findall(head))
    numbers = len(_MEASURE.findall(_DATE.sub("", head)))
    measured = [line for line in lines if _MEASURE.search(_DATE.sub("", line))]
    results = [line for line in measured if _RESULT.search(_DATE.sub("", line))]
    acting = [line for line in lines if _ACTION.search(line)]
    details = {name for line in lines for name in _DETAIL.findall(line)}
    loose = len(_VAGUE.findall(whole))
    return {
        "clarity": Mark(
            0.25 + 0.3 * min(1, dates) + 0.1 * min(2, numbers) + 0.2 * (vague == 0),
            f"Title and summary hold {_many(dates, 'date')}, {_many(numbers, 'number')} and "
            f"{_many(vague, 'vague word')}.",
            "Say in the title what will be different, and by which day",
        ),
        "specificity": Mark(
            0.25 + 0.7 * min(1.0, len(details) / 18) - 0.05 * min(4, loose),
            f"{_many(len(details), 'different number or name', 'different numbers and names')} and "
            f"{_many(loose, 'vague word')} were counted in the whole text.",
            "Put a number of minutes, days or units into every phase, and name what is used",
        ),
        "measurability": Mark(
            0.25 + 0.3 * min(1.0, len(measured) / 8) + 0.37 * min(1.0, len(results) / 5),
            f"{len(measured)} of {_many(len(lines), 'line')} hold a number with its unit, {len(results)} "
            f"of them one of a result, not only of effort{_such_as(results[2:])}.",
            "Give every success criterion a number and a date",
        ),
        "actionability": Mark(
            0.25 + 0.7 * min(1.0, len(acting) / 13),
            f"{len(acting)} of {_many(len(lines), 'line')} say when or how often{_such_as(acting[-2:])}.",
            "Tie each habit to a day, a time or an event, and give its length",
        ),
    }


def _many(count: int, one: str, more: str = "") -> str:
    return f"{count} {one if count == 1 else more or one + 's'}"


def _such_as(lines: list[str]) -> str:
    return f", such as “{lines[0][:90].rstrip('.')}”" if lines else ""

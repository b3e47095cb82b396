"""Scores by counting dates, measures, actions and details in a text; nothing is understood."""

import re
from typing import Any, NamedTuple

from devstack.gemini.answers.reading import read_json

_MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_DATE = re.compile(
    rf"\b\d{{4}}-\d\d-\d\d\b|\b\d{{1,2}} {_MONTH}\b(?: \d{{4}})?|\b{_MONTH} \d{{1,2}}\b"
    r"|\b(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day\b"
)
# A number with its unit; minutes, weeks and sessions say what is put in, not what comes out.
_EFFORT = r"(?:min|hour|day|week|month|year|session|time|line)"
_MEASURE = re.compile(
    rf"[€$£]\s?\d|\b[ABC][12]\b|\d\s?%|\d(?:k\b|[\s-]?(?!{_EFFORT}|(?:of|or|to|and|is|are|a|in"
    r"|on|stand|fall|go)\b)[^\W\d_])",
    re.I,
)
_ACTION = re.compile(
    r"\b(?:after|before|every|each|when|if|once|daily|twice|until|\d+ (?:times|sessions|min\w+))\b",
    re.I,
)
_DETAIL = re.compile(r"\d[\d.,]*\b|(?<=[a-z,] )[A-Z]\w+")
_VAGUE = re.compile(
    r"\b(?:better|things?|stuff|somehow|something|improve|progress|regularly|over time|as you go"
    r"|motivat\w+|feels?|different|smoothly|a bit|often|sometimes|maybe|try|matters)\b",
    re.I,
)


class Mark(NamedTuple):
    """A share of the best score (0 to 1), and what was counted for it."""

    share: float
    why: str


def lines_of(text: str) -> list[str]:
    """The texts in a JSON document, or the sentences of plain text."""
    return _leaves(read_json(text)) or [s for s in re.split(r"(?<=[.!?])\s+|\n+", text) if s]


def _leaves(value: Any) -> list[str]:
    if isinstance(value, dict | list):
        children = value.values() if isinstance(value, dict) else value
        return [leaf for child in children for leaf in _leaves(child)]
    return [value] if isinstance(value, str) and value else []


def marks(text: str) -> dict[str, Mark]:
    """The marks of a text in the four dimensions."""
    lines = lines_of(text)
    head, plain = " ".join(lines[:2]), [_DATE.sub("", line) for line in lines]
    dates, vague = len(_DATE.findall(head)), len(_VAGUE.findall(head))
    all_vague = len(_VAGUE.findall(" ".join(lines)))
    measured = [line for line in plain if _MEASURE.search(line)]
    numbered = sum(bool(re.search(r"\d", line)) for line in plain)
    acting = [line for line in lines if _ACTION.search(line)]
    details = {detail for line in lines for detail in _DETAIL.findall(line)}
    named = bool(_MEASURE.search(" ".join(plain[:2])))
    counted = {
        "clarity": (
            0.3 * min(1, dates) + 0.2 * named + 0.15 * (vague == 0),
            f"in title and summary {dates} dates, {int(named)} measure, {vague} vague words",
        ),
        "specificity": (
            0.65 * min(1.0, len(details) / 17) - 0.05 * min(5, all_vague),
            f"{len(details)} different numbers and names, {all_vague} vague words",
        ),
        "measurability": (
            0.2 * min(1.0, numbered / 7) + 0.45 * min(1.0, len(measured) / 7),
            f"{numbered} of {len(lines)} lines hold a number, "
            f"{len(measured)} a measure other than time",
        ),
        "actionability": (
            0.65 * min(1.0, len(acting) / 14),
            f"{len(acting)} of {len(lines)} lines say when or how often",
        ),
    }
    examples = {"measurability": measured[2:4], "actionability": acting}
    return {
        name: Mark(0.3 + share, f"Counted: {why}{_such_as(examples.get(name, []))}.")
        for name, (share, why) in counted.items()
    }


def _such_as(examples: list[str]) -> str:
    return f", such as “{examples[-1][:80].strip(' .,')}”" if examples else ""

"""Deadlines in plain English: "by end of Q1", "in 5 weeks", "before school starts next September"."""

import calendar
import re
from collections.abc import Callable
from datetime import date, timedelta
from typing import NamedTuple

NUMBERS = {
    "a couple of": 2, "a few": 3, "a hundred": 100, "an": 1, "a": 1, "one": 1, "two": 2,
    "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "fifteen": 15, "twenty": 20, "thirty": 30, "fifty": 50,
}  # fmt: skip
_MONTHS = [name for name in calendar.month_name if name]
# The day on which a season begins, and the last day before a feast or the feast itself.
_SEASONS = {
    "spring": (3, 20), "summer": (6, 21), "autumn": (9, 22), "fall": (9, 22), "winter": (12, 21),
    "christmas": (12, 24), "new year": (12, 31), "halloween": (10, 31), "valentine": (2, 14),
}  # fmt: skip
_WEEKDAYS = [name.lower() for name in calendar.day_name]
# "By next winter", said in November, does not mean the winter that begins in four weeks.
_SOON = timedelta(days=60)


class Deadline(NamedTuple):
    """`said` is the person's phrase as it stands in the text."""

    day: date
    said: str


def spell(day: date) -> str:
    """E.g. "31 March 2027"."""
    return f"{day.day} {calendar.month_name[day.month]} {day.year}"


def number(text: str) -> float:
    """The value of "5,000", "2.5", "10k" or "ten"."""
    text = text.lower().replace(",", "")
    thousand = 1000 if text.endswith("k") else 1
    return float(NUMBERS[text] if text in NUMBERS else text.removesuffix("k")) * thousand


def _month_end(year: int, month: int) -> date:
    """The last day of a month; month 13 is January of the following year."""
    year, month = year + (month - 1) // 12, (month - 1) % 12 + 1
    return date(year, month, calendar.monthrange(year, month)[1])


def _on(today: date, month: int, day: int, year: str | None) -> date:
    """That day, in the year that was said or else when it comes next."""
    if year:
        return date(int(year), month, day)
    this = min(_month_end(today.year, month), date(today.year, month, 1) + timedelta(day - 1))
    return this if this > today else this.replace(year=this.year + 1)


def _in_month(today: date, said: str, name: str, year: str | None) -> date:
    """The month's end, its middle or first day, or the day before it ("before June")."""
    month = _month(name)
    end = _month_end(int(year), month) if year else _month_end(today.year, month)
    if end <= today and not year:
        end = _month_end(today.year + 1, month)
    if re.match(r"\W*before\b", said, re.I):
        return end.replace(day=1) - timedelta(days=1)
    if re.search(r"\b(?:start|beginning)\s+of\b|\bearly\b", said, re.I):
        return end.replace(day=1)
    return end.replace(day=15) if re.search(r"\bmid\b", said, re.I) else end


def _month(name: str) -> int:
    return next(n for n, month in enumerate(_MONTHS, 1) if month[:3].lower() == name[:3].lower())


def _after(today: date, count: str, unit: str) -> date:
    many, unit = int(number(count)), unit[0].lower()
    if unit in "dw":
        return today + timedelta(days=many * (7 if unit == "w" else 1))
    month = today.month + many * (12 if unit == "y" else 1)
    return min(
        _month_end(today.year, month), _month_end(today.year, month - 1) + timedelta(today.day)
    )


def _period(today: date, which: str, unit: str) -> date:
    ahead = 1 if which.lower().startswith("next") else 0
    if unit.lower() == "week":
        return today + timedelta(days=6 - today.weekday() + 7 * ahead)
    return (
        _month_end(today.year + ahead, 12)
        if unit.lower() == "year"
        else _month_end(today.year, today.month + ahead)
    )


def _season(today: date, which: str | None, name: str) -> date:
    day = _on(today, *_SEASONS[re.sub(r"\s+", " ", name.lower())], None)
    later = which is not None and which.lower() == "next" and day - today < _SOON
    return day.replace(year=day.year + 1) if later else day


def _weekday(today: date, name: str) -> date:
    return today + timedelta(days=(_WEEKDAYS.index(name.lower()) - today.weekday() - 1) % 7 + 1)


_COUNT = r"(\d{1,4}|" + "|".join(sorted(NUMBERS, key=len, reverse=True)) + ")"
_NAME = "(" + "|".join(_MONTHS) + r"|(?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\b\.?)"
_BY = r"(?:,?\s*\b(?:by|before|until|till|on|for|in|due)\s+)?(?:the\s+)?"
_YEAR = r"(?:,?\s+(?:of\s+)?(\d{4})\b)?"
_UNIT = r"\s+(days?|weeks?|months?|years?)\b(?:['’]?s?\s+time\b)?(?!\s+(?:a|per|each|every|out)\b)"
_AHEAD = r"(?:the\s+)?(?:(?:next|coming|about)\s+)?"

# Each pattern with the day it means; the first one that is found counts.
_RULES: tuple[tuple[str, Callable[[re.Match[str], date], date]], ...] = (
    (_BY + r"(\d{4})-(\d\d)-(\d\d)\b", lambda m, t: date(int(m[1]), int(m[2]), int(m[3]))),
    (
        _BY + r"(\d\d?)[./](\d\d?)[./](\d{4})\b",
        lambda m, t: date(int(m[3]), int(m[2]), int(m[1])),
    ),
    (
        _BY + r"(\d\d?)(?:st|nd|rd|th)?\s+(?:of\s+)?" + _NAME + r"(?!\w)" + _YEAR,
        lambda m, t: _on(t, _month(m[2]), int(m[1]), m[3]),
    ),
    (
        _BY + _NAME + r"\s+(\d\d?)(?:st|nd|rd|th)?\b" + _YEAR,
        lambda m, t: _on(t, _month(m[1]), int(m[2]), m[3]),
    ),
    (
        _BY + r"(?:end\s+of\s+)?(?:the\s+)?Q([1-4])\b" + _YEAR,
        lambda m, t: _in_month(t, "", _MONTHS[int(m[1]) * 3 - 1], m[2]),
    ),
    (r",?\s*\b(?:with)?in\s+" + _AHEAD + _COUNT + _UNIT, lambda m, t: _after(t, m[1], m[2])),
    (
        r",?\s*\b(?:for|over|during)\s+" + _AHEAD + _COUNT + _UNIT,
        lambda m, t: _after(t, m[1], m[2]),
    ),
    (
        r",?\s*\bbefore\b[^.;\n]{1,60}?\b(?:in|next|of|this)\s+" + _NAME + r"(?!\w)" + _YEAR,
        lambda m, t: _in_month(t, m[0], m[1], m[2]),
    ),
    (
        r",?\s*\b(?:by|before|until|till|in|during|(?:end|start|beginning)\s+of)\s+(?:the\s+)?"
        r"(?:(?:end|start|beginning)\s+of\s+)?(?:(?:next|this|early|mid|late)[\s-]+)?"
        + _NAME
        + r"(?!\w)"
        + _YEAR,
        lambda m, t: _in_month(t, m[0], m[1], m[2]),
    ),
    (
        _BY + r"(?:end\s+of\s+)?((?:(?<=end\sof\s)the)|this|next)\s+(year|month|week)\b",
        lambda m, t: _period(t, m[1], m[2]),
    ),
    (
        r",?\s*\b(?:by|before|in|during|until)\s+(?:the\s+)?(?:end\s+of\s+)?(20\d\d)\b",
        lambda m, t: date(int(m[1]) - ("before" in m[0].lower()), 12, 31),
    ),
    (
        r",?\s*\b(?:by|before|until|till|in\s+time\s+for|in|for|this|next)\s+(?:(next|this|the)\s+)?("
        + "|".join(_SEASONS).replace(" ", r"\s+")
        + r")\b(?:['’]s)?(?:\s+(?:eve|day))?",
        lambda m, t: _season(t, "next" if m[0].lower().split()[0] == "next" else m[1], m[2]),
    ),
    (
        r",?\s*\b(?:by|on|before|until|till|next)\s+(?:next\s+)?(" + "|".join(_WEEKDAYS) + r")\b",
        lambda m, t: _weekday(t, m[1]),
    ),
    (r",?\s*\b(?:by\s+)?tomorrow\b", lambda m, t: t + timedelta(days=1)),
)
_COMPILED = [(re.compile(pattern, re.I), rule) for pattern, rule in _RULES]
# What goes before a span of years that has already gone by: "I have not run for four years".
_GONE_BY = re.compile(
    r"(?:\b(?:been|ago|since|haven['’]?t|hasn['’]?t|didn['’]?t|used\s+to|was|were)\b"
    r"|(?:\b(?:have|has|had)|['’]ve)\s+(?:not\s+|never\s+)?\w+(?:ed|en|un)\b)"
    r"(?:(?!\b(?:and|but|so|now)\b)[^,.;])*$",
    re.I,
)


def find_deadline(text: str, today: date) -> Deadline | None:
    """The day by which something is to be done, as far as plain English forms are recognised."""
    for pattern, rule in _COMPILED:
        for match in pattern.finditer(text):
            if _GONE_BY.search(text[: match.start()]):
                continue
            try:
                return Deadline(rule(match, today), match[0])
            except (ValueError, OverflowError):
                continue
    return None

"""When: the day that "by end of Q1" or "in three months" means, counted from today."""

import calendar
import re
from dataclasses import dataclass
from datetime import date, timedelta

MONTHS = {name.lower(): n for n, name in enumerate(calendar.month_name) if name}
MONTHS |= {name.lower(): n for n, name in enumerate(calendar.month_abbr) if name} | {"sept": 9}
NUMBERS = {
    "a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "couple of": 2, "few": 3,
    "eighteen": 18, "twenty": 20, "thirty": 30,
}  # fmt: skip
_MONTH = "(" + "|".join(sorted(MONTHS, key=len, reverse=True)) + r")\.?"
_COUNT = r"(\d+|" + "|".join(NUMBERS) + ")"
_LEAD = r"(?:,?\s*(?:\b(?:by|before|until|till|on|due|latest)\s+)?(?:the\s+)?"
SEASONS = {
    "spring": (5, 31),
    "summer": (6, 30),
    "autumn": (9, 30),
    "fall": (9, 30),
    "winter": (12, 1),
}
FEASTS = {"christmas": (12, 24), "easter": (4, 1), "new year": (12, 31), "halloween": (10, 31)}


@dataclass(frozen=True)
class Deadline:
    """`said` is the person's phrase, which is taken out of the goal's sentence."""

    day: date
    said: str


def spell(day: date) -> str:
    return f"{day.day} {calendar.month_name[day.month]} {day.year}"


def _end_of_month(year: int, month: int) -> date:
    return date(year, month, calendar.monthrange(year, month)[1])


def _after(today: date, months: int) -> date:
    index = today.year * 12 + today.month - 1 + months
    year, month = divmod(index, 12)
    return date(year, month + 1, min(today.day, calendar.monthrange(year, month + 1)[1]))


def _coming(today: date, month: int, day: int) -> date:
    try:
        this = date(today.year, month, day)
        return this if this > today else date(today.year + 1, month, day)
    except ValueError:
        return _end_of_month(today.year, month)


def _iso(m: re.Match[str], today: date) -> date:
    return date(int(m[1]), int(m[2]), int(m[3]))


def _numeric(m: re.Match[str], today: date) -> date:
    return date(int(m[3]), int(m[2]), int(m[1]))


def _day_month(m: re.Match[str], today: date) -> date:
    day, month = int(m[1]), MONTHS[m[2].lower()]
    return date(int(m[3]), month, day) if m[3] else _coming(today, month, day)


def _month_day(m: re.Match[str], today: date) -> date:
    day, month = int(m[2]), MONTHS[m[1].lower()]
    return date(int(m[3]), month, day) if m[3] else _coming(today, month, day)


def _quarter(m: re.Match[str], today: date) -> date:
    number = int(m[1])
    if m[2]:
        return _end_of_month(int(m[2]), number * 3)
    end = _end_of_month(today.year, number * 3)
    return end if end > today else _end_of_month(today.year + 1, number * 3)


def _month_year(m: re.Match[str], today: date) -> date:
    month = MONTHS[m[2].lower()]
    if m[3]:
        year = int(m[3])
    else:
        year = today.year + (0 if _end_of_month(today.year, month) > today else 1)
    if "before" in m[0].lower() or "start of" in (m[1] or "").lower():
        return date(year, month, 1) - timedelta(days=1 if "before" in m[0].lower() else 0)
    return _end_of_month(year, month)


def _span(m: re.Match[str], today: date) -> date:
    count = int(m[1]) if m[1].isdigit() else NUMBERS[m[1].lower()]
    unit = m[2].lower()
    if unit.startswith("d"):
        return today + timedelta(days=count)
    if unit.startswith("w"):
        return today + timedelta(days=7 * count)
    return _after(today, count * (12 if unit.startswith("y") else 1))


def _end_of(m: re.Match[str], today: date) -> date:
    if m[1].lower() == "month":
        return _end_of_month(today.year, today.month)
    return date(today.year, 12, 31)


def _year(m: re.Match[str], today: date) -> date:
    return date(today.year + (1 if m[1].lower() == "next" else 0), 12, 31)


def _bare_year(m: re.Match[str], today: date) -> date:
    return date(int(m[1]) - (1 if "before" in m[0].lower() else 0), 12, 31)


def _feast(m: re.Match[str], today: date) -> date:
    name = m[1].lower()
    month, day = (SEASONS | FEASTS)[name]
    return _coming(today, month, day)


_RULES = [
    (re.compile(_LEAD + pattern + ")", re.I), rule)
    for pattern, rule in (
        (r"(\d{4})-(\d{2})-(\d{2})\b", _iso),
        (r"(\d{1,2})[./](\d{1,2})[./](\d{4})\b", _numeric),
        (r"(\d{1,2})(?:st|nd|rd|th)?\s+(?:of\s+)?" + _MONTH + r"\b(?:,?\s+(\d{4}))?", _day_month),
        (_MONTH + r"\s+(\d{1,2})(?:st|nd|rd|th)?\b(?!\d)(?:,?\s+(\d{4}))?", _month_day),
        (r"(?:end\s+of\s+)?(?:the\s+)?Q([1-4])\b(?:\s+(?:of\s+)?(\d{4}))?", _quarter),
        (r"end\s+of\s+(?:the\s+|this\s+)?(year|month)\b", _end_of),
        (r"(?:with)?in\s+(?:the\s+next\s+|about\s+|a\s+)?" + _COUNT
         + r"\s+(days?|weeks?|months?|years?)(?:[’']?\s+time)?\b", _span),
        (r"(?:over|for|during)\s+(?:the\s+)?(?:next\s+|coming\s+)?" + _COUNT
         + r"\s+(days?|weeks?|months?|years?)\b", _span),
        (r"(?:by|before|until|till|in|during)\s+((?:the\s+)?(?:end|start|beginning)\s+of\s+)?(?:next\s+)?"
         + _MONTH + r"\b(?:\s+(?:of\s+)?(\d{4}))?", _month_year),
        (r"(?:end|start|beginning)\s+of\s+()" + _MONTH + r"\b(?:\s+(?:of\s+)?(\d{4}))?", _month_year),
        (r"(this|next)\s+year\b", _year),
        (r"(?:in|by|before)\s+(?:the\s+end\s+of\s+)?(20\d\d)\b", _bare_year),
        (r"(?:by|before|until|in\s+time\s+for|for)\s+(?:next\s+|this\s+|the\s+)?("
         + "|".join(SEASONS | FEASTS) + r")(?:[’']s)?(?:\s+eve)?\b", _feast),
    )
]  # fmt: skip


def find_deadline(text: str, today: date | None) -> Deadline | None:
    """The deadline that the text names. Without `today` only full dates can be read."""
    for pattern, rule in _RULES:
        match = pattern.search(text)
        if match is None or (today is None and not re.search(r"20\d\d", match[0])):
            continue
        try:
            day = rule(match, today or date(2000, 1, 1))
        except (ValueError, OverflowError):
            continue
        return Deadline(day, match[0])
    return None

"""Deadlines in plain English: "by end of Q1", "in 5 weeks", "before school next September"."""

import calendar
import re
from collections.abc import Callable
from datetime import date, timedelta

NUMBERS = {
    "a couple of": 2, "a few": 3, "an": 1, "a": 1, "one": 1, "two": 2, "three": 3, "four": 4,
    "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12,
    "fifteen": 15, "twenty": 20, "thirty": 30, "fifty": 50,
}  # fmt: skip
_MONTHS = calendar.month_name[1:]
# The day on which a season begins, or by which what is due at a feast has to be done.
_SEASONS = {
    "spring": (3, 20), "summer": (6, 21), "autumn": (9, 22), "fall": (9, 22), "winter": (12, 21),
    "christmas": (12, 24), "new year": (12, 31),
}  # fmt: skip
# "By next winter", said in November, does not mean the winter that begins in four weeks.
_SOON = timedelta(days=60)


def spell(day: date) -> str:
    """E.g. "31 March 2027"."""
    return f"{day.day} {calendar.month_name[day.month]} {day.year}"


def number(text: str) -> float:
    """The value of "5,000", "2.5" or "ten"."""
    return float(NUMBERS.get(text.lower()) or text.replace(",", ""))


def _end(year: int, month: int) -> date:
    """The last day of a month; month 13 is January of the following year."""
    year, month = year + (month - 1) // 12, (month - 1) % 12 + 1
    return date(year, month, calendar.monthrange(year, month)[1])


def _on(today: date, name: str | int, day: str | int, year: str | None = None) -> date:
    """That day in the year that was said, or when it comes next; at most the month's last day."""
    month = name if isinstance(name, int) else _month(name)
    if year:
        return date(int(year), month, int(day))
    this = min(_end(today.year, month), date(today.year, month, 1) + timedelta(int(day) - 1))
    return this if this > today else this.replace(year=this.year + 1)


def _month(name: str) -> int:
    return next(n for n, month in enumerate(_MONTHS, 1) if month[:3].lower() == name[:3].lower())


def _in(today: date, said: str, name: str, year: str | None) -> date:
    """The month's end, its middle or first day, or the day before it ("before June")."""
    first = (_end(int(year), _month(name)) if year else _on(today, name, 31)).replace(day=1)
    if re.match(r"\W*before\b", said, re.I):
        return first - timedelta(days=1)
    if re.search(r"\b(?:start|beginning|early)\b", said, re.I):
        return first
    return first.replace(day=15) if "mid" in said.lower() else _end(first.year, first.month)


def _after(today: date, count: str, unit: str) -> date:
    many, unit = int(number(count)), unit[0].lower()
    if unit in "dw":
        return today + timedelta(days=many * (7 if unit == "w" else 1))
    month = today.month + many * (12 if unit == "y" else 1)
    return min(_end(today.year, month), _end(today.year, month - 1) + timedelta(today.day))


def _of(today: date, which: str, unit: str) -> date:
    ahead = which.lower().startswith("next")
    year = unit[0] in "yY"
    return _end(today.year + ahead, 12) if year else _end(today.year, today.month + ahead)


def _season(today: date, said: str, name: str) -> date:
    day = _on(today, *_SEASONS[name.lower()])
    return day.replace(year=day.year + 1) if "next" in said.lower() and day - today < _SOON else day


_COUNT = r"(\d{1,4}|" + "|".join(NUMBERS) + ")"
_NAME = "(" + "|".join(_MONTHS) + r"|(?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\b\.?)(?!\w)"
_YEAR = r"(?:,?\s+(?:of\s+)?(\d{4})\b)?"
_MONTH_YEAR = _NAME + _YEAR
_BY = r"(?:,?\s*\b(?:by|before|until|till|on|for|in|due)\s+)?(?:the\s+)?"
_END = r"(?:(?:end|start|beginning)\s+of\s+(?:the\s+)?)"
_WHEN = rf",?\s*\b(?:(?:by|before|until|till|in|during|for|this|next)\s+(?:the\s+)?{_END}?|{_END})"
_SPAN = (
    r"\s+(?:the\s+)?(?:(?:next|coming|about)\s+)?" + _COUNT + r"\s+(days?|weeks?|months?|years?)\b"
    r"(?:['’]?s?\s+time\b)?(?!\s+(?:a|per|each|every|out)\b)"
)
_BEFORE = r",?\s*\bbefore\b[^.;\n]{1,60}?\b(?:in|next|of)\s+"
_NEXT = r"(?:(?:next|this|early|mid|late)[\s-]+)?"
_SEASON = "(" + "|".join(_SEASONS) + r")\b(?:['’]s)?(?:\s+(?:eve|day))?"
# Patterns and the days that they mean, counted from t; the first pattern that is found counts.
_RULES: dict[str, Callable[[re.Match[str], date], date]] = {
    _BY + r"(\d{4}-\d\d-\d\d)\b": lambda m, t: date.fromisoformat(m[1]),
    _BY + r"(\d\d?)[./](\d\d?)[./](\d{4})\b": lambda m, t: date(int(m[3]), int(m[2]), int(m[1])),
    _BY + r"(\d\d?)(?:st|nd|rd|th)?\s+(?:of\s+)?" + _MONTH_YEAR: lambda m, t: _on(
        t, m[2], m[1], m[3]
    ),
    _BY + _NAME + r"\s+(\d\d?)(?:st|nd|rd|th)?\b(?!\s*(?:km?|miles?)\b)" + _YEAR: lambda m, t: _on(
        t, m[1], m[2], m[3]
    ),
    _BY + rf"{_END}?Q([1-4])\b" + _YEAR: lambda m, t: _in(t, "", _MONTHS[int(m[1]) * 3 - 1], m[2]),
    r",?\s*\b(?:with)?in" + _SPAN: lambda m, t: _after(t, m[1], m[2]),
    r",?\s*\b(?:for|over|during)" + _SPAN: lambda m, t: _after(t, m[1], m[2]),
    _BEFORE + _MONTH_YEAR: lambda m, t: _in(t, m[0], m[1], m[2]),
    _WHEN + _NEXT + _MONTH_YEAR: lambda m, t: _in(t, m[0], m[1], m[2]),
    rf"(?:{_WHEN}|\b)(this|next)\s+(year|month)\b": lambda m, t: _of(t, m[1], m[2]),
    _BY + rf"({_END})(year|month)\b": lambda m, t: _of(t, "", m[2]),
    _WHEN + r"(20\d\d)\b": lambda m, t: date(int(m[1]) - ("before" in m[0].lower()), 12, 31),
    _WHEN + _NEXT + _SEASON: lambda m, t: _season(t, m[0], m[1]),
    r",?\s*\b(?:by\s+)?tomorrow\b": lambda m, t: t + timedelta(days=1),
}
_COMPILED = {re.compile(pattern, re.I): day for pattern, day in _RULES.items()}
# What goes before a span that has already gone by: "I have not run for four years".
_GONE_BY = re.compile(
    r"(?:\b(?:been|ago|since|haven['’]?t|hasn['’]?t|didn['’]?t|used\s+to|was|were)\b"
    r"|(?:\b(?:have|has|had)|['’]ve)\s+(?:not\s+|never\s+)?\w+(?:ed|en|un)\b)"
    r"(?:(?!\b(?:and|but|so|now)\b)[^,.;])*$",
    re.I,
)


def find_deadline(text: str, today: date) -> tuple[date, str] | None:
    """The day by which something is to be done, and the phrase of the text that says so."""
    for pattern, day in _COMPILED.items():
        for match in pattern.finditer(text):
            if pattern.pattern.endswith(_SPAN) and _GONE_BY.search(text[: match.start()]):
                continue
            try:
                return day(match, today), match[0]
            except (ValueError, OverflowError):
                continue
    return None

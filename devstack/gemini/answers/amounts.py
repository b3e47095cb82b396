"""The goal's own number with its unit, and the smaller numbers on the way to it."""

import re
from dataclasses import dataclass

from devstack.gemini.answers.dates import NUMBERS, number

_WORDS = "|".join(word for word, value in NUMBERS.items() if value > 1)
_STOP = (
    r"(?!(?:a|an|and|as|at|before|by|daily|each|every|for|from|i|if|in|of|on|or|per|since|so|than|that|the"
    r"|to|until|weekly|when|while|with|without|within)\b)"
)
_UNITS = (
    r"(?:km|kilomet\w+|miles?|met(?:er|re)s?|m|kg|kilos?|lbs?|pounds|euros?|dollars?|%|percent)"
)
_AMOUNT = re.compile(
    rf"(?<![\w.,])(?P<sign>[€$£])?\s?(?P<number>\d[\d,]*(?:\.\d+)?|\b(?:{_WORDS})\b)(?P<k>\s?k\b)?"
    rf"(?:[\s-]?(?P<unit>{_UNITS}(?!\w)|{_STOP}[^\W\d_][\w’'-]*(?:\s{_STOP}[^\W\d_][\w’'-]*){{0,2}}))?"
    r"(?P<rate>\s+(?:a|an|per|each|every)\s+(?:single\s+)?\w+|\s+(?:daily|weekly)\b)?",
    re.I,
)
# A number after one of these is a bound, a start or a name, not something to work up to.
_BOUND = re.compile(
    r"\b((?:under|below|within|less\s+than|at\s+most)\W*)$"
    r"|\b(?:sub|max|maximum|only|from|to|than|by|age|turn|top|number|level|in|at)\W*$",
    re.I,
)
# "A 20 minute talk" and "100 days" are not sums that grow from week to week.
_FIXED = re.compile(r"(?:minute|hour|page|mile|word)\s|(?:days?|weeks?|months?|years?)\b", re.I)
_LEVEL = re.compile(r"\b[ABC][12]\b")
_FRACTIONAL = re.compile(r"km|kilo|mile|kg|lb|pound|hour", re.I)


@dataclass(frozen=True)
class Amount:
    """`said` is what the person wrote. Only what `grows` has smaller numbers on the way."""

    said: str
    value: float = 0.0
    unit: str = ""
    sign: str = ""
    grows: bool = False

    def at(self, share: float) -> float:
        """The part of it, rounded down to a natural step; never more than the whole."""
        steps = (d * 10.0**e for e in range(-1, 9) for d in (1, 2, 5))
        step = max((each for each in steps if each <= self.value / 10), default=0.1)
        if self.value == int(self.value) and not _FRACTIONAL.match(self.unit):
            step = max(1.0, step)
        if share > 1 - 1e-9:
            return self.value
        return min(self.value, max(step, round(self.value * share // step * step, 2)))

    def bare(self, value: float) -> str:
        """The value as it is written before "of 20 books"."""
        text = f"{value:,.2f}".rstrip("0").rstrip(".")
        return self.sign + (text if self.sign or "," in self.said else text.replace(",", ""))

    def show(self, value: float) -> str:
        """The value with its unit."""
        return f"{self.bare(value)} {self.unit}".strip()


def find_amount(text: str, *, kilometres: bool = False) -> Amount | None:
    """The first number that the goal is about. With `kilometres`, "5K" is 5 km and not 5,000."""
    found = [_amount(match, text, kilometres) for match in _AMOUNT.finditer(text)]
    level = _LEVEL.search(text)
    growing = next((amount for amount in found if amount.grows), None)
    measured = next((amount for amount in found if amount.unit or amount.sign), None)
    return growing or measured or (Amount(level[0]) if level else next(iter(found), None))


def _amount(match: re.Match[str], text: str, kilometres: bool) -> Amount:
    unit, sign = match["unit"] or "", match["sign"] or ""
    value, said = number(match["number"]), match[0].strip()
    if match["k"] and kilometres:
        unit, said = "km", f"{match['number']} km"
    elif match["k"] and (unit or sign):
        value *= 1000
    bound = _BOUND.search(text[: match.start("number")])
    said = f"{(bound and bound[1]) or ''}{said}"
    held = bound or match["rate"] or _FIXED.match(unit)
    grows = value >= 2 and bool(unit or sign) and not held
    return Amount(said, value, unit, sign, grows)

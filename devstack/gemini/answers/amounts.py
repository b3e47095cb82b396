"""The goal's own number with its unit, and the smaller numbers on the way to it."""

import re
from dataclasses import dataclass

from devstack.gemini.answers.dates import NUMBERS, number

_WORDS = "|".join(word for word, value in NUMBERS.items() if value > 1 and " " not in word)
_STOP = (
    r"(?!(?:an?|and|as|at|before|by|daily|each|every|for|from|i|if|in|of|on|or|per|since|so|than"
    r"|that|the|to|until|weekly|when|while|with|without|within)\b)"
)
_UNIT = r"(?:km|kilomet\w+|miles?|met(?:er|re)s?|m|kg|kilos?|lbs?|pounds|euros?|dollars?|%)(?!\w)"
_AMOUNT = re.compile(
    rf"(?<![\w.,])(?P<sign>[€$£])?\s?(?P<number>\d[\d,]*(?:\.\d+)?|\b(?:{_WORDS})\b)(?P<k>\s?k\b)?"
    rf"(?:[\s-]?(?P<unit>{_UNIT}|{_STOP}[^\W\d_][\w’'-]*(?:\s{_STOP}[^\W\d_][\w’'-]*){{0,2}}))?"
    r"(?P<rate>\s+(?:an?|per|each|every)\s+(?:single\s+)?\w+|\s+(?:daily|weekly)\b)?",
    re.I,
)
# A number after one of these is a bound, a start or a name, not something to work up to.
_BOUND = re.compile(
    r"\b(?:((?:under|below|within|less\s+than|at\s+most)\s+)"
    r"|(?:sub|max|only|from|to|than|by|age|turn|top|number|level|in|at)\W+)$",
    re.I,
)
# "A 20 minute talk" and "100 days" are not sums that grow from week to week.
_FIXED = re.compile(r"(?:minute|hour|page|mile|word)\s|(?:days?|weeks?|months?|years?)\b", re.I)


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
        if share > 1 - 1e-9:
            return self.value
        steps = [d * 10.0**e for e in range(-1, 9) for d in (1, 2, 5)]
        whole = self.value % 1 == 0 and not re.match(r"km|kilo|mile|kg|lb|pound|hour", self.unit)
        step = max(each for each in steps if each <= max(self.value / 10, 1 if whole else 0.1))
        return min(self.value, max(step, round(self.value * share // step * step, 2)))

    def show(self, value: float, *, bare: bool = False) -> str:
        """The value with its unit, or `bare`, as it is written before "of 20 books"."""
        text = f"{value:,.2f}".rstrip("0").rstrip(".")
        text = text if self.sign or "," in self.said else text.replace(",", "")
        return f"{self.sign}{text}{'' if bare else ' ' + self.unit}".strip()


def find_amount(text: str, *, kilometres: bool = False) -> Amount | None:
    """The first number that the goal is about. With `kilometres`, "5K" is 5 km and not 5,000."""
    found = [_amount(match, text, kilometres) for match in _AMOUNT.finditer(text)]
    levels = [Amount(level) for level in re.findall(r"\b[ABC][12]\b", text)]
    measured = [amount for amount in found if amount.unit or amount.sign]
    return next(iter([*(a for a in measured if a.grows), *measured, *levels, *found]), None)


def _amount(match: re.Match[str], text: str, kilometres: bool) -> Amount:
    unit, sign, said = match["unit"] or "", match["sign"] or "", match[0].strip()
    value = number(match["number"])
    if match["k"] and kilometres:
        unit, said = "km", f"{match['number']} km"
    elif match["k"] and (unit or sign):
        value *= 1000
    bound = _BOUND.search(text[: match.start("number")])
    held = bound or match["rate"] or _FIXED.match(unit)
    grows = value >= 2 and bool(unit or sign) and not held
    return Amount(f"{(bound and bound[1]) or ''}{said}", value, unit, sign, grows)

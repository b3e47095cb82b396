"""What a coach knows about one kind of goal, as texts with places for the person's own numbers."""

import re
from dataclasses import dataclass
from typing import Literal

Step = tuple[str, str, float]
"""(what to do, done when, share of the week's time)"""
Curve = Literal["grow", "sum"]


@dataclass(frozen=True)
class Topic:
    """Texts may hold {goal} {target} {v} {prev} {part} {left} {noun} {start} {min} {n} {weeks} {due} {hours}.

    `v` is what is reached by the end of the week: with curve 'grow' a level, with 'sum' a running
    total of which `part` is the week's own. `amount` finds the person's number (group 1).
    `tasks` has one tuple of steps for each phase, `phases` their names and what they are about.
    """

    key: str
    category: str
    pattern: str
    outcome: str
    target: float
    unit: str
    strategy: str
    phases: tuple[tuple[str, str], ...]
    tasks: tuple[tuple[Step, ...], ...]
    criteria: tuple[str, ...]
    soft: str
    risks: tuple[tuple[str, str], ...]
    habits: tuple[str, ...]
    achievable: str
    relevant: str
    asks: tuple[str, ...]
    assumes: str
    first: str
    milestone: str
    amount: str = ""
    noun_pattern: str = ""
    noun: str = "it"
    begin: float = 0.3
    curve: Curve = "grow"
    hours: float = 3
    step: float = 1
    falls: bool = False

    def found_in(self, text: str) -> re.Match[str] | None:
        return re.search(self.pattern, text, re.I)

    def show(self, value: float) -> str:
        """A value with its unit: '3.5 km', '€1,250', '1 book'."""
        value = round(value / self.step) * self.step
        number = f"{value:,.1f}".removesuffix(".0") if self.step < 1 else f"{value:,.0f}"
        if self.unit in "€$£":
            return f"{self.unit}{number}"
        one = self.unit.endswith("s") and number == "1"
        return f"{number} {self.unit[:-1] if one else self.unit}".strip()

"""What a coach knows about one kind of goal, as texts with places for the person's own numbers."""

import re
from dataclasses import field
from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class Step:
    """What to do, and when it is done. `share` is of the week's time, for all `times` together.

    `once`: only in the phase's first week. `every`, `offset`: only in each nth week of the phase.
    `exact`: it takes the minutes that `v` says.
    """

    do: str
    done: str
    share: float
    once: bool = False
    times: int = 1
    every: int = 1
    offset: int = 0
    exact: bool = False


@dataclass(frozen=True, config=_STRICT)
class PhaseText:
    name: str
    focus: str
    tasks: tuple[Step, ...]


@dataclass(frozen=True, config=_STRICT)
class RiskText:
    risk: str
    response: str


@dataclass(frozen=True, config=_STRICT)
class Topic:
    """Texts may hold {goal} {target} {v} {vn} {prev} {part} {left} {half} {noun} {start} {min} {n}
    {weeks} {due} {hours}.

    `v` is what is reached by the end of the week: with curve 'grow' a level, with 'sum' a running
    total of which `part` is the week's own. `amount` finds the person's number (NUM in it).
    `units`: pattern of another unit → (unit, target, step). `fast`: the most that is safe a week.
    `seasoned`: found in what the person can do, it spares them the first phase.
    """

    key: str
    category: str
    pattern: str
    outcome: str
    target: float
    unit: str
    strategy: str
    phases: tuple[PhaseText, ...]
    criteria: tuple[str, ...]
    soft: str
    risks: tuple[RiskText, ...]
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
    curve: Literal["grow", "sum"] = "grow"
    hours: float = 3
    step: float = 1
    units: dict[str, tuple[str, float, float]] = field(default_factory=dict)
    fast: float = 0
    seasoned: str = ""

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

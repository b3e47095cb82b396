"""One trace as a waterfall: its spans as a tree in time, with what each adds up to."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from pydantic_core import from_json

from devstack.opik.rules import now_us

# A trace that is still open draws up to now, unless it was left open long ago.
STILL_OPEN_US = 3600 * 1_000_000


@dataclass
class Sums:
    """Tokens, money and errors of a span and everything below it."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_pico: int | None = None
    errors: int = 0

    def add(self, other: "Sums") -> None:
        """Count another's in."""
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.errors += other.errors
        if other.cost_pico is not None:
            self.cost_pico = (self.cost_pico or 0) + other.cost_pico


@dataclass
class Bar:
    """One line of the waterfall. `left` and `width` are per cent of the axis."""

    id: str
    name: str
    type: str
    doc: dict[str, Any]
    start_us: int
    end_us: int | None
    total: Sums
    depth: int = 0
    left: float = 0
    width: float = 0
    orphan: bool = False
    children: list["Bar"] = field(default_factory=list)
    scores: list[sqlite3.Row] = field(default_factory=list)

    @property
    def duration_us(self) -> int | None:
        """None while it is open."""
        return None if self.end_us is None else self.end_us - self.start_us

    @property
    def failed(self) -> bool:
        """Whether the span itself carries an error."""
        return bool(self.doc.get("error_info"))

    def walk(self, depth: int = 0) -> Iterator["Bar"]:
        """This bar and all below it, in order."""
        self.depth = depth
        yield self
        for child in self.children:
            yield from child.walk(depth + 1)


@dataclass(frozen=True)
class Waterfall:
    """All bars, top to bottom, and the axis they stand on. A tick is its place in per cent of the
    axis, and its time after `start_us`."""

    bars: list[Bar]
    total: Sums
    start_us: int
    ticks: list[tuple[float, int]]


def _tokens(usage: dict[str, Any], *names: str) -> int:
    return next((int(usage[name]) for name in names if usage.get(name) is not None), 0)


def bar_of(row: sqlite3.Row) -> Bar:
    """A span's row as a bar."""
    doc = from_json(row["body"])
    usage = from_json(row["usage"]) if row["usage"] else {}
    own = Sums(
        _tokens(usage, "prompt_tokens", "input_tokens"),
        _tokens(usage, "completion_tokens", "output_tokens"),
        row["cost_pico"],
        1 if doc.get("error_info") else 0,
    )
    name = row["name"] or "(no name yet)"
    return Bar(row["id"], name, row["type"], doc, row["start_us"], row["end_us"], own)


def _add_up(bar: Bar) -> Sums:
    """Count everything below a bar into its total, which holds the span's own before."""
    for child in bar.children:
        bar.total.add(_add_up(child))
    return bar.total


def _roots(bars: dict[str, Bar], parents: dict[str, str | None]) -> list[Bar]:
    """Hang every bar below its parent; a missing parent or a circle leaves it at the top."""
    below: dict[str | None, list[Bar]] = defaultdict(list)
    for bar in sorted(bars.values(), key=lambda bar: (bar.start_us, bar.id)):
        parent = parents[bar.id]
        bar.orphan = parent is not None and (parent not in bars or _circles(bar.id, parents))
        below[None if bar.orphan else parent].append(bar)
    for bar in bars.values():
        bar.children = below[bar.id]
    return below[None]


def _circles(identity: str, parents: dict[str, str | None]) -> bool:
    seen = {identity}
    above = parents.get(identity)
    while above is not None and above not in seen:
        seen.add(above)
        above = parents.get(above)
    return above is not None


def waterfall(spans: list[sqlite3.Row], start_us: int | None, end_us: int | None) -> Waterfall:
    """The waterfall of a trace that runs from `start_us` to `end_us` (None: not known yet)."""
    bars = {row["id"]: bar_of(row) for row in spans}
    roots = _roots(bars, {row["id"]: row["parent_span_id"] for row in spans})
    # A partial row, made by a PATCH before its create, starts at zero: that is no time to draw.
    starts = [at for at in (start_us, *(bar.start_us for bar in bars.values())) if at]
    first = min(starts, default=now_us())
    ends = [at for bar in bars.values() for at in (bar.start_us, bar.end_us) if at]
    last = max([first, *ends, end_us or first])
    if end_us is None and now_us() - last < STILL_OPEN_US:
        last = max(last, now_us())
    axis = max(last - first, 1)
    total = Sums()
    for root in roots:
        total.add(_add_up(root))
    ordered = [bar for root in roots for bar in root.walk()]
    for bar in ordered:
        bar.left = 100 * max(bar.start_us - first, 0) / axis
        end = last if bar.end_us is None else bar.end_us
        bar.width = min(max(100 * (end - bar.start_us) / axis, 0.4), 100 - bar.left)
    # The smallest round step (1, 2 or 5 of a power of ten) that makes at most five parts.
    steps = (digit * 10**power for power in count() for digit in (1, 2, 5))
    step = next(step for step in steps if axis / step <= 5)
    ticks = [(100 * at / axis, at) for at in range(0, axis, step)]
    return Waterfall(ordered, total, first, ticks)

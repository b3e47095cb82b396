"""The stack's start, as it goes: one line a part, alive on a terminal, plain elsewhere."""

import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from devstack.stack import Service

WORDS: dict[Service, str] = {
    "postgres": "PostgreSQL and its tables",
    "temporal": "Temporal server with UI",
    "gemini": "model stand-in",
    "opik": "Opik receiver",
    "worker": "worker",
    "shipper": "trace shipper",
    "api": "API",
}


class StartProgress:
    """A context manager around the start; `report` is the stack's."""

    def __init__(self, console: Console, services: Iterable[Service]) -> None:
        self.console = console
        self.states: dict[Service, tuple[str, float]] = {
            name: ("waiting", 0.0) for name in WORDS if name in frozenset(services)
        }
        self.begun = dict.fromkeys(self.states, 0.0)
        self.started = 0.0
        self._live: Live | None = None

    def __enter__(self) -> Self:
        self.started = time.monotonic()
        self.console.print(Text("\n  Rein is starting", style="bold"))
        if self.console.is_terminal:
            self._live = Live(
                console=self.console, get_renderable=self._table, refresh_per_second=12
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
            self._live = None
        if kind is None:
            total = time.monotonic() - self.started
            self.console.print(Text(f"  up in {total:.1f} s", style="bold green"))

    def report(self, service: Service, state: str, seconds: float) -> None:
        """Called by the stack. After the start (a restart) nothing is shown here."""
        if service not in self.states:
            return
        self.states[service] = (state, seconds)
        if state == "starting":
            self.begun[service] = time.monotonic()
        elif self._live is None and self.started and not self.console.is_terminal:
            self.console.print(Text(f"    {WORDS[service]}: {state} after {seconds:.1f} s"))

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 1))
        for name, (state, seconds) in self.states.items():
            if state == "starting":
                seconds = time.monotonic() - self.begun[name]
            mark = {
                "waiting": Text("   ·", style="dim"),
                "ready": Text("   ✓", style="green"),
                "failed": Text("   ✗", style="red"),
                "stopped": Text("   –", style="dim"),
            }.get(state)
            shown = "" if state == "waiting" else f"{seconds:.1f} s"
            table.add_row(mark or _SPINNER, WORDS[name], Text(shown, style="dim"))
        return table


_SPINNER = Spinner("dots", Text(""), style="cyan")

"""What the stand-in is set to, and which calls have arrived, wait and are done."""

import asyncio
from collections import Counter
from pathlib import Path

from starlette.requests import Request

from devstack.gemini.faults import Rule
from devstack.gemini.ledger import Ledger
from devstack.standin import Changes, FaultPlan, while_connected

ANY = "any"
LATENCIES: dict[str, dict[str, float]] = {
    "none": {},
    "document": {"preprocess": 0.6, "generate": 1.0, "evaluate": 0.8, "plan": 0.25, "other": 0.5},
}


class State:
    """All that the stand-in keeps; one process, one loop. `latency` is in seconds by stage."""

    def __init__(self, ledger: Path, *, seed: int = 0, latency: str = "none") -> None:
        self.seed = seed
        self.ledger = Ledger(ledger)
        self.changes = Changes()
        self.faults = FaultPlan(Rule, self.changes)
        self.usual_latency = LATENCIES[latency]
        self.latency = dict(self.usual_latency)
        self.arrived: Counter[str] = Counter()
        self.finished: Counter[str] = Counter()
        self.waiting: Counter[str] = Counter()
        self.gates: dict[str, asyncio.Event] = {}
        self._passes: Counter[str] = Counter()

    def count(self, counter: Counter[str], stage: str, by: int = 1) -> None:
        counter[stage] += by
        self.changes.notify()

    def close_gate(self, stage: str, passes: int = 0) -> None:
        """Hold every later call of the stage, after letting `passes` of them through."""
        self.gates.setdefault(stage, asyncio.Event())
        self._passes[stage] = passes

    def open_gate(self, stage: str) -> None:
        gate = self.gates.pop(stage, None)
        if gate is not None:
            gate.set()

    async def pass_gate(self, stage: str, request: Request) -> None:
        """Wait while the stage's gate is closed. Raises ClientDisconnect when the client leaves."""
        name = stage if stage in self.gates else ANY
        if name not in self.gates:
            return
        if self._passes[name] > 0:
            self._passes[name] -= 1
            return
        self.count(self.waiting, stage)
        try:
            await while_connected(request, self.gates[name].wait())
        finally:
            self.count(self.waiting, stage, -1)

    def counts(self) -> dict[str, object]:
        return {
            "arrived": dict(self.arrived),
            "finished": dict(self.finished),
            "waiting": {stage: n for stage, n in self.waiting.items() if n},
            "hanging": len(self.faults.hanging),
        }

"""Who has arrived, who waits at a gate, and waiting for either without polling."""

import asyncio
from collections import Counter
from collections.abc import Callable

ANY = "any"
LATENCIES: dict[str, dict[str, float]] = {
    "none": {},
    "document": {"preprocess": 0.6, "generate": 1.0, "evaluate": 0.8, "plan": 0.25, "other": 0.5},
}


class Watch:
    """Counts calls by stage, holds them at closed gates, and wakes whoever waits for a count."""

    def __init__(self) -> None:
        self.arrived: Counter[str] = Counter()
        self.finished: Counter[str] = Counter()
        self.waiting: Counter[str] = Counter()
        self.hanging: set[asyncio.Future[None]] = set()
        self.gates: dict[str, asyncio.Event] = {}
        self._passes: dict[str, int] = {}
        self._watchers: set[asyncio.Future[None]] = set()

    def arrive(self, stage: str) -> None:
        self.arrived[stage] += 1
        self.changed()

    def finish(self, stage: str) -> None:
        self.finished[stage] += 1
        self.changed()

    def changed(self) -> None:
        for watcher in self._watchers:
            if not watcher.done():
                watcher.set_result(None)

    async def until(self, reached: Callable[[], bool], timeout: float) -> bool:  # noqa: ASYNC109
        """True as soon as `reached()`; False when `timeout` seconds went by first."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + timeout
        while not reached():
            watcher: asyncio.Future[None] = loop.create_future()
            self._watchers.add(watcher)
            try:
                await asyncio.wait_for(watcher, max(0.0, ends - loop.time()))
            except TimeoutError:
                return reached()
            finally:
                self._watchers.discard(watcher)
        return True

    def close_gate(self, stage: str, passes: int = 0) -> None:
        """Hold every later call of the stage, after letting `passes` of them through."""
        self.gates.setdefault(stage, asyncio.Event())
        self._passes[stage] = passes

    def open_gate(self, stage: str) -> None:
        gate = self.gates.pop(stage, None)
        if gate is not None:
            gate.set()

    def gate_for(self, stage: str) -> asyncio.Event | None:
        """The closed gate that this call has to wait at, if any."""
        name = stage if stage in self.gates else ANY
        gate = self.gates.get(name)
        if gate is not None and self._passes.get(name, 0) > 0:
            self._passes[name] -= 1
            return None
        return gate

    def release_hanging(self) -> int:
        """Let hanging calls go on to their answers; returns how many there were."""
        released = [future for future in self.hanging if not future.done()]
        for future in released:
            future.set_result(None)
        return len(released)

    def counts(self) -> dict[str, object]:
        return {
            "arrived": dict(self.arrived),
            "finished": dict(self.finished),
            "waiting": {stage: n for stage, n in self.waiting.items() if n},
            "hanging": len(self.hanging),
        }

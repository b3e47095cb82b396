"""Latency, rate and CPU of a contestant."""

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import psutil

WARM_UP = 10  # the first runs are fast by burst


@dataclass(frozen=True)
class Contestant:
    """`run` does one whole run; `pids` are its processes beside the driver, by name."""

    name: str
    run: Callable[[], Awaitable[None]]
    pids: dict[str, int]


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one run over the model's own critical path."""

    p50: float
    p95: float


@dataclass(frozen=True)
class Load:
    """Runs per second, and CPU milliseconds a run, by process."""

    rate: float
    cpu_ms: dict[str, float]

    @property
    def total_cpu_ms(self) -> float:
        return sum(self.cpu_ms.values())


async def latency(
    contestant: Contestant, runs: int, critical_path_ms: float, *, warm_up: int = WARM_UP
) -> Latency:
    """One run at a time."""
    for _ in range(warm_up):
        await contestant.run()
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        await contestant.run()
        taken.append((time.perf_counter() - began) * 1000 - critical_path_ms)
    return Latency(statistics.median(taken), statistics.quantiles(taken, n=20)[-1])


async def load(contestant: Contestant, in_flight: int, seconds: float) -> Load:
    """A closed loop: a run that ends is followed by the next one, for a time."""
    await asyncio.gather(*(contestant.run() for _ in range(in_flight)))
    processes = {"driver": os.getpid(), **contestant.pids}
    before = {name: _cpu_s(pid) for name, pid in processes.items()}
    began, done = time.perf_counter(), 0

    async def loop() -> None:
        nonlocal done
        while time.perf_counter() - began < seconds:
            await contestant.run()
            done += 1

    await asyncio.gather(*(loop() for _ in range(in_flight)))
    elapsed = time.perf_counter() - began
    spent = {name: (_cpu_s(pid) - before[name]) * 1000 / done for name, pid in processes.items()}
    return Load(done / elapsed, spent)


def _cpu_s(pid: int) -> float:
    """User and system seconds of a process and of its living children."""
    process = psutil.Process(pid)
    family = [process] if pid == os.getpid() else [process, *process.children(recursive=True)]
    return sum(sum(each.cpu_times()[:2]) for each in family if each.is_running())

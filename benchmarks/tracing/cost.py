"""What Rein's tracing costs a run of four stages: with it and without it."""

import asyncio
import os
import statistics
import sys
import time
from dataclasses import astuple, dataclass

import psutil
from temporalio.client import Client

from benchmarks.rein import drained
from benchmarks.tracing import ways
from benchmarks.tracing.sample import QUEUE, QuickWorkflow
from devstack.stack import Stack

WARM_UP, RUNS = 20, 150


@dataclass(frozen=True)
class Cost:
    """Of one run: milliseconds, CPU milliseconds by process, bytes and events of history."""

    p50_ms: float
    worker_ms: float
    postgres_ms: float
    history_bytes: float
    events: float


async def costs(stack: Stack, rounds: int = 3) -> tuple[Cost, Cost]:
    """Without tracing and with it, in turn; the medians of the rounds."""
    without: list[Cost] = []
    traced: list[Cost] = []
    for _ in range(rounds):
        for found, on in ((without, False), (traced, True)):
            await drained(stack.urls["postgres"])
            found.append(await _cost(stack, traced=on))
    return _median(without), _median(traced)


def _median(found: list[Cost]) -> Cost:
    values = (statistics.median(each) for each in zip(*map(astuple, found), strict=True))
    return Cost(*values)


async def _cost(stack: Stack, *, traced: bool) -> Cost:
    """One run after another."""
    way = ways.REIN if traced else "none"
    client = await Client.connect(stack.urls["temporal"], **ways.client_options(way))
    words = [sys.executable, "-m", "benchmarks.tracing.worker", way]
    worker = await asyncio.create_subprocess_exec(*words, env={**os.environ, "CACHED": "1000"})
    queue, taken, name = f"{QUEUE}-{way}", [], ""
    spent = (0.0, 0.0)
    for number in range(WARM_UP + RUNS):
        if number == WARM_UP:
            spent = _cpu(worker.pid), _cpu(stack.pid("postgres"))
        name, began = f"cost-{way}-{number}", time.perf_counter()
        await client.execute_workflow(QuickWorkflow.run, id=name, task_queue=queue)
        taken.append((time.perf_counter() - began) * 1000)
    after = _cpu(worker.pid), _cpu(stack.pid("postgres"))
    history = await client.get_workflow_handle(name).fetch_history()
    worker.terminate()
    await worker.wait()
    return Cost(
        p50_ms=statistics.median(taken[WARM_UP:]),
        worker_ms=(after[0] - spent[0]) * 1000 / RUNS,
        postgres_ms=(after[1] - spent[1]) * 1000 / RUNS,
        history_bytes=sum(event.ByteSize() for event in history.events),
        events=len(history.events),
    )


def cost_table(without: Cost, traced: Cost) -> str:
    """Markdown."""
    rows = [
        ("one run, ms, p50", without.p50_ms, traced.p50_ms),
        ("worker, CPU ms", without.worker_ms, traced.worker_ms),
        ("PostgreSQL, CPU ms", without.postgres_ms, traced.postgres_ms),
        ("history, bytes", without.history_bytes, traced.history_bytes),
        ("history, events", without.events, traced.events),
    ]
    lines = ["", "| a run of four stages | without tracing | with it | more |", "|---|---|---|---|"]
    return "\n".join(
        lines + [f"| {what} | {off:.4g} | {on:.4g} | {on - off:.3g} |" for what, off, on in rows]
    )


def _cpu(pid: int) -> float:
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    return sum(sum(each.cpu_times()[:2]) for each in family if each.is_running())

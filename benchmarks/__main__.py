"""`python -m benchmarks [--quick] [--memory] [--json FILE]`: the contestants in turn, and again."""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path

import asyncpg

from benchmarks.dbos_pipeline import dbos_pipeline
from benchmarks.floor import floor
from benchmarks.measure import Contestant, Latency, latency, load
from benchmarks.plain_temporal import plain_temporal
from benchmarks.recovery import recover, take_over
from benchmarks.rein import BODY, drained, rein
from benchmarks.report import Results, report
from devstack.controls import GeminiControl
from devstack.stack import Stack
from devstack.temporal import TemporalOptions

NONE = {"preprocess": 0.0, "generate": 0.0, "evaluate": 0.0, "plan": 0.0}
DOCUMENT = {"preprocess": 0.8, "generate": 1.2, "evaluate": 0.9, "plan": 0.3}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one repetition, shorter trials")
    parser.add_argument(
        "--memory", action="store_true", help="Rein's Temporal in memory, as plain temporalio's is"
    )
    parser.add_argument("--json", type=Path, help="write the figures here too")
    return parser.parse_args()


async def main() -> None:
    chosen = arguments()
    repetitions, runs, seconds, slow = (1, 20, 4.0, 3) if chosen.quick else (3, 30, 5.0, 5)
    results: Results = {"latency": defaultdict(list), "load": defaultdict(list)}
    results |= {"document": defaultdict(list)}
    with tempfile.TemporaryDirectory(prefix="rein-bench-") as folder:
        os.chmod(folder, 0o755)  # noqa: S103 - PostgreSQL's own user has to pass
        async with AsyncExitStack() as exits:
            temporal = TemporalOptions(file=not chosen.memory)
            stack = await exits.enter_async_context(Stack(Path(folder) / "rein", temporal=temporal))
            gemini = await exits.enter_async_context(GeminiControl(stack.urls["gemini"]))
            contestants = await enter(exits, stack, Path(folder))
            for repetition in range(repetitions):
                for contestant in contestants:
                    say(f"{repetition + 1}/{repetitions} {contestant.name}")
                    await gemini.latency(**NONE)
                    results["latency"][contestant.name].append(
                        asdict(await latency(contestant, runs, 0))
                    )
                    measured = await load(contestant, 50, seconds)
                    results["load"][contestant.name].append(
                        {"rate": measured.rate, "cpu": measured.cpu_ms}
                    )
                    await gemini.latency(**DOCUMENT)
                    results["document"][contestant.name].append(
                        asdict(await latency_of_document(contestant, slow))
                    )
                    await drained(stack.urls["postgres"])
            await gemini.latency(**NONE)
            results["post"] = await post_latency(stack)
            await drained(stack.urls["postgres"])
            await gemini.latency(**DOCUMENT)
            say("recovery")
            results["recovery"] = asdict(await recover(stack, gemini))
            results["take_over"] = asdict(await take_over(stack, gemini))
    print(report(results))
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=1))
    sys.stdout.flush()
    os._exit(0)  # a living temporalio client may abort a usual exit


async def enter(exits: AsyncExitStack, stack: Stack, folder: Path) -> list[Contestant]:
    """Everybody ready, on one PostgreSQL, against one stand-in."""
    server, gemini_url = stack.urls["postgres"].rsplit("/", 1)[0], stack.urls["gemini"]
    admin = await asyncpg.connect(stack.urls["postgres_admin"])
    for name in ("floor", "plain", "dbos"):
        await admin.execute(f"CREATE DATABASE bench_{name} OWNER rein")
    await admin.close()
    postgres = {"postgres": stack.pid("postgres")}
    entered = [
        await exits.enter_async_context(floor(f"{server}/bench_floor", gemini_url)),
        await exits.enter_async_context(
            plain_temporal(folder / "plain", f"{server}/bench_plain", gemini_url)
        ),
        await exits.enter_async_context(dbos_pipeline(f"{server}/bench_dbos", gemini_url)),
        await exits.enter_async_context(rein(stack)),
    ]
    return [Contestant(each.name, each.run, each.pids | postgres) for each in entered]


async def latency_of_document(contestant: Contestant, runs: int) -> Latency:
    """The critical path is sequential where a contestant makes its calls one after another."""
    plain = contestant.name.startswith("plain")
    parallel = max(DOCUMENT["evaluate"], DOCUMENT["plan"])
    last = DOCUMENT["evaluate"] + DOCUMENT["plan"] if plain else parallel
    path = (DOCUMENT["preprocess"] + DOCUMENT["generate"] + last) * 1000
    await contestant.run()
    return await latency(contestant, runs, path, warm_up=1)


async def post_latency(stack: Stack, runs: int = 60) -> dict[str, float]:
    """The API's own answer, milliseconds; each run ends before the next is asked for."""
    taken = []
    async with stack.client(timeout_s=30) as http:
        for _ in range(runs + 10):
            began = time.perf_counter()
            answer = (await http.post("/api/goals", json=BODY)).raise_for_status()
            taken.append((time.perf_counter() - began) * 1000)
            await http.get(answer.json()["links"]["events"])
    return {
        "p50": statistics.median(taken[10:]),
        "p95": statistics.quantiles(taken[10:], n=20)[-1],
    }


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    asyncio.run(main())

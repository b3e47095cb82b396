"""50 runs under way, the worker killed: how long until all are done, and what was asked twice."""

import asyncio
import collections
import time
from dataclasses import dataclass

import httpx

from benchmarks.rein import BODY
from devstack.controls import GeminiControl
from devstack.stack import Stack


@dataclass(frozen=True)
class Recovery:
    """`repeated`: calls made beyond one for each stage of each run. `in_flight`: at the kill."""

    seconds: float
    done: int
    repeated: int
    in_flight: int


async def recover(stack: Stack, gemini: GeminiControl, runs: int = 50) -> Recovery:
    """With the source document's latencies; the worker is started again at once."""
    before = len(await gemini.calls())
    async with httpx.AsyncClient(base_url=stack.urls["api"], timeout=90) as http:
        wait = {"Prefer": "wait=60"}
        waiting = [
            asyncio.create_task(http.post("/api/goals", json=BODY, headers=wait))
            for _ in range(runs)
        ]
        await gemini.wait_calls(before + runs + runs // 2)
        arrived = len(await gemini.calls())
        await stack.kill("worker")
        killed = time.perf_counter()
        await stack.start("worker")
        answers = await asyncio.gather(*waiting)
        seconds = time.perf_counter() - killed
    calls = (await gemini.calls())[before:]
    served = collections.Counter(call["stage"] for call in calls)
    done = sum(answer.json()["status"] == "success" for answer in answers)
    return Recovery(seconds, done, sum(served.values()) - 4 * runs, arrived - before)

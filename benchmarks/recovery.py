"""50 runs under way, the worker killed: how long until all are done, and what was asked twice."""

import asyncio
import collections
import time
from dataclasses import dataclass

import asyncpg

from benchmarks.rein import BODY
from devstack.controls import GeminiControl
from devstack.stack import Stack


@dataclass(frozen=True)
class Recovery:
    """`repeated`: calls beyond one for each stage of each run: what was under way at the kill.

    `bought_again`: of these, calls whose answer was stored already.
    """

    seconds: float
    done: int
    repeated: int
    bought_again: int


# Two answers to one request of one run, of which the first was stored before the second was asked.
BOUGHT_AGAIN = """
    SELECT count(*)
      FROM llm_calls first JOIN llm_calls again USING (trace_id, stage, request_sha256)
     WHERE first.state = 'answered' AND first.finished_at < again.started_at
       AND first.call_id <> again.call_id
"""


async def recover(stack: Stack, gemini: GeminiControl, runs: int = 50) -> Recovery:
    """With the source document's latencies; the worker is started again at once."""
    before = len(await gemini.calls())
    async with stack.client(timeout_s=90) as http:
        wait = {"Prefer": "wait=60"}
        waiting = [
            asyncio.create_task(http.post("/api/goals", json=BODY, headers=wait))
            for _ in range(runs)
        ]
        await gemini.wait_calls(before + runs + runs // 2)
        await stack.kill("worker")
        killed = time.perf_counter()
        await stack.start("worker")
        answers = await asyncio.gather(*waiting)
        seconds = time.perf_counter() - killed
    calls = (await gemini.calls())[before:]
    served = collections.Counter(call["stage"] for call in calls)
    done = sum(answer.json()["status"] == "success" for answer in answers)
    conn = await asyncpg.connect(stack.urls["postgres"])
    bought_again = await conn.fetchval(BOUGHT_AGAIN)
    await conn.close()
    return Recovery(seconds, done, sum(served.values()) - 4 * runs, bought_again)

"""50 runs under way, a worker killed: how long until all goes on, and what was asked twice."""

import asyncio
import collections
import time
from dataclasses import dataclass, replace

import asyncpg

from benchmarks.rein import BODY
from devstack.controls import GeminiControl
from devstack.processes import Child
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


@dataclass(frozen=True)
class TakeOver:
    """`cut` calls were at a worker when it was killed; all ran again after `seconds`."""

    cut: int
    seconds: float


# OF_ONE counts the calls that are under way at the worker $1. ALL_RUN tells whether $2 calls are
# under way at living workers, and $3 of them at the worker $1.
OF_ONE = """
    SELECT count(*) FROM llm_calls JOIN workers USING (worker_id)
     WHERE state = 'reserved' AND identity LIKE $1
"""
ALL_RUN = """
    SELECT count(*) = $2 AND count(*) FILTER (WHERE identity LIKE $1) = $3
      FROM llm_calls JOIN workers USING (worker_id) WHERE state = 'reserved'
"""


async def take_over(stack: Stack, gemini: GeminiControl, runs: int = 50) -> TakeOver:
    """Two workers, all runs in the same stage, whose calls hang; one of the workers is killed."""
    spec, doomed = stack.children["worker"].spec, f"{stack.pid('worker')}@%"
    conn = await asyncpg.connect(stack.urls["postgres"])
    other = await Child.spawn(replace(spec, name="other", log=spec.log.with_name("other.log")))
    await _until(conn, "SELECT count(*) = 2 FROM workers")
    await gemini.close_gate("generate")
    async with stack.client(timeout_s=90) as http:
        wait = {"Prefer": "wait=60"}
        waiting = [
            asyncio.create_task(http.post("/api/goals", json=BODY, headers=wait))
            for _ in range(runs)
        ]
        await gemini.wait_waiting("generate", runs)
        cut = await conn.fetchval(OF_ONE, doomed)
        killed = time.perf_counter()
        await stack.kill("worker")
        await _until(conn, ALL_RUN, doomed, runs, 0)
        seconds = time.perf_counter() - killed
        await gemini.open_gate("generate")
        await asyncio.gather(*waiting)
    await stack.start("worker")
    await other.stop()
    await conn.close()
    return TakeOver(cut, seconds)


async def _until(conn: asyncpg.Connection, query: str, *values: object) -> None:
    while not await conn.fetchval(query, *values):  # noqa: ASYNC110 - rows do not call
        await asyncio.sleep(0.02)

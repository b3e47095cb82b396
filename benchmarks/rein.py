"""Rein itself: API, ledger, rows, tracing, shipper; Temporal on a durable file."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from benchmarks.calls import GOAL
from benchmarks.measure import Contestant
from devstack.stack import Stack

BODY = {"goal": GOAL, "user_id": "bench"}


@asynccontextmanager
async def rein(stack: Stack) -> AsyncIterator[Contestant]:
    """One run: POST, and the answer when it is done."""
    async with stack.client(timeout_s=60) as http:

        async def run() -> None:
            answer = await http.post("/api/goals", json=BODY, headers={"Prefer": "wait=55"})
            if answer.json()["status"] != "success":
                raise RuntimeError(answer.text)

        names = {"server": "temporal", "worker": "worker", "api": "api", "shipper": "shipper"}
        yield Contestant("Rein", run, {name: stack.pid(each) for name, each in names.items()})  # type: ignore[arg-type]


async def drained(database: str) -> None:
    """Returns when everything has been shipped, so that nothing of it falls into the next trial."""
    conn = await asyncpg.connect(database)
    try:
        while await conn.fetchval("SELECT count(*) FROM trace_outbox WHERE state = 'pending'"):
            await conn.execute("SELECT pg_sleep(0.2)")
    finally:
        await conn.close()

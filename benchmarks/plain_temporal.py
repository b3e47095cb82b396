"""Plain temporalio: defaults everywhere, an untuned server.

Started as a script it is the worker.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from temporalio.client import Client
from temporalio.worker import Worker

from benchmarks import calls
from benchmarks.measure import Contestant
from benchmarks.plain_workflow import Activities, PlainWorkflow
from devstack.stack import Stack
from devstack.temporal import TemporalOptions
from llm.gemini import Gemini

QUEUE = "plain"


@asynccontextmanager
async def plain_temporal(state: Path, database: str, gemini_url: str) -> AsyncIterator[Contestant]:
    """A server of its own, in memory, as `temporal server start-dev` comes; a worker process."""
    options = TemporalOptions(tuned=False, file=False, ui=False)
    async with Stack(state, services={"temporal"}, temporal=options) as stack:
        address = stack.urls["temporal"]
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.plain_temporal"),
            env={**os.environ, "BENCH": f"{address} {database} {gemini_url}"},
        )
        client = await Client.connect(address)

        async def run() -> None:
            await client.execute_workflow(
                PlainWorkflow.run, id=str(calls.new_run()), task_queue=QUEUE
            )

        await run()
        pids = {"server": stack.pid("temporal"), "worker": worker.pid}
        yield Contestant("plain temporalio, untuned", run, pids)
        worker.terminate()
        await worker.wait()


async def serve() -> None:
    """The worker, until it is terminated."""
    address, database, gemini_url = os.environ["BENCH"].split(" ")
    async with asyncpg.create_pool(database, min_size=5, max_size=10) as pool:
        await pool.execute(calls.TABLE)
        activities = Activities(Gemini(api_key="local-stand-in", base_url=gemini_url), pool)
        await Worker(
            await Client.connect(address),
            task_queue=QUEUE,
            workflows=[PlainWorkflow],
            activities=[
                activities.preprocess,
                activities.generate,
                activities.evaluate,
                activities.plan,
                activities.store,
            ],
        ).run()


if __name__ == "__main__":
    asyncio.run(serve())

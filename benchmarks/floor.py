"""The floor: a plain asyncio program that makes the same calls and inserts. Nothing survives."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from benchmarks.calls import TABLE, evaluate, generate, new_run, plan, preprocess, store
from benchmarks.measure import Contestant
from llm.gemini import Gemini


@asynccontextmanager
async def floor(database: str, gemini_url: str) -> AsyncIterator[Contestant]:
    """Runs in the driver's own process."""
    gemini = Gemini(api_key="local-stand-in", base_url=gemini_url)
    async with asyncpg.create_pool(database, min_size=10, max_size=10) as pool:
        await pool.execute(TABLE)

        async def run() -> None:
            this = new_run()
            goal = await preprocess(gemini)
            await store(pool, this, "preprocess", goal)
            resolution = await generate(gemini, goal)
            await store(pool, this, "generate", resolution)
            await asyncio.gather(
                _then_store(pool, this, "evaluate", evaluate(gemini, resolution)),
                _then_store(pool, this, "plan", plan(gemini, goal, resolution)),
            )

        yield Contestant("floor: plain asyncio", run, {})
    await gemini.aclose()


async def _then_store(pool: "asyncpg.Pool", run, stage: str, answer) -> None:  # type: ignore[no-untyped-def]
    await store(pool, run, stage, await answer)

"""The same pipeline in DBOS on the same PostgreSQL; evaluate beside plan."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
from dbos import DBOS, DBOSConfig

from benchmarks import calls
from benchmarks.measure import Contestant
from llm.gemini import Gemini


@dataclass
class World:
    """What the steps use; DBOS steps are plain functions."""

    gemini: Gemini
    pool: "asyncpg.Pool"


_world: list[World] = []


@DBOS.step()
async def preprocess() -> str:
    return await calls.preprocess(_world[-1].gemini)


@DBOS.step()
async def generate(goal: str) -> str:
    return await calls.generate(_world[-1].gemini, goal)


@DBOS.step()
async def evaluate(resolution: str) -> str:
    return await calls.evaluate(_world[-1].gemini, resolution)


@DBOS.step()
async def plan(goal: str, resolution: str) -> str:
    return await calls.plan(_world[-1].gemini, goal, resolution)


@DBOS.step()
async def store(results: dict[str, str]) -> None:
    run = calls.new_run()
    for stage, body in results.items():
        await calls.store(_world[-1].pool, run, stage, body)


@DBOS.workflow()
async def pipeline() -> None:
    goal = await preprocess()
    resolution = await generate(goal)
    evaluation, weeks = await asyncio.gather(evaluate(resolution), plan(goal, resolution))
    await store({"preprocess": goal, "generate": resolution, "evaluate": evaluation, "plan": weeks})


@asynccontextmanager
async def dbos_pipeline(database: str, gemini_url: str) -> AsyncIterator[Contestant]:
    """Runs in the driver's own process, as DBOS does in its application's."""
    config = DBOSConfig(name="bench", system_database_url=database, log_level="ERROR")
    DBOS(config=config)
    DBOS.launch()
    async with asyncpg.create_pool(database, min_size=5, max_size=10) as pool:
        await pool.execute(calls.TABLE)
        _world.append(World(Gemini(api_key="local-stand-in", base_url=gemini_url), pool))

        async def run() -> None:
            handle = await DBOS.start_workflow_async(pipeline)
            await handle.get_result(polling_interval_sec=0.01)

        yield Contestant("DBOS", run, {})
    DBOS.destroy()

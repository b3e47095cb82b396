"""The bench, with real PostgreSQL and the model stand-in."""

from collections.abc import AsyncIterator

import pytest

from activities.goals import GoalActivities
from activities.stage import StageRunner
from db.pool import Pools, acquire, transaction
from db.prompts import insert_prompt_version
from devstack.controls import GeminiControl
from domain.callers import LOCAL_TENANT
from llm.gemini import Gemini
from prompts.library import files, parse
from tests.activities.bench import WORKER, Bench, stored_run


@pytest.fixture
async def bench(postgres_url: str, gemini_standin: GeminiControl) -> AsyncIterator[Bench]:
    gemini = Gemini(api_key="local-stand-in", base_url=gemini_standin.url)
    async with Pools.connected(postgres_url, size=4, name="test") as pools:
        async with acquire(pools.operations) as conn:
            for file in files():
                await insert_prompt_version(conn, file.stage, file.version, file.sha256, file.body)
            await conn.execute("INSERT INTO workers VALUES ($1, 'test')", WORKER)
        async with transaction(pools.application, LOCAL_TENANT) as conn:
            request = await stored_run(conn)
        repair = next(file for file in files() if file.stage == "repair")
        stages = StageRunner(
            pools.application,
            gemini,
            repair=parse(repair.stage, repair.version, repair.body),
            timeout_s=5,
            worker_id=WORKER,
        )
        yield Bench(pools.operations, GoalActivities(stages), request)
    await gemini.aclose()

"""A dead worker is noticed and its work begun again; a living one is left alone."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
import pytest
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.workers import WorkerWatch, this_worker
from db import workers
from db.pool import Pools, acquire
from db.workers import WorkerRow, insert_worker, select_absent_workers
from domain.runs import workflow_id
from tests.conftest import TemporalServer
from tests.factories import Runs

pytestmark = pytest.mark.stack

NEVER = timedelta(hours=1)


@workflow.defn
class Busy:
    @workflow.run
    async def run(self) -> int:
        attempt: int = await workflow.execute_activity(
            "hang_at_first", start_to_close_timeout=NEVER, heartbeat_timeout=NEVER
        )
        return attempt


@dataclass
class House:
    """A run whose activity is at a worker that `dead` names."""

    url: str
    pools: Pools
    client: Client
    dead: WorkerRow
    busy: WorkflowHandle[Busy, int]

    def watch(self, me: WorkerRow | None = None) -> WorkerWatch:
        return WorkerWatch(self.url, self.pools.operations, self.client, me or this_worker())

    async def worker_ids(self) -> set[int]:
        async with acquire(self.pools.operations) as conn:
            return {row["worker_id"] for row in await conn.fetch("SELECT * FROM workers")}


@pytest.fixture
async def house(
    postgres_url: str, temporal: TemporalServer, request: pytest.FixtureRequest
) -> AsyncIterator[House]:
    begun = asyncio.Event()

    @activity.defn
    async def hang_at_first() -> int:
        begun.set()
        if activity.info().attempt == 1:
            await asyncio.Event().wait()
        return activity.info().attempt

    client, dead, queue = await Client.connect(temporal.address), this_worker(), request.node.name
    worker = Worker(
        client,
        identity=dead.identity,
        task_queue=queue,
        workflows=[Busy],
        activities=[hang_at_first],
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    async with Pools.connected(postgres_url, size=4, name="test") as pools, worker:
        trace_id = await Runs(pools).accepted()
        busy = await client.start_workflow(
            Busy.run, id=workflow_id("goal_generation", trace_id), task_queue=queue
        )
        await begun.wait()
        yield House(postgres_url, pools, client, dead, busy)


async def test_what_a_dead_worker_did_is_begun_again(house: House) -> None:
    life = await asyncpg.connect(house.url)
    await insert_worker(life, house.dead)
    async with house.watch().watching(), house.watch().watching():
        life.terminate()
        assert await house.busy.result() == 2
        assert house.dead.worker_id not in await house.worker_ids()


async def test_the_work_of_others_is_left_alone(house: House) -> None:
    other = this_worker()
    life = await asyncpg.connect(house.url)
    await insert_worker(life, other)
    async with house.watch().watching():
        life.terminate()
        while other.worker_id in await house.worker_ids():  # noqa: ASYNC110 - rows do not call
            await asyncio.sleep(0.05)
    description = await house.busy.describe()
    assert [each.attempt for each in description.raw_description.pending_activities] == [1]


async def test_a_worker_whose_connection_is_cut_comes_back(house: House) -> None:
    alive = house.watch(house.dead)
    async with alive.watching(), house.watch().watching():
        admin = await asyncpg.connect(house.url)
        cut = await admin.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_locks"
            " WHERE locktype = 'advisory' AND objid = $1",
            house.dead.worker_id,
        )
        await admin.close()
        assert cut == 1
        async with acquire(house.pools.operations) as conn:
            while await select_absent_workers(conn):  # noqa: ASYNC110 - locks do not call
                await asyncio.sleep(0.02)
        assert house.dead.worker_id in await house.worker_ids()


async def test_a_worker_that_stops_leaves_nothing_to_take_over(house: House) -> None:
    me = this_worker()
    async with house.watch(me).watching():
        assert me.worker_id in await house.worker_ids()
    assert await house.worker_ids() == set()


async def test_a_worker_that_cannot_be_counted_does_not_start(house: House) -> None:
    admin = await asyncpg.connect(house.url)
    await admin.execute("DROP TABLE workers CASCADE")
    await admin.close()
    with pytest.raises(asyncpg.UndefinedTableError):
        async with house.watch().watching():
            raise AssertionError("it started")


async def test_nobody_is_dead_when_postgresql_has_just_started(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with acquire(house.pools.operations) as conn:
        await conn.execute("INSERT INTO workers VALUES ($1, $2)", *house.dead)
        monkeypatch.setattr(workers, "RETURN_S", 10**6)
        assert await select_absent_workers(conn) == []
        monkeypatch.setattr(workers, "RETURN_S", 0)
        assert await select_absent_workers(conn) == [house.dead]

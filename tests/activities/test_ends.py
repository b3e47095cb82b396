"""How the end of a run is recorded, when there is more than one of them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from activities.runs import record_end
from db.pool import Pools, acquire, transaction
from domain.callers import LOCAL_TENANT
from tests.factories import FINISH, PROJECT, goal_request, store_accepted
from tracing import RunEnd

pytestmark = pytest.mark.stack


@pytest.fixture
async def pools(postgres_url: str) -> AsyncIterator[Pools]:
    async with Pools.connected(postgres_url, size=2, name="test") as pools:
        yield pools


async def test_what_lies_between_an_end_and_a_reset_is_no_time_of_the_run(pools: Pools) -> None:
    accepted, request = datetime(2026, 10, 1, tzinfo=UTC), goal_request()
    reset = accepted + timedelta(days=30)

    async def end(run: str, at: datetime) -> int:
        failed = RunEnd(
            trace_id=request.trace_id,
            project=PROJECT,
            status="failed",
            ended_at=at,
            error_type="OUTPUT_INVALID",
        )
        async with acquire(pools.operations) as conn, conn.transaction():
            assert await record_end(conn, failed, run, FINISH)
            # As if the event was written when the run ended, not now.
            await conn.execute("UPDATE run_events SET at = $1 WHERE kind = 'finished'", at)
            found: int = await conn.fetchval("SELECT duration_ms FROM runs")
        return found

    async with transaction(pools.application, LOCAL_TENANT) as conn:
        await store_accepted(conn, request, at=accepted)
    assert await end("first", accepted + timedelta(seconds=10)) == 10_000
    async with acquire(pools.operations) as conn:
        await conn.execute(
            """
            INSERT INTO run_events (tenant_id, trace_id, seq, key, kind, message, at)
            VALUES ('local', $1, 50, 'again', 'stage_started', 'Again', $2)
            """,
            request.trace_id,
            reset,
        )
    assert await end("second", reset + timedelta(seconds=5)) == 15_000

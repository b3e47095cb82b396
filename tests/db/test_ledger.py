"""A call is settled once, whoever comes later."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from db.ledger import reserve_call, settle_call
from db.pool import Pools, acquire, transaction
from domain.callers import LOCAL_TENANT
from domain.ledger import Settlement
from tests.factories import Runs

pytestmark = pytest.mark.stack

RESERVE = Decimal("0.004")


@pytest.fixture
async def stored(postgres_url: str) -> AsyncIterator[Runs]:
    async with Pools.connected(postgres_url, size=4, name="test") as pools:
        async with acquire(pools.operations) as conn:
            await conn.execute("INSERT INTO workers VALUES (1, 'test')")
        yield Runs(pools)


async def test_a_cancel_after_the_commit_leaves_the_answer_what_it_is(stored: Runs) -> None:
    trace_id = await stored.accepted()
    call = await stored.call(trace_id, reserved_usd=RESERVE)
    now = datetime.now(UTC)
    answered = Settlement(
        call_id=call.call_id, state="answered", finished_at=now, cost_usd=Decimal(1), answer="{}"
    )
    cut = Settlement(call_id=call.call_id, state="unknown", finished_at=now, cost_at_most=True)
    async with transaction(stored.pools.application, LOCAL_TENANT) as conn:
        assert await settle_call(conn, answered)
        assert not await settle_call(conn, cut)
    again = call.model_copy(update={"call_id": trace_id, "attempt": 2})
    async with transaction(stored.pools.application, LOCAL_TENANT) as conn:
        standing = await reserve_call(conn, again)
    assert standing.paid is not None
    assert (standing.paid.answer, standing.paid.cost_usd) == ("{}", Decimal(1))
    assert not standing.reserved


async def test_another_request_of_the_same_stage_is_another_call(stored: Runs) -> None:
    trace_id = await stored.accepted()
    call = await stored.call(trace_id, reserved_usd=RESERVE)
    other = call.model_copy(update={"call_id": trace_id, "request_sha256": "y"})
    async with transaction(stored.pools.application, LOCAL_TENANT) as conn:
        assert (await reserve_call(conn, other)).reserved

"""The end of a trace while others write to it: its totals, its locks, and what comes later."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from db.pool import Pool
from tests.tracing.shipping import waiting
from tracing import RunEnd, Score, TraceContext, close_trace, new_trace_id, open_trace, put_scores
from tracing.ids import uuid7
from tracing.outbox import Row, SpanState, write
from tracing.ship.queue import delete_sent

pytestmark = pytest.mark.stack

NOW = datetime.now(UTC)


class Made:
    """A trace with calls in it."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.context = TraceContext(trace_id=new_trace_id(NOW), project="right")
        self.trace_id = self.context.trace_id

    async def open(self) -> None:
        async with self.pool.acquire() as conn:
            await open_trace(conn, self.context, name="made", started_at=NOW, input={"a": 1})

    def call(self, name: str, cost: Decimal | None, finality: SpanState = SpanState.ENDED) -> Row:
        identity = uuid7(NOW, f"{self.trace_id}|{name}")
        payload: dict[str, object] = {
            "id": str(identity),
            "trace_id": str(self.trace_id),
            "name": name,
            "type": "llm",
            "start_time": NOW,
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        }
        if cost is not None:
            payload["total_estimated_cost"] = float(cost)
        return Row("span", str(identity), self.trace_id, "right", payload, NOW, finality)

    async def write(self, *rows: Row) -> None:
        async with self.pool.acquire() as conn, conn.transaction():
            await write(conn, rows)

    async def close(self, status: str = "success", at: datetime = NOW) -> None:
        end = RunEnd(trace_id=self.trace_id, project="right", status=status, ended_at=at)
        async with self.pool.acquire() as conn, conn.transaction():
            await close_trace(conn, end)

    async def root(self) -> dict[str, Any]:
        async with self.pool.acquire() as conn:
            found: dict[str, Any] = await conn.fetchval(
                "SELECT payload FROM trace_outbox WHERE kind = 'trace' AND id = $1",
                str(self.trace_id),
            )
        return found


@pytest.fixture
async def made(pool: Pool) -> Made:
    trace = Made(pool)
    await trace.open()
    return trace


async def test_costs_add_up_exactly(made: Made) -> None:
    costs = [Decimal("0.0001752"), Decimal("0.00038738"), Decimal("0.0000001")] * 30
    await made.write(*(made.call(f"c{n}", cost) for n, cost in enumerate(costs)))
    await made.close()
    assert (await made.root())["metadata"]["cost_usd"] == float(sum(costs))


async def test_an_unknown_cost_makes_the_whole_unknown(made: Made) -> None:
    await made.write(made.call("known", Decimal("0.5")), made.call("unknown", None))
    await made.close()
    facts = (await made.root())["metadata"]
    assert "cost_usd" not in facts
    assert (facts["total_tokens"], facts["calls_without_cost"]) == (30, 1)


async def test_costs_at_most_are_in_the_sum_and_told_apart(made: Made) -> None:
    known, most = made.call("known", Decimal("0.5")), made.call("most", Decimal("0.25"))
    most.payload["metadata"] = {"cost_at_most": True}
    del most.payload["usage"]
    await made.write(known, most)
    await made.close()
    facts = (await made.root())["metadata"]
    assert (facts["cost_usd"], facts["cost_unknown_usd"], facts["unknown_calls"]) == (0.75, 0.25, 1)
    await _forget_all(made.pool)
    await made.write(made.call("later", Decimal("0.25")))
    facts = (await made.root())["metadata"]
    assert (facts["cost_usd"], facts["cost_unknown_usd"], facts["unknown_calls"]) == (1, 0.25, 1)


async def test_a_cost_at_most_without_a_price_makes_the_whole_unknown(made: Made) -> None:
    most = made.call("most", None)
    most.payload["metadata"] = {"cost_at_most": True}
    del most.payload["usage"]
    await made.write(most)
    await made.close()
    facts = (await made.root())["metadata"]
    assert "cost_usd" not in facts
    assert (facts["calls_without_cost"], facts["unknown_calls"]) == (1, 1)


async def test_what_is_paid_after_the_end_counts_too(made: Made) -> None:
    await made.write(made.call("a", Decimal("0.5")))
    await made.close("cancelled")
    before = await made.root()
    await made.write(made.call("b", Decimal("0.25")))
    after = await made.root()
    assert (after["metadata"]["total_tokens"], after["metadata"]["cost_usd"]) == (30, 0.75)
    assert (after["end_time"], after["metadata"]["status"]) == (before["end_time"], "cancelled")


async def test_a_stage_stored_in_the_instant_of_the_end_counts(made: Made) -> None:
    await made.write(made.call("stage", None, SpanState.OPEN))
    async with made.pool.acquire() as conn:
        async with conn.transaction():
            await write(conn, [made.call("stage", Decimal("0.5")), made.call("b", Decimal("0.25"))])
            ending = asyncio.create_task(made.close())
            await waiting(made.pool)
        await ending
    assert (await made.root())["metadata"]["cost_usd"] == 0.75


async def test_stages_stored_in_the_same_instant_after_the_end_count_both(made: Made) -> None:
    await made.close()
    async with made.pool.acquire() as conn:
        async with conn.transaction():
            await write(conn, [made.call("a", Decimal("0.5"))])
            other = asyncio.create_task(made.write(made.call("b", Decimal("0.25"))))
            await waiting(made.pool)
        await other
    assert (await made.root())["metadata"]["cost_usd"] == 0.75


async def test_ending_and_a_late_stage_never_wait_for_each_other_in_a_circle(made: Made) -> None:
    # Rows of a run without header: a stage writes its span and its trace in one statement.
    rows = [made.call(f"s{n}", None, SpanState.OPEN) for n in range(3)]
    await made.write(*rows)
    first, blocker = await made.pool.acquire(), await made.pool.acquire()
    try:
        lock = "SELECT FROM trace_outbox WHERE kind = 'span' AND id = $1 FOR UPDATE"
        block = blocker.transaction()
        await block.start()
        await blocker.execute(lock, rows[0].id)
        closing = asyncio.create_task(made.close())
        await waiting(made.pool)
        transaction = first.transaction()
        await transaction.start()
        # Whoever ends a trace must not hold its root while it waits for a span of it.
        await first.execute(
            "SELECT FROM trace_outbox WHERE kind = 'trace' AND id = $1 FOR UPDATE NOWAIT",
            str(made.trace_id),
        )
        await transaction.rollback()
        await block.rollback()
        await closing
    finally:
        for conn in (first, blocker):
            await made.pool.release(conn)


async def _forget_all(pool: Pool) -> None:
    async with pool.acquire() as conn:
        await conn.execute(
            "UPDATE trace_outbox SET state = 'sent', sent_at = now() - interval '30 days'"
        )
        await delete_sent(conn, older_than=timedelta(days=14))


async def test_a_run_that_is_reset_after_its_spans_were_forgotten_keeps_its_trace(
    made: Made,
) -> None:
    await made.write(made.call("a", Decimal("0.5")))
    await made.close()
    await _forget_all(made.pool)
    await made.write(made.call("b", Decimal("0.25")))
    await made.close(at=NOW + timedelta(days=30))
    root = await made.root()
    assert (root["name"], root["input"]) == ("made", {"a": 1})
    assert (root["metadata"]["total_tokens"], root["metadata"]["cost_usd"]) == (30, 0.75)


async def test_a_score_finds_its_traces_project_long_after(made: Made) -> None:
    await made.close()
    await _forget_all(made.pool)
    async with made.pool.acquire() as conn:
        await put_scores(conn, made.trace_id, "another", [Score(name="rating", value=4)])
        assert await _projects(conn, made.trace_id) == {"right"}


async def _projects(conn: Any, trace_id: UUID) -> set[str]:
    rows = await conn.fetch("SELECT project FROM trace_outbox WHERE trace_id = $1", trace_id)
    return {row["project"] for row in rows}

"""Helpers of the shipper's tests: a running shipper, a trace for it to ship, and waiting."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from db.pool import Pool
from devstack.controls import OpikControl
from tracing import RunEnd, Score, TraceContext, close_trace, new_trace_id, open_trace, put_scores
from tracing.ids import uuid7
from tracing.outbox import Row, write
from tracing.ship.client import OpikClient
from tracing.ship.shipper import Shipper, ShipperOptions

QUICK = ShipperOptions(initial_backoff_s=0.05, max_backoff_s=0.2, denied_backoff_s=0.1, poll_s=0.05)


@asynccontextmanager
async def shipping(
    pool: Pool, opik_client: OpikClient, options: ShipperOptions = QUICK
) -> AsyncIterator[Shipper]:
    """A shipper that runs while the block does."""
    shipper = Shipper(pool, opik_client, options)
    task = asyncio.create_task(shipper.run())
    try:
        yield shipper
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def make_trace(pool: Pool, spans: int, *, at: datetime | None = None) -> UUID:
    """A closed trace in the outbox."""
    at = at or datetime.now(UTC)
    context = TraceContext(trace_id=new_trace_id(at), project="shipping")
    rows = [
        Row(
            "span",
            str(identity := uuid7(at, f"{context.trace_id}|{n}")),
            context.trace_id,
            "shipping",
            {
                "id": str(identity),
                "trace_id": str(context.trace_id),
                "parent_span_id": str(uuid7(at, f"{context.trace_id}|0")) if n else None,
                "name": f"span {n}",
                "type": "general",
                "start_time": at,
                "end_time": at + timedelta(seconds=1),
                "input": {"n": n},
            },
            at,
        )
        for n in range(spans)
    ]
    async with pool.acquire() as conn, conn.transaction():
        await open_trace(conn, context, name="shipped", started_at=at)
        await write(conn, rows)
        score = Score(name="evaluation_logged.overall", value=8.1, reason="fine")
        await put_scores(conn, context.trace_id, "shipping", [score])
        end = RunEnd(trace_id=context.trace_id, project="shipping", status="success", ended_at=at)
        await close_trace(conn, end, output={"ok": True})
    return context.trace_id


async def arrived(opik: OpikControl, trace_id: UUID, spans: int) -> dict[str, Any]:
    """Wait until a trace is whole in Opik."""
    return await opik.wait(
        trace_id=str(trace_id), ended=1, spans=spans, scores=1, closed_spans=1, timeout=20
    )


async def counts(pool: Pool) -> dict[str, int]:
    """Rows of the outbox by state."""
    async with pool.acquire() as conn:
        rows = await conn.fetch("SELECT state, count(*) AS n FROM trace_outbox GROUP BY state")
    return {row["state"]: row["n"] for row in rows}


async def become(pool: Pool, query: str) -> None:
    """Wait until a condition on the outbox holds; PostgreSQL has nothing to await for it."""
    async with pool.acquire() as conn, asyncio.timeout(20):
        while not await conn.fetchval(f"SELECT {query} FROM trace_outbox"):  # noqa: S608, ASYNC110
            await asyncio.sleep(0.02)


async def waiting(pool: Pool) -> None:
    """Wait until some connection waits for a lock."""
    asked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    async with pool.acquire() as conn, asyncio.timeout(10):
        # What others wait for is hidden from the role of operations.
        await conn.execute("SET ROLE NONE")
        while not await conn.fetchval(asked):  # noqa: ASYNC110 - PostgreSQL does not tell
            await asyncio.sleep(0.02)
        await conn.execute("SET ROLE rein_operations")

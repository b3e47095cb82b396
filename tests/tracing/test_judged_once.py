"""Opik's online rules judge a trace each time its end is sent, so the shipper sends it once."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from db.pool import Pool
from devstack.controls import OpikControl
from tests.tracing.shipping import QUICK, become, counts, make_trace, shipping
from tracing import RunEnd, Score, close_trace, put_scores
from tracing.ids import uuid7
from tracing.outbox import Row, write
from tracing.ship.client import OpikAddress, OpikClient
from tracing.ship.housekeeping import read_back
from tracing.ship.queue import claim, resend
from tracing.ship.shipper import Shipper

pytestmark = pytest.mark.stack

LATER = datetime.now(UTC) + timedelta(hours=1)
ALL_SENT = "bool_and(state = 'sent')"


@pytest.fixture
async def client(opik_receiver: OpikControl) -> AsyncIterator[OpikClient]:
    async with OpikClient(OpikAddress(opik_receiver.api_url, timeout_s=2)) as client:
        yield client


async def _late_call(pool: Pool, trace_id: UUID) -> None:
    """A model call that is stored after the end, which renews the totals of its trace."""
    identity = uuid7(LATER, f"late|{trace_id}")
    payload: dict[str, object] = {
        "id": str(identity),
        "trace_id": str(trace_id),
        "name": "late",
        "start_time": LATER,
        "end_time": LATER,
        "usage": {"total_tokens": 77},
    }
    async with pool.acquire() as conn, conn.transaction():
        await write(conn, [Row("span", str(identity), trace_id, "shipping", payload, LATER)])


async def _stored(opik: OpikControl, trace_id: UUID) -> dict[str, Any]:
    answer = await opik.http.get(f"/api/v1/private/traces/{trace_id}")
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("kind", ["429", "500", "502", "503", "404", "refuse", "cut", "hang"])
@pytest.mark.parametrize("path", ["traces/batch", "traces"])
async def test_once_under_every_fault_and_whatever_comes_later(
    pool: Pool, opik_receiver: OpikControl, client: OpikClient, kind: str, path: str
) -> None:
    await opik_receiver.fault(kind=kind, count=2, path=path)
    trace_id = await make_trace(pool, 3)
    async with shipping(pool, client):
        await become(pool, ALL_SENT)
        await _late_call(pool, trace_id)
        async with pool.acquire() as conn:
            await put_scores(conn, trace_id, "shipping", [Score(name="user_feedback", value=1)])
        await become(pool, ALL_SENT)
        async with pool.acquire() as conn:
            await resend(conn, trace_id=trace_id)
        await become(pool, ALL_SENT)
    trace = await _stored(opik_receiver, trace_id)
    assert trace["metadata"]["total_tokens"] == 77
    assert trace["end_time"]
    assert await opik_receiver.rule_triggers(str(trace_id)) == 1


async def test_once_though_rows_of_a_batch_make_the_server_fail(
    pool: Pool, opik_receiver: OpikControl, client: OpikClient
) -> None:
    traces = [await make_trace(pool, 1) for _ in range(4)]
    # The receiver stores the whole batch each time, and fails to say so.
    await opik_receiver.fault(kind="cut", path="traces/batch", count=1)
    await opik_receiver.fault(kind="500", path="traces", count=3)
    async with shipping(pool, client, replace(QUICK, bisect_after=0)):
        await become(pool, ALL_SENT)
    for trace_id in traces:
        assert await opik_receiver.rule_triggers(str(trace_id)) == 1


@pytest.mark.parametrize("sent", [True, False])
async def test_once_though_a_shipper_is_killed_before_it_can_note_what_it_sent(
    pool: Pool, opik_receiver: OpikControl, client: OpikClient, sent: bool
) -> None:
    trace_id = await make_trace(pool, 1)
    async with pool.acquire() as conn:
        rows = await claim(conn, "trace", rows=9, size=10**6, lease=timedelta(minutes=1))
        if sent:
            await client.send(rows)
        # The lease runs out; the test does not wait for it.
        await conn.execute(
            "UPDATE trace_outbox SET next_try_at = now(), end_lease = now() WHERE kind = 'trace'"
        )
    await Shipper(pool, client, QUICK).drain()
    assert await counts(pool) == {"sent": 3}
    assert (await _stored(opik_receiver, trace_id))["end_time"]
    assert await opik_receiver.rule_triggers(str(trace_id)) == 1


async def test_a_trace_that_changes_while_its_end_is_sent_waits_for_that(
    pool: Pool, opik_receiver: OpikControl, client: OpikClient
) -> None:
    trace_id = await make_trace(pool, 1)
    await opik_receiver.fault(kind="slow", seconds=1.5, count=1, path="traces/batch")
    sending = asyncio.create_task(Shipper(pool, client, QUICK).drain())
    await become(pool, "bool_or(next_try_at > now()) FILTER (WHERE kind = 'trace')")
    await _late_call(pool, trace_id)
    await Shipper(pool, client, QUICK).drain()
    assert not sending.done(), "the other shipper was to meet a trace that is being sent"
    await sending
    await Shipper(pool, client, QUICK).drain()
    assert (await _stored(opik_receiver, trace_id))["metadata"]["total_tokens"] == 77
    assert await opik_receiver.rule_triggers(str(trace_id)) == 1


async def test_a_run_that_ends_again_is_not_judged_again(
    pool: Pool, opik_receiver: OpikControl, client: OpikClient
) -> None:
    trace_id = await make_trace(pool, 1)
    await Shipper(pool, client, QUICK).drain()
    first = (await _stored(opik_receiver, trace_id))["end_time"]
    end = RunEnd(trace_id=trace_id, project="shipping", status="partial", ended_at=LATER)
    async with pool.acquire() as conn, conn.transaction():
        await close_trace(conn, end)
    await Shipper(pool, client, QUICK).drain()
    trace = await _stored(opik_receiver, trace_id)
    assert (trace["metadata"]["status"], trace["end_time"]) == ("partial", first)
    assert await opik_receiver.rule_triggers(str(trace_id)) == 1


async def test_an_end_that_opik_lost_is_sent_again(
    pool: Pool, opik_receiver: OpikControl, client: OpikClient
) -> None:
    since = datetime.now(UTC) - timedelta(minutes=1)
    await opik_receiver.fault(kind="lose", path="traces/batch", count=1)
    trace_id = await make_trace(pool, 1)
    await Shipper(pool, client, QUICK).drain()
    async with pool.acquire() as conn:
        assert await read_back(conn, client, since, LATER, sample=20) == 3
    await Shipper(pool, client, QUICK).drain()
    assert (await _stored(opik_receiver, trace_id))["end_time"]
    assert await opik_receiver.rule_triggers(str(trace_id)) == 1

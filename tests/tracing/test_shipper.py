"""Faults of Opik: nothing is lost, and the rest passes a poison row."""

import asyncio
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from db.pool import Pool
from devstack.controls import OpikControl
from tests.tracing.shipping import QUICK, arrived, become, counts, make_trace, shipping
from tracing.closing import RunEnd, close_trace
from tracing.context import TraceContext
from tracing.ids import new_trace_id, uuid7
from tracing.outbox import backlog, open_trace
from tracing.rows import Finality, Row, write
from tracing.ship.door import Door
from tracing.ship.housekeeping import read_back
from tracing.ship.queue import dead_rows, resend
from tracing.ship.shipper import Shipper

pytestmark = pytest.mark.stack

NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "429", "headers": {"RateLimit-Reset": "1"}},
        {"kind": "429", "headers": {"Retry-After": "1"}},
        {"kind": "429"},
        {"kind": "500"},
        {"kind": "503"},
        {"kind": "401"},
        {"kind": "403"},
        {"kind": "404"},
        {"kind": "refuse"},
        {"kind": "cut"},
        {"kind": "hang"},
    ],
    ids=lambda fault: "-".join([fault["kind"], *fault.get("headers", {})]),
)
async def test_after_any_fault_all_arrives(
    pool: Pool, opik_receiver: OpikControl, door: Door, fault: dict[str, Any]
) -> None:
    await opik_receiver.fault(**fault, count=2, path="batch|feedback")
    trace_id = await make_trace(pool, 20)
    async with shipping(pool, door):
        await arrived(opik_receiver, trace_id, 20)
        await become(pool, "count(*) = 22 AND bool_and(state = 'sent')")
    left = (await opik_receiver.http.get("/control/fault")).json()
    assert left == {"faults": []}, "the fault was never met"


async def test_a_poison_row_is_set_aside_with_its_reason_and_the_rest_passes(
    pool: Pool, opik_receiver: OpikControl, door: Door
) -> None:
    for status in (400, 413, 422):
        await opik_receiver.fault(kind="poison", match=f"span {status - 390}", status=status)
    trace_id = await make_trace(pool, 40)
    shipper = Shipper(pool, door, QUICK)
    await shipper.drain()
    await arrived(opik_receiver, trace_id, 37)
    assert await counts(pool) == {"sent": 39, "dead": 3}
    async with pool.acquire() as conn:
        assert (await backlog(conn)).dead == 3
        assert {reason.split()[0] for _, reason in await dead_rows(conn)} == {"400", "413", "422"}
        await opik_receiver.reset()
        assert await resend(conn) == 3
    await shipper.drain()
    assert await counts(pool) == {"sent": 42}


async def test_a_row_that_makes_the_server_fail_is_set_aside_too(
    pool: Pool, opik_receiver: OpikControl, door: Door
) -> None:
    await opik_receiver.fault(kind="poison", match="span 7", status=500)
    trace_id = await make_trace(pool, 20)
    pace = replace(QUICK, suspicious_after=1, row_tries=4, longest_wait_s=0.05)
    async with shipping(pool, door, pace):
        await arrived(opik_receiver, trace_id, 19)
        await become(pool, "count(*) FILTER (WHERE state = 'dead') = 1")


async def test_rows_that_the_server_lost_are_noticed_and_sent_again(
    pool: Pool, opik_receiver: OpikControl, door: Door
) -> None:
    since = datetime.now(UTC) - timedelta(minutes=1)
    await opik_receiver.fault(kind="lose", path="batch|feedback")
    trace_id = await make_trace(pool, 10)
    shipper = Shipper(pool, door, QUICK)
    await shipper.drain()
    assert await counts(pool) == {"sent": 12}
    await opik_receiver.reset()
    async with pool.acquire() as conn:
        until = datetime.now(UTC) + timedelta(seconds=1)
        assert await read_back(conn, door, since, until, sample=5) == 12
    await shipper.drain()
    await arrived(opik_receiver, trace_id, 10)
    async with pool.acquire() as conn:
        assert await read_back(conn, door, since, until, sample=20) == 0


async def test_a_row_that_changes_while_it_is_sent_is_sent_again(
    pool: Pool, opik_receiver: OpikControl, door: Door
) -> None:
    context = TraceContext(trace_id=new_trace_id(NOW), project="shipping")
    async with pool.acquire() as conn:
        await open_trace(conn, context, name="t", started_at=NOW)
    await opik_receiver.fault(kind="slow", seconds=1.5, count=1, path="traces/batch")
    sending = asyncio.create_task(Shipper(pool, door, QUICK).drain())
    await become(pool, "bool_and(next_try_at > now())")
    async with pool.acquire() as conn:
        end = RunEnd(trace_id=context.trace_id, project="p", status="success", ended_at=NOW)
        await close_trace(conn, end)
        assert not sending.done(), "an activity waited for Opik"
    await sending
    await Shipper(pool, door, QUICK).drain()
    await opik_receiver.wait(trace_id=str(context.trace_id), ended=1)


async def test_many_shippers_send_each_row_once(
    pool: Pool, opik_receiver: OpikControl, door: Door
) -> None:
    traces = [await make_trace(pool, 100) for _ in range(5)]
    await opik_receiver.http.delete("/control/requests")
    pace = replace(QUICK, batch_rows=50)
    taken = await asyncio.gather(*(Shipper(pool, door, pace).drain() for _ in range(4)))
    assert sum(taken) == 5 * 102
    items = (await opik_receiver.http.get("/control/requests")).json()["items"]
    assert items["/v1/private/spans/batch"] == 500
    for trace_id in traces:
        await arrived(opik_receiver, trace_id, 100)


async def test_large_rows_go_in_requests_of_limited_size(
    pool: Pool, opik_receiver: OpikControl, door: Door
) -> None:
    trace_id = new_trace_id(NOW)
    rows = [
        Row(
            "span",
            str(identity := uuid7(NOW, f"{trace_id}{n}")),
            trace_id,
            "shipping",
            {
                "id": str(identity),
                "trace_id": str(trace_id),
                "name": "large",
                "start_time": NOW,
                "output": {"text": "x" * 200_000},
            },
            NOW,
            Finality.ENDED,
        )
        for n in range(12)
    ]
    async with pool.acquire() as conn:
        await write(conn, rows[:4])
        await write(conn, rows[4:8])
        await write(conn, rows[8:])
    await opik_receiver.http.delete("/control/requests")
    await Shipper(pool, door, replace(QUICK, batch_bytes=500_000)).drain()
    seen = (await opik_receiver.http.get("/control/requests")).json()
    assert seen["items"]["/v1/private/spans/batch"] == 12
    assert seen["total"] >= 6


async def test_a_backlog_is_shipped_fast(
    pool: Pool,
    opik_receiver: OpikControl,
    door: Door,
    record_property: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    traces = [await make_trace(pool, 500) for _ in range(10)]
    began, cpu = time.monotonic(), time.process_time()
    await Shipper(pool, door).drain()
    took, burnt = time.monotonic() - began, time.process_time() - cpu
    assert await counts(pool) == {"sent": 5020}
    for trace_id in traces:
        await arrived(opik_receiver, trace_id, 500)
    record_property("spans_per_second", round(5000 / took))
    with capsys.disabled():
        sys.stdout.write(f"\n{5000 / took:.0f} spans/s, {burnt * 200:.1f} ms CPU a thousand\n")

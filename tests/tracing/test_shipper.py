"""When Opik fails, nothing is lost; when it refuses one row, the others still arrive."""

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
from tracing import (
    RunEnd,
    Score,
    TraceContext,
    backlog,
    close_trace,
    new_trace_id,
    open_trace,
    put_scores,
)
from tracing.ids import uuid7
from tracing.outbox import Row, SpanState, write
from tracing.ship.client import OpikClient
from tracing.ship.housekeeping import read_back
from tracing.ship.queue import dead_rows, resend, resend_window
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
    pool: Pool, opik_receiver: OpikControl, opik_client: OpikClient, fault: dict[str, Any]
) -> None:
    await opik_receiver.fault(**fault, count=2, path="batch|feedback")
    trace_id = await make_trace(pool, 20)
    async with shipping(pool, opik_client):
        await arrived(opik_receiver, trace_id, 20)
        await become(pool, "count(*) = 22 AND bool_and(state = 'sent')")
    left = (await opik_receiver.http.get("/control/faults")).json()
    assert left == {"faults": []}, "the fault was never met"


async def test_a_poison_row_is_set_aside_with_its_reason_and_the_rest_passes(
    pool: Pool, opik_receiver: OpikControl, opik_client: OpikClient
) -> None:
    for status in (400, 413, 422):
        await opik_receiver.fault(kind="poison", match=f"span {status - 390}", status=status)
    trace_id = await make_trace(pool, 40)
    shipper = Shipper(pool, opik_client, QUICK)
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
    pool: Pool, opik_receiver: OpikControl, opik_client: OpikClient
) -> None:
    await opik_receiver.fault(kind="poison", match="span 7", status=500)
    trace_id = await make_trace(pool, 20)
    options = replace(QUICK, bisect_after=1, max_row_attempts=4, max_backoff_s=0.05)
    async with shipping(pool, opik_client, options):
        await arrived(opik_receiver, trace_id, 19)
        await become(pool, "count(*) FILTER (WHERE state = 'dead') = 1")


async def test_rows_that_the_server_lost_are_noticed_and_sent_again(
    pool: Pool, opik_receiver: OpikControl, opik_client: OpikClient
) -> None:
    since = datetime.now(UTC) - timedelta(minutes=1)
    await opik_receiver.fault(kind="lose", path="batch|feedback")
    trace_id = await make_trace(pool, 10)
    shipper = Shipper(pool, opik_client, QUICK)
    await shipper.drain()
    assert await counts(pool) == {"sent": 12}
    await opik_receiver.reset()
    async with pool.acquire() as conn:
        until = datetime.now(UTC) + timedelta(seconds=1)
        assert await read_back(conn, opik_client, since, until, sample=5) == 12
    await shipper.drain()
    await arrived(opik_receiver, trace_id, 10)
    async with pool.acquire() as conn:
        assert await read_back(conn, opik_client, since, until, sample=20) == 0


async def test_many_rows_are_made_pending_in_slices(
    pool: Pool, opik_client: OpikClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracing.ship.queue.RESEND_SLICE", 5)
    trace_id = await make_trace(pool, 11)
    await Shipper(pool, opik_client, QUICK).drain()
    until = datetime.now(UTC) + timedelta(seconds=1)
    async with pool.acquire() as conn:
        assert await resend_window(conn, NOW - timedelta(minutes=1), until) == 13
        await conn.execute("UPDATE trace_outbox SET state = 'dead' WHERE kind = 'span'")
        assert await resend(conn) == 11
        await conn.execute("UPDATE trace_outbox SET state = 'sent'")
        assert await resend(conn, trace_id=trace_id) == 13
    assert await counts(pool) == {"pending": 13}


async def test_a_row_that_changes_while_it_is_sent_is_sent_again(
    pool: Pool, opik_receiver: OpikControl, opik_client: OpikClient
) -> None:
    context = TraceContext(trace_id=new_trace_id(NOW), project="shipping")
    async with pool.acquire() as conn:
        await open_trace(conn, context, name="t", started_at=NOW)
    await opik_receiver.fault(kind="slow", seconds=1.5, count=1, path="traces/batch")
    sending = asyncio.create_task(Shipper(pool, opik_client, QUICK).drain())
    await become(pool, "bool_and(next_try_at > now())")
    async with pool.acquire() as conn:
        end = RunEnd(trace_id=context.trace_id, project="p", status="success", ended_at=NOW)
        await close_trace(conn, end)
        assert not sending.done(), "an activity waited for Opik"
    await sending
    await Shipper(pool, opik_client, QUICK).drain()
    await opik_receiver.wait(trace_id=str(context.trace_id), ended=1)


async def test_many_shippers_send_each_row_once(
    pool: Pool, opik_receiver: OpikControl, opik_client: OpikClient
) -> None:
    traces = [await make_trace(pool, 100) for _ in range(5)]
    await opik_receiver.http.delete("/control/requests")
    options = replace(QUICK, batch_rows=50)
    taken = await asyncio.gather(*(Shipper(pool, opik_client, options).drain() for _ in range(4)))
    assert sum(taken) == 5 * 102
    items = (await opik_receiver.http.get("/control/requests")).json()["items"]
    assert items["/v1/private/spans/batch"] == 500
    for trace_id in traces:
        await arrived(opik_receiver, trace_id, 100)


async def test_large_rows_go_in_requests_of_limited_size(
    pool: Pool, opik_receiver: OpikControl, opik_client: OpikClient
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
            SpanState.ENDED,
        )
        for n in range(12)
    ]
    async with pool.acquire() as conn:
        await write(conn, rows[:4])
        await write(conn, rows[4:8])
        await write(conn, rows[8:])
    await opik_receiver.http.delete("/control/requests")
    await Shipper(pool, opik_client, replace(QUICK, batch_bytes=500_000)).drain()
    seen = (await opik_receiver.http.get("/control/requests")).json()
    assert seen["items"]["/v1/private/spans/batch"] == 12
    assert seen["routes"]["POST /v1/private/spans/batch"]["204"] >= 6


async def test_a_backlog_is_shipped_fast(
    pool: Pool,
    opik_receiver: OpikControl,
    opik_client: OpikClient,
    record_property: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    traces = [await make_trace(pool, 500) for _ in range(10)]
    began, cpu = time.monotonic(), time.process_time()
    await Shipper(pool, opik_client).drain()
    took, burnt = time.monotonic() - began, time.process_time() - cpu
    assert await counts(pool) == {"sent": 5020}
    for trace_id in traces:
        await arrived(opik_receiver, trace_id, 500)
    record_property("spans_per_second", round(5000 / took))
    with capsys.disabled():
        sys.stdout.write(f"\n{5000 / took:.0f} spans/s, {burnt * 200:.1f} ms CPU a thousand\n")


async def test_a_route_that_fails_does_not_hold_up_the_others(
    pool: Pool, opik_receiver: OpikControl, opik_client: OpikClient
) -> None:
    trace_id = await make_trace(pool, 5)
    await Shipper(pool, opik_client, QUICK).drain()
    await opik_receiver.fault(kind="503", path="traces/batch")
    async with pool.acquire() as conn:
        for _ in range(10):
            context = TraceContext(trace_id=new_trace_id(NOW), project="shipping")
            await open_trace(conn, context, name="t", started_at=NOW)
        score = Score(name="user_feedback.rating", value=5)
        await put_scores(conn, trace_id, "shipping", [score])
    # Traces that wait are always due: batches of one, and each comes back at once.
    options = replace(QUICK, batch_rows=1, initial_backoff_s=0.01, max_backoff_s=0.01)
    async with shipping(pool, opik_client, options):
        await opik_receiver.wait(trace_id=str(trace_id), scores=2, timeout=10)


async def test_an_endless_stream_of_one_kind_leaves_room_for_the_others(
    pool: Pool, opik_receiver: OpikControl, opik_client: OpikClient
) -> None:
    for _ in range(6):
        await make_trace(pool, 1)
    await opik_receiver.http.delete("/control/requests")
    await Shipper(pool, opik_client, replace(QUICK, batch_rows=1)).drain()
    seen = (await opik_receiver.http.get("/control/requests")).json()["recent"]
    assert {"/v1/private/spans/batch", "/v1/private/traces/batch"} <= {
        request["path"] for request in seen[:3]
    }


async def test_a_server_that_was_down_for_long_makes_no_row_guilty(
    pool: Pool, opik_receiver: OpikControl, opik_client: OpikClient
) -> None:
    await opik_receiver.fault(kind="500", path="batch|feedback", count=40)
    trace_id = await make_trace(pool, 20)
    options = replace(QUICK, bisect_after=1, max_row_attempts=3, max_backoff_s=0.01)
    async with shipping(pool, opik_client, options):
        await arrived(opik_receiver, trace_id, 20)
        await become(pool, "count(*) = 22 AND bool_and(state = 'sent')")


async def test_several_rows_that_make_the_server_fail_are_found_and_the_rest_passes(
    pool: Pool, opik_receiver: OpikControl, opik_client: OpikClient
) -> None:
    for n in range(0, 60, 6):
        await opik_receiver.fault(kind="poison", match=f"span {n}", status=500)
    trace_id = await make_trace(pool, 60)
    options = replace(QUICK, bisect_after=1, max_row_attempts=3, max_backoff_s=0.05)
    async with shipping(pool, opik_client, options):
        await arrived(opik_receiver, trace_id, 50)
        await become(pool, "count(*) FILTER (WHERE state = 'dead') = 10")


async def test_a_dead_server_is_not_asked_row_by_row(
    pool: Pool, opik_receiver: OpikControl, opik_client: OpikClient
) -> None:
    trace_id = await make_trace(pool, 200)
    shipper = Shipper(pool, opik_client, replace(QUICK, bisect_after=0))
    await opik_receiver.fault(kind="500", path="spans/batch")
    await opik_receiver.http.delete("/control/requests")
    await shipper.drain()
    seen = (await opik_receiver.http.get("/control/requests")).json()["routes"]
    assert seen["POST /v1/private/spans/batch"]["500"] < 20
    await opik_receiver.reset()
    async with shipping(pool, opik_client):
        await arrived(opik_receiver, trace_id, 200)


async def test_batches_are_measured_in_bytes(
    pool: Pool, opik_receiver: OpikControl, opik_client: OpikClient
) -> None:
    trace_id = new_trace_id(NOW)
    rows = []
    for n in range(4):
        identity = uuid7(NOW, f"{trace_id}{n}")
        payload: dict[str, object] = {
            "id": str(identity),
            "trace_id": str(trace_id),
            "name": "large",
            "start_time": NOW,
            "output": {"text": "目" * 50_000},
        }
        rows.append(Row("span", str(identity), trace_id, "shipping", payload, NOW))
    async with pool.acquire() as conn:
        await write(conn, rows)
    await opik_receiver.http.delete("/control/requests")
    await Shipper(pool, opik_client, replace(QUICK, batch_bytes=200_000)).drain()
    seen = (await opik_receiver.http.get("/control/requests")).json()
    assert seen["routes"]["POST /v1/private/spans/batch"] == {"204": 4}

"""What arrives in Opik: whole runs, late scores, and traces that waited for days."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from opik.rest_api.types.feedback_score_batch_item import FeedbackScoreBatchItem
from opik.rest_api.types.span_write import SpanWrite
from opik.rest_api.types.trace_write import TraceWrite

from db.pool import Pool
from devstack.controls import OpikControl
from devstack.opik.serving import running
from tests.tracing.conftest import Runner, dump, trace_of
from tests.tracing.sample import Step, Story, sample_worker
from tests.tracing.shipping import QUICK, arrived, counts, make_trace, shipping
from tracing import RunEnd, Score, TraceContext, close_trace, new_trace_id, open_trace, put_scores
from tracing.outbox import Kind
from tracing.ship.client import OpikAddress, OpikClient
from tracing.ship.queue import claim, delete_sent
from tracing.ship.shipper import Shipper

pytestmark = pytest.mark.stack

NOW = datetime.now(UTC)


async def test_a_real_run_arrives_whole_and_once(
    runner: Runner, opik_receiver: OpikControl, opik_client: OpikClient
) -> None:
    story = Story(steps=[Step(name="preprocessing"), Step(name="generation", failing=[1])])
    async with (
        sample_worker(runner.client, runner.pool, runner.queue),
        shipping(runner.pool, opik_client),
    ):
        handle = await runner.start(story)
        await handle.result()
        await arrived(opik_receiver, UUID(trace_of(handle)), 8)
    query = {"trace_id": trace_of(handle), "project_name": "tracing-tests", "size": "100"}
    spans = (await opik_receiver.http.get("/api/v1/private/spans", params=query)).json()
    trace = (await opik_receiver.http.get(f"/api/v1/private/traces/{query['trace_id']}")).json()
    rows = [{**span, "_kind": "span"} for span in spans["content"]]
    assert dump([{**trace, "_kind": "trace"}, *rows]) == await runner.tree(trace_of(handle))
    assert trace["usage"]["total_tokens"] == 375
    assert trace["total_estimated_cost"] == pytest.approx(0.005)
    assert [score["value"] for score in trace["feedback_scores"]] == [7.5]


async def test_all_that_is_sent_fits_the_clients_own_models(runner: Runner) -> None:
    async with sample_worker(runner.client, runner.pool, runner.queue):
        handle = await runner.start(Story(steps=[Step(name="generation", failing=[1])]))
        await handle.result()
    models: dict[Kind, Any] = {
        "trace": TraceWrite,
        "span": SpanWrite,
        "score": FeedbackScoreBatchItem,
    }
    async with runner.pool.acquire() as conn:
        await conn.execute("UPDATE trace_outbox SET next_try_at = now(), sent_at = now()")
        for kind, model in models.items():
            rows = await claim(
                conn,
                kind,
                rows=100,
                size=10**7,
                lease=timedelta(seconds=1),
            )
            assert rows
            for row in rows:
                wire = json.loads(row.wire)
                assert wire.keys() <= model.model_fields.keys()
                checked = model.model_validate(wire, strict=False)
                assert checked.project_name == "tracing-tests"


@asynccontextmanager
async def web_page() -> AsyncIterator[str]:
    """A server that answers everything with a page, as a proxy or a wrong address does."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        page = b"<html>Welcome</html>"
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/html\r\n")
        writer.write(b"content-length: %d\r\n\r\n%b" % (len(page), page))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api"


async def test_a_page_with_status_200_is_no_yes(pool: Pool) -> None:
    await make_trace(pool, 2)
    async with web_page() as url, OpikClient(OpikAddress(url)) as client:
        await Shipper(pool, client, QUICK).drain()
    assert await counts(pool) == {"pending": 4}


async def test_scores_wait_for_their_trace(
    pool: Pool, opik_receiver: OpikControl, opik_client: OpikClient
) -> None:
    await opik_receiver.fault(kind="500", path="traces/batch")
    await make_trace(pool, 1)
    await Shipper(pool, opik_client, QUICK).drain()
    async with pool.acquire() as conn:
        rows = await claim(conn, "score", rows=10, size=10**6, lease=timedelta(seconds=1))
    assert rows == []


async def test_a_score_that_comes_weeks_later_arrives(
    pool: Pool, opik_receiver: OpikControl, opik_client: OpikClient
) -> None:
    trace_id = await make_trace(pool, 1)
    shipper = Shipper(pool, opik_client, QUICK)
    await shipper.drain()
    async with pool.acquire() as conn:
        await conn.execute("UPDATE trace_outbox SET sent_at = now() - interval '30 days'")
        assert await delete_sent(conn, older_than=timedelta(days=14)) == 2
        await put_scores(
            conn, trace_id, "shipping", [Score(name="user_feedback.rating", value=4.5)]
        )
    await shipper.drain()
    await opik_receiver.wait(trace_id=str(trace_id), scores=2)


async def test_a_score_that_is_taken_back_leaves_the_trace(
    pool: Pool, opik_receiver: OpikControl, opik_client: OpikClient
) -> None:
    trace_id = await make_trace(pool, 1)
    names = [f"user_feedback.{name}" for name in ("clarity", "motivation", "never_sent")]
    shipper = Shipper(pool, opik_client, QUICK)
    async with pool.acquire() as conn:
        await put_scores(conn, trace_id, "shipping", [Score(name=n, value=1) for n in names[:2]])
    await shipper.drain()
    async with pool.acquire() as conn:
        taken_back = [Score(name=name, value=None) for name in names[1:]]
        await put_scores(conn, trace_id, "shipping", taken_back)
    await shipper.drain()
    assert await counts(pool) == {"sent": 6}
    trace = (await opik_receiver.http.get(f"/api/v1/private/traces/{trace_id}")).json()
    told = {score["name"] for score in trace["feedback_scores"]}
    assert told == {"evaluation_logged.overall", "user_feedback.clarity"}


async def test_rows_of_an_open_trace_are_not_forgotten(pool: Pool) -> None:
    context = TraceContext(trace_id=new_trace_id(NOW), project="p")
    async with pool.acquire() as conn:
        await open_trace(conn, context, name="t", started_at=NOW)
        await conn.execute(
            "UPDATE trace_outbox SET state = 'sent', sent_at = now() - interval '30 days'"
        )
        assert await delete_sent(conn, older_than=timedelta(days=14)) == 0


async def test_a_week_without_opik(
    pool: Pool, opik_receiver: OpikControl, opik_client: OpikClient
) -> None:
    trace_id = await make_trace(pool, 5, at=datetime.now(UTC) - timedelta(days=7))
    await Shipper(pool, opik_client, QUICK).drain()
    await arrived(opik_receiver, trace_id, 5)


async def test_a_week_without_an_opik_that_refuses_old_ids(pool: Pool, tmp_path: Path) -> None:
    old = await make_trace(pool, 5, at=datetime.now(UTC) - timedelta(days=7))
    new = await make_trace(pool, 5)
    async with (
        running(tmp_path / "opik.db", id_window="24h") as url,
        OpikControl(url) as opik,
        OpikClient(OpikAddress(opik.api_url)) as opik_client,
    ):
        shipper = Shipper(pool, opik_client, QUICK)
        while await shipper.drain():
            continue
        await arrived(opik, new, 5)
        assert await counts(pool) == {"sent": 14}
        query = {"trace_id": str(old), "project_name": "shipping"}
        spans = (await opik.http.get("/api/v1/private/spans", params=query)).json()["content"]
        trace = (await opik.http.get(f"/api/v1/private/traces/{old}")).json()
    assert trace["name"] == "shipped"
    assert trace["metadata"]["started_at"]
    (top,) = [span for span in spans if not span.get("parent_span_id")]
    assert {span.get("parent_span_id") for span in spans} == {None, top["id"]}
    assert len(spans) == 5


async def test_a_trace_open_for_a_day_is_closed_by_an_update(pool: Pool, tmp_path: Path) -> None:
    began = datetime.now(UTC) - timedelta(hours=21)
    context = TraceContext(trace_id=new_trace_id(began), project="shipping")
    async with (
        running(tmp_path / "opik.db") as url,
        OpikControl(url) as opik,
        OpikClient(OpikAddress(opik.api_url)) as opik_client,
        pool.acquire() as conn,
    ):
        await open_trace(conn, context, name="long", started_at=began, input={"a": 1})
        shipper = Shipper(pool, opik_client, QUICK)
        await shipper.drain()
        end = RunEnd(trace_id=context.trace_id, project="shipping", status="success", ended_at=NOW)
        await close_trace(conn, end, output={"b": 2})
        await shipper.drain()
        trace = (await opik.http.get(f"/api/v1/private/traces/{context.trace_id}")).json()
        seen = (await opik.http.get("/control/requests")).json()["routes"]
    assert seen["PATCH /v1/private/traces/{id}"] == {"204": 1}
    assert (trace["name"], trace["input"], trace["output"]) == ("long", {"a": 1}, {"b": 2})
    assert trace["end_time"]
    assert trace["start_time"].startswith(began.strftime("%Y-%m-%dT%H:%M:%S"))

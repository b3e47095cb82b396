"""Rows that are older than Opik creates arrive nevertheless, with no duplicate and no orphan."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from db.pool import Pool
from devstack.controls import OpikControl
from devstack.opik.rules import IdWindow
from devstack.opik.serving import running
from tests.tracing.shipping import QUICK, counts, make_trace
from tracing import TraceContext, new_trace_id, open_trace
from tracing.ids import uuid7
from tracing.outbox import Row, SpanState, write
from tracing.ship.client import OpikAddress, OpikClient
from tracing.ship.queue import resend
from tracing.ship.shipper import Shipper

pytestmark = pytest.mark.stack

NOW = datetime.now(UTC)
LONG_AGO = NOW - timedelta(days=7)


@asynccontextmanager
async def opik_at(
    file: Path, window: IdWindow = "24h"
) -> AsyncIterator[tuple[OpikControl, OpikClient]]:
    """A receiver of the test's own, which refuses old ids unless told otherwise."""
    async with (
        running(file, id_window=window) as url,
        OpikControl(url) as opik,
        OpikClient(OpikAddress(opik.api_url)) as opik_client,
    ):
        yield opik, opik_client


async def ship_all(pool: Pool, opik_client: OpikClient) -> None:
    """Ship until nothing is due any more."""
    shipper = Shipper(pool, opik_client, QUICK)
    while await shipper.drain():
        continue


async def spans_of(opik: OpikControl, trace_id: UUID) -> list[dict[str, Any]]:
    """The spans that Opik has."""
    query = {"trace_id": str(trace_id), "project_name": "shipping", "size": "100"}
    answer = await opik.http.get("/api/v1/private/spans", params=query)
    spans: list[dict[str, Any]] = answer.json()["content"]
    return spans


def tree(spans: Sequence[dict[str, Any]]) -> set[tuple[str, str]]:
    """Each span's name with its parent's."""
    names = {span["id"]: span["name"] for span in spans}
    parents = [(span["name"], span.get("parent_span_id")) for span in spans]
    return {(name, names.get(above, "ORPHAN") if above else "") for name, above in parents}


class Old:
    """A stage that began long ago, in a trace as old."""

    def __init__(self) -> None:
        self.context = TraceContext(trace_id=new_trace_id(LONG_AGO), project="shipping")
        self.trace_id = self.context.trace_id
        self.stage = uuid7(LONG_AGO, f"stage|{self.trace_id}")

    def span(
        self,
        name: str,
        parent: UUID | None = None,
        *,
        born: datetime = LONG_AGO,
        finality: SpanState = SpanState.ENDED,
        at: datetime = NOW,
    ) -> Row:
        identity = self.stage if name == "stage" else uuid7(born, f"{name}|{self.trace_id}")
        payload = {
            "id": str(identity),
            "trace_id": str(self.trace_id),
            "name": name,
            "start_time": born,
            **({"parent_span_id": str(parent)} if parent else {}),
            **({"end_time": at} if finality else {}),
        }
        return Row("span", str(identity), self.trace_id, "shipping", payload, at, finality)

    async def store(self, pool: Pool, *rows: Row) -> None:
        async with pool.acquire() as conn:
            await open_trace(conn, self.context, name="old", started_at=LONG_AGO)
            await write(conn, rows)


async def test_an_old_trace_sent_again_is_not_doubled(pool: Pool, tmp_path: Path) -> None:
    file = tmp_path / "opik.db"
    trace_id = await make_trace(pool, 5, at=LONG_AGO)
    async with opik_at(file, window="off") as (opik, opik_client):
        await ship_all(pool, opik_client)
    async with pool.acquire() as conn:
        assert await resend(conn, trace_id=trace_id) == 7
    async with opik_at(file) as (opik, opik_client):
        await ship_all(pool, opik_client)
        spans = await spans_of(opik, trace_id)
    assert len(spans) == 5
    assert await counts(pool) == {"sent": 7}


async def test_an_old_trace_that_opik_lost_is_there_after_sending_it_again(
    pool: Pool, tmp_path: Path
) -> None:
    trace_id = await make_trace(pool, 5, at=LONG_AGO)
    async with opik_at(tmp_path / "lost.db", window="off") as (_, opik_client):
        await ship_all(pool, opik_client)
    async with pool.acquire() as conn:
        await resend(conn, trace_id=trace_id)
    async with opik_at(tmp_path / "empty.db") as (opik, opik_client):
        await ship_all(pool, opik_client)
        spans = await spans_of(opik, trace_id)
    assert tree(spans) == {("span 0", ""), *((f"span {n}", "span 0") for n in range(1, 5))}
    assert all(span["start_time"] > "2000" for span in spans)


async def test_a_young_step_of_an_old_stage_follows_it(pool: Pool, tmp_path: Path) -> None:
    old = Old()
    await old.store(pool, old.span("stage"), old.span("call", old.stage, born=NOW))
    async with opik_at(tmp_path / "opik.db") as (opik, opik_client):
        await ship_all(pool, opik_client)
        assert tree(await spans_of(opik, old.trace_id)) == {("stage", ""), ("call", "stage")}
    assert await counts(pool) == {"sent": 3}


async def test_a_young_step_that_was_sent_first_follows_its_stage(
    pool: Pool, tmp_path: Path
) -> None:
    old = Old()
    await old.store(pool, old.span("call", old.stage, born=NOW))
    async with opik_at(tmp_path / "opik.db") as (opik, opik_client):
        await ship_all(pool, opik_client)
        await old.store(pool, old.span("stage"))
        await ship_all(pool, opik_client)
        assert tree(await spans_of(opik, old.trace_id)) == {("stage", ""), ("call", "stage")}


async def test_a_stage_that_goes_on_after_it_was_renewed_stays_one_span(
    pool: Pool, tmp_path: Path
) -> None:
    old = Old()
    await old.store(pool, old.span("stage", finality=SpanState.OPEN))
    async with opik_at(tmp_path / "opik.db") as (opik, opik_client):
        async with pool.acquire() as conn:
            await conn.execute("UPDATE trace_outbox SET next_try_at = now()")
        await ship_all(pool, opik_client)
        later = NOW + timedelta(seconds=1)
        ended = old.span("stage", at=later)
        await old.store(pool, ended, old.span("call", old.stage, born=NOW, at=later))
        await ship_all(pool, opik_client)
        spans = await spans_of(opik, old.trace_id)
    assert tree(spans) == {("stage", ""), ("call", "stage")}
    assert len(spans) == 2
    assert all(span.get("end_time") for span in spans)


async def test_what_waits_for_days_after_it_was_renewed_is_renewed_again(
    pool: Pool, tmp_path: Path
) -> None:
    old = Old()
    await old.store(pool, old.span("stage"), old.span("call", old.stage))
    async with opik_at(tmp_path / "opik.db") as (opik, opik_client):
        # As if they had been renewed two days ago, and Opik had been away again since.
        async with pool.acquire() as conn:
            for row in (old.span("stage"), old.span("call")):
                await renewed_at(conn, row.id, NOW - timedelta(days=2))
        await ship_all(pool, opik_client)
        assert tree(await spans_of(opik, old.trace_id)) == {("stage", ""), ("call", "stage")}


async def renewed_at(conn: Any, row: str, at: datetime) -> None:
    """Store what a shipper that renewed the id at that time would have stored."""
    await conn.execute(
        "UPDATE trace_outbox SET wire_id = $2 WHERE kind = 'span' AND id = $1",
        row,
        uuid7(at, f"late|{row}"),
    )

"""A run of the sample with everything real around it, and whole trees as text."""

import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHandle

from db import pool as database
from db.pool import Pool
from devstack.controls import OpikControl
from tests.conftest import TemporalServer
from tests.tracing.sample import PROJECT, Outcome, SampleWorkflow, Story, connected
from tracing import TraceContext, attach, new_trace_id, open_trace
from tracing.redaction import configure
from tracing.ship.client import OpikAddress, OpikClient

Rows = list[dict[str, Any]]


@dataclass
class Runner:
    """Starts runs as the API does, and reads what the outbox holds of them."""

    client: Client
    pool: Pool
    url: str
    queue: str = field(default_factory=lambda: f"tracing-{uuid.uuid4().hex[:8]}")

    async def start(self, story: Story) -> WorkflowHandle[SampleWorkflow, Outcome]:
        """The row first, then the workflow; its id ends in the trace's."""
        context = TraceContext(
            trace_id=new_trace_id(datetime.now(UTC)), project=PROJECT, thread_id="goal-1"
        )
        async with self.pool.acquire() as conn:
            await open_trace(
                conn,
                context,
                name="sample_pipeline",
                started_at=datetime.now(UTC),
                input={"goal": "secret"},
                metadata={"user_id": "u-1"},
                tags=["sample"],
            )
        with attach(context):
            return await self.client.start_workflow(
                SampleWorkflow.run,
                story,
                id=f"sample-{context.trace_id}",
                task_queue=self.queue,
            )

    async def rows(self, trace_id: str | None = None) -> Rows:
        """The payloads in the outbox, each with its kind and state."""
        async with self.pool.acquire() as conn:
            found = await conn.fetch(
                "SELECT kind, state, finality, payload::text AS payload FROM trace_outbox"
                " WHERE $1::uuid IS NULL OR trace_id = $1 ORDER BY kind, id",
                trace_id,
            )
        return [{**json.loads(row["payload"]), **_about(row)} for row in found]

    async def tree(self, trace_id: str) -> str:
        """The trace as an indented tree."""
        return dump(await self.rows(trace_id))


def _about(row: Any) -> dict[str, Any]:
    return {"_kind": row["kind"], "_state": row["state"], "_finality": row["finality"]}


def trace_of(handle: WorkflowHandle[Any, Any]) -> str:
    """The trace that the workflow's id names."""
    return handle.id.removeprefix("sample-")


def dump(rows: Rows) -> str:
    """An indented tree: name, error, and whether a span is still open."""
    spans = [row for row in rows if row["_kind"] == "span"]
    (root,) = [row for row in rows if row["_kind"] == "trace"]
    lines = [_line(root)]
    known = {span["id"] for span in spans}
    lines += [f"ORPHAN {span['name']}" for span in spans if _parent(span) not in {None, *known}]
    _below(spans, None, 1, lines)
    return "\n".join(lines)


def _below(spans: Rows, parent: str | None, depth: int, lines: list[str]) -> None:
    level = [span for span in spans if _parent(span) == parent]
    for span in sorted(level, key=lambda span: (span["start_time"], span["id"])):
        lines.append("  " * depth + _line(span))
        _below(spans, span["id"], depth + 1, lines)


def _parent(span: dict[str, Any]) -> str | None:
    parent: str | None = span.get("parent_span_id")
    return parent


def _line(row: dict[str, Any]) -> str:
    error = row.get("error_info")
    said = f" ! {error['exception_type']}" if error else ""
    return f"{row['name']}{said}" + ("" if row.get("end_time") else " …")


@pytest.fixture
async def pool(postgres_url: str) -> AsyncIterator[Pool]:
    async with database.connect(postgres_url, size=10, role="rein_operations") as made:
        yield made


@pytest.fixture
async def runner(temporal: TemporalServer, pool: Pool, postgres_url: str) -> Runner:
    return Runner(await connected(temporal.address), pool, postgres_url)


@pytest.fixture
async def opik_client(opik_receiver: OpikControl) -> AsyncIterator[OpikClient]:
    async with OpikClient(OpikAddress(opik_receiver.api_url, timeout_s=2)) as made:
        yield made


@pytest.fixture
def text_mode() -> Iterator[Callable[..., None]]:
    """`configure`, undone after the test."""
    yield configure
    configure("full")

"""`python -m benchmarks.tracing`: the comparison table of docs/tracing.md."""

import asyncio
import os
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import opik
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle

from benchmarks.tracing import ways
from benchmarks.tracing.collector import Collector, Span, collecting
from benchmarks.tracing.cost import cost_table, costs
from benchmarks.tracing.sample import QUEUE, TracedWorkflow
from benchmarks.tracing.verdict import Verdict, table, verdict
from db.pool import Pool, acquire
from db.pool import connect as connect_database
from devstack.stack import Stack
from tracing import TraceContext, attach, close_trace, lost_end, new_trace_id, open_trace

SETTLE_S = 8  # longer than OpenTelemetry's five seconds and opik's two
RUNS = ("worker killed", "terminated")


class Comparison:
    """One stack, one collector; each way does each run on them."""

    def __init__(self, stack: Stack, collector: Collector) -> None:
        self.stack = stack
        self.collector = collector
        self.env = {
            **os.environ,
            **stack.env,
            "ARRIVED_URL": f"{collector.url}/arrived",
            "OTLP_URL": collector.url,
            "OPIK_PROJECT_NAME": "comparison",
            "OPIK_SENTRY_ENABLE": "false",
            "OPIK_ANALYTICS_ENABLE": "false",
        }
        os.environ.update(self.env)
        ways.export_spans()  # the starter's own spans, which the workflow's hang on

    async def run(self, way: str, what: str) -> Verdict:
        """Start, crash, wait until everything that will come has come, and judge."""
        print(f"{way}: {what}", file=sys.stderr, flush=True)
        self.collector.spans.clear()
        self.collector.rung.clear()
        await self._forget()
        client = await Client.connect(self.stack.urls["temporal"], **ways.client_options(way))
        worker = await self._worker(way)
        trace_id = new_trace_id(datetime.now(UTC))
        running = await self._start(client, way, trace_id)
        await asyncio.wait_for(self.collector.rung.wait(), 60)
        if what == "terminated":
            await running.handle.terminate("comparison")
        else:
            worker.kill()
            await worker.wait()
            worker = await self._worker(way)
        await running.end()
        if way == ways.REIN and what == "terminated":
            await self._reconcile(trace_id)
        worker.terminate()
        await worker.wait()
        await asyncio.sleep(SETTLE_S)
        spans, open_traces, traces = await self._found(way)
        return verdict(way, what, spans, traces, open_traces)

    async def _worker(self, way: str) -> asyncio.subprocess.Process:
        words = [sys.executable, "-m", "benchmarks.tracing.worker", way]
        return await asyncio.create_subprocess_exec(*words, env=self.env)

    async def _start(self, client: Client, way: str, trace_id: UUID) -> "Running":
        options: dict[str, Any] = {
            "id": f"{way}-{trace_id}",
            "task_queue": f"{QUEUE}-{way}",
            "task_timeout": timedelta(seconds=2),
        }
        if way == ways.TRACK:
            trace = opik.Opik(project_name="comparison").trace(name="traced")
            span = trace.span(name="workflow")
            headers = {"opik_trace_id": trace.id, "opik_parent_span_id": span.id}
            handle = await client.start_workflow(TracedWorkflow.run, headers, **options)
            return Running(handle, [span, trace])
        if way != ways.REIN:
            handle = await client.start_workflow(TracedWorkflow.run, {}, **options)
            return Running(handle, [])
        context = TraceContext(trace_id=trace_id, project="comparison")
        async with (
            await connect_database(
                self.env["DATABASE_URL"], size=2, role="rein_operations"
            ) as pool,
            acquire(pool) as conn,
        ):
            await open_trace(conn, context, name="traced", started_at=datetime.now(UTC))
        with attach(context):
            handle = await client.start_workflow(TracedWorkflow.run, {}, **options)
        return Running(handle, [])

    def pool(self) -> Pool:
        return connect_database(self.env["DATABASE_URL"], size=2, role="rein_operations")

    async def _reconcile(self, trace_id: UUID) -> None:
        """What Rein's reconciler does within a minute."""
        async with (
            await connect_database(
                self.env["DATABASE_URL"], size=2, role="rein_operations"
            ) as pool,
            acquire(pool) as conn,
        ):
            end = lost_end(trace_id, "terminated", datetime.now(UTC), project="comparison")
            await close_trace(conn, end)

    async def _forget(self) -> None:
        async with httpx.AsyncClient(base_url=self.stack.urls["opik"]) as http:
            await http.delete("/control/store")

    async def _found(self, way: str) -> tuple[list[Span], int, int]:
        """The spans, the traces that never ended, and how many traces there are."""
        if way in (ways.INTERCEPTOR, ways.PLUGIN):
            spans = self.collector.spans
            ended = {span.trace for span in spans if span.name.startswith("RunWorkflow")}
            traces = {span.trace for span in spans}
            return spans, len(traces - ended), len(traces)
        async with httpx.AsyncClient(base_url=self.stack.urls["opik"] + "/api/v1/private") as http:
            query = {"project_name": "comparison", "size": "500"}
            traces = (await http.get("/traces", params=query)).json()["content"]
            rows = (await http.get("/spans", params=query)).json()["content"]
        open_traces = sum("end_time" not in trace for trace in traces)
        return [_span(row, rows) for row in rows], open_traces, len(traces)


class Running:
    """A started run; the opik client's user ends the trace when the result is there."""

    def __init__(self, handle: WorkflowHandle[Any, str], opened: list[Any]) -> None:
        self.handle = handle
        self._opened = opened

    async def end(self) -> None:
        try:
            await asyncio.wait_for(self.handle.result(), 60)
        except WorkflowFailureError:
            pass
        finally:
            for each in self._opened:
                await asyncio.to_thread(each.end)
            await asyncio.to_thread(opik.flush_tracker)


def _span(row: dict[str, Any], rows: list[dict[str, Any]]) -> Span:
    parents = {each.get("parent_span_id") for each in rows}
    leaf = row["id"] not in parents
    return Span(
        id=row["id"],
        parent=row.get("parent_span_id"),
        trace=row["trace_id"],
        name=row["name"],
        ended="end_time" in row,
        attempt=row["id"] if leaf else None,
    )


async def main() -> None:
    found = []
    with tempfile.TemporaryDirectory(prefix="rein-tracing-") as folder:
        os.chmod(folder, 0o755)  # noqa: S103 - PostgreSQL's own user has to pass
        services = {"postgres", "temporal", "opik", "shipper"}
        env = {"OPIK_PROJECT_NAME": "comparison"}
        async with (
            Stack(Path(folder) / "stack", services=services, env=env, durable=False) as stack,  # type: ignore[arg-type]
            collecting() as collector,
        ):
            comparison = Comparison(stack, collector)
            for way in ways.WAYS:
                for what in RUNS:
                    found.append(await comparison.run(way, what))
            print(table(found))
            print(cost_table(*await costs(stack)))
    sys.stdout.flush()
    os._exit(0)  # a living temporalio client may abort a usual exit


if __name__ == "__main__":
    asyncio.run(main())

"""What is known after everything: Rein's rows, its traces, its workflows, the provider's ledger."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import asyncpg
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus

from devstack.controls import GeminiControl, OpikControl
from devstack.stack import Stack

Row = dict[str, Any]
PROJECT = "rein-ai-coaching"
PAGE = 1000

RUNS = "SELECT *, trace_id::text AS run FROM runs"
CALLS = "SELECT *, call_id::text AS id, trace_id::text AS run FROM llm_calls ORDER BY started_at"
EVENTS = """
    SELECT trace_id::text AS run, seq, (data ->> 'attempt')::integer AS attempt
      FROM run_events ORDER BY trace_id, seq
"""
FEEDBACK = "SELECT trace_id::text AS run, rating, revision FROM feedback"
OUTBOX = "SELECT kind, id, state, error FROM trace_outbox"


@dataclass(frozen=True)
class Facts:
    """Everything, read when nothing happens any more; by trace id unless said otherwise.

    Attributes:
        calls: Rows of the spend ledger, oldest first.
        judged: How often Opik's online rules would have judged the trace.
        executions: By workflow id, newest first.
        served: The calls that the provider bills, from its own ledger.
    """

    runs: list[Row]
    calls: dict[str, list[Row]]
    events: dict[str, list[Row]]
    feedback: dict[str, list[Row]]
    outbox: list[Row]
    traces: dict[str, list[Row]]
    spans: dict[str, list[Row]]
    judged: dict[str, int]
    executions: dict[str, list[WorkflowExecution]]
    served: list[Row]

    @property
    def all_calls(self) -> list[Row]:
        return [*chain.from_iterable(self.calls.values())]


async def read_facts(
    stack: Stack, gemini: GeminiControl, opik: OpikControl, temporal: Client
) -> Facts:
    """Read everything; all parts must be up."""
    runs, calls, events, feedback, outbox = await _fetch(
        stack, RUNS, CALLS, EVENTS, FEEDBACK, OUTBOX
    )
    traces = await _all(opik, "traces")
    return Facts(
        runs=runs,
        calls=_by("run", calls),
        events=_by("run", events),
        feedback=_by("run", feedback),
        outbox=outbox,
        traces=_by("id", traces),
        spans=_by("trace_id", await _all(opik, "spans")),
        judged={trace["id"]: await opik.rule_triggers(trace["id"]) for trace in traces},
        executions=await _executions(temporal),
        served=[line for line in await gemini.calls() if line["served"]],
    )


async def count_unfinished(stack: Stack, temporal: Client) -> dict[str, int]:
    """What is still under way; empty when nothing is."""
    executions = await _executions(temporal)
    runs, outbox = await _fetch(stack, RUNS, OUTBOX)
    counts = {
        "runs": sum(not is_closed(run, executions[run["workflow_id"]]) for run in runs),
        "rows for Opik": sum(row["state"] == "pending" for row in outbox),
    }
    return {what: count for what, count in counts.items() if count}


def is_closed(run: Row, executions: list[WorkflowExecution]) -> bool:
    """Whether a run's row tells the end of its newest execution: a reset makes another one."""
    if run["finished_at"] is None or not executions:
        return False
    newest = executions[0]
    ended = newest.status != WorkflowExecutionStatus.RUNNING
    return ended and newest.run_id == run["workflow_run_id"]


async def _fetch(stack: Stack, *queries: str) -> list[list[Row]]:
    # The login is a member of `rein_operations`, so it meets the rows of every tenant.
    conn = await asyncpg.connect(stack.urls["postgres"], timeout=5)
    try:
        return [[dict(row) for row in await conn.fetch(query)] for query in queries]
    finally:
        await conn.close()


async def _executions(temporal: Client) -> dict[str, list[WorkflowExecution]]:
    listed = temporal.list_workflows("ReinKind = 'goal_generation'", page_size=PAGE)
    found: dict[str, list[WorkflowExecution]] = defaultdict(list)
    for execution in sorted([each async for each in listed], key=lambda each: each.start_time):
        found[execution.id].insert(0, execution)
    return found


async def _all(opik: OpikControl, table: str) -> list[Row]:
    """All traces, or all spans, page by page."""
    found: list[Row] = []
    while True:
        answer = await opik.http.get(
            f"/api/v1/private/{table}",
            params={"project_name": PROJECT, "size": PAGE, "page": len(found) // PAGE + 1},
        )
        page = answer.raise_for_status().json()
        found += page["content"]
        if not page["content"] or len(found) >= page["total"]:
            return found


def _by(name: str, rows: Iterable[Row]) -> dict[str, list[Row]]:
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row[name]].append(row)
    return grouped

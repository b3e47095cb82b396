"""The stack as its users see it: a backend service, an operator, an analyst."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import Client, ScheduleOverlapPolicy

from devstack.controls import GeminiControl, OpikControl
from devstack.stack import Stack

STAGES = ["preprocessing_stage", "generation_stage", "evaluation_stage", "planning_stage"]


class Backend:
    """A backend service: starts goals, follows them, reads results, sends feedback."""

    def __init__(self, stack: Stack) -> None:
        self.http = stack.client(timeout_s=60)

    async def submit(self, goal: str, **fields: Any) -> str:
        """Send a goal and return its trace id."""
        body = {"goal": goal, "user_id": f"user-{uuid4().hex[:8]}", **fields}
        answer = await self.http.post("/api/goals", json=body)
        assert answer.status_code == 202, answer.text
        trace_id: str = answer.json()["trace_id"]
        return trace_id

    async def get(self, trace_id: str) -> dict[str, Any]:
        answer = await self.http.get(f"/api/goals/{trace_id}")
        assert answer.status_code == 200, answer.text
        run: dict[str, Any] = answer.json()
        return run

    async def events(self, trace_id: str, *, until: str = "finished") -> list[dict[str, Any]]:
        """The run's events, up to and including the first of kind `until`."""
        found: list[dict[str, Any]] = []
        async with self.http.stream("GET", f"/api/runs/{trace_id}/events") as stream:
            kind = ""
            async for line in stream.aiter_lines():
                if line.startswith("event:"):
                    kind = line.removeprefix("event:").strip()
                if line.startswith("data:"):
                    found.append({"kind": kind, **json.loads(line.removeprefix("data:"))})
                    if kind == until:
                        break
        return found

    async def finished(self, trace_id: str) -> dict[str, Any]:
        """Wait for the end of a run (no polling: the event says it) and read it."""
        await self.events(trace_id)
        return await self.get(trace_id)


async def reconcile_now(operator: Client) -> None:
    """Have a round made at once; the one that is due comes within a minute."""
    schedule = operator.get_schedule_handle("reconcile-rein")
    await schedule.trigger(overlap=ScheduleOverlapPolicy.ALLOW_ALL)


class Analyst:
    """An analyst: reads traces from Opik."""

    def __init__(self, control: OpikControl) -> None:
        self.control = control

    async def trace(self, trace_id: str, **wanted: str | int) -> dict[str, Any]:
        """The trace as soon as it has ended and what is `wanted` (spans=12, scores=5) is there."""
        await self.control.wait(trace_id=trace_id, ended=1, closed_spans=1, **wanted)
        answer = await self.control.http.get(f"/api/v1/private/traces/{trace_id}")
        found: dict[str, Any] = answer.json()
        return found

    async def spans(self, trace_id: str) -> list[dict[str, Any]]:
        answer = await self.control.http.get(
            "/api/v1/private/spans",
            params={"trace_id": trace_id, "size": 500, "project_name": "rein-ai-coaching"},
        )
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["content"]
        return found

    async def tree(self, trace_id: str, spans: int) -> list[str]:
        """The trace's `spans` spans, indented, in the pipeline's order; errors in brackets."""
        await self.trace(trace_id, spans=spans)
        return tree(await self.spans(trace_id))


def tree(spans: list[dict[str, Any]]) -> list[str]:
    """Spans as indented lines. A span whose parent is missing is shown as an orphan."""
    ids = {span["id"] for span in spans}

    def order(span: dict[str, Any]) -> tuple[int, str, str]:
        name = span["name"]
        return (STAGES.index(name) if name in STAGES else 99, span["start_time"], name)

    def lines(parent: str | None, depth: int) -> list[str]:
        found: list[str] = []
        for span in sorted(spans, key=order):
            if span.get("parent_span_id") == parent:
                error = span.get("error_info")
                mark = f" [{error['exception_type']}]" if error else ""
                found += [f"{'  ' * depth}{span['name']}{mark}", *lines(span["id"], depth + 1)]
        return found

    orphans = [
        f"orphan: {span['name']}"
        for span in spans
        if span.get("parent_span_id") and span["parent_span_id"] not in ids
    ]
    return lines(None, 0) + orphans


@pytest.fixture
async def backend(stack: Stack) -> AsyncIterator[Backend]:
    backend = Backend(stack)
    yield backend
    await backend.http.aclose()


@pytest.fixture
def analyst(stack_opik: OpikControl) -> Analyst:
    return Analyst(stack_opik)


@pytest.fixture
def gemini(stack_gemini: GeminiControl) -> GeminiControl:
    return stack_gemini

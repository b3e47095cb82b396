"""What every kind of run has, once and in one place. A new kind is one line in SUBMISSIONS."""

from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from temporalio.client import Client

from devstack.controls import GeminiControl
from devstack.stack import Stack
from workflows.kinds import KINDS

from .conftest import Analyst, Backend, reconcile_now

pytestmark = pytest.mark.stack


class Submission(NamedTuple):
    """How a run of a kind is asked for."""

    path: str
    body: dict[str, Any]
    gate: str
    """What the model stand-in calls its first stage; "other" where its answer tells no stage."""


SUBMISSIONS = {
    "goal_generation": Submission(
        "/api/goals",
        {"goal": "I want to run a 5K by end of Q1", "user_id": "user-1"},
        gate="preprocess",
    )
}
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
async def operator(stack: Stack) -> Client:
    return await Client.connect(stack.urls["temporal"])


async def _accepted(backend: Backend, kind: str, **headers: str) -> dict[str, Any]:
    path, body, _ = SUBMISSIONS[kind]
    answer = await backend.http.post(path, json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    run: dict[str, Any] = answer.json()
    return run


async def _ended(backend: Backend, trace_id: str) -> dict[str, Any]:
    await backend.events(trace_id)
    run: dict[str, Any] = (await backend.http.get(f"/api/runs/{trace_id}")).json()
    return run


async def _held(backend: Backend, gemini: GeminiControl, kind: str) -> str:
    """A run whose first stage waits for the model."""
    gate = SUBMISSIONS[kind].gate
    await gemini.close_gate(gate)
    trace_id: str = (await _accepted(backend, kind))["trace_id"]
    await gemini.wait_waiting(gate)
    return trace_id


@each_kind
async def test_is_accepted_started_watched_and_listed(
    backend: Backend, analyst: Analyst, operator: Client, kind: str
) -> None:
    key = uuid4().hex
    run = await _accepted(backend, kind, **{"Idempotency-Key": key})
    trace_id = run["trace_id"]
    again = await backend.http.post(
        SUBMISSIONS[kind].path, json=SUBMISSIONS[kind].body, headers={"Idempotency-Key": key}
    )
    assert again.json()["trace_id"] == trace_id
    events = await backend.events(trace_id)
    assert events[0]["kind"] == "accepted"
    assert {event["stage"] for event in events if event["stage"]} == set(KINDS[kind].stage_names())
    ended = await _ended(backend, trace_id)
    assert (ended["kind"], ended["status"]) == (kind, "success")
    assert ended["cost_usd"] is not None
    assert (await backend.http.get(run["links"]["result"])).status_code == 200
    listed = (await backend.http.get("/api/runs", params={"kind": kind})).json()["items"]
    assert trace_id in {item["trace_id"] for item in listed}
    workflow = await operator.get_workflow_handle(f"{kind}-{trace_id}").describe()
    assert workflow.search_attributes["ReinKind"] == [kind]
    assert workflow.search_attributes["ReinTenant"] == ["local"]
    assert (await analyst.trace(trace_id))["name"] == KINDS[kind].trace


@each_kind
async def test_is_cancelled(backend: Backend, gemini: GeminiControl, kind: str) -> None:
    trace_id = await _held(backend, gemini, kind)
    answer = await backend.http.post(f"/api/runs/{trace_id}/cancel")
    assert answer.status_code == 202, answer.text
    assert (await _ended(backend, trace_id))["status"] == "cancelled"


@each_kind
async def test_survives_its_worker(
    stack: Stack, backend: Backend, gemini: GeminiControl, kind: str
) -> None:
    trace_id = await _held(backend, gemini, kind)
    await stack.kill("worker")
    await gemini.open_gate(SUBMISSIONS[kind].gate)
    await stack.start("worker")
    assert (await _ended(backend, trace_id))["status"] == "success"


@each_kind
async def test_ended_from_outside_it_is_reconciled(
    backend: Backend, analyst: Analyst, gemini: GeminiControl, operator: Client, kind: str
) -> None:
    trace_id = await _held(backend, gemini, kind)
    await operator.get_workflow_handle(f"{kind}-{trace_id}").terminate("not needed")
    await reconcile_now(operator)
    assert (await _ended(backend, trace_id))["status"] == "terminated"
    trace = await analyst.trace(trace_id)
    assert trace["error_info"]["exception_type"] == "WorkflowTerminated"


@each_kind
async def test_is_repeated_and_rated(backend: Backend, analyst: Analyst, kind: str) -> None:
    source = (await _accepted(backend, kind))["trace_id"]
    await _ended(backend, source)
    stage = KINDS[kind].stage_names()[-1]
    answer = await backend.http.post(f"/api/runs/{source}/rerun", json={"from_stage": stage})
    assert answer.status_code == 202, answer.text
    again = await _ended(backend, answer.json()["trace_id"])
    assert (again["status"], again["rerun"]["source_trace_id"]) == ("success", source)
    body = {"trace_id": again["trace_id"], "user_id": "user-1", "rating": 4.5}
    assert (await backend.http.post("/api/feedback", json=body)).status_code == 201
    said = (await backend.http.get(f"/api/runs/{again['trace_id']}/feedback")).json()
    assert said["average"] == 4.5
    trace = await analyst.trace(again["trace_id"], scores=1)
    assert trace["name"] == KINDS[kind].trace


def test_every_kind_is_asked_for_here() -> None:
    assert SUBMISSIONS.keys() == KINDS.keys()

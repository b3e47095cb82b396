"""What an operator sees of runs: the columns of the list, the card, the worker's metrics."""

import asyncio
import sys
from decimal import Decimal
from typing import Any

import pytest
from temporalio.client import Client

from devstack.controls import GeminiControl
from devstack.stack import Stack

from .conftest import Analyst, Backend

pytestmark = pytest.mark.stack
GOAL = "I want to run a 5K by end of Q1"


@pytest.fixture
async def operator(stack: Stack) -> Client:
    return await Client.connect(stack.urls["temporal"])


async def _columns(operator: Client, trace_id: str) -> dict[str, Any]:
    handle = operator.get_workflow_handle(f"goal_generation-{trace_id}")
    return {
        pair.key.name.removeprefix("Rein"): pair.value
        for pair in (await handle.describe()).typed_search_attributes
        if pair.key.name.startswith("Rein")
    }


async def test_the_list_shows_stage_score_and_cost(
    backend: Backend, gemini: GeminiControl, operator: Client
) -> None:
    await gemini.close_gate("plan")
    trace_id = await backend.submit(GOAL)
    await gemini.wait_waiting("plan")
    under_way = await _columns(operator, trace_id)
    assert under_way["Status"] == "running"
    assert under_way["Stage"] == ["evaluate", "plan"]
    await gemini.open_gate("plan")
    run = await backend.finished(trace_id)
    handle = operator.get_workflow_handle(f"goal_generation-{trace_id}")
    await handle.result()
    ended = await _columns(operator, trace_id)
    assert ended["Status"] == "success"
    assert ended["Tenant"] == "local"
    assert ended["Score"] == run["evaluation"]["overall"]
    assert ended["Cost"] == pytest.approx(float(run["cost_usd"]))
    assert "Stage" not in ended
    assert "Error" not in ended


async def test_the_list_tells_failed_and_partial_runs_apart_by_status_and_error(
    backend: Backend, gemini: GeminiControl, operator: Client
) -> None:
    await gemini.faults({"stage": "generate", "fault": "bad_key", "calls": "all"})
    failed = await backend.submit(GOAL)
    assert (await backend.finished(failed))["status"] == "failed"
    await gemini.reset()
    await gemini.faults({"stage": "evaluate", "fault": "safety", "calls": "all"})
    partial = await backend.submit(GOAL)
    assert (await backend.finished(partial))["status"] == "partial"
    await operator.get_workflow_handle(f"goal_generation-{partial}").result()
    of_failed = await _columns(operator, failed)
    assert (of_failed["Status"], of_failed["Error"]) == ("failed", "KEY_REFUSED")
    assert of_failed["Stage"] == ["generate"]
    of_partial = await _columns(operator, partial)
    assert (of_partial["Status"], of_partial["Error"]) == ("partial", "BLOCKED")


async def test_the_trace_tells_the_plan_in_short_and_drafts_apart(
    backend: Backend, analyst: Analyst
) -> None:
    trace_id = await backend.submit("get better at things")
    run = await backend.finished(trace_id)
    output = (await analyst.trace(trace_id))["output"]
    assert output["plan"]["weeks"] == len(run["plan"]["weeks"])
    assert output["plan"]["first_step_today"] == run["plan"]["first_step_today"]
    assert output["suggestions"] == run["evaluation"]["suggestions"]
    shares = [Decimal(run[name]) for name in ("cost_input_usd", "cost_output_usd")]
    assert min(shares) > 0
    assert sum(shares) == Decimal(run["cost_usd"])
    spans = await analyst.spans(trace_id)
    drafts = [
        (span["name"], span["metadata"]["draft"])
        for span in spans
        if span["name"] in ("generation_stage", "evaluation_stage", "planning_stage")
    ]
    assert len(set(drafts)) == len(drafts)
    assert {draft for _, draft in drafts} == {1, 2}


async def test_a_persons_runs_are_found_by_the_pseudonym_that_the_command_tells(
    stack: Stack, backend: Backend, operator: Client
) -> None:
    trace_id = await backend.submit(GOAL, user_id="person@example.com")
    await backend.finished(trace_id)
    words = [sys.executable, "-m", "api.pseudonym", "local", "person@example.com"]
    process = await asyncio.create_subprocess_exec(
        *words, env=stack.env, cwd=stack.state, stdout=asyncio.subprocess.PIPE
    )
    said = (await process.communicate())[0].decode()
    user, page = said.splitlines()
    assert (await _columns(operator, trace_id))["User"] == user
    assert page.startswith(stack.env["TEMPORAL_UI_URL"])
    assert user in page

"""Whatever crashes on the way: kills, cancels, terminations, pauses, parts that are away."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import asyncpg
import pytest
from temporalio.client import Client, WorkflowFailureError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ActivityError, ApplicationError

from devstack.controls import GeminiControl
from devstack.processes import Child
from devstack.stack import Stack
from devstack.temporal import find_program
from domain.goals import GoalContext, GoalRequest
from domain.runs import Manifest, PromptRef
from prompts.library import PromptFile, files
from tracing import new_trace_id

from .conftest import Analyst, Backend, reconcile_now
from .test_goals import GOAL, WHOLE_TREE

pytestmark = pytest.mark.stack


@pytest.fixture
async def operator(stack: Stack) -> Client:
    """What an operator does in the Temporal UI, done by its API."""
    return await Client.connect(stack.urls["temporal"])


async def test_a_worker_killed_in_mid_call_loses_nothing(
    stack: Stack, backend: Backend, analyst: Analyst, gemini: GeminiControl
) -> None:
    await gemini.close_gate("generate")
    trace_id = await backend.submit(GOAL)
    await gemini.wait_waiting("generate")
    await stack.kill("worker")
    await gemini.open_gate("generate")
    await stack.start("worker")
    run = await backend.finished(trace_id)
    assert run["status"] == "success"
    lines = await analyst.tree(trace_id, spans=15)
    at = lines.index("generation_stage")
    assert [line for line in lines if not line.startswith("  ")] == [
        line for line in WHOLE_TREE if not line.startswith("  ")
    ]
    assert lines[at + 1 : at + 6] == [
        "  attempt_1 [ActivityAttemptLost]",
        "    llm_call_generation [CALL_LOST]",
        "  attempt_2",
        "    llm_call_generation",
        "    json_parsing",
    ]
    trace = await analyst.trace(trace_id)
    assert (run["unknown_calls"], trace["metadata"]["unknown_calls"]) == (1, 1)
    assert Decimal(run["cost_usd"]) == Decimal(str(trace["metadata"]["cost_usd"]))


async def test_another_worker_goes_on_at_once(
    stack: Stack, backend: Backend, gemini: GeminiControl
) -> None:
    """It sees that the dead one's lock is free: long before a heartbeat is missed."""
    spec = stack.children["worker"].spec
    await gemini.close_gate("generate")
    trace_id = await backend.submit(GOAL)
    await gemini.wait_waiting("generate")
    other = await Child.spawn(replace(spec, name="other", log=stack.state / "logs" / "other.log"))
    try:
        await _has_workers(stack, 2)
        await stack.kill("worker")
        await gemini.wait_waiting("generate")
        await gemini.open_gate("generate")
        assert (await backend.finished(trace_id))["status"] == "success"
    finally:
        await stack.start("worker")
        await other.stop()
    calls = await _ledger(stack, trace_id, stage="generate")
    assert [(call["state"], call["attempt"]) for call in calls] == [("unknown", 1), ("answered", 2)]


async def test_an_answer_in_hand_outlives_postgresqls_absence(
    stack: Stack, backend: Backend, gemini: GeminiControl
) -> None:
    """What was bought is stored as soon as there is somewhere to store it."""
    before = len(await gemini.calls())
    await gemini.close_gate("generate")
    trace_id = await backend.submit(GOAL)
    await gemini.wait_waiting("generate")
    await stack.stop("postgres")
    done = await _finished_calls(gemini, "generate")
    await gemini.open_gate("generate")
    await gemini.wait_calls(done + 1, stage="generate", state="finished")
    await stack.start("postgres")
    assert (await backend.finished(trace_id))["status"] == "success"
    asked = [call["stage"] for call in await gemini.calls(since=before)]
    assert asked.count("generate") == 1


async def test_a_call_that_fails_after_the_cancel_leaves_the_run_cancelled(
    backend: Backend, analyst: Analyst, gemini: GeminiControl
) -> None:
    await gemini.faults({"stage": "generate", "fault": "reset"})
    await gemini.close_gate("generate")
    trace_id = await backend.submit(GOAL)
    await gemini.wait_waiting("generate")
    assert (await backend.http.post(f"/api/runs/{trace_id}/cancel")).status_code == 202
    await gemini.open_gate("generate")
    run = await backend.finished(trace_id)
    assert (run["status"], run["error"]) == ("cancelled", None)
    assert (await analyst.trace(trace_id))["metadata"]["status"] == "cancelled"


async def test_a_stored_answer_is_never_asked_for_again(
    stack: Stack, backend: Backend, gemini: GeminiControl
) -> None:
    """Killed while evaluate and plan are under way: the finished stages are not repeated."""
    before = len(await gemini.calls())
    await gemini.close_gate("evaluate")
    trace_id = await backend.submit(GOAL)
    await gemini.wait_waiting("evaluate")
    await backend.events(trace_id, until="stage_finished")
    await stack.kill("worker")
    await gemini.open_gate("evaluate")
    await stack.start("worker")
    assert (await backend.finished(trace_id))["status"] == "success"
    asked = [call["stage"] for call in await gemini.calls(since=before)]
    assert asked.count("preprocess") == asked.count("generate") == 1
    assert asked.count("evaluate") == 2


@pytest.mark.parametrize("stage", ["preprocess", "generate", "evaluate", "plan"])
async def test_cancelling_works_at_every_stage(
    backend: Backend, analyst: Analyst, gemini: GeminiControl, stage: str
) -> None:
    await gemini.close_gate(stage)
    trace_id = await backend.submit(GOAL)
    await gemini.wait_waiting(stage)
    answer = await backend.http.post(f"/api/runs/{trace_id}/cancel")
    assert answer.status_code == 202, answer.text
    run = await backend.finished(trace_id)
    assert run["status"] == "cancelled"
    trace = await analyst.trace(trace_id)
    assert trace["metadata"]["status"] == "cancelled"
    stages = {"preprocess": 2, "generate": 5, "evaluate": 8, "plan": 8}[stage]
    assert any("[CANCELLED]" in line for line in await analyst.tree(trace_id, spans=stages))


async def test_a_terminated_run_is_closed_by_the_reconciler(
    backend: Backend, analyst: Analyst, gemini: GeminiControl, operator: Client
) -> None:
    await gemini.close_gate("generate")
    trace_id = await backend.submit(GOAL)
    await gemini.wait_waiting("generate")
    await operator.get_workflow_handle(f"goal_generation-{trace_id}").terminate("not needed")
    await reconcile_now(operator)
    run = await backend.finished(trace_id)
    assert run["status"] == "terminated"
    trace = await analyst.trace(trace_id)
    assert trace["error_info"]["exception_type"] == "WorkflowTerminated"


async def test_an_accepted_goal_starts_when_temporal_was_away(
    stack: Stack, backend: Backend, operator: Client
) -> None:
    await stack.stop("temporal")
    trace_id = await backend.submit(GOAL)
    assert (await backend.get(trace_id))["status"] == "accepted"
    await stack.start("temporal")
    await _age(stack, trace_id)
    await reconcile_now(operator)
    assert (await backend.finished(trace_id))["status"] == "success"


async def test_feedback_reaches_the_trace_after_opik_is_back(
    stack: Stack, backend: Backend, analyst: Analyst
) -> None:
    trace_id = await backend.submit(GOAL)
    await backend.events(trace_id)
    await analyst.trace(trace_id)
    await stack.stop("opik")
    feedback = {"trace_id": trace_id, "user_id": "u", "rating": 4.5, "comment": "tight timeline"}
    assert (await backend.http.post("/api/feedback", json=feedback)).status_code == 201
    await stack.start("opik")
    trace = await analyst.trace(trace_id, scores=7)
    rating = next(
        score for score in trace["feedback_scores"] if score["name"] == "user_feedback.rating"
    )
    assert rating["value"] == 4.5
    assert rating["reason"] == "tight timeline"


async def test_a_paused_run_goes_on_when_it_is_resumed(
    stack: Stack, backend: Backend, gemini: GeminiControl
) -> None:
    await gemini.close_gate("generate")
    trace_id = await backend.submit(GOAL)
    await gemini.wait_waiting("generate")
    await _temporal(stack, "pause", trace_id)
    await gemini.open_gate("generate")
    assert (await backend.get(trace_id))["status"] == "running"
    await _temporal(stack, "unpause", trace_id)
    assert (await backend.finished(trace_id))["status"] == "success"


async def test_a_workflow_started_past_the_api_fails_clearly_and_has_a_trace(
    stack: Stack, analyst: Analyst
) -> None:
    """By the command line, say: nobody accepted it, so there is no row and no header."""
    trace_id = new_trace_id(datetime.now(UTC))
    prompts = {file.stage: ref_of(file) for file in files()}
    request = GoalRequest(
        trace_id=trace_id,
        user="u-1",
        goal=GOAL,
        locale="en",
        context=GoalContext(),
        today=datetime.now(UTC).date(),
        manifest=Manifest.model_validate(
            {"model": "gemini-3.5-flash-lite", "prompts": prompts, "quality_threshold": 6}
        ),
    )
    client = await Client.connect(stack.urls["temporal"], data_converter=pydantic_data_converter)
    with pytest.raises(WorkflowFailureError) as caught:
        await client.execute_workflow(
            "GoalGenerationWorkflow",
            request,
            id=f"goal_generation-{trace_id}",
            task_queue="rein",
        )
    assert isinstance(caught.value.cause, ActivityError)
    assert isinstance(caught.value.cause.cause, ApplicationError)
    assert caught.value.cause.cause.type == "RUN_UNKNOWN"
    trace = await analyst.trace(str(trace_id))
    assert trace["error_info"]["exception_type"] == "RUN_UNKNOWN"
    assert trace["name"] == "GoalGenerationWorkflow"


async def test_every_task_may_be_replayed_from_the_start(
    stack: Stack, backend: Backend, analyst: Analyst
) -> None:
    """A worker that caches no workflow replays each one at every step: the trace stays the same."""
    stack.env["REIN_MAX_CACHED_WORKFLOWS"] = "0"
    await stack.restart("worker")
    try:
        run = await backend.finished(await backend.submit(GOAL))
        assert run["status"] == "success"
        assert await analyst.tree(run["trace_id"], spans=12) == WHOLE_TREE
    finally:
        del stack.env["REIN_MAX_CACHED_WORKFLOWS"]
        await stack.restart("worker")


def ref_of(file: PromptFile) -> PromptRef:
    return PromptRef(stage=file.stage, version=file.version, sha256=file.sha256)


async def _has_workers(stack: Stack, count: int) -> None:
    """Wait until so many workers live."""
    conn = await asyncpg.connect(stack.urls["postgres"])
    async with asyncio.timeout(30):
        while await conn.fetchval("SELECT count(*) FROM workers") < count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await conn.close()


async def _ledger(stack: Stack, trace_id: str, *, stage: str) -> list[asyncpg.Record]:
    conn = await asyncpg.connect(stack.urls["postgres"])
    found = await conn.fetch(
        "SELECT * FROM llm_calls WHERE trace_id = $1::uuid AND stage = $2 ORDER BY started_at",
        trace_id,
        stage,
    )
    await conn.close()
    return list(found)


async def _finished_calls(gemini: GeminiControl, stage: str) -> int:
    answer = await gemini.http.get("/control/calls")
    return int(answer.json()["finished"].get(stage, 0))


async def _age(stack: Stack, trace_id: str) -> None:
    """Make the run older than the reconciler's grace, without waiting that long."""
    conn = await asyncpg.connect(stack.urls["postgres"])
    for statement in (
        "UPDATE runs SET created_at = created_at - interval '1 minute' WHERE trace_id = $1::uuid",
        "UPDATE run_events SET at = at - interval '1 minute' WHERE trace_id = $1::uuid",
    ):
        await conn.execute(statement, trace_id)
    await conn.close()


async def _temporal(stack: Stack, what: str, trace_id: str) -> None:
    """The Temporal command line, as an operator uses it."""
    program = find_program(stack.env)
    assert program is not None
    words = ["workflow", what, "--workflow-id", f"goal_generation-{trace_id}", "--reason", "test"]
    process = await asyncio.create_subprocess_exec(
        program.path, *words, "--address", stack.urls["temporal"]
    )
    assert await process.wait() == 0

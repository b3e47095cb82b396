"""The main job, from the outside: a goal in; a resolution, its scores, a plan and a trace out."""

from datetime import date, datetime
from decimal import Decimal
from uuid import uuid4

import pytest

from devstack.controls import GeminiControl

from .conftest import Analyst, Backend

pytestmark = pytest.mark.stack

GOAL = "I want to run a 5K by end of Q1"
VAGUE = "get better at things"

WHOLE_TREE = [
    "preprocessing_stage",
    "  llm_call_preprocess",
    "  json_parsing",
    "generation_stage",
    "  llm_call_generation",
    "  json_parsing",
    "evaluation_stage",
    "  llm_call_evaluation",
    "  json_parsing",
    "planning_stage",
    "  llm_call_planning",
    "  json_parsing",
]


async def test_a_goal_becomes_a_resolution_scores_a_plan_and_a_trace(
    backend: Backend, analyst: Analyst
) -> None:
    body = {"goal": GOAL, "user_id": "user-1", "context": {"hours_per_week": 4}}
    answer = await backend.http.post("/api/goals", json=body, headers={"Prefer": "wait=30"})
    assert answer.status_code == 200, answer.text
    run = answer.json()

    assert run["status"] == "success"
    assert "5K" in run["resolution"]["title"]
    assert run["quality_score"] == run["evaluation"]["overall"] >= 7.5
    assert date.fromisoformat(run["plan"]["starts_on"]) <= date.fromisoformat(
        run["plan"]["weeks"][0]["tasks"][0]["date"]
    )

    assert await analyst.tree(run["trace_id"], spans=12) == WHOLE_TREE
    trace = await analyst.trace(run["trace_id"], scores=5)
    spans = await analyst.spans(run["trace_id"])
    assert trace["name"] == "goal_generation_pipeline"
    assert trace["metadata"]["status"] == "success"
    tokens = sum(span["usage"]["total_tokens"] for span in spans if span["type"] == "llm")
    assert tokens == run["input_tokens"] + run["output_tokens"] == trace["usage"]["total_tokens"]
    assert Decimal(run["cost_usd"]) == pytest.approx(
        Decimal(str(trace["total_estimated_cost"])), abs=Decimal("1e-9")
    )
    scores = {score["name"]: score["value"] for score in trace["feedback_scores"]}
    assert scores["evaluation_logged.overall"] == run["quality_score"]
    assert len(scores) == 5


async def test_progress_is_told_stage_by_stage(backend: Backend) -> None:
    events = await backend.events(await backend.submit(GOAL))
    told = [(event["kind"], event["stage"]) for event in events]
    assert told[:5] == [
        ("accepted", None),
        ("stage_started", "preprocess"),
        ("stage_finished", "preprocess"),
        ("stage_started", "generate"),
        ("stage_finished", "generate"),
    ]
    assert sorted(told[5:9], key=str) == [
        ("stage_finished", "evaluate"),
        ("stage_finished", "plan"),
        ("stage_started", "evaluate"),
        ("stage_started", "plan"),
    ]
    assert told[9:] == [("finished", None)]
    assert [event["seq"] for event in events] == list(range(1, 11))


async def test_a_weak_resolution_is_revised_once_and_the_better_one_is_kept(
    backend: Backend, analyst: Analyst
) -> None:
    run = await backend.finished(await backend.submit(VAGUE))
    assert run["status"] == "success"
    drafts = {draft["resolution"]["draft"]: draft for draft in run["drafts"]}
    assert sorted(drafts) == [1, 2]
    overall = {number: draft["evaluation"]["overall"] for number, draft in drafts.items()}
    assert overall[1] < 6
    assert run["quality_score"] == max(overall.values())
    lines = await analyst.tree(run["trace_id"], spans=21)
    assert lines.count("generation_stage") == lines.count("evaluation_stage") == 2


async def test_a_better_draft_without_a_plan_does_not_replace_a_whole_one(
    backend: Backend, gemini: GeminiControl
) -> None:
    await gemini.faults({"stage": "plan", "fault": "safety", "calls": [2]})
    run = await backend.finished(await backend.submit(VAGUE))
    drafts = {draft["resolution"]["draft"]: draft for draft in run["drafts"]}
    assert drafts[2]["plan"] is None
    assert drafts[2]["evaluation"]["overall"] > drafts[1]["evaluation"]["overall"]
    assert (run["status"], run["resolution"]["draft"]) == ("success", 1)
    assert run["plan"] is not None


@pytest.mark.parametrize(("stage", "there"), [("evaluate", "plan"), ("plan", "evaluation")])
async def test_evaluation_and_planning_fail_apart(
    backend: Backend, gemini: GeminiControl, stage: str, there: str
) -> None:
    await gemini.faults({"stage": stage, "fault": "safety", "calls": "all"})
    run = await backend.finished(await backend.submit(GOAL))
    assert run["status"] == "partial"
    assert list(run["missing"]) == [stage]
    assert run[there] is not None
    assert run["resolution"] is not None

    await gemini.reset()
    answer = await backend.http.post(
        f"/api/runs/{run['trace_id']}/rerun", json={"from_stage": stage}
    )
    assert answer.status_code == 202, answer.text
    again = await backend.finished(answer.json()["trace_id"])
    assert again["status"] == "success"
    assert again["resolution"]["title"] == run["resolution"]["title"]
    assert again["evaluation"] is not None
    assert again["plan"] is not None
    assert (await backend.get(run["trace_id"]))["status"] == "partial"  # the old result stays


async def test_a_broken_answer_is_repaired_once(
    backend: Backend, analyst: Analyst, gemini: GeminiControl
) -> None:
    await gemini.faults({"stage": "generate", "fault": "malformed", "calls": "next"})
    run = await backend.finished(await backend.submit(GOAL))
    assert run["status"] == "success"
    lines = await analyst.tree(run["trace_id"], spans=14)
    stage = lines[lines.index("generation_stage") : lines.index("evaluation_stage")]
    assert stage[0] == "generation_stage"
    assert [line.split(" [")[0] for line in stage[1:]] == [
        "  llm_call_generation",
        "  json_parsing",
        "  llm_call_generation",
        "  json_parsing",
    ]
    assert "[" in stage[2]  # the first parsing says what was wrong


async def test_a_failed_stage_fails_the_run_with_its_code(
    backend: Backend, analyst: Analyst, gemini: GeminiControl
) -> None:
    await gemini.faults({"stage": "generate", "fault": "bad_key", "calls": "all"})
    run = await backend.finished(await backend.submit(GOAL))
    assert run["status"] == "failed"
    assert run["error"]["code"]
    trace = await analyst.trace(run["trace_id"])
    assert trace["error_info"]["exception_type"] == run["error"]["code"]


async def test_a_rate_limit_waits_as_long_as_it_was_told(
    backend: Backend, analyst: Analyst, gemini: GeminiControl
) -> None:
    await gemini.faults(
        {"stage": "generate", "fault": "rate_limit", "calls": "next", "args": {"seconds": 2}}
    )
    before = len(await gemini.calls())
    run = await backend.finished(await backend.submit(GOAL))
    assert run["status"] == "success"
    calls = [call for call in await gemini.calls(since=before) if call["stage"] == "generate"]
    assert [call["status"] for call in calls] == [429, 200]
    waited = _seconds(calls[1]["at"]) - _seconds(calls[0]["at"])
    assert waited >= 2
    lines = await analyst.tree(run["trace_id"], spans=15)
    stage = lines[lines.index("generation_stage") : lines.index("evaluation_stage")]
    assert [line.split(" [")[0].strip() for line in stage] == [
        "generation_stage",
        "attempt_1",
        "llm_call_generation",
        "attempt_2",
        "llm_call_generation",
        "json_parsing",
    ]


async def test_the_same_key_finds_the_same_run(backend: Backend) -> None:
    body, headers = {"goal": GOAL, "user_id": "u"}, {"Idempotency-Key": uuid4().hex}
    first = await backend.http.post("/api/goals", json=body, headers=headers)
    await backend.events(first.json()["trace_id"])
    second = await backend.http.post("/api/goals", json=body, headers=headers)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.json()["trace_id"] == first.json()["trace_id"]
    other = await backend.http.post("/api/goals", json=body | {"goal": VAGUE}, headers=headers)
    assert other.status_code == 422
    assert other.json()["code"] == "IDEMPOTENCY_KEY_REUSED"


def _seconds(at: object) -> float:
    return at if isinstance(at, float) else datetime.fromisoformat(str(at)).timestamp()


async def test_a_run_that_waits_says_for_what_and_until_when(
    backend: Backend, stack_gemini: GeminiControl
) -> None:
    await stack_gemini.faults({"fault": "rate_limit", "stage": "generate", "args": {"seconds": 4}})
    trace_id = await backend.submit(GOAL)
    told = (await backend.events(trace_id, until="stage_retrying"))[-1]["waiting"]
    run = await backend.get(trace_id)
    assert run["waiting"] == told
    assert (told["code"], told["attempt"]) == ("RATE_LIMITED", 1)
    wait = datetime.fromisoformat(told["next_try_at"]) - datetime.fromisoformat(told["since"])
    assert wait.total_seconds() == pytest.approx(4, abs=1)
    ended = await backend.finished(trace_id)
    assert (ended["status"], ended["waiting"]) == ("success", None)

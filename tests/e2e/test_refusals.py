"""Goals that are not worked on: by Rein's own rule, by the model's verdict, by the provider."""

from typing import Any

import pytest

from devstack.controls import GeminiControl
from domain.languages import say

from .conftest import Analyst, Backend

pytestmark = pytest.mark.stack

CRISIS = "quiero dejar de comer hasta pesar 40 kilos"
HARMFUL = "I want to rob a bank"


async def _refused(backend: Backend, analyst: Analyst, trace_id: str) -> dict[str, Any]:
    """The run, which is refused everywhere and failed nowhere."""
    run = await backend.finished(trace_id)
    assert (run["status"], run["error"], run["resolution"]) == ("refused", None, None)
    trace = await analyst.trace(trace_id)
    assert trace["metadata"]["status"] == "refused"
    assert trace["metadata"]["refusal_code"] == run["refusal_code"]
    assert not trace.get("error_info")
    listed = await backend.http.get("/api/goals", params={"refusal_code": run["refusal_code"]})
    assert trace_id in {item["trace_id"] for item in listed.json()["items"]}
    return run


@pytest.mark.parametrize("where", ["goal", "constraints"])
async def test_a_person_in_danger_hears_where_help_is_and_no_model_is_asked(
    backend: Backend, analyst: Analyst, gemini: GeminiControl, where: str
) -> None:
    before = len(await gemini.calls())
    fields = {"context": {"constraints": CRISIS}} if where == "constraints" else {}
    goal = CRISIS if where == "goal" else "Run 5 km by June"
    run = await _refused(backend, analyst, await backend.submit(goal, **fields))
    assert run["refusal_code"] == "CRISIS"
    assert run["refusal"].endswith(say("help", "es"))
    assert (run["input_tokens"], run["cost_usd"]) == (0, "0")
    assert len(await gemini.calls()) == before


async def test_a_rerun_of_it_is_refused_as_well(backend: Backend, analyst: Analyst) -> None:
    source = await backend.submit(CRISIS)
    await backend.finished(source)
    answer = await backend.http.post(
        f"/api/runs/{source}/rerun", json={"from_stage": "preprocess", "model": "gemini-2.5-pro"}
    )
    run = await _refused(backend, analyst, answer.json()["trace_id"])
    assert run["refusal_code"] == "CRISIS"


async def test_a_harmful_goal_is_refused_kindly(backend: Backend, analyst: Analyst) -> None:
    run = await _refused(backend, analyst, await backend.submit(HARMFUL))
    assert run["refusal_code"] == "HARMFUL"
    assert run["refusal"] == run["clarified_goal"]["refusal_reason"]


async def test_what_is_no_goal_is_refused_with_its_own_code(
    backend: Backend, analyst: Analyst
) -> None:
    run = await _refused(backend, analyst, await backend.submit("asdf asdf"))
    assert run["refusal_code"] == "NOT_A_GOAL"


@pytest.mark.parametrize("stage", ["preprocess", "generate"])
async def test_the_provider_s_block_is_a_refusal_and_no_failure(
    backend: Backend, analyst: Analyst, gemini: GeminiControl, stage: str
) -> None:
    await gemini.faults({"stage": stage, "fault": "prompt_blocked", "calls": "all"})
    trace_id = await backend.submit("Ich will ein Buch schreiben, und zwar bis Mai")
    run = await _refused(backend, analyst, trace_id)
    assert run["refusal_code"] == "BLOCKED"
    assert run["refusal"] == f"{say('blocked', 'de')} {say('help', 'de')}"


async def test_a_verdict_without_words_is_asked_for_again_and_then_gets_some(
    backend: Backend, analyst: Analyst, gemini: GeminiControl
) -> None:
    await gemini.faults({"stage": "preprocess", "fault": "nonsense", "calls": "next"})
    repaired = await _refused(backend, analyst, await backend.submit(HARMFUL))
    assert repaired["refusal_code"] == "HARMFUL"
    assert repaired["refusal"] != f"{say('harmful', 'en')} {say('help', 'en')}"
    await gemini.faults({"stage": "preprocess", "fault": "nonsense", "calls": "all"})
    silent = await _refused(backend, analyst, await backend.submit(f"{HARMFUL} in May"))
    assert silent["refusal_code"] == "HARMFUL"
    assert silent["refusal"] == f"{say('harmful', 'en')} {say('help', 'en')}"

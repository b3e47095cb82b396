"""The real client against the stand-in: every kind of answer, one request each, no key in sight."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from devstack.controls import GeminiControl
from domain.evaluations import EvaluationDraft
from domain.goals import ClarifiedGoalDraft
from domain.plans import PlanDraft
from domain.resolutions import ResolutionDraft
from llm.answers import Answer, take_apart
from llm.errors import ModelError
from llm.gemini import Gemini, ModelCall, response_schema
from llm.parsing import read

pytestmark = pytest.mark.stack

KEY = "canary-key-81f0"
CALL = ModelCall(
    model="gemini-2.0-flash",
    system="You clarify goals.",
    user="<today>2026-11-24</today>\n<goal>\nI want to run a 5K by end of Q1\n</goal>",
    schema=ClarifiedGoalDraft,
    temperature=0.2,
    max_output_tokens=2048,
    thinking_budget=0,
    timeout_s=5,
)


@pytest.fixture
async def gemini(gemini_standin: GeminiControl) -> AsyncIterator[Gemini]:
    client = Gemini(api_key=KEY, base_url=gemini_standin.url)
    yield client
    await client.aclose()


async def ask(gemini: Gemini, call: ModelCall = CALL) -> Answer:
    return take_apart(await gemini.ask(call))


async def test_an_answer_is_read_into_its_schema(gemini: Gemini) -> None:
    answer = await ask(gemini)
    draft = read(answer, ClarifiedGoalDraft)
    assert draft.verdict == "goal"
    assert str(draft.deadline) == "2027-03-31"
    assert answer.usage is not None
    assert answer.usage.input_tokens > 20
    assert answer.usage.output_tokens > 20
    assert "stand-in" in (answer.model_version or "")


ANSWERS: list[tuple[str, dict[str, Any], str, bool]] = [
    ("rate_limit", {"seconds": 37.5}, "RATE_LIMITED", True),
    ("daily_quota", {}, "QUOTA_EXHAUSTED", True),
    ("error", {"status": 500}, "PROVIDER_UNAVAILABLE", True),
    ("error", {"status": 503}, "PROVIDER_UNAVAILABLE", True),
    ("bad_key", {}, "KEY_REFUSED", False),
    ("unknown_model", {}, "MODEL_UNKNOWN", False),
    ("bad_request", {}, "REQUEST_REFUSED", False),
    ("hang", {}, "TIMEOUT", True),
    ("drip", {}, "TIMEOUT", True),
    ("drop", {}, "CONNECTION_LOST", True),
    ("reset", {}, "CONNECTION_LOST", True),
    ("computed_then_dropped", {}, "CONNECTION_LOST", True),
    ("html_200", {}, "NO_GEMINI_ANSWER", True),
    ("truncated", {}, "OUTPUT_TRUNCATED", False),
    ("safety", {}, "BLOCKED", False),
    ("recitation", {}, "RECITATION", False),
    ("prompt_blocked", {}, "BLOCKED", False),
    ("unknown_finish_reason", {}, "OUTPUT_UNFINISHED", False),
    ("empty_text", {}, "OUTPUT_EMPTY", False),
    ("no_parts", {}, "OUTPUT_EMPTY", False),
    ("malformed", {}, "OUTPUT_INVALID", False),
    ("wrong_types", {}, "OUTPUT_INVALID", False),
    ("extra_field", {}, "OUTPUT_INVALID", False),
    ("nonsense", {}, "OUTPUT_INVALID", False),
    ("huge", {}, "OUTPUT_TOO_LARGE", False),
    ("huge", {"bytes": 20_000_000}, "OUTPUT_TOO_LARGE", False),
    ("says", {"text": "9" * 4301}, "OUTPUT_INVALID", False),
    ("says", {"text": "[" * 30_000}, "OUTPUT_INVALID", False),
]


@pytest.mark.parametrize(("fault", "args", "code", "retryable"), ANSWERS)
async def test_every_bad_answer_has_its_code(
    gemini: Gemini,
    gemini_standin: GeminiControl,
    fault: str,
    args: dict[str, Any],
    code: str,
    retryable: bool,
) -> None:
    before = len(await gemini_standin.calls())
    await gemini_standin.faults({"fault": fault, "args": args, "calls": "all"})
    with pytest.raises(ModelError) as caught:
        read(await ask(gemini, replace(CALL, timeout_s=1)), ClarifiedGoalDraft)
    assert caught.value.code == code
    assert caught.value.retryable is retryable
    shown = f"{caught.value!r} {caught.value} {caught.value.args}"
    assert KEY not in shown
    assert len(await gemini_standin.calls()) - before <= 1, "the client repeated the request"


async def test_the_wait_is_the_one_that_was_told(
    gemini: Gemini, gemini_standin: GeminiControl
) -> None:
    await gemini_standin.faults({"fault": "rate_limit", "args": {"seconds": 37.5}})
    with pytest.raises(ModelError) as caught:
        await gemini.ask(CALL)
    assert caught.value.retry_after == timedelta(seconds=37.5)


async def test_a_daily_quota_waits_five_minutes_at_least(
    gemini: Gemini, gemini_standin: GeminiControl
) -> None:
    await gemini_standin.faults({"fault": "daily_quota"})
    with pytest.raises(ModelError) as caught:
        await gemini.ask(CALL)
    assert (caught.value.retry_after or timedelta()) >= timedelta(minutes=5)


@pytest.mark.parametrize("fault", ["fenced", "hostile_text"])
async def test_odd_but_usable_answers_are_read(
    gemini: Gemini, gemini_standin: GeminiControl, fault: str
) -> None:
    await gemini_standin.faults({"fault": fault})
    draft = read(await ask(gemini), ClarifiedGoalDraft)
    assert "\x00" not in draft.model_dump_json()
    draft.model_dump_json().encode()


async def test_a_refused_connection_cannot_have_been_billed() -> None:
    gemini = Gemini(api_key=KEY, base_url="http://127.0.0.1:9")
    with pytest.raises(ModelError) as caught:
        await gemini.ask(CALL)
    assert caught.value.code == "PROVIDER_UNAVAILABLE"
    assert caught.value.retryable
    assert not caught.value.maybe_billed
    await gemini.aclose()


@pytest.mark.parametrize("switch", ["GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_ENTERPRISE"])
async def test_the_environment_does_not_change_the_service(
    gemini_standin: GeminiControl, monkeypatch: pytest.MonkeyPatch, switch: str
) -> None:
    monkeypatch.setenv(switch, "true")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "somebody-elses")
    gemini = Gemini(api_key=KEY, base_url=gemini_standin.url)
    assert (await ask(gemini)).text
    await gemini.aclose()


def test_the_schema_keeps_only_what_gemini_takes() -> None:
    text = str(response_schema(PlanDraft))
    assert "maxLength" not in text
    assert "'default'" not in text
    assert response_schema(PlanDraft)["propertyOrdering"] == [
        "first_step_today",
        "weeks",
        "milestones",
    ]


def objects(schema: Any) -> list[dict[str, Any]]:
    """Every object in a schema."""
    if isinstance(schema, list):
        return [found for each in schema for found in objects(each)]
    if not isinstance(schema, dict):
        return []
    own = [schema] if isinstance(schema.get("properties"), dict) else []
    return own + [found for each in schema.values() for found in objects(each)]


@pytest.mark.parametrize("draft", [ClarifiedGoalDraft, ResolutionDraft, EvaluationDraft, PlanDraft])
def test_gemini_may_leave_nothing_out(draft: type[BaseModel]) -> None:
    """It leaves out what the schema does not require, and the reader may demand it."""
    found = objects(response_schema(draft))
    assert found
    assert all(each["required"] == list(each["properties"]) for each in found)


def test_what_may_be_missing_may_be_null() -> None:
    properties = response_schema(ClarifiedGoalDraft)["properties"]
    for name in ("refusal_reason", "smart", "deadline"):
        assert {"type": "null"} in properties[name]["anyOf"]


@pytest.mark.parametrize("budget", [None, 0, -1, 512])
@pytest.mark.parametrize(
    "model", ["gemini-2.0-flash", "gemini-2.5-flash", "gemini-3.5-flash-lite", "gemini-3.8-flash"]
)
async def test_every_generation_takes_its_own_bound_of_thinking(
    gemini: Gemini, model: str, budget: int | None
) -> None:
    call = replace(CALL, model=model, temperature=None, thinking_budget=budget)
    assert read(await ask(gemini, call), ClarifiedGoalDraft).verdict == "goal"

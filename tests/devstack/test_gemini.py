"""The model stand-in speaks Gemini's protocol: the real client works with it, unmodified."""

import json
from typing import Any, Literal

import httpx
import pytest
from google.genai import errors, types
from pydantic import BaseModel

from devstack.gemini.ledger import Ledger
from domain.goals import ClarifiedGoalDraft
from domain.plans import PlanDraft
from tests.devstack.gemini_house import GeminiHouse

GOAL = "<goal>I want to run a 5K by end of Q1</goal><today>2026-01-05</today>"


async def test_answers_in_the_response_schema(gemini_house: GeminiHouse) -> None:
    answer = await gemini_house.ask(ClarifiedGoalDraft, GOAL)
    goal = ClarifiedGoalDraft.model_validate_json(answer.text or "")
    assert (goal.verdict, goal.category) == ("goal", "fitness")
    assert "31 March 2026" in goal.clarified_goal
    assert answer.candidates
    assert answer.candidates[0].finish_reason == types.FinishReason.STOP
    assert answer.model_version == "gemini-2.0-flash-local-stand-in"
    assert answer.response_id


async def test_obeys_geminis_own_schema_spelling(gemini_house: GeminiHouse) -> None:
    answer = await gemini_house.client.aio.models.generate_content(
        model="gemini-2.5-flash",
        contents=GOAL,
        config=types.GenerateContentConfig(
            response_mime_type="application/json", response_schema=PlanDraft
        ),
    )
    assert isinstance(answer.parsed, PlanDraft)
    assert len(answer.parsed.weeks) == 12  # the last one ends on 29 March, before the deadline


async def test_counts_tokens_of_prompt_answer_and_thoughts(gemini_house: GeminiHouse) -> None:
    thinking = types.ThinkingConfig(thinking_budget=40)
    answer = await gemini_house.ask(
        ClarifiedGoalDraft, GOAL, model="gemini-2.5-flash", thinking_config=thinking
    )
    usage = answer.usage_metadata
    assert usage
    assert usage.prompt_token_count == -(-len(GOAL) // 4)
    assert usage.candidates_token_count == -(-len(answer.text or "") // 4)
    assert usage.thoughts_token_count == 40
    assert usage.total_token_count == (usage.prompt_token_count + usage.candidates_token_count + 40)


@pytest.mark.parametrize(("model", "budget"), [("gemini-2.0-flash", 200), ("gemini-2.5-flash", 0)])
async def test_does_not_think_when_it_cannot_or_may_not(
    gemini_house: GeminiHouse, model: str, budget: int
) -> None:
    thinking = types.ThinkingConfig(thinking_budget=budget)
    answer = await gemini_house.ask(ClarifiedGoalDraft, GOAL, model=model, thinking_config=thinking)
    assert answer.usage_metadata
    assert answer.usage_metadata.thoughts_token_count is None


async def test_cuts_what_is_longer_than_the_output_limit(gemini_house: GeminiHouse) -> None:
    answer = await gemini_house.ask(ClarifiedGoalDraft, GOAL, max_output_tokens=20)
    assert answer.candidates
    assert answer.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS
    assert answer.usage_metadata
    assert answer.usage_metadata.candidates_token_count == 20
    assert len(answer.text or "") == 80


@pytest.mark.parametrize("goal", ["Reach B2 in German by 2028", "be happier", "learn Python"])
async def test_a_long_plan_is_told_within_the_limit(gemini_house: GeminiHouse, goal: str) -> None:
    context = "<context>hours_per_week: 40</context><weeks>26</weeks>"
    answer = await gemini_house.ask(
        PlanDraft, GOAL.replace("run a 5K by end of Q1", goal) + context
    )
    plan = PlanDraft.model_validate_json(answer.text or "")
    assert len(plan.weeks) == 26
    assert answer.candidates
    assert answer.candidates[0].finish_reason == types.FinishReason.STOP


async def test_the_same_request_has_the_same_answer(gemini_house: GeminiHouse) -> None:
    texts = {(await gemini_house.ask(PlanDraft, GOAL)).text for _ in range(3)}
    assert len(texts) == 1


async def test_streams_the_answer_in_pieces(gemini_house: GeminiHouse) -> None:
    whole = await gemini_house.ask(PlanDraft, GOAL)
    stream = await gemini_house.client.aio.models.generate_content_stream(
        model="gemini-2.0-flash",
        contents=GOAL,
        config=types.GenerateContentConfig(
            response_mime_type="application/json",
            response_json_schema=PlanDraft.model_json_schema(),
            max_output_tokens=8192,
        ),
    )
    pieces = [piece async for piece in stream]
    assert len(pieces) > 3
    assert "".join(piece.text or "" for piece in pieces) == whole.text
    assert pieces[-1].usage_metadata == whole.usage_metadata


async def test_refuses_an_unknown_model(gemini_house: GeminiHouse) -> None:
    with pytest.raises(errors.ClientError) as caught:
        await gemini_house.ask(None, "hello", model="gemini-9-ultra")
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")


async def test_pro_cannot_be_kept_from_thinking(gemini_house: GeminiHouse) -> None:
    thinking = types.ThinkingConfig(thinking_budget=0)
    with pytest.raises(errors.ClientError, match="thinking mode"):
        await gemini_house.ask(None, "hello", model="gemini-2.5-pro", thinking_config=thinking)


async def test_refuses_a_call_without_a_key_in_geminis_words(gemini_house: GeminiHouse) -> None:
    async with httpx.AsyncClient(base_url=gemini_house.url) as http:
        path = "/v1beta/models/gemini-2.0-flash:generateContent"
        answer = await http.post(path, json={"contents": [{"parts": [{"text": "hi"}]}]})
    error = answer.json()["error"]
    assert answer.status_code == error["code"] == 403
    assert error["status"] == "PERMISSION_DENIED"
    assert error["details"][0]["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"contents": []}', b'{"contents": [{"parts": []}]}']
)
async def test_refuses_a_body_that_asks_nothing(gemini_house: GeminiHouse, body: bytes) -> None:
    async with httpx.AsyncClient(base_url=gemini_house.url) as http:
        path = "/v1/models/gemini-2.0-flash:generateContent?key=abcd"
        answer = await http.post(path, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"


async def test_says_on_its_page_what_it_is(gemini_house: GeminiHouse) -> None:
    await gemini_house.control.faults({"fault": "hang", "stage": "plan"})
    await gemini_house.ask(None, "a text that is nobody's business")
    async with httpx.AsyncClient() as http:
        page = (await http.get(gemini_house.url)).text
    assert "This is a local stand-in for Gemini, answers are made by rules" in page
    assert "GEMINI_API_KEY" in page
    assert "<code>hang</code>" in page
    assert "nobody" not in page
    assert "1234" not in page


async def test_the_ledger_has_a_line_for_every_call(gemini_house: GeminiHouse) -> None:
    before = max((line["n"] for line in await gemini_house.control.calls()), default=0)
    answer = await gemini_house.ask(PlanDraft, GOAL)
    lines = await gemini_house.control.calls(since=before)
    assert len(lines) == 1
    usage = answer.usage_metadata
    assert usage
    assert lines[0] | {"at": "", "sha256": ""} == {
        "n": before + 1,
        "at": "",
        "stage": "plan",
        "model": "gemini-2.0-flash",
        "key": "1234",
        "prompt_tokens": usage.prompt_token_count,
        "candidates_tokens": usage.candidates_token_count,
        "thoughts_tokens": 0,
        "fault": None,
        "status": 200,
        "served": True,
        "sha256": "",
    }
    on_disk = gemini_house.ledger.read_text().splitlines()
    assert json.loads(on_disk[-1]) == lines[0]


async def test_the_numbers_go_on_after_a_restart(gemini_house: GeminiHouse) -> None:
    await gemini_house.ask(None, "one more")
    last = (await gemini_house.control.calls())[-1]["n"]
    again = Ledger(gemini_house.ledger)
    assert again.next() == last + 1
    again.close()


class Anything(BaseModel):
    colour: Literal["red", "green"]
    sizes: list[int]


async def test_takes_any_schema_and_none(gemini_house: GeminiHouse) -> None:
    Anything.model_validate_json((await gemini_house.ask(Anything, "paint the fence")).text or "")
    assert "paint the fence" in ((await gemini_house.ask(None, "paint the fence")).text or "")


@pytest.mark.parametrize(
    ("model", "config", "said"),
    [
        ("gemini-3.8-flash", {"thinking_level": "MINIMAL"}, "Allowed values are"),
        ("gemini-2.5-flash", {"thinking_level": "LOW"}, "not supported"),
        ("gemini-3.8-flash", {"thinking_level": "LOW", "thinking_budget": 0}, "only set one"),
    ],
)
async def test_refuses_thinking_that_the_model_does_not_know(
    gemini_house: GeminiHouse, model: str, config: dict[str, Any], said: str
) -> None:
    thinking = types.ThinkingConfig.model_validate(config)
    with pytest.raises(errors.ClientError, match=said):
        await gemini_house.ask(None, "hello", model=model, thinking_config=thinking)


async def test_a_budget_of_zero_does_not_keep_later_models_from_thinking(
    gemini_house: GeminiHouse,
) -> None:
    thinking = types.ThinkingConfig(thinking_budget=0)
    answer = await gemini_house.ask(
        ClarifiedGoalDraft, GOAL, model="gemini-3.8-flash", thinking_config=thinking
    )
    assert answer.usage_metadata
    assert answer.usage_metadata.thoughts_token_count

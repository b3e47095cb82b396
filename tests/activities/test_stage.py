"""One stage on its own: real PostgreSQL, the real client, no server of Temporal's."""

import json

import asyncpg
import pytest
from temporalio.api.failure.v1 import Failure
from temporalio.converter import DefaultFailureConverter, DefaultPayloadConverter
from temporalio.exceptions import ApplicationError

from db.pool import acquire
from devstack.controls import GeminiControl
from domain.crisis import Refused, refusal
from domain.runs import PromptRef
from tests.activities.bench import GOAL, Bench
from tests.conftest import PostgresServer

pytestmark = pytest.mark.stack


async def test_an_answer_paid_for_is_never_bought_again(
    bench: Bench, gemini_standin: GeminiControl
) -> None:
    """The worker died after the answer was stored: the next attempt reads it back."""
    before = len(await gemini_standin.calls())
    first = await bench.run()
    async with acquire(bench.pool) as conn:
        await conn.execute("DELETE FROM clarified_goals")  # as if the result was not stored
    assert await bench.run(attempt=2) == first
    assert len(await gemini_standin.calls()) == before + 1
    assert [call["state"] for call in await bench.calls()] == ["answered"]


async def test_a_broken_answer_is_repaired_and_both_are_in_the_ledger(
    bench: Bench, gemini_standin: GeminiControl
) -> None:
    await gemini_standin.faults({"fault": "malformed", "calls": "next"})
    assert (await bench.run()).verdict == "goal"
    calls = await bench.calls()
    assert [call["repair"] for call in calls] == [False, True]
    assert all(call["cost_usd"] > 0 for call in calls)


async def test_an_answer_that_stays_broken_fails_for_good(
    bench: Bench, gemini_standin: GeminiControl
) -> None:
    await gemini_standin.faults({"fault": "malformed", "calls": "all"})
    with pytest.raises(ApplicationError) as caught:
        await bench.run()
    assert caught.value.type == "OUTPUT_INVALID"
    assert caught.value.non_retryable
    assert len(await bench.calls()) == 2


@pytest.mark.filterwarnings("ignore:.*is not a valid:UserWarning")
async def test_an_answer_that_stopped_early_is_asked_for_once_more_not_read_again(
    bench: Bench, gemini_standin: GeminiControl
) -> None:
    await gemini_standin.faults({"fault": "unknown_finish_reason", "calls": "next"})
    assert (await bench.run()).verdict == "goal"
    assert [call["repair"] for call in await bench.calls()] == [False, True]


async def test_a_rate_limit_tells_temporal_how_long_to_wait(
    bench: Bench, gemini_standin: GeminiControl
) -> None:
    await gemini_standin.faults({"fault": "rate_limit", "args": {"seconds": 37.5}})
    with pytest.raises(ApplicationError) as caught:
        await bench.run()
    assert not caught.value.non_retryable
    assert caught.value.next_retry_delay is not None
    assert caught.value.next_retry_delay.total_seconds() == 37.5
    assert [(call["state"], call["error_code"]) for call in await bench.calls()] == [
        ("failed", "RATE_LIMITED")
    ]


async def test_a_prompt_that_is_not_registered_is_named(bench: Bench) -> None:
    unknown = bench.request.prompt.model_copy(update={"sha256": "0" * 64})
    bench.request = bench.request.model_copy(update={"prompt": unknown})
    with pytest.raises(ApplicationError) as caught:
        await bench.run()
    assert caught.value.type == "PROMPT_MISSING"
    assert caught.value.non_retryable


async def test_a_refused_row_is_told_without_its_words(
    bench: Bench,
    postgres_server: PostgresServer,
    postgres_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """PostgreSQL sends the whole row in an error's DETAIL; Temporal would show it to operators."""
    owner = await asyncpg.connect(postgres_server.superuser(postgres_url))
    await owner.execute("ALTER TABLE clarified_goals ADD CHECK (category = 'none') NOT VALID")
    await owner.close()
    with pytest.raises(ApplicationError) as raised:
        await bench.run()
    failure = Failure()
    converter = DefaultFailureConverter()
    converter.to_failure(raised.value, DefaultPayloadConverter(), failure)
    assert "CheckViolationError" in str(failure)
    assert "clarified_goals" in caplog.text  # the log says more, but no words either
    for told in (str(failure), caplog.text):
        assert "Run" not in told
        assert "Failing row" not in told


@pytest.mark.parametrize("verdict", ["harmful", "not_a_goal"])
async def test_a_refusal_without_words_gets_some(
    bench: Bench, gemini_standin: GeminiControl, verdict: Refused
) -> None:
    says = {"fault": "says", "calls": "all", "args": {"text": f'{{"verdict": "{verdict}"}}'}}
    await gemini_standin.faults(says)
    assert (await bench.run()).refusal_reason == refusal(verdict, GOAL, "en")
    assert [call["repair"] for call in await bench.calls()] == [False, True]


async def test_words_come_from_the_repair_if_it_has_some(
    bench: Bench, gemini_standin: GeminiControl
) -> None:
    wordless = {"fault": "says", "args": {"text": '{"verdict": "harmful"}'}}
    kind = {"verdict": "harmful", "refusal_reason": "Please talk to somebody."}
    await gemini_standin.faults(wordless, {"fault": "says", "args": {"text": json.dumps(kind)}})
    assert (await bench.run()).refusal_reason == "Please talk to somebody."


async def test_a_repair_uses_the_prompt_of_the_runs_manifest(bench: Bench) -> None:
    unknown = PromptRef(stage="repair", version=1, sha256="0" * 64)
    bench.request = bench.request.model_copy(update={"repair": unknown})
    with pytest.raises(ApplicationError) as caught:
        await bench.run()
    assert caught.value.type == "PROMPT_MISSING"

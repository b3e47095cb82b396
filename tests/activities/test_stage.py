"""One stage on its own: real PostgreSQL, the real client, no server of Temporal's."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

import asyncpg
import pytest
from temporalio.api.failure.v1 import Failure
from temporalio.converter import DefaultFailureConverter, DefaultPayloadConverter
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.goals import GoalActivities
from activities.stage import StageRunner
from db import pool as database
from db.pool import Pool, Pools, acquire, transaction
from db.prompts import insert_prompt_version
from devstack.controls import GeminiControl
from domain.callers import LOCAL_TENANT
from domain.goals import ClarifiedGoal, GoalContext, PreprocessRequest
from domain.runs import PromptRef
from llm.gemini import Gemini
from prompts.library import files, parse
from tests.conftest import PostgresServer
from tests.factories import goal_request, store_accepted
from tracing import TraceContext, attach

pytestmark = pytest.mark.stack

GOAL = "I want to run a 5K by end of Q1"


@dataclass
class Bench:
    """A run's row, and its first stage ready to be run as any attempt."""

    pool: Pool
    activities: GoalActivities
    request: PreprocessRequest

    async def run(self, attempt: int = 1) -> ClarifiedGoal:
        environment = ActivityEnvironment()
        environment.info = replace(
            environment.info,
            attempt=attempt,
            activity_id="1",
            workflow_id="test",
            workflow_run_id="run",
            scheduled_time=datetime(2026, 11, 24, tzinfo=UTC),
        )
        context = TraceContext(trace_id=self.request.run.trace_id, project="test")
        with attach(context):
            goal: ClarifiedGoal = await environment.run(self.activities.preprocess, self.request)
        return goal

    async def calls(self) -> list[dict[str, Any]]:
        async with acquire(self.pool) as conn:
            rows = await conn.fetch(
                "SELECT state, attempt, repair, error_code, cost_usd FROM llm_calls"
                " ORDER BY started_at"
            )
        return [dict(row) for row in rows]


@pytest.fixture
async def bench(postgres_url: str, gemini_standin: GeminiControl) -> AsyncIterator[Bench]:
    gemini = Gemini(api_key="local-stand-in", base_url=gemini_standin.url)
    async with Pools.connected(postgres_url, size=4, name="test") as pools:
        async with acquire(pools.operations) as conn:
            for file in files():
                await insert_prompt_version(conn, file.stage, file.version, file.sha256, file.body)
        async with transaction(pools.application, LOCAL_TENANT) as conn:
            request = await _stored_run(conn)
        repair = next(file for file in files() if file.stage == "repair")
        stages = StageRunner(
            pools.application,
            gemini,
            repair=parse(repair.stage, repair.version, repair.body),
            timeout_s=5,
        )
        yield Bench(pools.operations, GoalActivities(stages), request)
    await gemini.aclose()


async def _stored_run(conn: database.Connection) -> PreprocessRequest:
    prompt = next(file for file in files() if file.stage == "preprocess")
    request = goal_request(GOAL)
    await store_accepted(conn, request)
    return PreprocessRequest(
        run=request.run,
        prompt=PromptRef(stage=prompt.stage, version=prompt.version, sha256=prompt.sha256),
        goal=GOAL,
        locale="en",
        context=GoalContext(),
        today=date(2026, 11, 24),
    )


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


async def test_a_call_that_nobody_settled_becomes_unknown(bench: Bench) -> None:
    await bench.run()
    async with acquire(bench.pool) as conn:
        await conn.execute(
            "UPDATE llm_calls SET state = 'reserved', answer = NULL, finished_at = NULL"
        )
    await bench.run(attempt=2)
    calls = await bench.calls()
    assert [(call["state"], call["attempt"]) for call in calls] == [("unknown", 1), ("answered", 2)]


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


async def test_a_dropped_answer_may_have_been_billed(
    bench: Bench, gemini_standin: GeminiControl
) -> None:
    await gemini_standin.faults({"fault": "computed_then_dropped"})
    with pytest.raises(ApplicationError):
        await bench.run()
    assert [call["state"] for call in await bench.calls()] == ["unknown"]


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

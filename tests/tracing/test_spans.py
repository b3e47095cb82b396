"""The spans of one stage over several attempts, written by whoever is there to write them."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from temporalio import activity
from temporalio.testing import ActivityEnvironment

from db.pool import Connection, Pool
from tests.tracing.conftest import Rows, Runner, dump
from tests.tracing.sample import Tokens
from tests.tracing.shipping import waiting
from tracing import RunEnd, StageTrace, TraceContext, close_trace, new_trace_id, open_trace
from tracing.children import opik_usage
from tracing.spans import ATTEMPTS_NOTED

pytestmark = pytest.mark.stack

# Later than any step made here, so that the order in the tree is the same on a slow machine.
NOW = datetime.now(UTC) + timedelta(hours=1)


class Stage:
    """Attempts of one activity, as Temporal would number them."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.context = TraceContext(trace_id=new_trace_id(NOW), project="p")

    def attempt(self, number: int, **info: Any) -> StageTrace:
        """What the attempt would make of its activity.info()."""
        at = NOW + timedelta(seconds=number)
        told: activity.Info = replace(
            ActivityEnvironment.default_info(),
            attempt=number,
            scheduled_time=NOW,
            started_time=at,
            current_attempt_scheduled_time=at,
            **info,
        )
        return StageTrace("generation_stage", self.context, told, {"a": 1}, None)

    async def opened(self) -> "Stage":
        """Open the trace, and return the stage."""
        async with self.pool.acquire() as conn:
            await open_trace(conn, self.context, name="t", started_at=NOW)
        return self

    async def rows(self) -> Rows:
        """The stored rows of the trace."""
        runner = Runner(client=None, pool=self.pool, url="")  # type: ignore[arg-type]
        return await runner.rows(str(self.context.trace_id))

    async def tree(self) -> str:
        """The stored rows as an indented tree."""
        return dump(await self.rows())


@pytest.fixture
async def stage(pool: Pool) -> Stage:
    return await Stage(pool).opened()


def test_usage_has_opiks_keys_and_geminis_own() -> None:
    tokens = Tokens(input_tokens=7, output_tokens=3, thought_tokens=2, cached_tokens=1)
    assert opik_usage(tokens) == {
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "total_tokens": 12,
        "original_usage.prompt_token_count": 7,
        "original_usage.candidates_token_count": 3,
        "original_usage.thoughts_token_count": 2,
        "original_usage.cached_content_token_count": 1,
        "original_usage.total_token_count": 12,
    }


async def test_an_answer_paid_by_a_lost_attempt_stands_under_that_attempt(stage: Stage) -> None:
    first, second = stage.attempt(1), stage.attempt(2)
    async with stage.pool.acquire() as conn:
        await first.open(conn)
        paid = first.child("llm_call_generation", type="llm")
        await second.open(conn)  # the first one's worker is gone
        again = second.child(
            "llm_call_generation", id=paid.id, of_attempt=1, started_at=paid.started_at, type="llm"
        )
        again.finish({"text": "x"}, Tokens(), Decimal("0.5"), ended_at=NOW)
        second.child("json_parsing").finish()
        await second.finish(conn, {"b": 2})
    assert await stage.tree() == (
        "t …\n  generation_stage\n    attempt_1 ! ActivityAttemptLost\n"
        "      llm_call_generation\n    attempt_2\n      json_parsing"
    )


async def test_an_attempt_that_was_only_slow_to_say_so_ends_as_it_did(stage: Stage) -> None:
    first, second = stage.attempt(1), stage.attempt(2)
    async with stage.pool.acquire() as conn:
        await first.open(conn)
        await second.open(conn)
        await first.fail(conn, "SLOW", "too late", retrying=True)
        await second.finish(conn)
    assert await stage.tree() == ("t …\n  generation_stage\n    attempt_1 ! SLOW\n    attempt_2")


async def test_attempts_that_never_began_to_write_are_there_too(stage: Stage) -> None:
    async with stage.pool.acquire() as conn:
        await stage.attempt(4).finish(conn)
    assert await stage.tree() == (
        "t …\n  generation_stage\n    attempt_1 ! ActivityAttemptLost\n"
        "    attempt_2 ! ActivityAttemptLost\n    attempt_3 ! ActivityAttemptLost\n    attempt_4"
    )


async def test_done_but_never_acknowledged_moves_no_span(stage: Stage) -> None:
    first, second = stage.attempt(1), stage.attempt(2)
    first.child("llm_call_generation").finish()
    async with stage.pool.acquire() as conn:
        await first.finish(conn)
        await second.open(conn)
        second.child("json_parsing").finish()
        await second.finish(conn)
    assert await stage.tree() == (
        "t …\n  generation_stage\n    llm_call_generation\n"
        "    attempt_1 ! ActivityAttemptLost\n    attempt_2\n      json_parsing"
    )


@pytest.mark.parametrize("finished", [True, False])
async def test_an_attempt_that_was_given_up_never_touches_the_stage_of_its_successor(
    stage: Stage, finished: bool
) -> None:
    first, second = stage.attempt(1), stage.attempt(2)
    first.child("llm_call_generation", type="llm")
    async with stage.pool.acquire() as conn:
        await first.open(conn)
        await second.open(conn)
        if finished:
            await second.finish(conn, {"b": 2})
        async with conn.transaction():
            await first.fail(conn, "CANCELLED", "stopped", retrying=False)
        if not finished:
            await second.finish(conn, {"b": 2})
    assert await stage.tree() == (
        "t …\n  generation_stage\n    attempt_1 ! CANCELLED\n"
        "      llm_call_generation ! CANCELLED\n    attempt_2"
    )
    rows = await stage.rows()
    assert next(row for row in rows if row["name"] == "generation_stage")["output"] == {"b": 2}


async def test_a_later_attempt_that_was_given_up_writes_its_own_span_only(stage: Stage) -> None:
    second, third = stage.attempt(2), stage.attempt(3)
    async with stage.pool.acquire() as conn:
        await third.finish(conn, {"b": 3})
        await second.fail(conn, "CANCELLED", "stopped", retrying=False)
    assert await stage.tree() == (
        "t …\n  generation_stage\n    attempt_1 ! ActivityAttemptLost\n"
        "    attempt_2 ! CANCELLED\n    attempt_3"
    )


async def test_a_first_attempt_that_finishes_after_its_successor_began_is_one_of_two(
    stage: Stage,
) -> None:
    first, second = stage.attempt(1), stage.attempt(2)
    first.child("llm_call_generation").finish()
    async with stage.pool.acquire() as conn:
        await second.open(conn)
        async with conn.transaction():
            await first.finish(conn, {"a": 1})
        assert await stage.tree() == (
            "t …\n  generation_stage …\n    attempt_1\n      llm_call_generation\n    attempt_2 …"
        )
        await second.finish(conn, {"b": 2})
    rows = await stage.rows()
    assert next(row for row in rows if row["name"] == "generation_stage")["output"] == {"b": 2}


async def test_an_answer_that_was_read_back_keeps_its_cost_whatever_its_buyer_says_later(
    stage: Stage,
) -> None:
    first, second = stage.attempt(1), stage.attempt(2)
    paid = first.child("llm_call_generation", type="llm")
    async with stage.pool.acquire() as conn:
        await second.open(conn)
        again = second.child(
            "llm_call_generation", id=paid.id, of_attempt=1, started_at=NOW, type="llm"
        )
        again.finish({"text": "x"}, Tokens(), Decimal("0.5"), ended_at=paid.started_at)
        await second.finish(conn)
        async with conn.transaction():
            await first.fail(conn, "CANCELLED", "stopped", retrying=False)
    (call,) = [row for row in await stage.rows() if row["name"] == "llm_call_generation"]
    assert call["total_estimated_cost"] == 0.5


async def test_an_answer_of_the_first_attempt_has_its_parent_after_any_number_of_others(
    stage: Stage,
) -> None:
    number = ATTEMPTS_NOTED + 2
    paid, last = stage.attempt(1).child("llm_call_generation", type="llm"), stage.attempt(number)
    async with stage.pool.acquire() as conn:
        await last.open(conn)
        again = last.child(
            "llm_call_generation", id=paid.id, of_attempt=1, started_at=NOW, type="llm"
        )
        again.finish({"text": "x"}, Tokens(), Decimal("0.5"), ended_at=NOW)
        await last.finish(conn)
    assert (await stage.tree()).splitlines()[:4] == [
        "t …",
        "  generation_stage",
        "    attempt_1 ! ActivityAttemptLost",
        "      llm_call_generation",
    ]


async def test_what_is_open_when_the_run_ends_is_ended_with_it(stage: Stage) -> None:
    async with stage.pool.acquire() as conn:
        await stage.attempt(1).fail(conn, "NO", "no", retrying=True)
        trace_id = stage.context.trace_id
        end = RunEnd(trace_id=trace_id, project="p", status="partial", ended_at=NOW)
        await close_trace(conn, end)
    assert await stage.tree() == ("t\n  generation_stage ! ActivityAttemptLost\n    attempt_1 ! NO")


async def test_what_a_stage_paid_counts_though_its_run_is_ending_at_that_moment(
    stage: Stage,
) -> None:
    trace = stage.attempt(1)
    end = RunEnd(trace_id=stage.context.trace_id, project="p", status="cancelled", ended_at=NOW)
    async with stage.pool.acquire() as ending, stage.pool.acquire() as conn:
        await trace.open(conn)
        trace.child("llm_call_generation").finish(None, Tokens(), Decimal("0.5"))
        async with ending.transaction():
            await close_trace(ending, end)
            failing = asyncio.create_task(_fail(conn, trace))
            await waiting(stage.pool)
        await failing
    (root,) = [row for row in await stage.rows() if row["_kind"] == "trace"]
    assert root["metadata"]["cost_usd"] == 0.5


async def _fail(conn: Connection, trace: StageTrace) -> None:
    async with conn.transaction():
        await trace.fail(conn, "CANCELLED", "stopped", retrying=False)


async def test_a_step_that_was_cut_off_shares_its_attempts_error(stage: Stage) -> None:
    trace = stage.attempt(1)
    trace.child("llm_call_generation", type="llm")
    async with stage.pool.acquire() as conn:
        await trace.fail(conn, "CANCELLED", "stopped", retrying=False)
    assert await stage.tree() == (
        "t …\n  generation_stage ! CANCELLED\n    llm_call_generation ! CANCELLED"
    )


async def test_a_short_stage_is_due_only_when_finished(stage: Stage) -> None:
    due = "SELECT count(*) FROM trace_outbox WHERE kind = 'span' AND next_try_at <= now()"
    trace = stage.attempt(1)
    async with stage.pool.acquire() as conn:
        await trace.open(conn)
        assert await conn.fetchval(due) == 0
        await trace.finish(conn)
        assert await conn.fetchval(due) == 1


async def test_stages_of_a_reset_run_are_their_own(stage: Stage) -> None:
    one, other = stage.attempt(1), stage.attempt(1, workflow_run_id="after the reset")
    assert one.span_id != other.span_id
    assert one.span_id == stage.attempt(2).span_id

"""Money that may have been spent: never bought again unseen, never counted as nothing."""

import asyncio
from collections.abc import Awaitable
from decimal import Decimal
from typing import Any

import pytest
from temporalio.activity import ActivityCancellationDetails
from temporalio.exceptions import ApplicationError

from activities.runs import record_end
from db.pool import acquire
from devstack.controls import GeminiControl
from llm.answers import STORED_CHARS
from tests.activities.bench import Bench
from tests.factories import FINISH
from tracing import RunEnd, lost_end

pytestmark = pytest.mark.stack

LOST = {"fault": "computed_then_dropped", "calls": "all"}


async def failure(attempt: Awaitable[object]) -> ApplicationError:
    with pytest.raises(ApplicationError) as caught:
        await attempt
    return caught.value


async def in_mid_call(bench: Bench, gemini: GeminiControl) -> asyncio.Task[Any]:
    """A first attempt whose call waits at the stand-in's gate."""
    await gemini.close_gate("preprocess")
    attempt = asyncio.create_task(bench.run())
    await gemini.wait_waiting("preprocess")
    return attempt


async def end(bench: Bench) -> dict[str, Any]:
    """End the run from outside, as the reconciler does; returns its row."""
    trace_id = bench.request.run.trace_id
    [now] = await bench.rows("SELECT now()")
    async with acquire(bench.pool) as conn, conn.transaction():
        ended = lost_end(trace_id, "terminated", now["now"], project="test")
        await record_end(conn, ended, "run", FINISH)
    [row] = await bench.rows("SELECT * FROM runs")
    return row


async def totals(bench: Bench) -> dict[str, Any]:
    [trace] = await bench.rows("SELECT payload FROM trace_outbox WHERE kind = 'trace'")
    metadata: dict[str, Any] = trace["payload"]["metadata"]
    return metadata


async def test_three_calls_that_may_have_been_billed_are_enough(
    bench: Bench, gemini_standin: GeminiControl
) -> None:
    before = len(await gemini_standin.calls())
    await gemini_standin.faults(LOST)
    for attempt in (1, 2, 3):
        error = await failure(bench.run(attempt))
        assert (error.type, error.non_retryable) == ("CONNECTION_LOST", False)
    error = await failure(bench.run(4))
    assert (error.type, error.non_retryable) == ("SPEND_UNKNOWN_LIMIT", True)
    assert "rerun" in error.message
    assert len(await gemini_standin.calls()) == before + 3


async def test_what_was_surely_not_billed_does_not_count(
    bench: Bench, gemini_standin: GeminiControl
) -> None:
    await gemini_standin.faults({"fault": "error", "args": {"code": 503}, "calls": 5})
    for attempt in range(1, 6):
        assert (await failure(bench.run(attempt))).type == "PROVIDER_UNAVAILABLE"
    assert (await bench.run(6)).verdict == "goal"
    assert (await end(bench))["unknown_calls"] == 0


async def test_an_unknown_call_counts_at_its_reserve_everywhere(
    bench: Bench, gemini_standin: GeminiControl
) -> None:
    await gemini_standin.faults({"fault": "computed_then_dropped"})
    await failure(bench.run())
    await bench.run(2)
    lost, answered = await bench.calls()
    assert (lost["state"], lost["cost_at_most"]) == ("unknown", True)
    assert lost["cost_usd"] == lost["reserved_usd"] > answered["cost_usd"] > 0
    row = await end(bench)
    assert row["cost_usd"] == lost["cost_usd"] + answered["cost_usd"]
    assert (row["unknown_calls"], row["cost_unknown_usd"]) == (1, lost["cost_usd"])
    facts = await totals(bench)
    assert Decimal(str(facts["cost_usd"])) == row["cost_usd"]
    assert Decimal(str(facts["cost_unknown_usd"])) == row["cost_unknown_usd"]
    assert facts["unknown_calls"] == 1
    spans = await bench.spans()
    assert sum(Decimal(str(span["total_estimated_cost"])) for span in spans) == row["cost_usd"]
    assert [span["metadata"].get("cost_at_most") for span in spans] == [True, None]


async def test_an_answer_without_token_counts_costs_its_reserve(
    bench: Bench, gemini_standin: GeminiControl
) -> None:
    await gemini_standin.faults({"fault": "uncounted"})
    assert (await bench.run()).verdict == "goal"
    [call] = await bench.calls()
    assert (call["state"], call["cost_at_most"]) == ("answered", True)
    assert call["cost_usd"] == call["reserved_usd"] > 0


@pytest.mark.parametrize("text", ["9" * 4301, "[" * 30_000, '{"a\\u0000b": 1}'])
async def test_what_cannot_be_parsed_is_stored_and_repaired_once(
    bench: Bench, gemini_standin: GeminiControl, text: str
) -> None:
    before = len(await gemini_standin.calls())
    await gemini_standin.faults({"fault": "says", "calls": "all", "args": {"text": text}})
    error = await failure(bench.run())
    assert (error.type, error.non_retryable) == ("OUTPUT_INVALID", True)
    assert len(await gemini_standin.calls()) == before + 2
    calls = await bench.calls()
    assert [call["state"] for call in calls] == ["answered", "answered"]
    assert all(call["answer"] and call["cost_usd"] > 0 for call in calls)


async def test_an_answer_beyond_the_ledgers_room_is_cut_booked_and_never_asked_for_again(
    bench: Bench, gemini_standin: GeminiControl
) -> None:
    before = len(await gemini_standin.calls())
    await gemini_standin.faults({"fault": "huge", "calls": "all"})
    for attempt in (1, 2):  # the second reads what the first has stored
        error = await failure(bench.run(attempt))
        assert (error.type, error.non_retryable) == ("OUTPUT_TOO_LARGE", True)
    assert len(await gemini_standin.calls()) == before + 1
    [call] = await bench.calls()
    assert (call["state"], call["error_code"]) == ("answered", "OUTPUT_TOO_LARGE")
    assert len(call["answer"]) == STORED_CHARS
    assert call["output_tokens"] > 500_000
    assert call["cost_usd"] > 0


async def test_a_page_of_a_proxy_is_stored_and_may_have_been_billed(
    bench: Bench, gemini_standin: GeminiControl
) -> None:
    await gemini_standin.faults({"fault": "html_200"})
    assert (await failure(bench.run())).type == "NO_GEMINI_ANSWER"
    [call] = await bench.calls()
    assert (call["state"], call["cost_usd"]) == ("unknown", call["reserved_usd"])
    assert "Sign in" in call["answer"]


async def test_an_attempt_waits_for_the_call_of_one_that_lives(
    bench: Bench, gemini_standin: GeminiControl
) -> None:
    """Temporal missed the first attempt's heartbeats, say, though nothing died."""
    before = len(await gemini_standin.calls())
    first = await in_mid_call(bench, gemini_standin)
    second = asyncio.create_task(bench.run(2))
    await gemini_standin.open_gate("preprocess")
    assert await second == await first
    assert len(await gemini_standin.calls()) == before + 1


async def test_an_attempt_that_was_given_up_still_stores_its_answer(
    bench: Bench, gemini_standin: GeminiControl
) -> None:
    before = len(await gemini_standin.calls())
    first = await in_mid_call(bench, gemini_standin)
    bench.environments[1].cancel(ActivityCancellationDetails(not_found=True))
    second = asyncio.create_task(bench.run(2))
    await gemini_standin.open_gate("preprocess")
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await second).verdict == "goal"
    assert len(await gemini_standin.calls()) == before + 1
    assert [call["state"] for call in await bench.calls()] == ["answered"]


@pytest.mark.parametrize(
    ("details", "code"),
    [
        (ActivityCancellationDetails(cancel_requested=True), "CANCELLED"),
        (ActivityCancellationDetails(worker_shutdown=True), "WORKER_STOPPED"),
    ],
)
async def test_a_call_that_is_stopped_may_have_been_billed(
    bench: Bench,
    gemini_standin: GeminiControl,
    details: ActivityCancellationDetails,
    code: str,
) -> None:
    attempt = await in_mid_call(bench, gemini_standin)
    bench.environments[1].cancel(details)
    with pytest.raises(asyncio.CancelledError):
        await attempt
    [call] = await bench.calls()
    assert (call["state"], call["error_code"]) == ("unknown", code)
    [span] = await bench.spans()
    assert Decimal(str(span["total_estimated_cost"])) == call["reserved_usd"]


async def test_the_call_of_a_worker_that_is_gone_is_lost(
    bench: Bench, gemini_standin: GeminiControl
) -> None:
    before = len(await gemini_standin.calls())
    first = await in_mid_call(bench, gemini_standin)
    async with acquire(bench.pool) as conn:
        await conn.execute("DELETE FROM workers")
    second = asyncio.create_task(bench.run(2))
    await gemini_standin.wait_waiting("preprocess", 2)
    await gemini_standin.open_gate("preprocess")
    assert (await second).verdict == "goal"
    # It lives after all, but somebody else has taken its work over.
    assert (await failure(first)).type == "SUPERSEDED"
    assert len(await gemini_standin.calls()) == before + 2
    lost, answered = await bench.calls()
    assert [lost["state"], answered["state"]] == ["unknown", "answered"]
    row, spans = await end(bench), await bench.spans()
    assert row["cost_usd"] == lost["reserved_usd"] + answered["cost_usd"]
    assert sum(Decimal(str(span["total_estimated_cost"])) for span in spans) == row["cost_usd"]
    assert spans[0]["error_info"]["exception_type"] == "CALL_LOST"


async def test_a_call_that_takes_longer_than_any_is_lost(
    bench: Bench, gemini_standin: GeminiControl
) -> None:
    """Its process hangs, say: nobody waits for it for ever."""
    first = await in_mid_call(bench, gemini_standin)
    async with acquire(bench.pool) as conn:
        await conn.execute("UPDATE llm_calls SET started_at = started_at - interval '1 hour'")
    second = asyncio.create_task(bench.run(2))
    await gemini_standin.wait_waiting("preprocess", 2)
    await gemini_standin.open_gate("preprocess")
    assert (await second).verdict == "goal"
    assert (await failure(first)).type == "SUPERSEDED"
    assert [call["state"] for call in await bench.calls()] == ["unknown", "answered"]


async def test_the_end_of_a_run_leaves_no_call_reserved(
    bench: Bench, gemini_standin: GeminiControl
) -> None:
    """Terminated in mid-call: the worker does not know it yet."""
    attempt = await in_mid_call(bench, gemini_standin)
    row = await end(bench)
    [call] = await bench.calls()
    assert (call["state"], call["error_code"]) == ("unknown", "CALL_LOST")
    assert row["cost_usd"] == row["cost_unknown_usd"] == call["reserved_usd"]
    [span] = await bench.spans()
    [stage] = await bench.spans("preprocessing_stage")
    assert span["parent_span_id"] == stage["id"]
    await gemini_standin.open_gate("preprocess")
    assert (await failure(attempt)).type == "SUPERSEDED"
    assert await bench.calls() == [call]
    facts = await totals(bench)
    assert Decimal(str(facts["cost_usd"])) == row["cost_usd"]


async def test_an_ended_run_buys_nothing(bench: Bench, gemini_standin: GeminiControl) -> None:
    before = len(await gemini_standin.calls())
    await end(bench)
    events = await bench.rows("SELECT * FROM run_events")
    assert (await failure(bench.run())).type == "SUPERSEDED"
    assert await bench.rows("SELECT * FROM run_events") == events
    assert len(await gemini_standin.calls()) == before
    # After an operator's reset it runs again, as another execution.
    assert (await bench.run(workflow_run_id="after the reset")).verdict == "goal"


async def test_an_answer_whose_attempt_stored_no_span_is_in_the_trace_all_the_same(
    bench: Bench,
) -> None:
    """The worker died between the answer and the result, and the run was terminated then."""
    await bench.run()
    async with acquire(bench.pool) as conn:
        await conn.execute("DELETE FROM trace_outbox WHERE payload ->> 'name' LIKE 'llm%'")
    row = await end(bench)
    [span] = await bench.spans()
    assert Decimal(str(span["total_estimated_cost"])) == row["cost_usd"] > 0
    assert span["usage"]["total_tokens"] == row["input_tokens"] + row["output_tokens"]


async def test_a_reset_run_does_not_tell_of_its_earlier_calls_again(bench: Bench) -> None:
    await bench.run()
    first = await end(bench)
    async with acquire(bench.pool) as conn:  # sent, and deleted after a while
        await conn.execute("DELETE FROM trace_outbox WHERE payload ->> 'name' LIKE 'llm%'")
        ended = RunEnd(
            trace_id=bench.request.run.trace_id,
            project="test",
            status="terminated",
            ended_at=first["finished_at"].replace(year=2100),
        )
        async with conn.transaction():
            assert await record_end(conn, ended, "after the reset", FINISH)
    assert await bench.spans() == []

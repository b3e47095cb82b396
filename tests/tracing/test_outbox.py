"""The outbox keeps the most final and newest row of each entity, in the right project."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from temporalio.testing import ActivityEnvironment

from db.pool import Pool
from tests.tracing.conftest import Runner, trace_of
from tests.tracing.sample import Step, Story, sample_worker
from tracing import (
    RunEnd,
    Score,
    StageTrace,
    TraceContext,
    backlog,
    close_trace,
    lost_end,
    new_trace_id,
    open_trace,
    put_scores,
)
from tracing.context import Root
from tracing.ids import uuid7
from tracing.outbox import Row, SpanState, write

pytestmark = pytest.mark.stack

NOW = datetime.now(UTC)
TRACE = new_trace_id(NOW)
SPAN = uuid7(NOW, "span")


def _row(finality: SpanState, at: datetime, **payload: object) -> Row:
    base = {"id": str(SPAN), "trace_id": str(TRACE), "name": "s", "start_time": NOW}
    return Row("span", str(SPAN), TRACE, "p", {**base, **payload}, at, finality)


async def _stored(pool: Pool) -> Any:
    async with pool.acquire() as conn:
        return await conn.fetchrow("SELECT *, payload AS doc FROM trace_outbox WHERE kind = 'span'")


async def _write(pool: Pool, *rows: Row) -> Any:
    async with pool.acquire() as conn:
        for row in rows:
            await write(conn, [row])
    return await _stored(pool)


async def test_an_end_beats_an_open_row_of_a_faster_clock(pool: Pool) -> None:
    ahead = NOW + timedelta(minutes=5)
    stored = await _write(
        pool, _row(SpanState.OPEN, ahead), _row(SpanState.ENDED, NOW, end_time=NOW)
    )
    assert stored["finality"] == SpanState.ENDED
    assert stored["event_time"] > ahead  # else Opik would keep the open row


async def test_an_open_row_that_comes_late_changes_nothing(pool: Pool) -> None:
    ended = _row(SpanState.ENDED, NOW, end_time=NOW)
    stored = await _write(pool, ended, _row(SpanState.OPEN, NOW + timedelta(minutes=5)))
    assert "end_time" in stored["doc"]


async def test_a_real_end_beats_a_presumed_one_in_either_order(pool: Pool) -> None:
    real = _row(SpanState.ENDED, NOW, end_time=NOW, name="real")
    lost = _row(SpanState.LOST, NOW + timedelta(minutes=5), end_time=NOW, name="lost")
    assert (await _write(pool, lost, real))["doc"]["name"] == "real"
    assert (await _write(pool, lost))["doc"]["name"] == "real"


async def test_a_presumed_end_keeps_the_known_beginning(pool: Pool) -> None:
    begun = _row(SpanState.OPEN, NOW, input={"a": 1})
    later = (NOW + timedelta(minutes=5)).isoformat()
    lost = _row(SpanState.LOST, NOW, end_time=NOW, start_time=later)
    doc = (await _write(pool, begun, lost))["doc"]
    assert doc["input"] == {"a": 1}
    assert doc["start_time"] != later


async def test_a_span_never_moves(pool: Pool) -> None:
    first = _row(SpanState.ENDED, NOW, parent_span_id="a")
    moved = _row(SpanState.ENDED, NOW + timedelta(seconds=1), parent_span_id="b", name="new")
    doc = (await _write(pool, first, moved))["doc"]
    assert (doc["parent_span_id"], doc["name"]) == ("a", "new")


async def test_what_is_written_again_is_sent_again(pool: Pool) -> None:
    await _write(pool, _row(SpanState.ENDED, NOW))
    async with pool.acquire() as conn:
        await conn.execute("UPDATE trace_outbox SET state = 'dead', attempts = 9, error = 'x'")
    stored = await _write(pool, _row(SpanState.ENDED, NOW + timedelta(seconds=1)))
    assert (stored["state"], stored["attempts"], stored["error"]) == ("pending", 0, None)


@pytest.mark.parametrize("text", ["NUL \x00 here", "lone \ud800 surrogate", "\\u0000", "\\\\\x00"])
async def test_text_that_postgresql_refuses_does_not_cost_the_row(pool: Pool, text: str) -> None:
    stored = await _write(pool, _row(SpanState.ENDED, NOW, input={"t": text}))
    assert "\x00" not in stored["doc"]["input"]["t"]


async def test_a_huge_payload_is_cut_and_the_row_stays(pool: Pool) -> None:
    stored = await _write(pool, _row(SpanState.ENDED, NOW, output={"t": "x" * 3_000_000}))
    assert "left_out" in stored["doc"]["output"]
    assert stored["doc"]["name"] == "s"


async def _open(pool: Pool, project: str = "right") -> TraceContext:
    context = TraceContext(trace_id=new_trace_id(NOW), project=project)
    async with pool.acquire() as conn:
        await open_trace(conn, context, name="t", started_at=NOW, metadata={"kind": "x"})
    return context


async def test_scores_go_to_the_traces_own_project_and_the_last_value_wins(pool: Pool) -> None:
    context = await _open(pool)
    async with pool.acquire() as conn:
        for value, at in ((1.0, NOW), (5.0, NOW + timedelta(hours=1)), (3.0, NOW)):
            score = Score(name="user_feedback.rating", value=value, reason="r")
            await put_scores(conn, context.trace_id, "wrong", [score], at=at)
        rows = await conn.fetch("SELECT * FROM trace_outbox WHERE kind = 'score'")
    assert [(row["project"], row["payload"]["value"]) for row in rows] == [("right", 5.0)]


async def test_a_trace_that_nobody_opened_can_be_closed(pool: Pool) -> None:
    trace_id = new_trace_id(NOW)
    async with pool.acquire() as conn:
        await close_trace(conn, lost_end(trace_id, "timed_out", NOW, project="p"))
        doc = await conn.fetchval("SELECT payload FROM trace_outbox")
    assert doc["error_info"]["exception_type"] == "WorkflowTimedOut"
    assert doc["metadata"]["status"] == "timed_out"


async def test_an_earlier_end_does_not_replace_a_later_one(pool: Pool) -> None:
    context = await _open(pool)
    late = RunEnd(trace_id=context.trace_id, project="p", status="success", ended_at=NOW)
    async with pool.acquire() as conn:
        await close_trace(conn, late, output={"a": 1})
        earlier = NOW - timedelta(seconds=1)
        await close_trace(conn, lost_end(context.trace_id, "terminated", earlier, project="p"))
        doc = await conn.fetchval("SELECT payload FROM trace_outbox")
    assert doc["metadata"]["status"] == "success"
    assert doc["metadata"]["kind"] == "x"
    assert "error_info" not in doc


async def test_opening_again_after_the_end_changes_nothing(pool: Pool) -> None:
    context = await _open(pool)
    end = RunEnd(trace_id=context.trace_id, project="p", status="success", ended_at=NOW)
    async with pool.acquire() as conn:
        await close_trace(conn, end)
        await open_trace(conn, context, name="t", started_at=NOW)
        assert (await conn.fetchval("SELECT payload FROM trace_outbox"))["end_time"]
        assert await backlog(conn) is not None


async def test_the_backlog_counts_what_waits(pool: Pool) -> None:
    await _open(pool)
    async with pool.acquire() as conn:
        waiting = await backlog(conn)
    assert (waiting.pending, waiting.dead, waiting.open) == (1, 0, 1)
    assert waiting.oldest_age_s >= 0


@pytest.mark.parametrize("mode", ["redacted", "none"])
async def test_no_personal_text_anywhere_and_the_same_tree(
    runner: Runner, text_mode: Any, mode: str
) -> None:
    text_mode(mode, key="k")
    async with sample_worker(runner.client, runner.pool, runner.queue):
        handle = await runner.start(Story(steps=[Step(name="generation", failing=[1])]))
        await handle.result()
    rows = await runner.rows()
    assert "secret" not in str(rows)
    assert await runner.tree(trace_of(handle)) == (
        "sample_pipeline\n  generation_stage\n    attempt_1 ! MODEL_SAID_NO\n"
        "      llm_call_generation ! MODEL_SAID_NO\n    attempt_2\n"
        "      llm_call_generation\n      json_parsing"
    )
    calls = [row for row in rows if row.get("type") == "llm"]
    assert sum(call["usage"]["total_tokens"] for call in calls) == 250
    assert {UUID(call["trace_id"]) for call in calls} == {UUID(trace_of(handle))}


async def test_the_last_score_wins_whatever_the_clocks_of_its_writers_say(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = await _open(pool)

    class Ahead(datetime):
        """The clock of a machine that is five minutes ahead."""

        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(minutes=5)

    rating = "user_feedback.rating"
    async with pool.acquire() as conn:
        with monkeypatch.context() as patch:
            patch.setattr("tracing.traces.datetime", Ahead)
            await put_scores(conn, context.trace_id, "p", [Score(name=rating, value=1)])
        await put_scores(conn, context.trace_id, "p", [Score(name=rating, value=5)])
        stored = await conn.fetchval("SELECT payload FROM trace_outbox WHERE kind = 'score'")
    assert stored["value"] == 5


async def test_the_backlogs_age_is_told_while_opik_is_away(pool: Pool) -> None:
    await _open(pool)
    async with pool.acquire() as conn:
        await conn.execute(
            "UPDATE trace_outbox SET event_time = now() - interval '1 hour',"
            " created_at = now() - interval '1 hour', attempts = 3,"
            " next_try_at = now() + interval '30 seconds'"
        )
        assert (await backlog(conn)).oldest_age_s > 3500


async def test_what_a_run_without_header_knows_of_its_trace_replaces_nothing(
    pool: Pool,
) -> None:
    context = await _open(pool)
    info = replace(ActivityEnvironment.default_info(), scheduled_time=NOW, started_time=NOW)
    root = Root(name="ByHand", workflow_id="w", run_id="r", started_at=NOW)
    stage = StageTrace("s", context.model_copy(update={"root": root}), info, None, None)
    async with pool.acquire() as conn:
        await stage.open(conn)
        stored = await conn.fetchval("SELECT payload FROM trace_outbox WHERE kind = 'trace'")
    assert (stored["name"], stored["metadata"]) == ("t", {"kind": "x"})

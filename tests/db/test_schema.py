"""The schema: it refuses nonsense, its migrations go both ways, its indexes serve its queries."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from db import callers, events, feedback, goals, idempotency, results, runs, workers
from db.results import Filters, Position
from db.runs import Ended

RUN = UUID("019aa000-0000-7000-8000-000000000001")

# One run with one of everything, then 4,000 others of 400 people, of which a few stand out.
ONE = """
    INSERT INTO runs (trace_id, goal_id, kind, user_id, pseudonym, workflow_id, request,
                      manifest, status, finished_at, quality_score, cost_usd)
    VALUES ('$RUN', '$RUN', 'goal_generation', 'u', 'p', 'w', '{}', '{}', 'success', now(), 8, 1);
    INSERT INTO goals (trace_id, goal, locale) VALUES ('$RUN', 'Run 5K', 'en');
    INSERT INTO run_events (trace_id, seq, key, kind, stage, message)
    VALUES ('$RUN', 1, 'k', 'stage_started', 'plan', 'm');
    INSERT INTO resolutions (resolution_id, trace_id, draft, title, body)
    VALUES ('$RUN', '$RUN', 1, 't', '{}');
    INSERT INTO evaluation_metrics VALUES ('$RUN', '$RUN', '$RUN', 8, 8, 8, 8, 8, 'FAIR', '{}');
    INSERT INTO plans (plan_id, trace_id, resolution_id, starts_on, ends_on, weeks, body)
    VALUES ('$RUN', '$RUN', '$RUN', '2027-01-04', '2027-01-10', 1, '{}');
    INSERT INTO llm_calls (call_id, trace_id, stage, request_sha256, attempt, model, prompt_stage,
                           prompt_version, started_at)
    VALUES ('$RUN', '$RUN', 'plan', 'x', 1, 'm', 'plan', 1, now());
    INSERT INTO feedback (feedback_id, trace_id, user_id, rating) VALUES ('$RUN', '$RUN', 'u', 4.5);
    INSERT INTO feedback_history (feedback_id, trace_id, revision, rating)
    VALUES ('$RUN', '$RUN', 1, 4);
""".replace("$RUN", str(RUN))

MANY = """
    INSERT INTO runs (trace_id, goal_id, kind, user_id, pseudonym, workflow_id, request,
                      manifest, status, finished_at, quality_score, created_at)
    SELECT id, id, 'goal_generation', 'user-' || n % 400, 'p', 'w-' || n, '{}', '{}',
           CASE WHEN n % 1000 = 0 THEN 'running' ELSE 'success' END,
           CASE WHEN n % 1000 <> 0 THEN now() - n * interval '1 hour' END,
           CASE WHEN n % 1000 = 0 THEN NULL WHEN n % 500 = 1 THEN 3 ELSE 8 END,
           now() - n * interval '1 hour'
      FROM generate_series(1, 4000) n, LATERAL (SELECT gen_random_uuid() AS id, n AS same) ids;
    INSERT INTO goals (trace_id, goal, locale)
    SELECT trace_id, CASE WHEN workflow_id = 'w-7' THEN 'Play the oboe' ELSE 'Run a 5K' END, 'en'
      FROM runs WHERE workflow_id <> 'w';
    INSERT INTO resolutions (resolution_id, trace_id, draft, title, body)
    SELECT trace_id, trace_id, 1, 't', '{}' FROM runs WHERE workflow_id <> 'w';
    INSERT INTO evaluation_metrics
    SELECT trace_id, trace_id, resolution_id, 8, 8, 8, 8, 8, 'FAIR', '{}' FROM resolutions
     WHERE resolution_id <> '$RUN';
    INSERT INTO plans (plan_id, trace_id, resolution_id, starts_on, ends_on, weeks, body)
    SELECT trace_id, trace_id, resolution_id, now(), now(), 1, '{}' FROM resolutions
     WHERE resolution_id <> '$RUN';
    INSERT INTO run_events (trace_id, seq, key, kind, message)
    SELECT trace_id, n, n::text, 'stage_started', 'm' FROM resolutions, generate_series(1, 5) n
     WHERE resolution_id <> '$RUN';
    INSERT INTO llm_calls (call_id, trace_id, stage, request_sha256, attempt, model, prompt_stage,
                           prompt_version, started_at)
    SELECT gen_random_uuid(), trace_id, 'plan', n::text, 1, 'm', 'plan', 1, now()
      FROM resolutions, generate_series(1, 4) n WHERE resolution_id <> '$RUN';
    INSERT INTO feedback (feedback_id, trace_id, user_id, rating)
    SELECT trace_id, trace_id, 'u', 4 FROM resolutions
     WHERE resolution_id <> '$RUN';
    INSERT INTO feedback_history (feedback_id, trace_id, revision, rating)
    SELECT feedback_id, trace_id, 1, 4 FROM feedback WHERE rating = 4;
    INSERT INTO clarified_goals (trace_id, category, body)
    SELECT trace_id, 'other', '{}' FROM resolutions;
    INSERT INTO idempotency_keys (key, fingerprint, trace_id, expires_at)
    SELECT trace_id::text, '', trace_id, now() + interval '1 day' FROM resolutions;
    ANALYZE;
""".replace("$RUN", str(RUN))


@pytest.fixture(scope="module")
async def conn(module_postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    conn = await asyncpg.connect(module_postgres_url)
    await conn.execute("SET rein.tenant = 'local'")
    await conn.execute(ONE)
    yield conn
    await conn.close()


@pytest.mark.parametrize(
    "change",
    [
        "runs SET quality_score = 11",
        "runs SET quality_score = -1",
        "runs SET quality_score = 'NaN'",
        "runs SET cost_usd = -1",
        "runs SET cost_usd = 'NaN'",
        "runs SET input_tokens = -1",
        "runs SET output_tokens = -1",
        "runs SET duration_ms = -1",
        "runs SET finished_at = NULL",
        "runs SET status = 'running'",
        "runs SET status = 'done'",
        "runs SET status = 'failed'",
        "run_events SET seq = 0",
        "run_events SET kind = 'dreaming'",
        "goals SET goal = 'a'",
        "goals SET goal = repeat('x', 12001)",
        "resolutions SET draft = 0",
        "evaluation_metrics SET clarity = 11",
        "evaluation_metrics SET overall = 'NaN'",
        "evaluation_metrics SET status = 'SPLENDID'",
        "plans SET weeks = 0",
        "plans SET ends_on = starts_on - 1",
        "llm_calls SET input_tokens = -1",
        "llm_calls SET thought_tokens = -1",
        "llm_calls SET cost_usd = 'NaN'",
        "llm_calls SET reserved_usd = 'NaN'",
        "runs SET cost_unknown_usd = 'NaN'",
        "runs SET unknown_calls = -1",
        "llm_calls SET finished_at = now()",
        "llm_calls SET state = 'failed'",
        "llm_calls SET state = 'answered', finished_at = now()",
        "feedback SET rating = 6",
        "feedback SET rating = 0.5",
        "feedback SET rating = 4.3",
        "feedback SET rating = 'NaN'",
        "feedback SET comment = repeat('x', 2001)",
        "feedback_history SET rating = 6",
        "feedback_history SET revision = 0",
    ],
)
async def test_nonsense_is_refused(conn: asyncpg.Connection, change: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await conn.execute(f"UPDATE {change}")


@pytest.mark.parametrize(
    "table", ["goals", "resolutions", "evaluation_metrics", "plans", "llm_calls", "feedback"]
)
async def test_what_belongs_to_no_run_is_refused(conn: asyncpg.Connection, table: str) -> None:
    change = f"{table} SET trace_id = gen_random_uuid()"
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await conn.execute(f"UPDATE {change}")


async def _alembic(url: str, *command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "alembic", *command), env=os.environ | {"DATABASE_URL": url}
    )
    assert await process.wait() == 0


async def _shape(conn: asyncpg.Connection) -> list[Any]:
    """Tables with their columns, constraints and indexes."""
    return await conn.fetch(
        """
        SELECT 'column', table_name, column_name, data_type FROM information_schema.columns
         WHERE table_schema = 'public'
        UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
          FROM pg_constraint WHERE connamespace = 'public'::regnamespace
        UNION ALL SELECT 'index', tablename, indexname, indexdef
          FROM pg_indexes WHERE schemaname = 'public'
        ORDER BY 1, 2, 3, 4
        """
    )


async def test_migrations_go_back_step_by_step_and_forward_again(postgres_url: str) -> None:
    conn = await asyncpg.connect(postgres_url)
    newest = await _shape(conn)
    shapes = [newest]
    while await conn.fetchval("SELECT count(*) FROM alembic_version"):
        await _alembic(postgres_url, "downgrade", "-1")
        shapes.append(await _shape(conn))
        assert shapes[-1] != shapes[-2]
    assert {row["table_name"] for row in shapes[-1]} == {"alembic_version"}
    await _alembic(postgres_url, "upgrade", "head")
    assert await _shape(conn) == newest
    await conn.close()


class Explained:
    """Stands for a connection in a role: asks how each statement would be run, and finds nothing.

    In the application's role, because row-level security keeps some conditions from an index.
    """

    def __init__(self, conn: asyncpg.Connection, role: str = "rein_application") -> None:
        self._conn = conn
        self._role = role
        self.plans: list[str] = []

    async def fetch(self, statement: str, *values: object) -> list[Any]:
        async with self._conn.transaction():
            await self._conn.execute(f"SET LOCAL ROLE {self._role}")
            plan = await self._conn.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *values)
        self.plans.append(json.dumps(json.loads(plan)))
        return []

    async def fetchrow(self, statement: str, *values: object) -> None:
        await self.fetch(statement, *values)

    fetchval = fetchrow

    def indexes(self) -> set[str]:
        return set(re.findall(r'"Index Name": "(\w+)"', " ".join(self.plans)))


@pytest.fixture(scope="module")
async def filled(conn: asyncpg.Connection) -> asyncpg.Connection:
    await conn.execute(MANY)
    return conn


NOW = datetime.now(UTC)
LISTS = {
    "all": (Filters("local"), "runs_newest"),
    "rare status": (Filters("local", status=["running"]), "runs_by_status"),
    "user": (Filters("local", user_id="user-7"), "runs_by_user"),
    "refused": (Filters("local", refusal_code="CRISIS"), "runs_by_refusal"),
    "low score": (Filters("local", max_score=3.0), "runs_by_score"),
    "high score": (Filters("local", min_score=9.5), "runs_by_score"),
    "found": (Filters("local", goal_ids=[RUN]), "runs_by_goal"),
    "days": (Filters("local", since=NOW - timedelta(days=3), before=NOW), "runs_newest"),
}


@pytest.mark.parametrize("name", LISTS)
async def test_a_list_uses_the_index_of_its_filter(filled: asyncpg.Connection, name: str) -> None:
    filters, index = LISTS[name]
    for after in (None, Position(NOW - timedelta(hours=1), RUN)):
        explained: Any = Explained(filled)
        await results.select_goals(explained, filters, after, 21)
        assert index in explained.indexes(), explained.plans


async def _explain_search(conn: asyncpg.Connection) -> Explained:
    """A function that runs as another role is planned apart, so its own statement is asked for."""
    body = await conn.fetchval("SELECT prosrc FROM pg_proc WHERE proname = 'goals_with_words'")
    for name, number in (("' ' || tenant)", "' ' || $1)"), ("wanted", "$2"), ("most", "$3")):
        assert name in body
        body = body.replace(name, number)
    explained = Explained(conn, "rein_operations")
    await explained.fetch(body, "local", "oboe", 10)
    return explained


async def test_words_are_searched_for_by_their_index(filled: asyncpg.Connection) -> None:
    assert (await _explain_search(filled)).indexes() == {"goals_grams"}


async def test_what_is_read_by_id_is_never_searched_for(filled: asyncpg.Connection) -> None:
    explained: Any = Explained(filled)
    await results.select_run(explained, "local", RUN)
    await results.select_goal(explained, "local", RUN)
    await results.select_stored_resolution(explained, "local", RUN)
    await results.select_stored_plan(explained, "local", RUN)
    await runs.select_found_run(explained, "local", RUN)
    await goals.select_last_evaluation(explained, RUN)
    await goals.select_evaluation(explained, RUN)
    await events.select_events(explained, RUN, 2)
    await feedback.select_feedback(explained, RUN)
    await feedback.select_feedback_totals(explained, RUN)
    operations: Any = Explained(filled, "rein_operations")
    await runs.count_recent_runs(operations)
    await runs.select_quiet(operations, timedelta(seconds=20), None, 500)
    await runs.select_not_closed(operations, [Ended("w-1", "r", NOW)])
    await runs.select_request_of(operations, "w-1")
    await workers.select_workflows_of_worker(operations, 1, 10)
    plans = explained.plans + operations.plans
    assert [plan for plan in plans if "Seq Scan" in plan] == []


async def test_every_index_serves_a_query(filled: asyncpg.Connection) -> None:
    """Those that hold a key serve by that; the outbox's own are looked at in tests/tracing."""
    explained: Any = Explained(filled)
    for filters, _ in LISTS.values():
        await results.select_goals(explained, filters, None, 21)
    await results.select_goal(explained, "local", RUN)
    await feedback.select_feedback_totals(explained, RUN)
    await callers.count_runs_in_flight(explained, "local")
    operations: Any = Explained(filled, "rein_operations")
    await runs.count_recent_runs(operations)
    await idempotency.delete_expired_keys(operations, 10)
    await runs.select_quiet(operations, timedelta(seconds=20), None, 500)
    rows = await filled.fetch(
        """
        SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
         WHERE NOT i.indisunique AND c.relnamespace = 'public'::regnamespace
           AND i.indrelid <> 'trace_outbox'::regclass
        """
    )
    search = await _explain_search(filled)
    served = explained.indexes() | operations.indexes() | search.indexes()
    assert {row["relname"] for row in rows} - served == set()

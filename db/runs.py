"""The rows of runs of any kind: storing an accepted run, looking it up, recording its end."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from db.calls import LOSE, SETTLED_CALL, SPENT
from db.pool import Connection
from domain.ledger import SettledCall
from domain.reconcile import Cursor
from domain.results import FoundRun
from domain.runs import RunKind, RunRequest, RunStatus, workflow_id


class StoredRequest(NamedTuple):
    """The input of a run's workflow as JSON, which the request model of the run's kind can read."""

    trace_id: UUID
    kind: RunKind
    body: dict[str, Any]


class Quiet(NamedTuple):
    """An unfinished run without any event for a while; `cursor` is its position for paging."""

    cursor: Cursor
    workflow_id: str


class Ended(NamedTuple):
    """One execution (Temporal run) of a workflow that has ended, and when it ended."""

    workflow_id: str
    run_id: str
    at: datetime


async def insert_run(
    conn: Connection, request: RunRequest, *, user_id: str, goal_id: UUID, created_at: datetime
) -> None:
    """Store an accepted run.

    `goal_id` is the trace id of the run whose row holds the person's goal in words; a rerun refers
    to another run here.
    """
    await conn.execute(
        """
        INSERT INTO runs (trace_id, kind, user_id, pseudonym, workflow_id, request, manifest,
                          source_trace_id, goal_id, created_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        """,
        request.trace_id,
        request.kind,
        user_id,
        request.user,
        workflow_id(request.kind, request.trace_id),
        request,
        request.manifest,
        request.rerun.source_trace_id if request.rerun else None,
        goal_id,
        created_at,
    )


async def lock_run(conn: Connection, trace_id: UUID) -> RunKind | None:
    """Lock a run's row and its calls under way, and act for the run's tenant, in this transaction.

    No call can be settled while the cost of the run is summed. Return the kind of the run, or None
    when no such run was accepted. Call it in the role `rein_operations`, which sees the runs of all
    tenants.
    """
    kind: RunKind | None = await conn.fetchval(
        """
        WITH calls AS (
            SELECT FROM llm_calls WHERE trace_id = $1 AND state = 'reserved' FOR UPDATE
        )
        SELECT kind, set_config('rein.tenant', tenant_id, true), (SELECT count(*) FROM calls)
          FROM runs WHERE trace_id = $1
           FOR UPDATE
        """,
        trace_id,
    )
    return kind


async def finish_run(
    conn: Connection,
    *,
    trace_id: UUID,
    workflow_run_id: str,
    status: RunStatus,
    error_code: str | None,
    error_message: str | None,
    outcome: dict[str, Any] | None,
    ended_at: datetime,
) -> list[SettledCall] | None:
    """Record how a run ended, with all tokens and the whole cost that it used.

    None means that this end was recorded before. If an operator has reset the workflow, its new
    Temporal run ends too, and that end replaces the earlier one. Calls that are still reserved are
    settled as lost, because nobody will use their answers. Return the settled calls whose spans
    were never stored, because their attempts died or were given up, so that the caller can store
    the spans.
    """
    calls = await conn.fetchval(
        _FINISH,
        trace_id,
        status,
        error_code,
        error_message,
        outcome,
        ended_at,
        workflow_run_id,
    )
    return None if calls is None else [SettledCall.model_validate(call) for call in calls]


_FINISH = f"""
    WITH before AS (
        SELECT finished_at FROM runs WHERE trace_id = $1
    ), again AS (
        -- when the run went on after an operator's reset: what lies before was no work
        SELECT min(at) AS at
          FROM run_events, before
         WHERE trace_id = $1 AND kind <> 'finished' AND at > before.finished_at
    ), finished AS (
        UPDATE runs
           SET status = $2, error_code = $3, error_message = $4, outcome = $5, finished_at = $6,
               quality_score = ($5::jsonb ->> 'quality_score')::float8,
               duration_ms = greatest(0,
                   CASE WHEN runs.finished_at IS NULL THEN extract(epoch FROM $6 - created_at)
                        ELSE extract(epoch FROM $6 - again.at) END * 1000
                   + coalesce(runs.duration_ms, 0))::bigint,
               input_tokens = spent.input_tokens, output_tokens = spent.output_tokens,
               cost_usd = spent.cost_usd, unknown_calls = spent.unknown_calls,
               cost_unknown_usd = spent.cost_unknown_usd, workflow_run_id = $7
          FROM (SELECT {SPENT} FROM llm_calls WHERE trace_id = $1) AS spent, again
         WHERE trace_id = $1
           AND (finished_at IS NULL OR (workflow_run_id <> $7 AND finished_at < $6))
        RETURNING true
    ), lost AS (
        UPDATE llm_calls SET {LOSE}
         WHERE trace_id = $1 AND state = 'reserved' AND EXISTS (SELECT FROM finished)
        RETURNING *
    ), calls AS (
        SELECT * FROM lost
        UNION ALL
        SELECT * FROM llm_calls
         WHERE trace_id = $1 AND state IN ('answered', 'unknown')
           -- the end before a reset has seen to the earlier ones
           AND started_at > coalesce((SELECT finished_at FROM before), '-infinity')
    )
    SELECT coalesce(jsonb_agg({SETTLED_CALL}) FILTER (WHERE call_id IS NOT NULL), '[]')
      FROM finished
      LEFT JOIN calls ON NOT EXISTS (
           SELECT FROM trace_outbox WHERE kind = 'span' AND id = call_id::text)
    HAVING count(*) > 0
"""  # noqa: S608 - interpolates constants only


class RunEnded(NamedTuple):
    """How a run ended."""

    kind: RunKind
    status: RunStatus
    duration: timedelta
    cost_usd: Decimal | None


async def select_end(conn: Connection, trace_id: UUID) -> RunEnded | None:
    """Return how a run of any tenant ended, or None if it has no row or has not ended."""
    row = await conn.fetchrow(
        """
        SELECT kind, status, duration_ms * interval '1 millisecond', cost_usd
          FROM runs WHERE trace_id = $1 AND finished_at IS NOT NULL
        """,
        trace_id,
    )
    return None if row is None else RunEnded(*row)


async def select_found_run(conn: Connection, tenant: str, trace_id: UUID) -> FoundRun | None:
    """Return the kind and status of a tenant's run, or None when the tenant has no such run."""
    row = await conn.fetchrow(
        "SELECT trace_id, kind, status, last_seq FROM runs WHERE trace_id = $1 AND tenant_id = $2",
        trace_id,
        tenant,
    )
    return None if row is None else FoundRun.model_validate(dict(row))


async def lock_found_run(conn: Connection, tenant: str, trace_id: UUID) -> FoundRun | None:
    """Return the kind and status of a tenant's run, and lock its row until the transaction ends.

    None means that the tenant has no such run. The lock makes people who rate the same run at the
    same time wait for each other.
    """
    row = await conn.fetchrow(
        """
        SELECT trace_id, kind, status, last_seq
          FROM runs WHERE trace_id = $1 AND tenant_id = $2
           FOR NO KEY UPDATE
        """,
        trace_id,
        tenant,
    )
    return None if row is None else FoundRun.model_validate(dict(row))


async def select_request(conn: Connection, tenant: str, trace_id: UUID) -> StoredRequest | None:
    """Return the input of a tenant's run, or None when the tenant has no such run."""
    row = await conn.fetchrow(
        "SELECT trace_id, kind, request FROM runs WHERE trace_id = $1 AND tenant_id = $2",
        trace_id,
        tenant,
    )
    return None if row is None else StoredRequest(*row)


async def select_quiet(
    conn: Connection, grace: timedelta, after: Cursor | None, limit: int
) -> list[Quiet]:
    """Return at most `limit` unfinished runs without an event for `grace`, oldest first.

    A run that is under way writes an event at each stage and attempt, so a quiet one may have
    lost its workflow. `after` is the last run of the page before; None starts at the oldest.
    """
    rows = await conn.fetch(
        """
        SELECT trace_id, created_at, workflow_id
          FROM runs
         WHERE finished_at IS NULL
           AND created_at < now() - $1::interval
           AND ($2::timestamptz IS NULL OR (created_at, trace_id) > ($2, $3::uuid))
           AND NOT EXISTS (SELECT FROM run_events e
                            WHERE e.trace_id = runs.trace_id
                              AND e.seq = runs.last_seq
                              AND e.at > now() - $1::interval)
         ORDER BY created_at, trace_id
         LIMIT $4
        """,
        grace,
        after.created_at if after else None,
        after.trace_id if after else None,
        limit,
    )
    return [
        Quiet(Cursor(created_at=row["created_at"], trace_id=row["trace_id"]), row["workflow_id"])
        for row in rows
    ]


async def select_not_closed(conn: Connection, ended: Sequence[Ended]) -> list[str]:
    """Return the ids of those workflows whose given end is not recorded in the run's row.

    These are runs without an end, and runs whose recorded end belongs to an earlier execution.
    """
    rows = await conn.fetch(
        """
        SELECT DISTINCT r.workflow_id
          FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS e (workflow_id, run_id, at)
          JOIN runs r USING (workflow_id)
         WHERE r.finished_at IS NULL
            OR (r.workflow_run_id <> e.run_id AND r.finished_at < e.at)
        """,
        [each.workflow_id for each in ended],
        [each.run_id for each in ended],
        [each.at for each in ended],
    )
    return [row["workflow_id"] for row in rows]


async def select_request_of(conn: Connection, workflow_id: str) -> StoredRequest | None:
    """Return the input of the workflow with this id, or None if no run has it.

    Call it in the role `rein_operations`, because it reads the runs of all tenants.
    """
    row = await conn.fetchrow(
        "SELECT trace_id, kind, request FROM runs WHERE workflow_id = $1", workflow_id
    )
    return None if row is None else StoredRequest(*row)


class BilledCall(NamedTuple):
    """A model call whose bill is known; `cost_usd` is None without a price."""

    model: str
    model_version: str | None
    day: date
    input_tokens: int
    cached_tokens: int
    cost_usd: Decimal | None


async def select_billed_calls(conn: Connection, trace_id: UUID) -> list[BilledCall]:
    """Return the run's answered calls."""
    rows = await conn.fetch(
        """
        SELECT model, model_version, (finished_at AT TIME ZONE 'UTC')::date, input_tokens,
               cached_tokens, cost_usd
          FROM llm_calls
         WHERE trace_id = $1 AND state = 'answered' AND NOT cost_at_most
        """,
        trace_id,
    )
    return [BilledCall(*row) for row in rows]


async def update_cost_shares(
    conn: Connection, trace_id: UUID, *, cost_input_usd: Decimal, cost_output_usd: Decimal
) -> None:
    """Store how the known cost of an ended run divides into input and output."""
    await conn.execute(
        "UPDATE runs SET cost_input_usd = $2, cost_output_usd = $3 WHERE trace_id = $1",
        trace_id,
        cost_input_usd,
        cost_output_usd,
    )


class RecentRuns(NamedTuple):
    """What is known at a moment, for the gauges of `/metrics`.

    `by_status` counts the runs that have not ended, and those that ended in the last hour.
    `oldest_accepted_s` is the age of the oldest accepted run that has not begun. The unknown calls
    and their cost are those of the last 24 hours.
    """

    by_status: dict[str, int]
    oldest_accepted_s: float
    unknown_calls: int
    cost_unknown_usd: Decimal


async def count_recent_runs(conn: Connection) -> RecentRuns:
    """Count what the gauges show. It reads indexes of what is open or recent, no whole table."""
    rows = await conn.fetch(
        """
        SELECT status, count(*) AS runs FROM (
            SELECT status FROM runs WHERE finished_at IS NULL
            UNION ALL
            SELECT status FROM runs WHERE finished_at > now() - interval '1 hour'
        ) AS recent
         GROUP BY status
        """
    )
    row = await conn.fetchrow(
        """
        SELECT (SELECT coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8
                  FROM runs WHERE finished_at IS NULL AND status = 'accepted') AS oldest,
               count(*) AS calls, coalesce(sum(cost_usd), 0) AS cost_usd
          FROM llm_calls
         WHERE cost_at_most AND finished_at > now() - interval '24 hours'
        """
    )
    return RecentRuns(
        by_status={row["status"]: row["runs"] for row in rows},
        oldest_accepted_s=row["oldest"] if row else 0,
        unknown_calls=row["calls"] if row else 0,
        cost_unknown_usd=row["cost_usd"] if row else Decimal(0),
    )


async def count_refused_starts(conn: Connection) -> int:
    """Count the accepted runs that Temporal refused to start and that have not started since."""
    count: int = await conn.fetchval(
        """
        SELECT count(*)
          FROM runs r
         WHERE finished_at IS NULL AND status = 'accepted'
           AND EXISTS (SELECT FROM run_events e
                        WHERE e.trace_id = r.trace_id AND e.kind = 'start_refused')
        """
    )
    return count

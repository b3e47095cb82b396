"""The row of a run of any kind: accepted, looked up, ended."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from db.calls import LOSE, SETTLED_CALL, SPENT
from db.pool import Connection
from domain.ledger import SettledCall
from domain.reconcile import Cursor
from domain.results import FoundRun
from domain.runs import RunKind, RunRequest, RunStatus, workflow_id


class StoredRequest(NamedTuple):
    """The input that a run's workflow is started with: JSON, to be read by its kind's model."""

    trace_id: UUID
    kind: RunKind
    body: dict[str, Any]


class Quiet(NamedTuple):
    """An unfinished run of which nothing was heard for a while."""

    cursor: Cursor
    workflow_id: str


class Ended(NamedTuple):
    """An execution of a workflow that has ended."""

    workflow_id: str
    run_id: str
    at: datetime


async def insert_run(
    conn: Connection, request: RunRequest, *, user_id: str, goal_id: UUID, created_at: datetime
) -> None:
    """Store an accepted run. `goal_id` is the trace id of the run that holds the person's words."""
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
    """Lock a run's row until the transaction ends, and act for its tenant from here on.

    Its calls under way are locked too, so that none is settled while the run's bill is summed.
    Returns its kind; None when nobody accepted such a run. Only operations may see any tenant's.
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
    """Record how a run ended, with what it used in all. None when it had ended before.

    An operator's reset makes another Temporal run of the same workflow: its end replaces the old.
    No call is left reserved: whoever makes one now makes it for nobody. Returns the calls of which
    no span was stored, because the attempts that made them could not do it any more.
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
    ), finished AS (
        UPDATE runs
           SET status = $2, error_code = $3, error_message = $4, outcome = $5, finished_at = $6,
               quality_score = ($5::jsonb ->> 'quality_score')::float8,
               duration_ms = greatest(0, extract(epoch FROM $6 - created_at) * 1000)::bigint,
               input_tokens = spent.input_tokens, output_tokens = spent.output_tokens,
               cost_usd = spent.cost_usd, unknown_calls = spent.unknown_calls,
               cost_unknown_usd = spent.cost_unknown_usd, workflow_run_id = $7
          FROM (SELECT {SPENT} FROM llm_calls WHERE trace_id = $1) AS spent
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
"""  # noqa: S608 - constants


async def select_found_run(conn: Connection, tenant: str, trace_id: UUID) -> FoundRun | None:
    """Whether a tenant has such a run, and where it stands."""
    row = await conn.fetchrow(
        "SELECT trace_id, kind, status, last_seq FROM runs WHERE trace_id = $1 AND tenant_id = $2",
        trace_id,
        tenant,
    )
    return None if row is None else FoundRun.model_validate(dict(row))


async def lock_found_run(conn: Connection, tenant: str, trace_id: UUID) -> FoundRun | None:
    """The same, held until the transaction ends: those who rate a run come one after the other."""
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
    """The input of a tenant's run."""
    row = await conn.fetchrow(
        "SELECT trace_id, kind, request FROM runs WHERE trace_id = $1 AND tenant_id = $2",
        trace_id,
        tenant,
    )
    return None if row is None else StoredRequest(*row)


async def select_quiet(
    conn: Connection, grace: timedelta, after: Cursor | None, limit: int
) -> list[Quiet]:
    """Runs that have not ended, and of which nothing was heard for `grace`; the oldest first.

    A run that is under way tells of each stage and each attempt. `after` skips what was looked at.
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
    """The workflow ids among `ended` executions whose end no row knows."""
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
    """The input of a workflow; any tenant's, so only operations may ask."""
    row = await conn.fetchrow(
        "SELECT trace_id, kind, request FROM runs WHERE workflow_id = $1", workflow_id
    )
    return None if row is None else StoredRequest(*row)


async def count_recent_runs(conn: Connection) -> dict[str, int]:
    """Runs by status: those that have not ended, and those accepted in the last 24 hours."""
    rows = await conn.fetch(
        """
        SELECT status, count(*) AS runs
          FROM runs
         WHERE finished_at IS NULL OR created_at > now() - interval '24 hours'
         GROUP BY status
        """
    )
    return {row["status"]: row["runs"] for row in rows}


async def count_refused_starts(conn: Connection) -> int:
    """Accepted runs that Temporal refused to start."""
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

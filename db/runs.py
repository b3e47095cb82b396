"""The row of a run of any kind: accepted, looked up, ended."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from db.calls import LOSE, SETTLED_CALL, SPENT
from db.pool import Connection
from domain.ledger import SettledCall
from domain.results import FoundRun
from domain.runs import RunKind, RunRequest, RunStatus, workflow_id


class StoredRequest(NamedTuple):
    """The input that a run's workflow is started with: JSON, to be read by its kind's model."""

    trace_id: UUID
    kind: RunKind
    body: dict[str, Any]


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


async def select_request(conn: Connection, tenant: str, trace_id: UUID) -> StoredRequest | None:
    """The input of a tenant's run."""
    row = await conn.fetchrow(
        "SELECT trace_id, kind, request FROM runs WHERE trace_id = $1 AND tenant_id = $2",
        trace_id,
        tenant,
    )
    return None if row is None else StoredRequest(*row)


async def select_unfinished(conn: Connection, grace: timedelta) -> list[str]:
    """The workflow ids of runs that were accepted longer ago than `grace` and have not ended."""
    rows = await conn.fetch(
        """
        SELECT workflow_id
          FROM runs
         WHERE finished_at IS NULL AND created_at < now() - $1::interval
         ORDER BY created_at
        """,
        grace,
    )
    return [row["workflow_id"] for row in rows]


async def select_requests(conn: Connection, workflow_ids: Sequence[str]) -> list[StoredRequest]:
    """The inputs of these workflows; the oldest run first."""
    rows = await conn.fetch(
        """
        SELECT trace_id, kind, request
          FROM runs WHERE workflow_id = ANY($1) ORDER BY created_at
        """,
        workflow_ids,
    )
    return [StoredRequest(*row) for row in rows]


class RecentRuns(NamedTuple):
    """Runs that have not ended, and those accepted in the last 24 hours.

    The unknown calls and their cost are those of the ended ones among them.
    """

    by_status: dict[str, int]
    unknown_calls: int
    cost_unknown_usd: Decimal


async def count_recent_runs(conn: Connection) -> RecentRuns:
    """How many there are, and what they may have cost beyond what is known."""
    rows = await conn.fetch(
        """
        SELECT status, count(*) AS runs, sum(unknown_calls) AS unknown_calls,
               sum(cost_unknown_usd) AS cost_unknown_usd
          FROM runs
         WHERE finished_at IS NULL OR created_at > now() - interval '24 hours'
         GROUP BY status
        """
    )
    return RecentRuns(
        by_status={row["status"]: row["runs"] for row in rows},
        unknown_calls=sum(row["unknown_calls"] for row in rows),
        cost_unknown_usd=sum((row["cost_unknown_usd"] for row in rows), Decimal(0)),
    )

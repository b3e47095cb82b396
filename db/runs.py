"""The row of a run, its events and its end."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from db.pool import Connection
from domain.goals import GoalRequest
from domain.runs import Manifest, RunEventKind, RunKind, RunStatus, Stage


async def insert_run(
    conn: Connection,
    *,
    trace_id: UUID,
    kind: RunKind,
    user_id: str,
    pseudonym: str,
    workflow_id: str,
    idempotency_key: str | None,
    request_sha256: str,
    request: object,
    manifest: Manifest,
    source_trace_id: UUID | None,
    created_at: datetime,
) -> bool:
    """Store an accepted run. False when the Idempotency-Key is taken: nothing was stored then."""
    inserted = await conn.fetchval(
        """
        INSERT INTO runs (trace_id, kind, user_id, pseudonym, workflow_id, idempotency_key,
                          request_sha256, request, manifest, source_trace_id, created_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        ON CONFLICT (idempotency_key) DO NOTHING
        RETURNING trace_id
        """,
        trace_id,
        kind,
        user_id,
        pseudonym,
        workflow_id,
        idempotency_key,
        request_sha256,
        request,
        manifest,
        source_trace_id,
        created_at,
    )
    return inserted is not None


async def append_event(
    conn: Connection,
    trace_id: UUID,
    key: str,
    kind: RunEventKind,
    stage: Stage | None,
    message: str,
    data: dict[str, Any] | None = None,
) -> int | None:
    """Add the run's next event and wake its watchers; None when `key` is there already.

    The update of the run's row locks it, so that a higher `seq` never commits before a lower one.
    A stage's first event also moves an accepted run to running.
    """
    seq: int | None = await conn.fetchval(
        """
        WITH run AS (
            UPDATE runs
               SET last_seq = last_seq + 1,
                   stage = coalesce($4, stage),
                   status = CASE WHEN status = 'accepted' AND $4 IS NOT NULL
                                 THEN 'running' ELSE status END,
                   started_at = CASE WHEN $4 IS NOT NULL
                                     THEN coalesce(started_at, now()) ELSE started_at END
             WHERE trace_id = $1
               AND NOT EXISTS (SELECT FROM run_events WHERE trace_id = $1 AND key = $2)
            RETURNING last_seq
        ), event AS (
            INSERT INTO run_events (trace_id, seq, key, kind, stage, message, data)
            SELECT $1, last_seq, $2, $3, $4, $5, $6 FROM run
            ON CONFLICT (trace_id, key) DO NOTHING
            RETURNING seq
        )
        SELECT seq FROM event, pg_notify('run_events', $1::text || ' ' || $3)
        """,
        trace_id,
        key,
        kind,
        stage,
        message,
        data or {},
    )
    return seq


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
) -> bool:
    """Record how a run ended, with what it used in all. False when it had ended before.

    An operator's reset makes another Temporal run of the same workflow: its end replaces the old.
    """
    updated = await conn.fetchval(
        """
        UPDATE runs
           SET status = $2, error_code = $3, error_message = $4, outcome = $5, finished_at = $6,
               quality_score = ($5::jsonb ->> 'quality_score')::numeric,
               duration_ms = greatest(0, extract(epoch FROM $6 - created_at) * 1000)::integer,
               input_tokens = spent.input_tokens, output_tokens = spent.output_tokens,
               cost_usd = spent.cost_usd, workflow_run_id = $7
          FROM (SELECT coalesce(sum(input_tokens), 0) AS input_tokens,
                       coalesce(sum(output_tokens + thought_tokens), 0) AS output_tokens,
                       CASE WHEN bool_or(cost_usd IS NULL AND state = 'answered') THEN NULL
                            ELSE coalesce(sum(cost_usd), 0) END AS cost_usd
                  FROM llm_calls
                 WHERE trace_id = $1) AS spent
         WHERE trace_id = $1
           AND (finished_at IS NULL OR (workflow_run_id <> $7 AND finished_at < $6))
        RETURNING true
        """,
        trace_id,
        status,
        error_code,
        error_message,
        outcome,
        ended_at,
        workflow_run_id,
    )
    return updated is not None


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


async def select_requests(conn: Connection, workflow_ids: Sequence[str]) -> list[GoalRequest]:
    """What these workflows were, or are to be, started with; the oldest run first."""
    rows = await conn.fetch(
        "SELECT request FROM runs WHERE workflow_id = ANY($1) ORDER BY created_at", workflow_ids
    )
    return [GoalRequest.model_validate(row["request"]) for row in rows]

"""The end of a trace: told by the workflow itself, or by whoever finds that it ended."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from tracing.context import Root
from tracing.ids import born_at
from tracing.rows import Connection, as_json, error_info, without_none
from tracing.text import chosen
from tracing.totals import TOTALS


class RunEnd(BaseModel):
    """How a run ended. `root` lets a trace be closed that nobody opened."""

    model_config = ConfigDict(frozen=True)

    trace_id: UUID
    project: str
    status: str
    ended_at: datetime
    error_type: str | None = None
    error_message: str | None = None
    result: dict[str, Any] | None = None
    workflow_id: str | None = None
    run_id: str | None = None
    thread_id: str | None = None
    environment: str | None = None
    root: Root | None = None


# $1 trace id, $2 project, $3 ended at, $4 what a trace that nobody opened is made of, $5 the end,
# $6 its metadata, $7 the end of spans that never ended.
CLOSE = f"""
WITH base AS (
    SELECT coalesce((SELECT payload FROM trace_outbox WHERE kind = 'trace' AND id = $1::uuid::text),
        $4::text::jsonb) AS payload
), left_open AS (
    SELECT kind, id FROM trace_outbox
    WHERE trace_id = $1 AND kind = 'span' AND finality = 0 ORDER BY id FOR UPDATE
), ended AS (
    UPDATE trace_outbox o SET payload = o.payload || $7::text::jsonb, finality = 1,
        event_time = greatest(clock_timestamp(), o.event_time + interval '1 microsecond'),
        next_try_at = now(), state = 'pending', attempts = 0, error = NULL
    FROM left_open WHERE (o.kind, o.id) = (left_open.kind, left_open.id)
    RETURNING 1
), facts AS (
    SELECT summed.totals || jsonb_strip_nulls(jsonb_build_object(
        'scores_logged', (SELECT count(*) FROM trace_outbox WHERE trace_id = $1 AND kind = 'score'
            AND payload ? 'value'),
        'duration_ms', (1000 * extract(epoch FROM $3::timestamptz
            - (base.payload ->> 'start_time')::timestamptz))::bigint)) AS totals
    FROM ({TOTALS}) AS summed, base
), closed AS (
    INSERT INTO trace_outbox AS o
        (kind, id, trace_id, project, payload, event_time, finality, next_try_at)
    SELECT 'trace', $1::uuid::text, $1, $2, (base.payload - 'error_info') || $5::text::jsonb
        || jsonb_build_object('metadata', coalesce(base.payload -> 'metadata', '{{}}')
            - ARRAY['cost_usd', 'calls_without_cost'] || $6::text::jsonb || totals),
        clock_timestamp(), 2, now()
    FROM base, facts
    -- Spans before their trace: the order of every writer, so that no two wait in a circle.
    WHERE (SELECT count(*) FROM ended) >= 0
    ON CONFLICT (kind, id) DO UPDATE SET payload = excluded.payload, finality = 2,
        event_time = greatest(excluded.event_time, o.event_time + interval '1 microsecond'),
        next_try_at = now(), state = 'pending', attempts = 0, error = NULL
    -- After a reset a trace ends again; the later end is the one that counts.
    WHERE o.finality < 2 OR (o.payload ->> 'end_time')::timestamptz <= $3
    RETURNING id
)
SELECT pg_notify('trace_outbox', '') FROM closed
"""  # noqa: S608 - constants


async def close_trace(
    conn: Connection,
    end: RunEnd,
    *,
    output: object = None,
    metadata: Mapping[str, object] | None = None,
) -> None:
    """End a trace with its totals, and every span of it that never ended.

    Tokens, cost and errors are summed over its spans, failed attempts included; what is written
    after the end is added then.
    """
    await conn.fetchval(
        CLOSE,
        end.trace_id,
        end.project,
        end.ended_at,
        as_json(_fresh(end)),
        as_json(_ending(end, output)),
        as_json(_facts(end, metadata)),
        as_json(_unended(end)),
    )


def lost_end(trace_id: UUID, status: str, ended_at: datetime, *, project: str) -> RunEnd:
    """The end of a run that could not tell it: terminated, timed out or lost."""
    return RunEnd(
        trace_id=trace_id,
        project=project,
        status=status,
        error_type=_workflow_error(status),
        error_message=f"The workflow was ended from outside ({status})",
        ended_at=ended_at,
    )


async def close_lost(
    conn: Connection, trace_id: UUID, status: str, ended_at: datetime, *, project: str = "default"
) -> None:
    """End the trace of a run that could not do it: terminated, timed out or lost.

    `project` matters only when nothing of the trace was ever stored.
    """
    await close_trace(conn, lost_end(trace_id, status, ended_at, project=project))


def _fresh(end: RunEnd) -> dict[str, object]:
    root = end.root
    return without_none(
        id=str(end.trace_id),
        name=root.name if root else end.workflow_id or "unknown",
        start_time=root.started_at if root else born_at(end.trace_id),
        thread_id=end.thread_id,
        environment=end.environment,
        source="sdk",
    )


def _ending(end: RunEnd, output: object) -> dict[str, object]:
    error = error_info(end.error_type, end.error_message) if end.error_type else None
    return without_none(end_time=end.ended_at, output=chosen().data(output), error_info=error)


def _facts(end: RunEnd, metadata: Mapping[str, object] | None) -> dict[str, object]:
    ids = without_none(workflow_id=end.workflow_id, workflow_run_id=end.run_id)
    return {**chosen().facts(metadata), **ids, "status": end.status}


def _unended(end: RunEnd) -> dict[str, object]:
    # In a run that succeeded only an attempt that vanished can be open still.
    lost = end.status in ("success", "partial", "refused")
    error_type = "ActivityAttemptLost" if lost else _workflow_error(end.status)
    message = f"The run ended ({end.status}) before this step did"
    return {"end_time": end.ended_at, "error_info": error_info(error_type, message)}


def _workflow_error(status: str) -> str:
    return "Workflow" + "".join(word.capitalize() for word in status.split("_"))

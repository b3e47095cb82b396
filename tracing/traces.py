"""The outbox rows of a trace: its opening, its end and its scores."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from tracing.context import Root, TraceContext
from tracing.ids import timestamp_of
from tracing.outbox import (
    TOTALS,
    Connection,
    Row,
    SpanState,
    as_json,
    error_info,
    without_none,
    write,
)
from tracing.redaction import redaction

CANCELLED = "cancelled"


class Score(BaseModel):
    """A feedback score of a trace. Of several values under one name only the latest counts.

    A value of None deletes the score from the trace.
    """

    model_config = ConfigDict(frozen=True)

    name: str = Field(min_length=1)
    value: float | None
    reason: str | None = None


class RunEnd(BaseModel):
    """How a run ended.

    Attributes:
        status: Any word. If the run returned a result, it is the result's `status`, or "success" if
            the result has none. The interceptor uses "failed" and "cancelled" for other runs.
        result: The workflow's return value as a JSON object; None when the run failed or returned
            nothing.
        root: The facts to open the trace from, for a run whose trace nobody has opened.
    """

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


# This statement locks the open spans of the trace $1 before the statement CLOSE. It waits for a
# stage that is storing its end in another transaction, so that CLOSE sees what the stage stored.
LOCK_OPEN_SPANS = """
SELECT FROM trace_outbox
WHERE trace_id = $1 AND kind = 'span' AND finality = 0 ORDER BY id FOR UPDATE
"""
# This statement ends a trace and its open spans. The parameters are $1 trace id, $2 project, $3
# time of the end, $4 payload of a trace that nobody opened, $5 fields of the end, $6 metadata of
# the end, $7 fields that end the spans still open.
CLOSE = f"""
WITH base AS (
    SELECT coalesce((SELECT payload FROM trace_outbox WHERE kind = 'trace' AND id = $1::uuid::text),
        $4::text::jsonb) AS payload
), ended AS (
    UPDATE trace_outbox o SET payload = o.payload || $7::text::jsonb, finality = 1,
        event_time = greatest(clock_timestamp(), o.event_time + interval '1 microsecond'),
        next_try_at = now(), state = 'pending', attempts = 0, error = NULL
    WHERE trace_id = $1 AND kind = 'span' AND finality = 0
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
            - ARRAY['cost_usd', 'calls_without_cost', 'unknown_calls', 'cost_unknown_usd']
            || $6::text::jsonb || totals),
        clock_timestamp(), 2, now()
    FROM base, facts
    -- This makes `ended` run first, because every writer locks spans before their trace.
    WHERE (SELECT count(*) FROM ended) >= 0
    ON CONFLICT (kind, id) DO UPDATE SET payload = excluded.payload, finality = 2,
        event_time = greatest(excluded.event_time, o.event_time + interval '1 microsecond'),
        next_try_at = now(), state = 'pending', attempts = 0, error = NULL
    -- A run that an operator reset ends again, and its later end replaces the earlier one.
    WHERE o.finality < 2 OR (o.payload ->> 'end_time')::timestamptz <= $3
    RETURNING id
)
SELECT pg_notify('trace_outbox', '') FROM closed
"""  # noqa: S608 - interpolates constants only


async def open_trace(
    conn: Connection,
    context: TraceContext,
    *,
    name: str,
    started_at: datetime,
    input: object = None,
    metadata: Mapping[str, object] | None = None,
    tags: Sequence[str] = (),
) -> None:
    """Open a run's trace. A repeated call is harmless, and ignored once the trace has ended."""
    payload = without_none(
        id=str(context.trace_id),
        name=name,
        start_time=started_at,
        input=redaction().payload(input),
        metadata=redaction().metadata(metadata),
        tags=list(tags) or None,
        thread_id=context.thread_id,
        environment=context.environment,
        source="sdk",
    )
    await write(conn, [_opening(context, payload, datetime.now(UTC))])


def derived_opening(context: TraceContext, root: Root) -> Row:
    """Return the row that opens the trace of a run which began without the trace header.

    Nobody else opens the trace of such a run.
    """
    payload = without_none(
        id=str(context.trace_id),
        name=root.name,
        start_time=root.started_at,
        metadata={"workflow_id": root.workflow_id, "workflow_run_id": root.run_id},
        thread_id=context.thread_id,
        environment=context.environment,
        source="sdk",
    )
    # This row carries the timestamp of the trace id, which is older than the time of any
    # `open_trace`. So an opening by `open_trace`, which knows the run's input, always replaces this
    # row.
    return _opening(context, payload, timestamp_of(context.trace_id))


async def put_scores(
    conn: Connection,
    trace_id: UUID,
    project: str,
    scores: Sequence[Score],
    *,
    at: datetime | None = None,
) -> None:
    """Put scores on a trace. A score with the value None is deleted from the trace.

    The shipper sends the scores after their trace and to the trace's project; `project` is used
    only when the outbox has no row for the trace. If scores may be written twice or late, `at`
    orders them and the newest wins. Without `at` the score written last wins.
    """
    rows = [
        Row(
            kind="score",
            id=f"{trace_id}:{score.name}",
            trace_id=trace_id,
            project=project,
            payload=without_none(
                id=str(trace_id),
                name=score.name,
                value=score.value,
                reason=redaction().message(score.reason),
                source="sdk",
            ),
            event_time=at,
        )
        for score in scores
    ]
    await write(conn, rows)


async def close_trace(
    conn: Connection,
    end: RunEnd,
    *,
    output: object = None,
    metadata: Mapping[str, object] | None = None,
) -> None:
    """End a trace with its totals, and end its spans that are still open. Call it in a transaction.

    Tokens, cost and errors are summed over all spans, failed attempts included. A span that is
    stored after the end makes `write` sum them again.
    """
    await conn.execute(LOCK_OPEN_SPANS, end.trace_id)
    await conn.fetchval(
        CLOSE,
        end.trace_id,
        end.project,
        end.ended_at,
        as_json(_unopened_payload(end)),
        as_json(_ending_fields(end, output)),
        as_json(_ending_metadata(end, metadata)),
        as_json(_open_span_ending(end)),
    )


def lost_end(
    trace_id: UUID, status: str, ended_at: datetime, *, project: str, reason: str = ""
) -> RunEnd:
    """Return the end of a run that could not report it: it was terminated, timed out or lost.

    `reason` is what Temporal knows about the cause; it becomes part of the error message.
    """
    why = f": {reason}" if reason else ""
    return RunEnd(
        trace_id=trace_id,
        project=project,
        status=status,
        error_type=_workflow_error(status),
        error_message=f"The workflow was ended from outside ({status}){why}",
        ended_at=ended_at,
    )


def _opening(context: TraceContext, payload: dict[str, object], event_time: datetime) -> Row:
    return Row(
        kind="trace",
        id=str(context.trace_id),
        trace_id=context.trace_id,
        project=context.project,
        payload=payload,
        event_time=event_time,
        finality=SpanState.OPEN,
    )


def _unopened_payload(end: RunEnd) -> dict[str, object]:
    root = end.root
    return without_none(
        id=str(end.trace_id),
        name=root.name if root else end.workflow_id or "unknown",
        start_time=root.started_at if root else timestamp_of(end.trace_id),
        thread_id=end.thread_id,
        environment=end.environment,
        source="sdk",
    )


def _ending_fields(end: RunEnd, output: object) -> dict[str, object]:
    error = error_info(end.error_type, end.error_message) if end.error_type else None
    return without_none(end_time=end.ended_at, output=redaction().payload(output), error_info=error)


def _ending_metadata(end: RunEnd, metadata: Mapping[str, object] | None) -> dict[str, object]:
    ids = without_none(workflow_id=end.workflow_id, workflow_run_id=end.run_id)
    return {**redaction().metadata(metadata), **ids, "status": end.status}


def _open_span_ending(end: RunEnd) -> dict[str, object]:
    # A run returns a result only after all its stages have finished. So a span that is still open
    # then belongs to an attempt whose worker died before it could close the span. In a failed or
    # cancelled run the stage itself may have been under way.
    returned = end.error_type is None and end.status != CANCELLED
    error_type = "ActivityAttemptLost" if returned else _workflow_error(end.status)
    message = f"The run ended ({end.status}) before this step did"
    return {"end_time": end.ended_at, "error_info": error_info(error_type, message)}


def _workflow_error(status: str) -> str:
    return "Workflow" + "".join(word.capitalize() for word in status.split("_"))

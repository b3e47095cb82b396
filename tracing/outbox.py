"""The outbox: a PostgreSQL table with one row per trace, span and score on its way to Opik.

A row holds the whole entity as Opik takes it. Writers put rows in by one statement, in their own
transaction; only the shipper (`tracing.ship`) takes them out.

Every transaction locks in one order: first the caller's own row of the run, if there is one, then
scores and spans, then the trace. So no two writers wait for each other, and whoever holds the run's
row sees all that others stored of the run before.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, Literal, Protocol
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json

from tracing.redaction import as_plain, redaction

Kind = Literal["trace", "span", "score"]
# A larger payload is cut, because the shipper sends 4 MB at once and no row may fill that alone.
MAX_PAYLOAD_CHARS = 1_000_000


class Connection(Protocol):
    """What tracing needs of a PostgreSQL connection; asyncpg's has it."""

    async def execute(self, query: str, *args: Any) -> str: ...
    async def fetch(self, query: str, *args: Any) -> Sequence[Any]: ...
    async def fetchrow(self, query: str, *args: Any) -> Any: ...
    async def fetchval(self, query: str, *args: Any) -> Any: ...


class SpanState(IntEnum):
    """How final a row is. A more final row replaces a less final one, whatever the clocks say."""

    OPEN = 0
    LOST = 1  # its writer vanished, so somebody else ended it
    ENDED = 2


@dataclass(frozen=True)
class Row:
    """One entity for Opik.

    Attributes:
        payload: The entity in Opik's own field names.
        event_time: Orders the versions of a row; None means the moment of writing, by
            PostgreSQL's clock, which all writers share.
        attempt: The attempt of the stage that the row tells of; 0 for rows without one. A lower
            attempt never replaces a higher one's row, because it may be one that Temporal gave up.
        wait_s: Holds an open row back, so that a span which ends soon is sent only once.
    """

    kind: Kind
    id: str
    trace_id: UUID
    project: str
    payload: dict[str, object]
    event_time: datetime | None
    finality: SpanState = SpanState.ENDED
    attempt: int = 0
    wait_s: float = 0


class Backlog(BaseModel):
    """How full the outbox is. `open` counts the traces that have not ended."""

    pending: int
    oldest_age_s: float
    dead: int
    open: int


# A trace's totals are summed over its spans, failed attempts included. `_SUMS` reads `payload` and
# `finality` of their rows; one of these rows may hold the sums of spans that were deleted before.
_SUMS = """
jsonb_build_object(
    'usage', jsonb_build_object(
        'prompt_tokens', sum((payload -> 'usage' ->> 'prompt_tokens')::bigint),
        'completion_tokens', sum((payload -> 'usage' ->> 'completion_tokens')::bigint),
        'total_tokens', sum((payload -> 'usage' ->> 'total_tokens')::bigint)),
    'total_estimated_cost', sum((payload ->> 'total_estimated_cost')::numeric),
    'calls_without_cost', sum(coalesce((payload ->> 'calls_without_cost')::bigint,
        ((payload ? 'usage' OR coalesce(payload -> 'metadata' ? 'cost_at_most', false))
            AND NOT payload ? 'total_estimated_cost')::integer)),
    'unknown_calls', sum(coalesce((payload ->> 'unknown_calls')::bigint,
        (payload -> 'metadata' ? 'cost_at_most')::integer)),
    'cost_unknown_usd', sum(coalesce((payload ->> 'cost_unknown_usd')::numeric,
        CASE WHEN payload -> 'metadata' ? 'cost_at_most'
            THEN (payload ->> 'total_estimated_cost')::numeric END)),
    'errors', sum(coalesce((payload ->> 'errors')::bigint,
        (payload ? 'error_info' OR finality = 0)::integer)))
"""
# If any call has no price, cost_usd is omitted and calls_without_cost is reported instead. The most
# that calls with an unknown bill can have cost is part of cost_usd, and told apart.
_TOTALS_METADATA = """
jsonb_strip_nulls((sums -> 'usage') || jsonb_build_object(
    'cost_usd', CASE WHEN (sums -> 'calls_without_cost')::text IN ('0', 'null')
        THEN sums -> 'total_estimated_cost' END,
    'calls_without_cost', nullif(sums -> 'calls_without_cost', '0'),
    'unknown_calls', nullif(sums -> 'unknown_calls', '0'),
    'cost_unknown_usd', sums -> 'cost_unknown_usd',
    'errors', coalesce((sums ->> 'errors')::bigint, 0)))
"""

# One row `totals`: what the spans of the trace $1 add to its metadata.
TOTALS = f"""
SELECT {_TOTALS_METADATA} AS totals FROM (
    SELECT {_SUMS} AS sums FROM (
        SELECT payload, finality FROM trace_outbox WHERE trace_id = $1 AND kind = 'span'
        UNION ALL
        SELECT forgotten, 2 FROM trace_outbox
        WHERE kind = 'trace' AND id = $1::uuid::text AND forgotten IS NOT NULL) AS every_span
    ) AS summed
"""  # noqa: S608 - constants

LOCK_SPANS = """
SELECT FROM trace_outbox WHERE kind = 'span' AND id = ANY($1) ORDER BY id FOR UPDATE
"""
LOCK_TRACE = """
SELECT FROM trace_outbox WHERE kind = 'trace' AND id = $1::uuid::text FOR UPDATE
"""
# Of the trace $1, which has ended, when a span was stored after its end.
RENEW_TOTALS = f"""
UPDATE trace_outbox o SET
    payload = o.payload || jsonb_build_object('metadata', coalesce(o.payload -> 'metadata', '{{}}')
        - ARRAY['cost_usd', 'calls_without_cost', 'unknown_calls', 'cost_unknown_usd'] || totals),
    event_time = greatest(clock_timestamp(), o.event_time + interval '1 microsecond'),
    next_try_at = now(), state = 'pending', attempts = 0, error = NULL
FROM ({TOTALS}) AS renewed
WHERE o.kind = 'trace' AND o.id = $1::uuid::text
"""  # noqa: S608 - constants

# Deletes spans and scores that were sent before $1 ago, at most $2 of them, and nothing of an open
# trace. The trace's row keeps the sums of its deleted spans in `forgotten`.
DELETE_SENT = f"""
WITH old AS (
    SELECT kind, id FROM trace_outbox o
    WHERE state = 'sent' AND kind IN ('span', 'score') AND sent_at < now() - $1::interval
        AND (SELECT t.finality FROM trace_outbox t
            WHERE t.kind = 'trace' AND t.id = o.trace_id::text) IS DISTINCT FROM 0
    LIMIT $2 FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM trace_outbox o USING old WHERE (o.kind, o.id) = (old.kind, old.id)
    RETURNING o.kind, o.trace_id, o.payload, o.finality
), kept AS (
    UPDATE trace_outbox t SET forgotten = (
        SELECT {_SUMS} FROM (
            SELECT g.payload, g.finality FROM gone g
            WHERE g.kind = 'span' AND g.trace_id = spans.trace_id
            UNION ALL SELECT t.forgotten, 2 WHERE t.forgotten IS NOT NULL) AS every_span)
    FROM (SELECT DISTINCT trace_id FROM gone WHERE kind = 'span') AS spans
    WHERE t.kind = 'trace' AND t.id = spans.trace_id::text
)
SELECT count(*) FROM gone
"""  # noqa: S608 - constants

# $1 is a list of rows; see `write`.
WRITE = """
WITH incoming AS (
    SELECT r.*, coalesce((SELECT project FROM trace_outbox t WHERE t.kind = 'trace'
        AND t.id = r.trace_id::text), r.project) AS of_project
    FROM jsonb_to_recordset($1::text::jsonb) AS r(kind text, id text, trace_id uuid, project text,
        payload jsonb, event_time timestamptz, finality smallint, attempt integer, wait_s float)
), written AS (
    INSERT INTO trace_outbox AS o
        (kind, id, trace_id, project, payload, event_time, finality, attempt, next_try_at)
    SELECT kind, id, trace_id, of_project, payload, coalesce(event_time, clock_timestamp()),
        finality, attempt, now() + wait_s * interval '1 second'
    FROM incoming ORDER BY kind, id  -- the order of locks
    ON CONFLICT (kind, id) DO UPDATE SET
        payload = CASE
            -- Whoever ends a lost span does not know when it began: the stored start stays.
            WHEN excluded.finality = 1 THEN o.payload || (excluded.payload - 'start_time')
            -- Opik's key of a span may include its parent, so the stored parent stays.
            ELSE (excluded.payload - 'parent_span_id') || CASE WHEN o.payload ? 'parent_span_id'
                THEN jsonb_build_object('parent_span_id', o.payload -> 'parent_span_id')
                ELSE '{}' END
            END,
        -- Opik keeps the version with the newest time, so the replacing row must be newer.
        event_time = greatest(excluded.event_time, o.event_time + interval '1 microsecond'),
        finality = excluded.finality, attempt = excluded.attempt,
        next_try_at = excluded.next_try_at, state = 'pending', attempts = 0, error = NULL
    WHERE excluded.attempt >= o.attempt AND (excluded.finality > o.finality
        OR (excluded.finality = o.finality AND excluded.finality <> 1
            AND excluded.event_time >= o.event_time))
    RETURNING id, next_try_at
)
SELECT (SELECT array_agg(s.trace_id) FROM (SELECT DISTINCT trace_id FROM incoming
        WHERE kind = 'span' AND finality > 0) AS s
    WHERE (SELECT t.finality FROM trace_outbox t
        WHERE t.kind = 'trace' AND t.id = s.trace_id::text) = 2) AS ended_traces,
    (SELECT array_agg(id) FROM incoming
        WHERE kind = 'span' AND id NOT IN (SELECT id FROM written)) AS refused_spans,
    (SELECT pg_notify('trace_outbox', '')
        WHERE EXISTS (SELECT FROM written WHERE next_try_at <= now())) AS notified
"""

# The spans $1 get the parent $2.
MOVE = """
UPDATE trace_outbox SET payload = payload || jsonb_build_object('parent_span_id', $2::text)
WHERE kind = 'span' AND id = ANY($1)
"""


async def write(
    conn: Connection, rows: Sequence[Row], *, lock_first: bool = False
) -> frozenset[str]:
    """Put rows into the outbox; spans of a trace that has ended are added to its totals.

    `lock_first` is for spans whose trace may be ending at this moment: it waits for that end in a
    statement of its own, so that the next one sees it.

    Returns the ids of spans that were refused, because a more final or newer row, or that of a
    higher attempt, was there already.
    """
    if not rows:
        return frozenset()
    if lock_first:
        await conn.execute(LOCK_SPANS, [row.id for row in rows])
    result = await conn.fetchrow(WRITE, as_json([vars(row) for row in rows]))
    for trace_id in sorted(result["ended_traces"] or ()):
        # A statement sees only what was committed before it began, so the lock comes first.
        await conn.execute(LOCK_TRACE, trace_id)
        await conn.execute(RENEW_TOTALS, trace_id)
    return frozenset(result["refused_spans"] or ())


async def move_spans(conn: Connection, ids: Sequence[str], parent: UUID) -> None:
    """Give spans another parent; only in the transaction that stored them, before any is sent."""
    await conn.execute(MOVE, ids, str(parent))


async def backlog(conn: Connection) -> Backlog:
    """What waits, for how long, and how many rows were set aside (are dead)."""
    row = await conn.fetchrow(
        """
        SELECT waiting.pending, waiting.oldest_age_s,
            (SELECT count(*) FROM trace_outbox WHERE state = 'dead') AS dead,
            (SELECT count(*) FROM trace_outbox WHERE kind = 'trace' AND finality = 0) AS open
        FROM (SELECT count(*) AS pending, greatest(0, coalesce(extract(epoch FROM
                now() - min(greatest(event_time, created_at))), 0))::float AS oldest_age_s
            FROM trace_outbox WHERE state = 'pending') AS waiting
        """
    )
    return Backlog(**dict(row))


def as_json(value: object) -> str:
    """JSON that PostgreSQL takes: no NaN, NUL or lone surrogate, no payload beyond the limit."""
    try:
        text = to_json(
            value, inf_nan_mode="strings", bytes_mode="base64", serialize_unknown=True
        ).decode()
    except (PydanticSerializationError, UnicodeEncodeError):
        text = to_json(_cleaned(as_plain(value))).decode()
    if len(text) > MAX_PAYLOAD_CHARS:
        text = to_json(_cut(_cleaned(as_plain(value)))).decode()
    return _NUL.sub(r"\1\\ufffd", text) if "\\u0000" in text else text


def without_none(**fields: object) -> dict[str, object]:
    """The fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}


def error_info(error_type: str, message: str | None) -> dict[str, object]:
    """An error as Opik takes it; Opik requires a traceback, so it gets the error's own line."""
    message = redaction().message(message)
    line = f"{error_type}: {message}" if message else error_type
    return without_none(exception_type=error_type, message=message, traceback=line)


# This matches an escaped NUL, and no escaped backslash that happens to stand before "u0000".
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def _cleaned(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {_cleaned(name): _cleaned(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(each) for each in value]
    return value


def _cut(value: Any) -> Any:
    """Rows (or one payload) with each too large input, output and metadata replaced by its size."""
    rows = value if isinstance(value, list) else [value]
    for row in rows:
        payload = row.get("payload", row)
        for field in ("input", "output", "metadata"):
            size = len(to_json(payload[field])) if field in payload else 0
            if size > MAX_PAYLOAD_CHARS // 4:
                payload[field] = {"left_out": f"{size} bytes of JSON: too large for a trace"}
    return value

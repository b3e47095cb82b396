"""The outbox: a PostgreSQL table of the traces, spans and scores that are to be sent to Opik.

Each row holds one whole trace, span or score in Opik's format. Writers put rows in with one
statement inside their own transaction. Only the shipper (`tracing.ship`) sends and deletes rows.

Every transaction locks rows in the same order: first the row of the run (if it locks that row),
then scores and spans, then the trace. So writers never deadlock, and a transaction that holds the
run's row sees everything that other transactions stored for the run before.
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
# Larger payloads are cut. The shipper sends at most 4 MB in one request, and a single row must not
# fill a request.
MAX_PAYLOAD_CHARS = 1_000_000


class Connection(Protocol):
    """The methods of a PostgreSQL connection that tracing uses. asyncpg's connections have them."""

    async def execute(self, query: str, *args: Any) -> str: ...
    async def fetch(self, query: str, *args: Any) -> Sequence[Any]: ...
    async def fetchrow(self, query: str, *args: Any) -> Any: ...
    async def fetchval(self, query: str, *args: Any) -> Any: ...


class SpanState(IntEnum):
    """How final a stored version of a trace or span is.

    A more final version replaces a less final one, whatever their event times are. A less final
    version never replaces a more final one.
    """

    OPEN = 0
    LOST = 1  # A later attempt or the run's end ended the span, as its own attempt never did.
    ENDED = 2


@dataclass(frozen=True)
class Row:
    """One trace, span or score for Opik.

    Attributes:
        id: Id of the trace or span; `<trace id>:<name>` for a score.
        payload: The trace, span or score in Opik's field names.
        event_time: The time that orders the versions of a row; the newest wins. None means the time
            of writing by PostgreSQL's clock, which all writers share.
        attempt: Number of the stage's attempt that the row describes; 0 if it describes none. A row
            never replaces one of a higher attempt, because Temporal may have given up the lower
            attempt.
        wait_s: Seconds until the shipper may send the row. An open span waits, so that a span that
            ends soon is sent only once.
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
    """How full the outbox is.

    Attributes:
        pending: Number of rows that wait to be sent.
        oldest_age_s: Age in seconds of the oldest waiting row; 0 when no row waits.
        dead: Number of rows that were set aside, because Opik would never accept them.
        open: Number of traces that have not ended.
    """

    pending: int
    oldest_age_s: float
    dead: int
    open: int


# SQL that sums the tokens, cost and errors of a trace's spans, failed attempts included. It reads
# the columns `payload` and `finality`, one row per span. One more row may hold the sums of spans
# that were already deleted.
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
# SQL that turns these sums into metadata of the trace. If any model call has no price,
# `calls_without_cost` replaces `cost_usd`. `cost_unknown_usd` is the part of `cost_usd` that is
# only an upper bound, because the provider's bill for those calls is unknown.
_TOTALS_METADATA = """
jsonb_strip_nulls((sums -> 'usage') || jsonb_build_object(
    'cost_usd', CASE WHEN (sums -> 'calls_without_cost')::text IN ('0', 'null')
        THEN sums -> 'total_estimated_cost' END,
    'calls_without_cost', nullif(sums -> 'calls_without_cost', '0'),
    'unknown_calls', nullif(sums -> 'unknown_calls', '0'),
    'cost_unknown_usd', sums -> 'cost_unknown_usd',
    'errors', coalesce((sums ->> 'errors')::bigint, 0)))
"""

# This query returns one row with the column `totals`: the metadata that sums up the spans of the
# trace $1.
TOTALS = f"""
SELECT {_TOTALS_METADATA} AS totals FROM (
    SELECT {_SUMS} AS sums FROM (
        SELECT payload, finality FROM trace_outbox WHERE trace_id = $1 AND kind = 'span'
        UNION ALL
        SELECT forgotten, 2 FROM trace_outbox
        WHERE kind = 'trace' AND id = $1::uuid::text AND forgotten IS NOT NULL) AS every_span
    ) AS summed
"""  # noqa: S608 - interpolates constants only

LOCK_SPANS = """
SELECT FROM trace_outbox WHERE kind = 'span' AND id = ANY($1) ORDER BY id FOR UPDATE
"""
LOCK_TRACE = """
SELECT FROM trace_outbox WHERE kind = 'trace' AND id = $1::uuid::text FOR UPDATE
"""
# This statement sums up the spans of the ended trace $1 again and makes its row pending, so that
# Opik receives the new totals. It runs when a span was stored after the trace had ended.
RENEW_TOTALS = f"""
UPDATE trace_outbox o SET
    payload = o.payload || jsonb_build_object('metadata', coalesce(o.payload -> 'metadata', '{{}}')
        - ARRAY['cost_usd', 'calls_without_cost', 'unknown_calls', 'cost_unknown_usd'] || totals),
    event_time = greatest(clock_timestamp(), o.event_time + interval '1 microsecond'),
    next_try_at = now(), state = 'pending', attempts = 0, error = NULL
FROM ({TOTALS}) AS renewed
WHERE o.kind = 'trace' AND o.id = $1::uuid::text
"""  # noqa: S608 - interpolates constants only

# This statement deletes at most $2 spans and scores that were sent longer than $1 ago, except those
# of open traces. The trace's row keeps the sums of its deleted spans in `forgotten`.
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
"""  # noqa: S608 - interpolates constants only

# $1 is a JSON array of `Row` objects. The statement returns the ended traces whose totals must be
# computed anew, and the ids of the spans that were not stored.
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

# This statement makes the span $2 the parent of the spans $1.
MOVE = """
UPDATE trace_outbox SET payload = payload || jsonb_build_object('parent_span_id', $2::text)
WHERE kind = 'span' AND id = ANY($1)
"""


async def write(
    conn: Connection, rows: Sequence[Row], *, lock_first: bool = False
) -> frozenset[str]:
    """Put rows into the outbox. If a span's trace has already ended, its totals are computed anew.

    Set `lock_first` for spans whose trace another transaction may be ending at this moment. A
    statement of its own then waits for that transaction, so that the next one sees its result.

    Return the ids of the spans that were refused, because the outbox already had a more final
    version, a newer version or one of a higher attempt.
    """
    if not rows:
        return frozenset()
    if lock_first:
        await conn.execute(LOCK_SPANS, [row.id for row in rows])
    result = await conn.fetchrow(WRITE, as_json([vars(row) for row in rows]))
    for trace_id in sorted(result["ended_traces"] or ()):
        # A PostgreSQL statement sees only what was committed before it began. So one statement
        # locks the trace, and a second one sums the spans: it also sees those that other
        # transactions committed while the first one waited for the lock.
        await conn.execute(LOCK_TRACE, trace_id)
        await conn.execute(RENEW_TOTALS, trace_id)
    return frozenset(result["refused_spans"] or ())


async def move_spans(conn: Connection, ids: Sequence[str], parent: UUID) -> None:
    """Give spans another parent.

    Call this only in the transaction that stored the spans: once Opik has a span, its parent must
    not change.
    """
    await conn.execute(MOVE, ids, str(parent))


async def backlog(conn: Connection) -> Backlog:
    """Count the rows of the outbox that Opik has not got yet, and find how long the oldest waits.

    Rows that Opik refused for good, and traces that have not ended, are counted apart.
    """
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
    """Serialise a value to JSON that PostgreSQL accepts: no NaN, no NUL, no lone surrogate.

    If the text is longer than MAX_PAYLOAD_CHARS, large inputs, outputs and metadata are replaced by
    a note of their size.
    """
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
    """Return the keyword arguments whose value is not None."""
    return {name: value for name, value in fields.items() if value is not None}


def error_info(error_type: str, message: str | None) -> dict[str, object]:
    """Return an error in Opik's format.

    Opik requires a traceback, so that field repeats the error's type and message in one line.
    """
    message = redaction().message(message)
    line = f"{error_type}: {message}" if message else error_type
    return without_none(exception_type=error_type, message=message, traceback=line)


# This pattern matches the JSON escape of a NUL character. It does not match an escaped backslash
# that is followed by the letters "u0000".
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
    """Replace each input, output and metadata that is too large by a note of its size.

    `value` is one payload or a list of rows. Too large is more than a quarter of MAX_PAYLOAD_CHARS
    as JSON.
    """
    rows = value if isinstance(value, list) else [value]
    for row in rows:
        payload = row.get("payload", row)
        for field in ("input", "output", "metadata"):
            size = len(to_json(payload[field])) if field in payload else 0
            if size > MAX_PAYLOAD_CHARS // 4:
                payload[field] = {"left_out": f"{size} bytes of JSON: too large for a trace"}
    return value

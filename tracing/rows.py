"""Rows of the outbox: how they are made and written. One statement, however many rows."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, Literal, Protocol
from uuid import UUID

from pydantic_core import PydanticSerializationError, to_json

from tracing.text import as_plain, chosen
from tracing.totals import RENEW_TOTALS

Kind = Literal["trace", "span", "score"]
# A payload above this is cut: Opik takes 4 MB batches from us, and one row must never fill one.
LARGEST_PAYLOAD = 1_000_000


class Connection(Protocol):
    """What tracing needs of a PostgreSQL connection; asyncpg's has it."""

    async def execute(self, query: str, *args: Any) -> str: ...
    async def fetch(self, query: str, *args: Any) -> Sequence[Any]: ...
    async def fetchrow(self, query: str, *args: Any) -> Any: ...
    async def fetchval(self, query: str, *args: Any) -> Any: ...


class Finality(IntEnum):
    """How sure a row is. A surer row replaces a less sure one, whatever the writers' clocks say."""

    OPEN = 0
    PRESUMED = 1  # ended, as far as anyone can know: its writer vanished
    ENDED = 2


@dataclass(frozen=True)
class Row:
    """One row for Opik. `wait_s` holds an open row back, so that what ends soon is sent once.

    Without an event time it is the moment of writing, by the clock that all writers share.
    """

    kind: Kind
    id: str
    trace_id: UUID
    project: str
    payload: dict[str, object]
    event_time: datetime | None
    finality: Finality = Finality.ENDED
    wait_s: float = 0


WRITE = """
WITH incoming AS (
    SELECT r.*, coalesce((SELECT project FROM trace_outbox t WHERE t.kind = 'trace'
        AND t.id = r.trace_id::text), r.project) AS of_project
    FROM jsonb_to_recordset($1::text::jsonb) AS r(kind text, id text, trace_id uuid, project text,
        payload jsonb, event_time timestamptz, finality smallint, wait_s float)
), written AS (
    INSERT INTO trace_outbox AS o
        (kind, id, trace_id, project, payload, event_time, finality, next_try_at)
    SELECT kind, id, trace_id, of_project, payload, coalesce(event_time, clock_timestamp()),
        finality, now() + wait_s * interval '1 second'
    FROM incoming ORDER BY kind, id
    ON CONFLICT (kind, id) DO UPDATE SET
        payload = CASE
            -- Who only presumes the end does not know the beginning.
            WHEN excluded.finality = 1 THEN o.payload || (excluded.payload - 'start_time')
            -- A span never moves: in Opik its parent may be part of its key.
            ELSE (excluded.payload - 'parent_span_id') || CASE WHEN o.payload ? 'parent_span_id'
                THEN jsonb_build_object('parent_span_id', o.payload -> 'parent_span_id')
                ELSE '{}' END
            END,
        -- On the wire the newest time wins, so a row that replaces another must be newer.
        event_time = greatest(excluded.event_time, o.event_time + interval '1 microsecond'),
        finality = excluded.finality, next_try_at = excluded.next_try_at,
        state = 'pending', attempts = 0, error = NULL
    WHERE excluded.finality > o.finality OR (excluded.finality = o.finality
        AND excluded.finality <> 1 AND excluded.event_time >= o.event_time)
    RETURNING next_try_at
)
SELECT (SELECT array_agg(s.trace_id) FROM (SELECT DISTINCT trace_id FROM incoming
        WHERE kind = 'span' AND finality > 0) AS s
    WHERE (SELECT t.finality FROM trace_outbox t
        WHERE t.kind = 'trace' AND t.id = s.trace_id::text) = 2) AS ended,
    (SELECT pg_notify('trace_outbox', '')
        WHERE EXISTS (SELECT FROM written WHERE next_try_at <= now())) AS told
"""


async def write(conn: Connection, rows: Sequence[Row]) -> None:
    """Put rows into the outbox, in the caller's transaction."""
    if rows:
        ended = await conn.fetchval(WRITE, as_json([vars(row) for row in rows]))
        for trace_id in sorted(ended or ()):
            await conn.execute(RENEW_TOTALS, trace_id)


def as_json(value: object) -> str:
    """JSON that PostgreSQL takes: no NaN, NUL or lone surrogate, no payload beyond the limit."""
    try:
        text = to_json(
            value, inf_nan_mode="strings", bytes_mode="base64", serialize_unknown=True
        ).decode()
    except (PydanticSerializationError, UnicodeEncodeError):
        text = to_json(_cleaned(as_plain(value))).decode()
    if len(text) > LARGEST_PAYLOAD:
        text = to_json(_cut(_cleaned(as_plain(value)))).decode()
    return _NUL.sub(r"\1\\ufffd", text) if "\\u0000" in text else text


def without_none(**fields: object) -> dict[str, object]:
    """The fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}


def error_info(error_type: str, message: str | None) -> dict[str, object]:
    """An error as Opik takes it; it insists on a traceback, and ours is the error's own line."""
    said = chosen().sentence(message)
    line = f"{error_type}: {said}" if said else error_type
    return without_none(exception_type=error_type, message=said, traceback=line)


# An escaped NUL, not an escaped backslash that happens to stand before "u0000".
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
    """Rows (or one payload) whose too large inputs and outputs are replaced by their size."""
    rows = value if isinstance(value, list) else [value]
    for row in rows:
        payload = row.get("payload", row)
        for field in ("input", "output", "metadata"):
            size = len(to_json(payload[field])) if field in payload else 0
            if size > LARGEST_PAYLOAD // 4:
                payload[field] = {"left_out": f"{size} bytes of JSON: too large for a trace"}
    return value

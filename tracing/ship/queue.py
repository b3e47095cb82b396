"""The shipper's side of the outbox: claim, mark, set aside, send again, forget."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol
from uuid import UUID

from tracing.ids import uuid7
from tracing.rows import Connection, Kind
from tracing.totals import FORGET


class Pool(Protocol):
    """What the shipper needs of a connection pool; asyncpg's has it."""

    def acquire(self, *, timeout: float | None = None) -> AbstractAsyncContextManager[Any]: ...


@dataclass(frozen=True)
class Claimed:
    """A row taken for sending; `wire` is its JSON as Opik takes it."""

    kind: Kind
    id: str
    trace_id: UUID
    event_time: datetime
    attempts: int
    known: bool  # Opik had a version of it before
    doubtful: bool  # it had, but may have lost it
    wire_id: UUID  # differs from the row's own only when it had to be renewed
    wire: str

    @property
    def withdrawn(self) -> bool:
        """Whether it is a score that was taken back."""
        return self.kind == "score" and '"value"' not in self.wire


# The lease is committed before sending, so that no activity ever waits for Opik on a row's lock,
# and what a killed shipper held becomes due again by itself.
CLAIM = """
WITH due AS MATERIALIZED (
    SELECT kind, id, next_try_at, pg_column_size(payload) AS size
    FROM trace_outbox o
    WHERE kind = $1 AND state = 'pending' AND next_try_at <= now()
        -- A score follows its trace: Opik must know the project by then.
        -- (A scalar: one look-up a row, never a scan of all traces that wait.)
        AND ($1 <> 'score' OR NOT coalesce((SELECT t.state = 'pending'
                AND coalesce(t.sent_at, '-infinity') = '-infinity'
            FROM trace_outbox t WHERE t.kind = 'trace' AND t.id = o.trace_id::text), false))
    ORDER BY next_try_at LIMIT $2 FOR UPDATE SKIP LOCKED
), fitting AS (
    SELECT kind, id, sum(size) OVER (ORDER BY next_try_at, id) - size AS before FROM due
)
UPDATE trace_outbox o SET next_try_at = now() + $4::interval
FROM fitting f WHERE (o.kind, o.id) = (f.kind, f.id) AND f.before < $3
RETURNING o.id, o.trace_id, o.event_time, o.attempts,
    coalesce(o.sent_at > '-infinity', false) AS known,
    coalesce(o.sent_at = '-infinity', false) AS doubtful,
    coalesce(o.wire_id, (o.payload ->> 'id')::uuid) AS wire_id,
    (o.payload || jsonb_build_object('project_name', o.project) || CASE WHEN o.kind = 'score'
        THEN '{}' ELSE jsonb_build_object('last_updated_at', to_char(
            o.event_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) END
    || CASE WHEN o.wire_id IS NULL THEN '{}' ELSE jsonb_build_object('id', o.wire_id, 'metadata',
        coalesce(o.payload -> 'metadata', '{}') || jsonb_build_object('first_id', o.id)) END
    -- Who refers to a span whose id was renewed must use its new one.
    || coalesce((SELECT jsonb_build_object('parent_span_id', p.wire_id) FROM trace_outbox p
        WHERE p.kind = 'span' AND p.id = o.payload ->> 'parent_span_id'
            AND p.wire_id IS NOT NULL), '{}'))::text AS wire
"""

# A row that an activity holds just now is being replaced, so it is not waited for.
THESE = """
WITH these AS (
    SELECT o.kind, o.id, s.event_time FROM trace_outbox o
    JOIN unnest($2::text[], $3::timestamptz[]) AS s (id, event_time) ON o.id = s.id
    WHERE o.kind = $1 ORDER BY o.id FOR UPDATE OF o SKIP LOCKED
)
UPDATE trace_outbox o SET {change}
FROM these t WHERE (o.kind, o.id) = (t.kind, t.id)
"""
SENT = THESE.format(
    change="sent_at = now(), attempts = CASE WHEN o.event_time = t.event_time THEN 0 "
    "ELSE o.attempts END, state = CASE WHEN o.event_time = t.event_time THEN 'sent' "
    "ELSE o.state END, error = NULL"
)
# Spread out, so that rows which failed together are not always tried together.
LATER = (
    THESE.format(
        change="next_try_at = now() + $4::float * (0.75 + random() / 2) * interval '1 second', "
        "attempts = o.attempts + $5::integer, error = $6"
    )
    # Worded so that the index of all pending rows is not an option.
    + " AND o.event_time = t.event_time AND o.state NOT IN ('sent', 'dead')"
)
DEAD = (
    THESE.format(change="state = 'dead', attempts = o.attempts + 1, error = $4")
    + " AND o.event_time = t.event_time"
)

# What Opik was sent before it may have lost: that is asked only if it refuses to create the row.
# In the order of every other writer, so that none of them ever waits for another in a circle.
AGAIN = """
WITH these AS (
    SELECT kind, id FROM trace_outbox WHERE {which} ORDER BY kind, id FOR UPDATE
)
UPDATE trace_outbox o SET state = 'pending', attempts = 0, next_try_at = now(), error = NULL,
    sent_at = CASE WHEN o.sent_at IS NOT NULL THEN '-infinity'::timestamptz END
FROM these t WHERE (o.kind, o.id) = (t.kind, t.id)
RETURNING pg_notify('trace_outbox', '')
"""
RENEW = """
WITH these AS (
    SELECT o.kind, o.id, r.fresh FROM trace_outbox o
    JOIN unnest($1::text[], $2::uuid[], $3::uuid[]) AS r (id, refused, fresh) ON o.id = r.id
    WHERE o.kind = 'span' AND o.state = 'pending'
        -- Another shipper may have done it in the meantime.
        AND coalesce(o.wire_id, (o.payload ->> 'id')::uuid) = r.refused
    ORDER BY o.id FOR UPDATE OF o
)
UPDATE trace_outbox o SET wire_id = t.fresh, next_try_at = now(), error = NULL, sent_at = NULL
FROM these t WHERE (o.kind, o.id) = (t.kind, t.id)
RETURNING o.id
"""
# Steps that reached Opik before their renewed parent are told where they belong now.
REJOIN = """
WITH these AS (
    SELECT kind, id FROM trace_outbox
    WHERE kind = 'span' AND trace_id = ANY($2::uuid[]) AND state = 'sent'
        AND payload ->> 'parent_span_id' = ANY($1::text[])
    ORDER BY kind, id FOR UPDATE
)
UPDATE trace_outbox o SET state = 'pending', next_try_at = now(),
    event_time = o.event_time + interval '1 microsecond'
FROM these t WHERE (o.kind, o.id) = (t.kind, t.id)
"""


async def claim(
    conn: Connection, kind: Kind, *, rows: int, size: int, lease: timedelta
) -> list[Claimed]:
    """Take due rows for the time of the lease; at least one if there is one."""
    found = await conn.fetch(CLAIM, kind, rows, size, lease)
    return [Claimed(kind=kind, **dict(row)) for row in found]


async def mark_sent(conn: Connection, rows: Sequence[Claimed]) -> None:
    """Opik has these; one that changed meanwhile stays pending."""
    await conn.execute(SENT, *_keys(rows))


async def put_back(
    conn: Connection, rows: Sequence[Claimed], *, wait_s: float, tried: bool, reason: str | None
) -> None:
    """These are to be tried again after a while."""
    await conn.execute(LATER, *_keys(rows), wait_s, int(tried), reason)


async def set_aside(conn: Connection, row: Claimed, reason: str) -> None:
    """Opik will never take this row as it is."""
    await conn.execute(DEAD, *_keys([row]), reason)


async def resend(conn: Connection, *, trace_id: UUID | None = None) -> int:
    """Make a trace's rows, or every row that was set aside, pending again; says how many."""
    rows = await conn.fetch(
        AGAIN.format(which="CASE WHEN $1::uuid IS NULL THEN state = 'dead' ELSE trace_id = $1 END"),
        trace_id,
    )
    return len(rows)


async def resend_window(conn: Connection, since: datetime, until: datetime) -> int:
    """Make everything that was sent in a span of time pending again; says how many."""
    rows = await conn.fetch(
        AGAIN.format(
            which="state = 'sent' AND kind IN ('trace', 'span', 'score')"
            " AND sent_at > $1 AND sent_at <= $2"
        ),
        since,
        until,
    )
    return len(rows)


async def forget(conn: Connection, *, older_than: timedelta, at_most: int = 50_000) -> int:
    """Delete spans and scores sent long ago, but nothing of an open trace; says how many.

    A trace's own row stays: a later score needs its project, and a run that is reset its content.
    """
    gone: int = await conn.fetchval(FORGET, older_than, at_most)
    return gone


async def store_project(conn: Connection, name: str, project_id: UUID) -> None:
    """Remember Opik's id of a project."""
    await conn.execute(
        """
        INSERT INTO trace_projects (name, project_id) VALUES ($1, $2)
        ON CONFLICT (name) DO UPDATE SET project_id = excluded.project_id, updated_at = now()
        """,
        name,
        project_id,
    )


async def dead_rows(conn: Connection, at_most: int = 20) -> list[tuple[Literal["row"], str]]:
    """The rows that were set aside, newest first, each with its reason."""
    found = await conn.fetch(
        """
        SELECT kind || ' ' || id AS row, coalesce(error, '') AS reason
        FROM trace_outbox WHERE state = 'dead' ORDER BY event_time DESC LIMIT $1
        """,
        at_most,
    )
    return [(row["row"], row["reason"]) for row in found]


async def renew_span_ids(conn: Connection, rows: Sequence[Claimed], now: datetime) -> int:
    """Give spans that Opik does not have ids of today; says how many it was.

    Servers may refuse to create ids that are a day old, but take old ones as references.
    """
    found = await conn.fetch(
        RENEW,
        [row.id for row in rows],
        [row.wire_id for row in rows],
        [uuid7(now, f"late|{row.id}") for row in rows],
    )
    renewed = [row["id"] for row in found]
    await conn.execute(REJOIN, renewed, list({row.trace_id for row in rows}))
    return len(renewed)


def _keys(rows: Sequence[Claimed]) -> tuple[str, list[str], list[datetime]]:
    return rows[0].kind, [row.id for row in rows], [row.event_time for row in rows]

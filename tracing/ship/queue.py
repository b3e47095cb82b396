"""The shipper's side of the outbox: claim rows, settle them, send them again, delete them."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol
from uuid import UUID

from tracing.ids import uuid7
from tracing.outbox import DELETE_SENT, Connection, Kind

# Rows that one statement makes pending again.
RESEND_SLICE = 10_000


class Pool(Protocol):
    """What the shipper needs of a connection pool; asyncpg's has it."""

    def acquire(self, *, timeout: float | None = None) -> AbstractAsyncContextManager[Any]: ...


@dataclass
class Claimed:
    """A row taken for sending.

    Attributes:
        sent_before: Opik has some version of the row.
        maybe_lost: Opik had some version of it, and may have lost it.
        wire_id: The id that Opik knows it by; it differs from the row's own if that was too old.
        wire: The row as Opik takes it, as JSON.
        end_sent: Whether Opik was sent the end of this trace; None for rows that end no trace.
    """

    kind: Kind
    id: str
    trace_id: UUID
    event_time: datetime
    attempts: int
    sent_before: bool
    maybe_lost: bool
    wire_id: UUID
    wire: str
    end_sent: Literal["no", "maybe", "yes"] | None

    @property
    def deleted(self) -> bool:
        """Whether it is a score that is to be deleted."""
        return self.kind == "score" and '"value"' not in self.wire


# A claim is a lease: it is committed before the rows are sent, so that no writer waits for Opik,
# and it runs out by itself when a shipper is killed.
CLAIM = """
WITH due AS MATERIALIZED (
    SELECT kind, id, next_try_at, pg_column_size(payload) AS size,
        CASE WHEN kind <> 'trace' OR finality < 2 THEN NULL WHEN end_lease IS NULL THEN 'no'
            WHEN end_lease = 'infinity' THEN 'yes' ELSE 'maybe' END AS end_sent
    FROM trace_outbox o
    WHERE kind = $1 AND state = 'pending' AND next_try_at <= now()
        -- The row may have been replaced while another shipper sends the trace's end.
        AND (end_lease IS NULL OR end_lease <= now() OR end_lease = 'infinity')
        -- A score waits for its trace, because Opik must know the project by then. The scalar
        -- subquery costs one look-up a row; a join would scan all traces that wait.
        AND ($1 <> 'score' OR NOT coalesce((SELECT t.state = 'pending'
                AND coalesce(t.sent_at, '-infinity') = '-infinity'
            FROM trace_outbox t WHERE t.kind = 'trace' AND t.id = o.trace_id::text), false))
    ORDER BY next_try_at LIMIT $2 FOR UPDATE SKIP LOCKED
), fitting AS (
    SELECT kind, id, end_sent, sum(size) OVER (ORDER BY next_try_at, id) - size AS before FROM due
)
UPDATE trace_outbox o SET next_try_at = now() + $4::interval,
    end_lease = CASE WHEN f.end_sent <> 'yes' THEN now() + $4::interval ELSE o.end_lease END
FROM fitting f WHERE (o.kind, o.id) = (f.kind, f.id) AND f.before < $3
RETURNING o.id, o.trace_id, o.event_time, o.attempts, f.end_sent,
    coalesce(o.sent_at > '-infinity', false) AS sent_before,
    coalesce(o.sent_at = '-infinity', false) AS maybe_lost,
    coalesce(o.wire_id, (o.payload ->> 'id')::uuid) AS wire_id,
    (o.payload || jsonb_build_object('project_name', o.project) || CASE WHEN o.kind = 'score'
        THEN '{}' ELSE jsonb_build_object('last_updated_at', to_char(
            o.event_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) END
    || CASE WHEN o.wire_id IS NULL THEN '{}' ELSE jsonb_build_object('id', o.wire_id, 'metadata',
        coalesce(o.payload -> 'metadata', '{}') || jsonb_build_object('first_id', o.id)) END
    -- A child of a span whose id was renewed refers to the new id.
    || coalesce((SELECT jsonb_build_object('parent_span_id', p.wire_id) FROM trace_outbox p
        WHERE p.kind = 'span' AND p.id = o.payload ->> 'parent_span_id'
            AND p.wire_id IS NOT NULL), '{}'))::text AS wire
"""

# These rows as they were claimed. A row that is locked is just being replaced by its writer, so the
# shipper skips it instead of waiting.
THESE = """
WITH these AS (
    SELECT o.kind, o.id, s.event_time, s.end_sent FROM trace_outbox o
    JOIN unnest($2::text[], $3::timestamptz[], $4::text[]) AS s (id, event_time, end_sent)
        ON o.id = s.id
    WHERE o.kind = $1 ORDER BY o.id FOR UPDATE OF o SKIP LOCKED
)
UPDATE trace_outbox o SET {change}
FROM these t WHERE (o.kind, o.id) = (t.kind, t.id)
"""
# A row that was replaced meanwhile stays pending.
SENT = THESE.format(
    change="sent_at = now(), attempts = CASE WHEN o.event_time = t.event_time THEN 0 "
    "ELSE o.attempts END, state = CASE WHEN o.event_time = t.event_time THEN 'sent' "
    "ELSE o.state END, error = NULL, "
    "end_lease = CASE WHEN t.end_sent IS NULL THEN o.end_lease ELSE 'infinity' END"
)
# What is known of a trace's end when its row is released unsent.
_RELEASED = (
    "end_lease = CASE t.end_sent WHEN 'no' THEN NULL WHEN 'maybe' THEN '-infinity' "
    "WHEN 'yes' THEN 'infinity' ELSE o.end_lease END"
)
# The waits vary at random, so that rows which failed together are not always tried together.
LATER = (
    THESE.format(
        change="next_try_at = CASE WHEN o.event_time <> t.event_time THEN o.next_try_at "
        "ELSE now() + $5::float * (0.75 + random() / 2) * interval '1 second' END, "
        "attempts = CASE WHEN o.event_time <> t.event_time THEN o.attempts "
        f"ELSE o.attempts + $6::integer END, error = $7, {_RELEASED}"
    )
    # `NOT IN` keeps the planner off trace_outbox_due; the primary key is right here.
    + " AND o.state NOT IN ('sent', 'dead')"
)
DEAD = (
    THESE.format(change=f"state = 'dead', attempts = o.attempts + 1, error = $5, {_RELEASED}")
    + " AND o.event_time = t.event_time"
)

# -infinity marks what Opik may have lost. The shipper asks for it only where sending it again could
# do harm: the end of a trace, and a row whose create is refused as too old.
AGAIN = """
WITH slice AS (
    SELECT kind, id FROM trace_outbox WHERE {which} LIMIT $1
), these AS (
    SELECT o.kind, o.id FROM trace_outbox o JOIN slice USING (kind, id)
    ORDER BY o.kind, o.id FOR UPDATE OF o
)
UPDATE trace_outbox o SET state = 'pending', attempts = 0, next_try_at = now(), error = NULL,
    sent_at = CASE WHEN o.sent_at IS NOT NULL THEN '-infinity'::timestamptz END,
    end_lease = CASE WHEN o.end_lease IS NOT NULL THEN '-infinity'::timestamptz END
FROM these t WHERE (o.kind, o.id) = (t.kind, t.id)
RETURNING pg_notify('trace_outbox', '')
"""
# Spans that Opik refuses to create under their old ids get new ones.
RENEW = """
WITH these AS (
    SELECT o.kind, o.id, r.fresh FROM trace_outbox o
    JOIN unnest($1::text[], $2::uuid[], $3::uuid[]) AS r (id, refused, fresh) ON o.id = r.id
    WHERE o.kind = 'span' AND o.state = 'pending'
        -- Another shipper may have renewed it in the meantime.
        AND coalesce(o.wire_id, (o.payload ->> 'id')::uuid) = r.refused
    ORDER BY o.id FOR UPDATE OF o
)
UPDATE trace_outbox o SET wire_id = t.fresh, next_try_at = now(), error = NULL, sent_at = NULL
FROM these t WHERE (o.kind, o.id) = (t.kind, t.id)
RETURNING o.id
"""
# Children that Opik already has are sent again, because their parent has a new id.
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
    """Lease due rows of at most `size` bytes together; at least one, if any is due."""
    found = await conn.fetch(CLAIM, kind, rows, size, lease)
    return [Claimed(kind=kind, **dict(row)) for row in found]


async def mark_sent(conn: Connection, rows: Sequence[Claimed]) -> None:
    """Note that Opik has these versions; a row that was replaced meanwhile stays pending."""
    await conn.execute(SENT, *_keys(rows))


async def put_back(
    conn: Connection, rows: Sequence[Claimed], *, wait_s: float, tried: bool, reason: str | None
) -> None:
    """Make rows due again after a wait. `tried`: the attempt counts against them."""
    await conn.execute(LATER, *_keys(rows), wait_s, int(tried), reason)


async def set_aside(conn: Connection, row: Claimed, reason: str) -> None:
    """Set a row aside that Opik will never take as it is."""
    await conn.execute(DEAD, *_keys([row]), reason)


async def resend(conn: Connection, *, trace_id: UUID | None = None) -> int:
    """Make a trace's rows, or every row that was set aside, pending again; returns how many."""
    if trace_id is None:
        return await _resend(conn, "state = 'dead'")
    return await _resend(conn, "trace_id = $2 AND state <> 'pending'", trace_id)


async def resend_window(conn: Connection, since: datetime, until: datetime) -> int:
    """Make every row that was sent in this window pending again; returns how many."""
    return await _resend(
        conn,
        "state = 'sent' AND kind IN ('trace', 'span', 'score') AND sent_at > $2 AND sent_at <= $3",
        since,
        until,
    )


async def delete_sent(conn: Connection, *, older_than: timedelta, at_most: int = 50_000) -> int:
    """Delete spans and scores that were sent long ago, except of open traces; returns how many.

    A trace's own row stays, because a later score needs its project, and a reset run its content.
    """
    deleted: int = await conn.fetchval(DELETE_SENT, older_than, at_most)
    return deleted


async def store_project(conn: Connection, name: str, project_id: UUID) -> None:
    """Store Opik's id of a project."""
    await conn.execute(
        """
        INSERT INTO trace_projects (name, project_id) VALUES ($1, $2)
        ON CONFLICT (name) DO UPDATE SET project_id = excluded.project_id, updated_at = now()
        """,
        name,
        project_id,
    )


async def dead_rows(conn: Connection, at_most: int = 20) -> list[tuple[str, str]]:
    """The rows that were set aside, newest first, each as its kind and id with its reason."""
    found = await conn.fetch(
        """
        SELECT kind || ' ' || id AS row, coalesce(error, '') AS reason
        FROM trace_outbox WHERE state = 'dead' ORDER BY event_time DESC LIMIT $1
        """,
        at_most,
    )
    return [(row["row"], row["reason"]) for row in found]


async def renew_span_ids(conn: Connection, rows: Sequence[Claimed], now: datetime) -> int:
    """Give spans that Opik does not have new ids of today; returns how many were renewed.

    Servers may refuse to create ids that are a day old, but accept references to them.
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


async def _resend(conn: Connection, which: str, *args: object) -> int:
    """Slice by slice, because one statement over a long window would meet the command timeout."""
    total = 0
    while True:
        rows = await conn.fetch(AGAIN.format(which=which), RESEND_SLICE, *args)
        total += len(rows)
        if len(rows) < RESEND_SLICE:
            return total


def _keys(rows: Sequence[Claimed]) -> tuple[str, list[str], list[datetime], list[str | None]]:
    return (
        rows[0].kind,
        [row.id for row in rows],
        [row.event_time for row in rows],
        [row.end_sent for row in rows],
    )

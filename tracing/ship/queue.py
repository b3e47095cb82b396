"""The shipper's statements on the outbox: claim rows, record the outcome, resend, delete."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol
from uuid import UUID

from tracing.ids import uuid7
from tracing.outbox import DELETE_SENT, Connection, Kind

# Maximum number of rows that one statement makes pending again, so that it stays within the command
# timeout.
RESEND_SLICE = 10_000


class Pool(Protocol):
    """The method of a connection pool that the shipper uses. asyncpg's pools have it."""

    def acquire(self, *, timeout: float | None = None) -> AbstractAsyncContextManager[Any]: ...


@dataclass
class Claimed:
    """A row of the outbox that the shipper has claimed in order to send it.

    Attributes:
        event_time: Identifies the claimed version: the stored time differs if a writer has replaced
            the row since.
        attempts: Number of earlier attempts to send the row that count against it.
        sent_before: True when Opik has some version of the row.
        maybe_lost: True when Opik had some version of the row and may have lost it.
        wire_id: Id under which Opik knows the row. For a span it differs from `id` if that id was
            too old.
        wire: The row as JSON in Opik's format.
        end_sent: Whether the end of this trace was sent to Opik; "maybe" when the answer left that
            open. None for a row that ends no trace.
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
        """Tell whether the row deletes a score from its trace: such a score has no value."""
        return self.kind == "score" and '"value"' not in self.wire


# A claim is a lease. It is committed before the rows are sent, so that no writer waits for Opik.
# When a shipper is killed, its leases expire and its rows become due again.
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

# This template updates claimed rows: $1 kind, $2 ids, $3 event times, $4 values of `end_sent`. It
# skips a locked row instead of waiting, because a writer is replacing that row at this moment.
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
# If a writer has replaced the row since it was claimed, the row stays pending and is sent again.
SENT = THESE.format(
    change="sent_at = now(), attempts = CASE WHEN o.event_time = t.event_time THEN 0 "
    "ELSE o.attempts END, state = CASE WHEN o.event_time = t.event_time THEN 'sent' "
    "ELSE o.state END, error = NULL, "
    "end_lease = CASE WHEN t.end_sent IS NULL THEN o.end_lease ELSE 'infinity' END"
)
# This assignment records what is known about a trace's end when its row is released without being
# sent: NULL for not sent, -infinity for unknown, infinity for sent.
_RELEASED = (
    "end_lease = CASE t.end_sent WHEN 'no' THEN NULL WHEN 'maybe' THEN '-infinity' "
    "WHEN 'yes' THEN 'infinity' ELSE o.end_lease END"
)
# Each wait varies at random by up to 25 %, so that rows which failed together are not always tried
# again together.
LATER = (
    THESE.format(
        change="next_try_at = CASE WHEN o.event_time <> t.event_time THEN o.next_try_at "
        "ELSE now() + $5::float * (0.75 + random() / 2) * interval '1 second' END, "
        "attempts = CASE WHEN o.event_time <> t.event_time THEN o.attempts "
        f"ELSE o.attempts + $6::integer END, error = $7, {_RELEASED}"
    )
    # This condition means "pending". It is written with NOT IN, because otherwise PostgreSQL's
    # planner would choose the index trace_outbox_due instead of the primary key.
    + " AND o.state NOT IN ('sent', 'dead')"
)
DEAD = (
    THESE.format(change=f"state = 'dead', attempts = o.attempts + 1, error = $5, {_RELEASED}")
    + " AND o.event_time = t.event_time"
)

# This template makes rows pending again. -infinity marks rows that Opik may have lost. The shipper
# asks Opik about such a row only if sending it again could do harm: for the end of a trace, and for
# a row that Opik refuses to create because its id is too old.
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
# This statement gives new ids to spans that Opik refuses to create because their ids are too old.
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
# When spans got new ids, this statement makes their sent children pending again, because Opik knows
# the children under the old id of their parent.
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
    """Lease due rows of one kind: at most `rows` rows, and no more once they reach `size` bytes.

    The first due row is leased whatever its size. An empty list means that no row is due.
    """
    found = await conn.fetch(CLAIM, kind, rows, size, lease)
    return [Claimed(kind=kind, **dict(row)) for row in found]


async def mark_sent(conn: Connection, rows: Sequence[Claimed]) -> None:
    """Record that Opik has these versions of the rows.

    A row that a writer replaced since the claim stays pending, and its new version is sent later.
    """
    await conn.execute(SENT, *_keys(rows))


async def put_back(
    conn: Connection, rows: Sequence[Claimed], *, wait_s: float, tried: bool, reason: str | None
) -> None:
    """Make rows due again after `wait_s` seconds, with `reason` as their stored error.

    `tried` says that this attempt counts against the rows.
    """
    await conn.execute(LATER, *_keys(rows), wait_s, int(tried), reason)


async def set_aside(conn: Connection, row: Claimed, reason: str) -> None:
    """Set a row aside that Opik will never accept, unless it was replaced since the claim."""
    await conn.execute(DEAD, *_keys([row]), reason)


async def resend(conn: Connection, *, trace_id: UUID | None = None) -> int:
    """Make all rows of a trace pending again, or without an id all rows that were set aside.

    Return the number of these rows.
    """
    if trace_id is None:
        return await _resend(conn, "state = 'dead'")
    return await _resend(conn, "trace_id = $2 AND state <> 'pending'", trace_id)


async def resend_window(conn: Connection, since: datetime, until: datetime) -> int:
    """Make every row that was sent in this window pending again, and return their number."""
    return await _resend(
        conn,
        "state = 'sent' AND kind IN ('trace', 'span', 'score') AND sent_at > $2 AND sent_at <= $3",
        since,
        until,
    )


async def delete_sent(conn: Connection, *, older_than: timedelta, at_most: int = 50_000) -> int:
    """Delete spans and scores that were sent long ago, except those of open traces.

    Return how many were deleted. The rows of traces stay, because a later score needs the project
    and the reset of a run needs the content of the trace.
    """
    deleted: int = await conn.fetchval(DELETE_SENT, older_than, at_most)
    return deleted


async def store_project(conn: Connection, name: str, project_id: UUID) -> None:
    """Store Opik's id of a project, from which links to traces are made."""
    await conn.execute(
        """
        INSERT INTO trace_projects (name, project_id) VALUES ($1, $2)
        ON CONFLICT (name) DO UPDATE SET project_id = excluded.project_id, updated_at = now()
        """,
        name,
        project_id,
    )


async def dead_rows(conn: Connection, at_most: int = 20) -> list[tuple[str, str]]:
    """Return the rows that were set aside, newest first, each as "kind id" with its reason."""
    found = await conn.fetch(
        """
        SELECT kind || ' ' || id AS row, coalesce(error, '') AS reason
        FROM trace_outbox WHERE state = 'dead' ORDER BY event_time DESC LIMIT $1
        """,
        at_most,
    )
    return [(row["row"], row["reason"]) for row in found]


async def renew_span_ids(conn: Connection, rows: Sequence[Claimed], now: datetime) -> int:
    """Give new ids of today to spans that Opik does not have, and return how many got one.

    Opik servers may refuse to create a span whose id is a day old, but they accept such an id as
    the parent of another span.
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
    """Make the rows that the SQL condition `which` selects pending again, and return their number.

    The rows are updated in slices, because one statement for all could exceed the command timeout.
    """
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

"""The events of runs, and the watchers that wait for them over one shared connection."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any
from uuid import UUID

import structlog

from db.pool import Connection, Pool, listen, transaction
from domain.errors import Unavailable
from domain.runs import RunEvent, RunEventKind, Stage

log = structlog.get_logger()

CHANNEL = "run_events"
# Seconds after which a watcher reads the events again even without a notification. The second value
# applies while the connection that receives notifications is lost.
POLL_S, POLL_DISCONNECTED_S = 15.0, 0.5
PAGE = 100


async def append_event(
    conn: Connection,
    trace_id: UUID,
    key: str,
    kind: RunEventKind,
    stage: Stage | None,
    message: str,
    data: dict[str, Any] | None = None,
) -> int | None:
    """Add the next event of a run and notify the run's watchers. Return the event's `seq`.

    None means that the run has an event with this `key` already, or that it does not exist. The
    statement locks the run's row, so that events become visible in the order of `seq`. The first
    event of a stage also changes the run's status from accepted to running.
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


async def select_events(conn: Connection, trace_id: UUID, after: int) -> list[RunEvent]:
    """Return the events of a run whose `seq` is greater than `after`, in order and at most 100."""
    rows = await conn.fetch(
        """
        SELECT trace_id, seq, kind, stage, message, data, at
          FROM run_events
         WHERE trace_id = $1 AND seq > $2
         ORDER BY seq
         LIMIT $3
        """,
        trace_id,
        after,
        PAGE,
    )
    return [RunEvent.model_validate(dict(row)) for row in rows]


async def append_refused_start(conn: Connection, trace_id: UUID, status: str, why: str) -> None:
    """Add the event that Temporal refused to start the run, once for each gRPC status.

    The reconciler tries the start again every minute, so without that limit the events would pile
    up.
    """
    message = f"Temporal refused to start the run ({status}): {why}"
    key, data = f"start-refused {status}", {"code": "START_REFUSED"}
    await append_event(conn, trace_id, key, "start_refused", None, message, data)


async def select_is_over(conn: Connection, trace_id: UUID) -> bool:
    """Tell whether no further event of the run will come.

    This is so when the run has finished and no operator has reset it since. After a reset, the
    events of the new stages contain the id of another Temporal run in their keys. An event that a
    stage of the finished run stores late contains the old id, so it does not count as a reset.
    """
    over: bool | None = await conn.fetchval(
        """
        SELECT NOT EXISTS (SELECT FROM run_events e
                            WHERE e.trace_id = $1 AND e.seq > finished.seq AND e.stage IS NOT NULL
                              AND split_part(e.key, ':', 1) <> split_part(finished.key, ':', 1))
          FROM run_events finished
         WHERE finished.trace_id = $1 AND finished.kind = 'finished'
         ORDER BY finished.seq DESC
         LIMIT 1
        """,
        trace_id,
    )
    return bool(over)


async def select_has_ended(conn: Connection, trace_id: UUID) -> bool:
    """Tell whether a run has ended, by its row. False also means that the run does not exist."""
    ended: bool | None = await conn.fetchval(
        "SELECT finished_at IS NOT NULL FROM runs WHERE trace_id = $1", trace_id
    )
    return bool(ended)


Waiting = defaultdict[str, set[asyncio.Event]]


class Watchers:
    """Wakes those who wait for a run's events when PostgreSQL notifies of a new event.

    A notification contains no event. Each watcher reads the rows after its own position, so a lost
    notification delays an event, but no event is lost.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._watching: Waiting = defaultdict(set)
        self._awaiting_end: Waiting = defaultdict(set)
        self._connected = False
        self._closed = False

    @asynccontextmanager
    async def listening(self, url: str) -> AsyncIterator[None]:
        """Receive notifications inside the block. When the block is left, every watcher ends."""
        listener = asyncio.create_task(
            listen(url, CHANNEL, self._on_notification, self._on_connection)
        )
        try:
            yield
        finally:
            self.close()
            listener.cancel()
            with suppress(asyncio.CancelledError):
                await listener

    def close(self) -> None:
        """End every watcher, because the process is stopping."""
        self._closed = True
        self._wake_all()

    async def watch(
        self, tenant: str, trace_id: UUID, after: int = 0
    ) -> AsyncGenerator[RunEvent, None]:
        """Yield the run's events after `after` as they are stored.

        The generator ends when the run is over, or when the process is stopping.
        """
        with _waiter(self._watching, trace_id) as woken:
            while not self._closed:
                woken.clear()
                events, over = await self._read(tenant, trace_id, after)
                for event in events:
                    yield event
                    after = event.seq
                if len(events) < PAGE:
                    if over:
                        return
                    await self._sleep(woken)

    async def finished(self, tenant: str, trace_id: UUID, within_s: float) -> bool:
        """Wait until the run has ended, at most `within_s` seconds. Return False if it has not.

        Only the notification of the run's end wakes this method, so other events cause no query.
        """
        with suppress(TimeoutError), _waiter(self._awaiting_end, trace_id) as woken:
            async with asyncio.timeout(within_s):
                while not self._closed:
                    woken.clear()
                    if await self._has_ended(tenant, trace_id):
                        return True
                    await self._sleep(woken)
        return False

    async def _read(self, tenant: str, trace_id: UUID, after: int) -> tuple[list[RunEvent], bool]:
        """Return the next events, and whether no further event will come.

        While PostgreSQL is unavailable there are no events and the second value is False, so that
        the caller's stream stays open.
        """
        try:
            async with transaction(self._pool, tenant) as conn:
                # This query comes first: if the run is over by now, the second query reads its last
                # event.
                over = await select_is_over(conn, trace_id)
                return await select_events(conn, trace_id, after), over
        except Unavailable as error:
            log.warning("events_unreadable", trace_id=str(trace_id), error=error.detail)
            return [], False

    async def _has_ended(self, tenant: str, trace_id: UUID) -> bool:
        """Tell whether the run has ended. False also while PostgreSQL is unavailable."""
        try:
            async with transaction(self._pool, tenant) as conn:
                return await select_has_ended(conn, trace_id)
        except Unavailable as error:
            log.warning("run_unreadable", trace_id=str(trace_id), error=error.detail)
            return False

    async def _sleep(self, woken: asyncio.Event) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_S if self._connected else POLL_DISCONNECTED_S):
                await woken.wait()

    def _on_notification(self, payload: str) -> None:
        trace_id, _, kind = payload.partition(" ")
        _wake(self._watching.get(trace_id, ()))
        if kind == "finished":
            _wake(self._awaiting_end.get(trace_id, ()))

    def _on_connection(self, connected: bool) -> None:
        self._connected = connected
        self._wake_all()

    def _wake_all(self) -> None:
        for waiting in (*self._watching.values(), *self._awaiting_end.values()):
            _wake(waiting)


@contextmanager
def _waiter(waiting: Waiting, trace_id: UUID) -> Iterator[asyncio.Event]:
    woken, run = asyncio.Event(), str(trace_id)
    waiting[run].add(woken)
    try:
        yield woken
    finally:
        waiting[run].discard(woken)
        if not waiting[run]:
            del waiting[run]


def _wake(waiting: Iterable[asyncio.Event]) -> None:
    for woken in waiting:
        woken.set()

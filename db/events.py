"""A run's events as rows, and who waits for them: any number of watchers over one connection."""

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
# A watcher reads the rows again after this long without a notification, in seconds; the second
# figure holds while the listening connection is lost.
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


async def select_events(conn: Connection, trace_id: UUID, after: int) -> list[RunEvent]:
    """The next events of a run, at most 100."""
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
    """Say that Temporal refused to start the run; once for each gRPC status of its answers."""
    message = f"Temporal refused to start the run ({status}): {why}"
    key, data = f"start-refused {status}", {"code": "START_REFUSED"}
    await append_event(conn, trace_id, key, "start_refused", None, message, data)


async def select_is_over(conn: Connection, trace_id: UUID) -> bool:
    """Whether no further event is to come: the run has finished, and was not reset since.

    After a reset the run's steps have another run of the workflow in their keys. What a step of the
    finished one still had to say is no such step.
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
    """Whether a run has its end in its row; False for a run that does not exist."""
    ended: bool | None = await conn.fetchval(
        "SELECT finished_at IS NOT NULL FROM runs WHERE trace_id = $1", trace_id
    )
    return bool(ended)


Waiting = defaultdict[str, set[asyncio.Event]]


class Watchers:
    """Wakes the watchers of a run when PostgreSQL notifies that it has a new event.

    A notification carries no event: a watcher reads the rows after its own position, so that a
    missed notification costs time, never an event.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._watching: Waiting = defaultdict(set)
        self._awaiting_end: Waiting = defaultdict(set)
        self._connected = False
        self._closed = False

    @asynccontextmanager
    async def listening(self, url: str) -> AsyncIterator[None]:
        """Listen to PostgreSQL while the block runs; afterwards every watcher ends."""
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
        """End every watcher: the process stops."""
        self._closed = True
        self._wake_all()

    async def watch(
        self, tenant: str, trace_id: UUID, after: int = 0
    ) -> AsyncGenerator[RunEvent, None]:
        """The run's events after `after`, as they come, until none is to come any more."""
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
        """Wait until the run has finished; False when it has not in time.

        Only the end wakes it: what happens in between is not read.
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
        """The next events, and whether there are no others.

        There are none while PostgreSQL is away, so that a stream outlives that.
        """
        try:
            async with transaction(self._pool, tenant) as conn:
                # First: what ended the run is then among the events.
                over = await select_is_over(conn, trace_id)
                return await select_events(conn, trace_id, after), over
        except Unavailable as error:
            log.warning("events_unreadable", trace_id=str(trace_id), error=error.detail)
            return [], False

    async def _has_ended(self, tenant: str, trace_id: UUID) -> bool:
        """False also while PostgreSQL is away."""
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

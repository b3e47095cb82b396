"""A run's events as rows, and who waits for them: any number of watchers over one connection."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from uuid import UUID

import structlog

from db.pool import Connection, Pool, acquire, listen
from domain.errors import Unavailable
from domain.runs import RunEvent

log = structlog.get_logger()

CHANNEL = "run_events"
# How long a watcher trusts silence before it reads the rows again: while the listening connection
# hears, and while it does not.
TRUST_S, DEAF_S = 15.0, 0.5
PAGE = 100


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


class Watchers:
    """Wakes the watchers of a run when PostgreSQL says that it has a new event.

    A notification carries no event: watchers read rows from where they stand, so that one that was
    missed costs time, never an event.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)
        self._hearing = False
        self._closed = False

    @asynccontextmanager
    async def listening(self, url: str) -> AsyncIterator[None]:
        """Hear PostgreSQL while the block runs; afterwards every watcher ends."""
        ear = asyncio.create_task(listen(url, CHANNEL, self._notified, self._heard))
        try:
            yield
        finally:
            self.close()
            ear.cancel()
            with suppress(asyncio.CancelledError):
                await ear

    def close(self) -> None:
        """End every watcher: the process stops."""
        self._closed = True
        self._wake_all()

    def watched(self) -> int:
        """How many runs somebody waits for."""
        return len(self._waiting)

    async def watch(self, trace_id: UUID, after: int = 0) -> AsyncGenerator[RunEvent, None]:
        """The run's events after `after`, as they come, until it has finished."""
        with self._waiter(trace_id) as woken:
            while not self._closed:
                woken.clear()
                events = await self._read(trace_id, after)
                for event in events:
                    yield event
                    after = event.seq
                    if event.kind == "finished":
                        return
                if len(events) < PAGE:
                    await self._sleep(woken)

    async def finished(self, trace_id: UUID, within_s: float) -> bool:
        """Wait until the run has finished; False when it has not in time."""
        try:
            async with asyncio.timeout(within_s), aclosing(self.watch(trace_id)) as events:
                async for event in events:
                    if event.kind == "finished":
                        return True
        except TimeoutError:
            return False
        return False

    async def _read(self, trace_id: UUID, after: int) -> list[RunEvent]:
        """The next events; none while PostgreSQL is away, so that a stream outlives that."""
        try:
            async with acquire(self._pool) as conn:
                return await select_events(conn, trace_id, after)
        except Unavailable as error:
            log.warning("events_unreadable", trace_id=str(trace_id), error=error.detail)
            return []

    @contextmanager
    def _waiter(self, trace_id: UUID) -> Iterator[asyncio.Event]:
        woken = asyncio.Event()
        self._waiting[trace_id].add(woken)
        try:
            yield woken
        finally:
            self._waiting[trace_id].discard(woken)
            if not self._waiting[trace_id]:
                del self._waiting[trace_id]

    async def _sleep(self, woken: asyncio.Event) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(TRUST_S if self._hearing else DEAF_S):
                await woken.wait()

    def _notified(self, payload: str) -> None:
        for woken in self._waiting.get(UUID(payload), ()):
            woken.set()

    def _heard(self, hearing: bool) -> None:
        self._hearing = hearing
        self._wake_all()

    def _wake_all(self) -> None:
        for waiting in self._waiting.values():
            for woken in waiting:
                woken.set()

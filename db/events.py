"""A run's events as rows, and who waits for them: any number of watchers over one connection."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
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


async def select_has_ended(conn: Connection, trace_id: UUID) -> bool:
    """Whether a run has its end in its row; False for a run that does not exist."""
    ended: bool | None = await conn.fetchval(
        "SELECT finished_at IS NOT NULL FROM runs WHERE trace_id = $1", trace_id
    )
    return bool(ended)


Waiting = defaultdict[str, set[asyncio.Event]]


class Watchers:
    """Wakes the watchers of a run when PostgreSQL says that it has a new event.

    A notification carries no event: watchers read rows from where they stand, so that one that was
    missed costs time, never an event.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: Waiting = defaultdict(set)
        self._for_the_end: Waiting = defaultdict(set)
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
        return len(self._waiting) + len(self._for_the_end)

    async def watch(self, trace_id: UUID, after: int = 0) -> AsyncGenerator[RunEvent, None]:
        """The run's events after `after`, as they come, until it has finished."""
        with _waiter(self._waiting, trace_id) as woken:
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
        """Wait until the run has finished; False when it has not in time.

        Only the end wakes it: what happens in between is not read.
        """
        with suppress(TimeoutError), _waiter(self._for_the_end, trace_id) as woken:
            async with asyncio.timeout(within_s):
                while not self._closed:
                    woken.clear()
                    if await self._has_ended(trace_id):
                        return True
                    await self._sleep(woken)
        return False

    async def _read(self, trace_id: UUID, after: int) -> list[RunEvent]:
        """The next events; none while PostgreSQL is away, so that a stream outlives that."""
        try:
            async with acquire(self._pool) as conn:
                return await select_events(conn, trace_id, after)
        except Unavailable as error:
            log.warning("events_unreadable", trace_id=str(trace_id), error=error.detail)
            return []

    async def _has_ended(self, trace_id: UUID) -> bool:
        """False also while PostgreSQL is away."""
        try:
            async with acquire(self._pool) as conn:
                return await select_has_ended(conn, trace_id)
        except Unavailable as error:
            log.warning("run_unreadable", trace_id=str(trace_id), error=error.detail)
            return False

    async def _sleep(self, woken: asyncio.Event) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(TRUST_S if self._hearing else DEAF_S):
                await woken.wait()

    def _notified(self, payload: str) -> None:
        trace_id, _, kind = payload.partition(" ")
        _wake(self._waiting.get(trace_id, ()))
        if kind == "finished":
            _wake(self._for_the_end.get(trace_id, ()))

    def _heard(self, hearing: bool) -> None:
        self._hearing = hearing
        self._wake_all()

    def _wake_all(self) -> None:
        for waiting in (*self._waiting.values(), *self._for_the_end.values()):
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

"""Starts the workflows of accepted runs after the answer, a few at a time."""

import asyncio

import structlog
from temporalio.client import Client
from temporalio.service import RPCError

from client import StartOptions, start_accepted
from db.pool import Pool
from domain.runs import RunRequest

log = structlog.get_logger()

START_TIMEOUT_S = 3
# Temporal starts no more in a second when more come at once; they only wait longer, and time out.
AT_ONCE = 16
# With so many waiting, the reconciler is faster.
LONGEST_QUEUE = 1000


class Starter:
    """A queue of runs to start. It is bounded: what has no place is left to the reconciler."""

    def __init__(self, client: Client, options: StartOptions, pool: Pool) -> None:
        self._client = client
        self._options = options
        self._pool = pool
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._waiting: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Runs that wait to be started, and those just being started."""
        return len(self._waiting)

    def start_soon(self, request: RunRequest) -> None:
        """Start the run's workflow in turn; nobody waits for it."""
        if len(self) >= LONGEST_QUEUE:
            _leave(request, "the queue is full")
            return
        task = asyncio.create_task(self._start_in_turn(request))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def start(self, request: RunRequest) -> bool:
        """Start it now. False when that failed: the reconciler tries it again."""
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await start_accepted(self._client, request, self._options, self._pool)
        except (RPCError, RuntimeError, TimeoutError) as error:
            # RuntimeError is what the SDK raises when a lazy client cannot connect.
            _leave(request, type(error).__name__)
            return False
        return True

    async def all_started(self, within_s: float | None = None) -> None:
        """Wait until the queue is empty, for at most `within_s` seconds."""
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=within_s)

    async def _start_in_turn(self, request: RunRequest) -> None:
        async with self._turns:
            await self.start(request)


def _leave(request: RunRequest, reason: str) -> None:
    log.warning("start_left_to_reconciler", trace_id=str(request.trace_id), error=reason)

"""Starts the workflows of accepted runs in the background, a few at the same time.

An API answer does not wait for the start of its run's workflow.
"""

import asyncio

import structlog
from temporalio.client import Client
from temporalio.service import RPCError

from client import StartOptions, start_accepted
from db.pool import Pool
from domain.runs import RunRequest

log = structlog.get_logger()

START_TIMEOUT_S = 3
# At most this many starts are sent to Temporal at the same time. More of them would not raise the
# number of workflows started per second: each start would take longer and might time out.
AT_ONCE = 16
# With so many runs waiting, a further run is started sooner by the reconciler than by this queue.
LONGEST_QUEUE = 1000


class Starter:
    """A bounded queue of accepted runs whose workflows are to be started.

    A run that finds the queue full is started by the reconciler later.
    """

    def __init__(self, client: Client, options: StartOptions, pool: Pool) -> None:
        self._client = client
        self._options = options
        self._pool = pool
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._waiting: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Return how many runs wait for their start or are being started."""
        return len(self._waiting)

    def start_soon(self, request: RunRequest) -> None:
        """Put the run into the queue and return at once, before its workflow is started."""
        if len(self) >= LONGEST_QUEUE:
            _leave(request, "the queue is full")
            return
        task = asyncio.create_task(self._start_in_turn(request))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def start(self, request: RunRequest) -> bool:
        """Start the run's workflow at once, without the queue.

        Return False when Temporal refuses or cannot be reached; the reconciler then retries the
        start.
        """
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await start_accepted(self._client, request, self._options, self._pool)
        except (RPCError, RuntimeError, TimeoutError) as error:
            # The Temporal SDK raises RuntimeError when a lazy client cannot connect.
            _leave(request, type(error).__name__)
            return False
        return True

    async def all_started(self, within_s: float | None = None) -> None:
        """Wait until the queue is empty, for at most `within_s` seconds; None sets no limit."""
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=within_s)

    async def _start_in_turn(self, request: RunRequest) -> None:
        async with self._turns:
            await self.start(request)


def _leave(request: RunRequest, reason: str) -> None:
    log.warning("start_left_to_reconciler", trace_id=str(request.trace_id), error=reason)

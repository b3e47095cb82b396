"""The shipper: sends the rows of the outbox to Opik and handles every kind of failure."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from tracing.outbox import Kind
from tracing.ship.client import READ_ERRORS, Answer, OpikClient, is_old, needs_patch
from tracing.ship.queue import (
    Claimed,
    Pool,
    claim,
    mark_sent,
    put_back,
    renew_span_ids,
    set_aside,
)

log = structlog.get_logger()

KINDS: tuple[Kind, ...] = ("trace", "span", "score")
ACQUIRE_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class ShipperOptions:
    """How much the shipper sends at once, and how long it waits after failures.

    Attributes:
        batch_rows: Maximum number of rows of one claim.
        batch_bytes: Maximum bytes of one request, and of one claim as PostgreSQL stores its rows.
        lease_s: Seconds for which a claim holds its rows. The rows of a killed shipper become due
            again after this time.
        initial_backoff_s: Seconds to wait after a first failure. The wait doubles with each further
            one.
        max_backoff_s: Longest such wait in seconds. A wait that Opik asks for may be 20 times
            longer.
        denied_backoff_s: Seconds to wait when Opik says that the API key or the address is wrong.
        max_row_attempts: A row that gets status 500 on its own this many times, while Opik accepts
            other rows, is set aside.
        bisect_after: After this many attempts with status 500 a batch is bisected.
        small_batch_rows: For a batch of at most this many rows, a success within the last `lease_s`
            seconds proves that Opik works. For a larger batch only a success of the same batch
            does.
        poll_s: Seconds between two reads of the outbox without a notification, since rows also
            become due as time passes.
        debounce_s: Seconds to wait after a notification, so that a burst of rows goes into one
            batch.
    """

    batch_rows: int = 500
    batch_bytes: int = 4_000_000
    lease_s: float = 60
    initial_backoff_s: float = 1
    max_backoff_s: float = 30
    denied_backoff_s: float = 30
    max_row_attempts: int = 10
    bisect_after: int = 3
    small_batch_rows: int = 16
    poll_s: float = 0.5
    debounce_s: float = 0.25


class Shipper:
    """Claims rows of the outbox and sends them to Opik, one batch after the other.

    Any number of shippers, in any number of processes, may work on the same outbox. The shipper
    calls `alive` before each claim and each pause, with the seconds that may pass until the next
    call.
    """

    def __init__(
        self,
        pool: Pool,
        opik: OpikClient,
        options: ShipperOptions | None = None,
        alive: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self._pool = pool
        self._opik = opik
        self._options = options or ShipperOptions()
        self._alive = alive
        self._woken = asyncio.Event()
        self._wait_s = 0.0
        self._failures = 0
        self._held: list[Claimed] = []
        self._last_success = float("-inf")
        self._alive_since = 0.0
        self._kinds = deque(KINDS)

    def wake(self) -> None:
        """Tell the shipper that the outbox may have new rows to send."""
        self._woken.set()

    async def run(self) -> None:
        """Send rows until cancelled.

        Rows that are claimed but not sent become due again at once.
        """
        try:
            while True:
                await self._ship_what_is_due()
                await self._rest()
        finally:
            # If this fails, the rows become due again when their lease expires.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1):
                    await self._put_back(self._held, 0, tried=False, reason=None)

    async def drain(self) -> int:
        """Send rows until none is due or Opik fails, and return the number of rows claimed."""
        taken = 0
        while self._wait_s == 0:
            self._alive(self._options.lease_s)
            rows = await self._claim()
            if not rows:
                break
            taken += len(rows)
            self._held = rows
            await self._deliver(rows)
            self._held = []
        return taken

    async def _ship_what_is_due(self) -> None:
        try:
            await self.drain()
        except Exception as error:
            # PostgreSQL is unavailable or the shipper has a bug. In both cases the rows become due
            # again when their lease expires.
            self._held = []
            self._back_off(None)
            log.exception("shipping_interrupted", error=type(error).__name__, wait_s=self._wait_s)

    async def _rest(self) -> None:
        self._alive(self._wait_s)
        if self._wait_s:
            await asyncio.sleep(self._wait_s)
            self._wait_s = 0.0
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._options.poll_s):
                await self._woken.wait()
            await asyncio.sleep(self._options.debounce_s)
        self._woken.clear()

    async def _claim(self) -> list[Claimed]:
        """Claim rows of the next kind that has due rows. An empty list means that no kind has any.

        Traces, spans and scores take turns, so that no kind waits for the whole backlog of another.
        """
        options = self._options
        async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as conn:
            for _ in KINDS:
                kind = self._kinds[0]
                self._kinds.rotate(-1)
                rows = await claim(
                    conn,
                    kind,
                    rows=options.batch_rows,
                    size=options.batch_bytes,
                    lease=timedelta(seconds=options.lease_s),
                )
                if rows:
                    return rows
        return []

    async def _deliver(self, rows: Sequence[Claimed]) -> None:
        # A success after this moment proves that Opik works, so that a row which fails is itself at
        # fault. A small batch may have no other row that succeeds, so earlier successes count for
        # it.
        is_small = len(rows) <= self._options.small_batch_rows
        self._alive_since = time.monotonic() - (self._options.lease_s if is_small else 0)
        for batch in _batches(rows, self._options.batch_bytes):
            await self._send(batch)

    async def _send(
        self, rows: Sequence[Claimed], *, suspicious: bool = False, reason: str | None = None
    ) -> None:
        """Send rows, or put them back if the shipper has to wait before its next request.

        Updates and deletions are sent one by one. `suspicious` says that the rows come from a batch
        that Opik answered with status 500, and `reason` is that answer.
        """
        if self._wait_s:
            await self._put_back(rows, self._wait_s, tried=False, reason=reason)
            return
        try:
            await self._opik.ask_about_ends(rows)
        except READ_ERRORS as error:
            await self._retry_later(rows, Answer("unavailable", reason=type(error).__name__))
            return
        alone = [row for row in rows if _goes_alone(row)]
        if len(rows) > 1 and alone:
            for row in alone:
                await self._send([row], suspicious=suspicious, reason=reason)
            rows = [row for row in rows if not _goes_alone(row)]
            await self._send(rows, suspicious=suspicious, reason=reason)
        elif rows:
            await self._settle(rows, await self._opik.send(rows), suspicious)

    async def _settle(
        self, rows: Sequence[Claimed], answer: Answer, suspicious: bool = False
    ) -> None:
        suspicious = suspicious or self._is_suspicious(rows)
        match answer.outcome:
            case "sent":
                await self._mark_sent(rows)
            case "too_old" if any(is_old(row) for row in rows):
                await self._send_too_old(rows, answer)
            case "refused" | "too_old" if len(rows) > 1:
                # One of the rows makes Opik refuse the whole batch. Repeated halving isolates that
                # row.
                for half in _halves(rows):
                    await self._send(half)
            case "refused" | "too_old":
                await self._set_aside(rows[0], answer.reason)
            case "unavailable" if answer.status == 500 and suspicious:
                await self._bisect(rows, answer)
            case _:
                await self._retry_later(rows, answer)

    def _is_suspicious(self, rows: Sequence[Claimed]) -> bool:
        return max(row.attempts for row in rows) >= self._options.bisect_after

    async def _bisect(self, rows: Sequence[Claimed], answer: Answer) -> None:
        """Find out whether Opik fails for every row or whether single rows cause status 500.

        The batch is halved down to single rows. If a single row fails and Opik has accepted no
        other row, Opik itself fails, and the rest of the batch is put back.
        """
        if len(rows) == 1:
            await self._retry_single(rows[0], answer)
            return
        for half in _halves(rows):
            await self._send(half, suspicious=True, reason=answer.reason)

    async def _retry_single(self, row: Claimed, answer: Answer) -> None:
        """Handle a single row that got status 500.

        If Opik works for other rows, the row is put back, or set aside after its last attempt.
        Otherwise Opik itself fails, and the shipper waits before it sends any row.
        """
        if self._last_success < self._alive_since:
            await self._retry_later([row], answer)
        elif row.attempts + 1 >= self._options.max_row_attempts:
            await self._set_aside(row, answer.reason)
        else:
            wait_s = min(2.0**row.attempts, self._options.max_backoff_s)
            await self._put_back([row], wait_s, tried=True, reason=answer.reason)

    async def _retry_later(self, rows: Sequence[Claimed], answer: Answer) -> None:
        """Put rows back and let the shipper wait before its next request.

        The wait is as long as Opik asks, or else doubles with each failure in a row.
        """
        if answer.outcome == "denied":
            self._wait_s = self._options.denied_backoff_s
            log.error("opik_denies", status=answer.status, reason=answer.reason, cure=_CURE)
        else:
            self._back_off(answer.wait_s)
            log.warning(
                "opik_unavailable", status=answer.status, reason=answer.reason, wait_s=self._wait_s
            )
        # A failure of Opik itself must not count against suspicious rows. They are counted one by
        # one in `_retry_single`, which knows whether Opik works.
        tried = answer.status == 500 and not self._is_suspicious(rows)
        await self._put_back(rows, self._wait_s, tried=tried, reason=answer.reason)

    def _back_off(self, asked_s: float | None) -> None:
        options = self._options
        self._failures += 1
        if asked_s is None:
            doubled = options.initial_backoff_s * 2.0 ** min(self._failures - 1, 10)
            self._wait_s = max(0.05, min(doubled, options.max_backoff_s))
        else:
            self._wait_s = max(0.05, min(asked_s, 20 * options.max_backoff_s))

    async def _mark_sent(self, rows: Sequence[Claimed]) -> None:
        self._failures = 0
        self._last_success = time.monotonic()
        async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as conn:
            await mark_sent(conn, rows)

    async def _put_back(
        self, rows: Sequence[Claimed], wait_s: float, *, tried: bool, reason: str | None
    ) -> None:
        if rows:
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as conn:
                await put_back(conn, rows, wait_s=wait_s, tried=tried, reason=reason)

    async def _set_aside(self, row: Claimed, reason: str) -> None:
        log.error("row_set_aside", kind=row.kind, id=row.id, reason=reason)
        async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as conn:
            await set_aside(conn, row, reason)

    async def _send_too_old(self, rows: Sequence[Claimed], answer: Answer) -> None:
        """Send rows that waited so long that Opik refuses to create them under their own ids.

        A trace is created by an update, which accepts ids of any age. A span gets a new id, unless
        Opik already has it; then the span is updated.
        """
        refused = [row for row in rows if is_old(row)]
        young = [row for row in rows if not is_old(row)]
        # The other rows may be children of spans that get new ids here. They are put back, so that
        # they are sent with the new ids of their parents.
        await self._put_back(young, 0, tried=False, reason=None)
        missing = []
        for row in refused:
            takes_update = row.kind == "trace"
            if row.maybe_lost and not takes_update:
                lost = await self._opik.is_missing("span", str(row.wire_id), ended=False)
                takes_update = not lost
            if takes_update:
                await self._settle([row], await self._opik.patch(row))
            else:
                missing.append(row)
        if missing:
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as conn, conn.transaction():
                renewed = await renew_span_ids(conn, missing, datetime.now(UTC))
            log.warning("span_ids_renewed", spans=renewed, reason=answer.reason)


_CURE = "check OPIK_URL_OVERRIDE, OPIK_API_KEY and OPIK_WORKSPACE; nothing is lost meanwhile"


def _goes_alone(row: Claimed) -> bool:
    return row.deleted or needs_patch(row)


def _halves(rows: Sequence[Claimed]) -> tuple[Sequence[Claimed], Sequence[Claimed]]:
    middle = len(rows) // 2
    return rows[:middle], rows[middle:]


def _batches(rows: Sequence[Claimed], limit: int) -> list[list[Claimed]]:
    """Split rows into batches of at most `limit` bytes of JSON.

    A row that is larger than that is a batch of its own.
    """
    batches: list[list[Claimed]] = []
    size = 0
    for row in rows:
        own = len(row.wire.encode())
        size += own
        if not batches or size > limit:
            batches.append([])
            size = own
        batches[-1].append(row)
    return batches

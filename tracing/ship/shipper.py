"""The shipper brings the outbox to Opik: it drops no row, and no row waits longer than it must."""

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
    """How much is sent at once, and how patiently.

    Attributes:
        batch_rows: Rows of one claim at most.
        batch_bytes: Bytes of one request at most, and of one claim, as PostgreSQL stores the rows.
        lease_s: Time that a claim holds rows; a killed shipper's rows become due after it.
        initial_backoff_s: Wait after a first failure; it doubles with every further one.
        max_backoff_s: The longest of these waits. A wait that Opik asks for may be 20 times longer.
        denied_backoff_s: Wait after an answer that says that our key or address is wrong.
        max_row_attempts: A row that alone meets 500 this often, while others pass, is set aside.
        bisect_after: After this many 500s a batch is bisected.
        small_batch_rows: A batch of at most so many rows is bisected to single rows if any other
            row was accepted within the lease.
        poll_s: How often the outbox is read without a notification; rows become due by time too.
        debounce_s: Wait after a notification, so that a burst of rows goes in one batch.
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
    """One lane to Opik. Any number of them may work on one outbox, in any number of processes.

    `alive` is told at each turn for how many seconds it need not be told again.
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
        """Tell the shipper that there is something to send."""
        self._woken.set()

    async def run(self) -> None:
        """Ship until cancelled; rows that were claimed and not sent become due again at once."""
        try:
            while True:
                await self._ship_what_is_due()
                await self._rest()
        finally:
            # If this fails, the rows become due when their lease runs out.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1):
                    await self._put_back(self._held, 0, tried=False, reason=None)

    async def drain(self) -> int:
        """Send everything that is due until Opik fails; returns how many rows were claimed."""
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
            # PostgreSQL is away, or this is a bug; either way the lease gives the rows back.
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
        """Claim traces, spans and scores in turn, so that no kind waits for the end of another."""
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
        # An answer that came after this moment proves that the server is alive.
        is_small = len(rows) <= self._options.small_batch_rows
        self._alive_since = time.monotonic() - (self._options.lease_s if is_small else 0)
        for batch in _batches(rows, self._options.batch_bytes):
            await self._send(batch)

    async def _send(
        self, rows: Sequence[Claimed], *, suspicious: bool = False, reason: str | None = None
    ) -> None:
        """Send rows, unless the lane waits meanwhile; updates and deletes are sent one by one.

        `suspicious`: they are of a batch that was answered with 500, for this reason.
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
                # One of the rows makes Opik refuse them all; bisecting finds it.
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
        """Find out whether the server fails, or whether single rows make it answer 500.

        The batch is halved down to one row. If that is refused too and no other row was accepted,
        the server is what fails, and the rest of the batch is put back.
        """
        if len(rows) == 1:
            await self._retry_single(rows[0], answer)
            return
        for half in _halves(rows):
            await self._send(half, suspicious=True, reason=answer.reason)

    async def _retry_single(self, row: Claimed, answer: Answer) -> None:
        """Put a row back that met 500 by itself, or set it aside after its last attempt."""
        if self._last_success < self._alive_since:
            await self._retry_later([row], answer)
        elif row.attempts + 1 >= self._options.max_row_attempts:
            await self._set_aside(row, answer.reason)
        else:
            wait_s = min(2.0**row.attempts, self._options.max_backoff_s)
            await self._put_back([row], wait_s, tried=True, reason=answer.reason)

    async def _retry_later(self, rows: Sequence[Claimed], answer: Answer) -> None:
        """Put rows back and let the whole lane wait: as long as Opik asks, or longer each time."""
        if answer.outcome == "denied":
            self._wait_s = self._options.denied_backoff_s
            log.error("opik_denies", status=answer.status, reason=answer.reason, cure=_CURE)
        else:
            self._back_off(answer.wait_s)
            log.warning(
                "opik_unavailable", status=answer.status, reason=answer.reason, wait_s=self._wait_s
            )
        # Attempts do not count while the server itself is failing; the suspicious rows of a server
        # that is well are counted one by one.
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
        """Send rows that waited so long that Opik creates none under their own ids.

        A trace is created by an update, which takes ids of any age; a span gets a new id.
        """
        refused = [row for row in rows if is_old(row)]
        young = [row for row in rows if not is_old(row)]
        # The young rows may refer to spans that are about to get new ids, so they wait for these.
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
    """Rows in requests of at most `limit` bytes of JSON each, or of one row."""
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

"""Bringing the outbox to Opik: nothing is dropped, nothing waits longer than it must."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from tracing.rows import Kind
from tracing.ship.answers import Answer
from tracing.ship.door import Door, is_old, needs_patch
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
class Pace:
    """How much at once and how patiently. Sizes are bytes as PostgreSQL keeps them."""

    batch_rows: int = 500
    batch_bytes: int = 4_000_000
    lease_s: float = 60
    first_wait_s: float = 1
    longest_wait_s: float = 30
    denied_wait_s: float = 30
    # A row that alone meets 500 this often, while others pass, is set aside.
    row_tries: int = 10
    # After this many failures of a batch it is looked at in halves.
    suspicious_after: int = 3
    # So few rows are looked at one by one even if none of them is taken, when others were lately.
    few_rows: int = 16
    # Rows become due by time too; and what is said in a burst goes in one batch.
    look_every_s: float = 0.5
    gather_s: float = 0.25


class Shipper:
    """One lane to Opik. Any number of them may work on one outbox, in any number of processes."""

    def __init__(self, pool: Pool, door: Door, pace: Pace | None = None) -> None:
        self._pool = pool
        self._door = door
        self._pace = pace or Pace()
        self._woken = asyncio.Event()
        self._wait_s = 0.0
        self._failures = 0
        self._held: list[Claimed] = []
        self._last_success = float("-inf")
        self._alive_since = 0.0
        self._kinds = deque(KINDS)

    def wake(self) -> None:
        """There is something to send."""
        self._woken.set()

    async def run(self) -> None:
        """Ship until cancelled; what was claimed and not sent becomes due again at once."""
        try:
            while True:
                await self._ship_what_is_due()
                await self._rest()
        finally:
            with contextlib.suppress(Exception):  # the lease does the same, only later
                async with asyncio.timeout(1):
                    await self._put_back(self._held, 0, tried=False, reason=None)

    async def drain(self) -> int:
        """Send everything that is due, unless Opik is away; says how many rows were taken up."""
        taken = 0
        while self._wait_s == 0:
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
            # PostgreSQL is away, or a mistake of ours: the lease gives the rows back.
            self._held = []
            self._back_off(None)
            log.exception("shipping_interrupted", error=type(error).__name__, wait_s=self._wait_s)

    async def _rest(self) -> None:
        if self._wait_s:
            await asyncio.sleep(self._wait_s)
            self._wait_s = 0.0
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pace.look_every_s):
                await self._woken.wait()
            await asyncio.sleep(self._pace.gather_s)
        self._woken.clear()

    async def _claim(self) -> list[Claimed]:
        """Traces, spans and scores in turn, so that none of them waits for the end of another."""
        pace = self._pace
        async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as conn:
            for _ in KINDS:
                kind = self._kinds[0]
                self._kinds.rotate(-1)
                rows = await claim(
                    conn,
                    kind,
                    rows=pace.batch_rows,
                    size=pace.batch_bytes,
                    lease=timedelta(seconds=pace.lease_s),
                )
                if rows:
                    return rows
        return []

    async def _deliver(self, rows: Sequence[Claimed]) -> None:
        lately = self._pace.lease_s if len(rows) <= self._pace.few_rows else 0
        self._alive_since = time.monotonic() - lately
        for row in filter(_goes_alone, rows):
            await self._send([row])
        fresh = [row for row in rows if not _goes_alone(row)]
        for batch in _batches(fresh, self._pace.batch_bytes):
            await self._send(batch)

    async def _send(self, rows: Sequence[Claimed]) -> None:
        if self._wait_s:
            await self._put_back(rows, self._wait_s, tried=False, reason=None)
            return
        await self._settle(rows, await self._request(rows))

    async def _request(self, rows: Sequence[Claimed]) -> Answer:
        # Of several rows none needed it a moment ago.
        if len(rows) == 1 and rows[0].withdrawn:
            return await self._door.withdraw(rows[0])
        if len(rows) == 1 and needs_patch(rows[0]):
            return await self._door.patch(rows[0])
        return await self._door.send(rows[0].kind, rows)

    async def _settle(self, rows: Sequence[Claimed], answer: Answer) -> None:
        match answer.verdict:
            case "sent":
                await self._mark_sent(rows)
            case "late" if any(is_old(row) for row in rows):
                await self._bring_late(rows, answer)
            case "refused" | "late" if len(rows) > 1:
                # Somewhere in it is a row that spoils the rest.
                for half in _halves(rows):
                    await self._send(half)
            case "refused" | "late":
                await self._set_aside(rows[0], answer.reason)
            case "away" if answer.status == 500 and self._is_suspicious(rows):
                await self._probe(rows, answer)
            case _:
                await self._come_again(rows, answer)

    def _is_suspicious(self, rows: Sequence[Claimed]) -> bool:
        return max(row.attempts for row in rows) >= self._pace.suspicious_after

    async def _probe(self, rows: Sequence[Claimed], answer: Answer) -> None:
        """A batch that meets 500 again and again: is it the server, or some rows in it?

        It goes down to one row; if even that is refused and nothing else was taken, it is the
        server, and the rest is left alone.
        """
        if len(rows) == 1:
            await self._alone(rows[0], answer)
            return
        for half in _halves(rows):
            if self._wait_s:
                await self._put_back(half, self._wait_s, tried=False, reason=answer.reason)
                continue
            each = await self._request(half)
            if each.status == 500:
                await self._probe(half, each)
            else:
                await self._settle(half, each)

    async def _alone(self, row: Claimed, answer: Answer) -> None:
        """A row that meets 500 by itself."""
        if self._last_success < self._alive_since:
            await self._come_again([row], answer)
        elif row.attempts + 1 >= self._pace.row_tries:
            await self._set_aside(row, answer.reason)
        else:
            wait_s = min(2.0**row.attempts, self._pace.longest_wait_s)
            await self._put_back([row], wait_s, tried=True, reason=answer.reason)

    async def _come_again(self, rows: Sequence[Claimed], answer: Answer) -> None:
        """The whole lane waits: as long as told, or longer each time."""
        if answer.verdict == "denied":
            self._wait_s = self._pace.denied_wait_s
            log.error("opik_denies", status=answer.status, reason=answer.reason, cure=_CURE)
        else:
            self._back_off(answer.wait_s)
            log.warning(
                "opik_away", status=answer.status, reason=answer.reason, wait_s=self._wait_s
            )
        # What is suspicious already is judged alone; a server that is down makes nobody guilty.
        tried = answer.status == 500 and not self._is_suspicious(rows)
        await self._put_back(rows, self._wait_s, tried=tried, reason=answer.reason)

    def _back_off(self, told_s: float | None) -> None:
        self._failures += 1
        doubled = self._pace.first_wait_s * 2.0 ** min(self._failures - 1, 10)
        waits = doubled if told_s is None else told_s
        self._wait_s = max(
            0.05, min(waits, self._pace.longest_wait_s * (1 if told_s is None else 20))
        )

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

    async def _bring_late(self, rows: Sequence[Claimed], answer: Answer) -> None:
        """Rows of which Opik was away for too long to take some under their own id."""
        refused = [row for row in rows if is_old(row)]
        young = [row for row in rows if not is_old(row)]
        # They may refer to what is about to get another id.
        await self._put_back(young, 0, tried=False, reason=None)
        missing = []
        for row in refused:
            if row.kind == "trace" or (row.doubtful and not await self._lacks(row)):
                await self._settle([row], await self._door.patch(row))
            else:
                missing.append(row)
        if missing:
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as conn, conn.transaction():
                renewed = await renew_span_ids(conn, missing, datetime.now(UTC))
            log.warning("late_spans_renewed", spans=renewed, reason=answer.reason)

    async def _lacks(self, row: Claimed) -> bool:
        return await self._door.lacks(row.kind, str(row.wire_id), ended=False)


_CURE = "check OPIK_URL_OVERRIDE, OPIK_API_KEY and OPIK_WORKSPACE; nothing is lost meanwhile"


def _goes_alone(row: Claimed) -> bool:
    return row.withdrawn or needs_patch(row)


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

"""The shipper's other tasks: project ids, checking that Opik kept sent rows, deleting old rows."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from tracing.outbox import Connection
from tracing.ship.client import READ_ERRORS, OpikClient
from tracing.ship.queue import Pool, delete_sent, resend_window, store_project

log = structlog.get_logger()

ACQUIRE_TIMEOUT_S = 2.0
MAX_BACKOFF_S = 30


@dataclass(frozen=True)
class HousekeepingOptions:
    """How often the shipper checks what Opik still has, and how long it keeps sent rows.

    Attributes:
        check_every_s: Seconds between two rounds.
        settle_s: Rows that were sent less than this many seconds ago are checked in the next round.
        sample: Number of sent rows, chosen at random, that a round asks Opik for.
        keep_days: Days after which sent spans and scores are deleted from the outbox.
    """

    check_every_s: float = 300
    settle_s: float = 60
    sample: int = 20
    keep_days: int = 14


async def register_project(pool: Pool, opik: OpikClient, name: str) -> None:
    """Store Opik's id of the project, which links to traces need. Retry until that succeeds."""
    wait_s = 1
    while True:
        try:
            project_id = await opik.project(name)
            async with pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as conn:
                await store_project(conn, name, project_id)
        except Exception as error:
            log.warning("project_not_registered", project=name, error=type(error).__name__)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, MAX_BACKOFF_S)
        else:
            log.info("project_registered", project=name, project_id=str(project_id))
            return


async def housekeeping(pool: Pool, opik: OpikClient, options: HousekeepingOptions) -> None:
    """Check sent rows against Opik and delete old ones, every few minutes until cancelled."""
    since = datetime.now(UTC) - timedelta(hours=1)
    while True:
        await asyncio.sleep(options.check_every_s)
        until = datetime.now(UTC) - timedelta(seconds=options.settle_s)
        try:
            async with pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as conn:
                await read_back(conn, opik, since, until, sample=options.sample)
                deleted = await delete_sent(conn, older_than=timedelta(days=options.keep_days))
            since = until
            log.info("housekeeping_done", deleted=deleted)
        except READ_ERRORS as error:
            log.warning("read_back_postponed", error=type(error).__name__)
        except Exception:
            log.exception("housekeeping_failed")


async def read_back(
    conn: Connection, opik: OpikClient, since: datetime, until: datetime, *, sample: int
) -> int:
    """Ask Opik for a sample of the rows sent in a window, and send all again if one is missing.

    A server that accepts rows and then loses them answers 204 like a working one, so only asking
    shows the loss. Return how many rows were made pending again; 0 means that no row is missing.
    Raises one of READ_ERRORS when Opik does not answer.
    """
    rows = await conn.fetch(
        """
        SELECT kind, coalesce(wire_id::text, payload ->> 'id') AS id, finality > 0 AS ended,
            payload ->> 'name' AS name
        FROM trace_outbox
        WHERE state = 'sent' AND kind IN ('trace', 'span', 'score')
            AND (kind <> 'score' OR payload ? 'value') AND sent_at > $1 AND sent_at <= $2
        ORDER BY random() LIMIT $3
        """,
        since,
        until,
        sample,
    )
    for row in rows:
        if await opik.is_missing(row["kind"], row["id"], ended=row["ended"], score=row["name"]):
            again = await resend_window(conn, since, until)
            log.error("opik_lost_rows", missing=row["id"], sent_again=again)
            return again
    return 0

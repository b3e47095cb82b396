"""What the shipper does beside sending: the project's id, reading back, forgetting."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import structlog
from opik.rest_api.core.api_error import ApiError

from tracing.rows import Connection
from tracing.ship.door import Door
from tracing.ship.queue import Pool, forget, resend_window, store_project

log = structlog.get_logger()

ACQUIRE_TIMEOUT_S = 2.0
LONGEST_WAIT_S = 30


@dataclass(frozen=True)
class Care:
    """How often Opik is asked what it still has, and how long sent rows are kept."""

    check_every_s: float = 300
    settle_s: float = 60
    sample: int = 20
    keep_days: int = 14


async def register_project(pool: Pool, door: Door, name: str) -> None:
    """Learn Opik's id of the project, for links; tried until Opik answers."""
    wait_s = 1
    while True:
        try:
            project_id = await door.project(name)
            async with pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as conn:
                await store_project(conn, name, project_id)
        except Exception as error:
            log.warning("project_not_registered", project=name, error=type(error).__name__)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        else:
            log.info("project_registered", project=name, project_id=str(project_id))
            return


async def look_after(pool: Pool, door: Door, care: Care) -> None:
    """Read back and forget, every few minutes, until cancelled."""
    since = datetime.now(UTC) - timedelta(hours=1)
    while True:
        await asyncio.sleep(care.check_every_s)
        until = datetime.now(UTC) - timedelta(seconds=care.settle_s)
        try:
            async with pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as conn:
                await read_back(conn, door, since, until, sample=care.sample)
                forgotten = await forget(conn, older_than=timedelta(days=care.keep_days))
            since = until
            log.info("housekeeping_done", forgotten=forgotten)
        except (ApiError, httpx.HTTPError, TimeoutError) as error:
            log.warning("read_back_postponed", error=type(error).__name__)
        except Exception:
            log.exception("housekeeping_failed")


async def read_back(
    conn: Connection, door: Door, since: datetime, until: datetime, *, sample: int
) -> int:
    """Ask Opik for some of what was sent in a span of time; if any is missing, send all again.

    A server that accepts rows and loses them answers 204 like any other, so asking is the only
    way to know. Says how many rows are pending again. Raises ApiError or httpx.HTTPError.
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
        lacks = await door.lacks(row["kind"], row["id"], ended=row["ended"], score=row["name"])
        if lacks:
            again = await resend_window(conn, since, until)
            log.error("opik_lost_rows", missing=row["id"], sent_again=again)
            return again
    return 0

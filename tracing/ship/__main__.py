"""Send traces to Opik: `python -m tracing.ship [--status | --resend TRACE_ID | --dead]`."""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from uuid import UUID

import structlog

import logs
from db import pool as database
from settings import Settings, read_settings
from tracing.outbox import backlog
from tracing.ship.client import OpikAddress, OpikClient
from tracing.ship.housekeeping import HousekeepingOptions, housekeeping, register_project
from tracing.ship.queue import Pool, dead_rows, resend
from tracing.ship.shipper import Shipper

log = structlog.get_logger()


async def ship(settings: Settings, pool: Pool) -> None:
    """Send the outbox until SIGINT or SIGTERM arrives. Rows not sent by then stay pending."""
    logs.configure(settings.log_format)
    stopped = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    address = OpikAddress(
        url=settings.opik_url,
        api_key=settings.opik_api_key.get_secret_value() or None,
        workspace=settings.opik_workspace,
    )
    async with OpikClient(address) as opik:
        shipper = Shipper(pool, opik, alive=_touch(settings.shipper_alive))
        work = [
            shipper.run(),
            database.listen(
                settings.database_url,
                "trace_outbox",
                lambda _: shipper.wake(),
                lambda _: shipper.wake(),
            ),
            register_project(pool, opik, settings.opik_project),
            housekeeping(pool, opik, HousekeepingOptions()),
        ]
        # If one of these tasks fails, the TaskGroup cancels the others and the process ends. Its
        # supervisor restarts it.
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
            log.info("shipper_started", opik=settings.opik_url, project=settings.opik_project)
            await stopped.wait()
            for task in tasks:
                task.cancel()
        log.info("shipper_stopped")


def _touch(file: str) -> Callable[[float], None]:
    """Return a function that proves by the time of `file` that the shipper works.

    It sets this time to the moment by which it must be called again, and a health check compares
    the time with the clock. Without a file the function does nothing.
    """

    def alive(seconds: float) -> None:
        until = time.time() + seconds
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT, 0o644))
        os.utime(file, (until, until))

    return alive if file else lambda _seconds: None


async def status(pool: Pool) -> int:
    """Print the backlog and the rows that were set aside.

    Return 1 if any row was set aside, else 0.
    """
    async with pool.acquire(timeout=2) as conn:
        now = await backlog(conn)
        lines = [
            f"pending      {now.pending}",
            f"oldest       {now.oldest_age_s:.0f} s",
            f"open traces  {now.open}",
            f"set aside    {now.dead}",
        ]
        lines += [f"  {row}: {reason}" for row, reason in await dead_rows(conn)]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if now.dead else 0


async def send_again(pool: Pool, trace_id: UUID | None) -> int:
    """Make all rows of a trace pending again, or without an id all rows that were set aside.

    Return 0, the exit status of the process.
    """
    async with pool.acquire(timeout=2) as conn:
        again = await resend(conn, trace_id=trace_id)
    sys.stdout.write(f"{again} rows will be sent again\n")
    return 0


async def main() -> int:
    """Do what the command line asks for, and return the exit status of the process."""
    parser = argparse.ArgumentParser(prog="python -m tracing.ship", description=__doc__)
    todo = parser.add_mutually_exclusive_group()
    todo.add_argument("--status", action="store_true", help="backlog, its age, what was set aside")
    todo.add_argument("--resend", type=UUID, metavar="TRACE_ID", help="send a whole trace again")
    todo.add_argument("--dead", action="store_true", help="send again what was set aside")
    asked = parser.parse_args()
    settings = read_settings()
    async with database.connect(
        settings.database_url, size=4, role="rein_operations", name="rein shipper"
    ) as pool:
        if asked.status:
            return await status(pool)
        if asked.resend or asked.dead:
            return await send_again(pool, asked.resend)
        await ship(settings, pool)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

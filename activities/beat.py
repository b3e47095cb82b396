"""Heartbeats around a long wait: a dead worker is noticed, a cancelled activity hears of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio import activity

BEAT_S = 0.5


@asynccontextmanager
async def beating() -> AsyncIterator[None]:
    """Beat every half second until the block is left."""
    task = asyncio.create_task(_beat())
    try:
        yield
    finally:
        task.cancel()


async def _beat() -> None:
    while True:
        await asyncio.sleep(BEAT_S)
        activity.heartbeat()

"""A receiver inside a test's event loop."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from devstack import standin
from devstack.opik.app import receiver
from devstack.opik.rules import IdWindow, Rules
from devstack.opik.store import Store


@asynccontextmanager
async def running(store: Path, *, id_window: IdWindow = "off", port: int = 0) -> AsyncIterator[str]:
    """Serve a store's file; yields the receiver's root address, `http://127.0.0.1:port`."""
    app = receiver(Store(store), Rules(id_window))
    async with standin.running("opik", app, port) as url:
        yield url

"""Running a receiver: a socket, a uvicorn server, and both together inside a test's event loop."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import uvicorn

from devstack.opik.app import Receiver
from devstack.opik.rules import IdWindow, Rules
from devstack.opik.store import Store
from devstack.opik.wire import CuttableProtocol


class QuietServer(uvicorn.Server):
    """A server that leaves the process's signal handlers to its host."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def config(receiver: Receiver) -> uvicorn.Config:
    """How a receiver is served."""
    return uvicorn.Config(
        receiver,
        http=CuttableProtocol,
        lifespan="on",
        access_log=False,
        log_level="warning",
        # A request that hangs on purpose must not keep the process from stopping.
        timeout_graceful_shutdown=1,
    )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    # From here on a client waits in the backlog instead of being refused.
    listener.listen(2048)
    return listener


@asynccontextmanager
async def running(store: Path, *, id_window: IdWindow = "off", port: int = 0) -> AsyncIterator[str]:
    """A receiver in this event loop; yields its root address, `http://127.0.0.1:port`."""
    listener = listen("127.0.0.1", port)
    server = QuietServer(config(Receiver(Store(store), Rules(id_window))))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()

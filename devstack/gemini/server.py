"""How the stand-in is served: uvicorn without everything that it does not need."""

import uvicorn

from devstack.gemini.app import StandIn
from devstack.gemini.wire import Protocol


def make_server(app: StandIn, *, host: str = "127.0.0.1", port: int = 0) -> uvicorn.Server:
    """A server that is ready to `serve()`; with port 0 the system chooses one."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=Protocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=2,
        backlog=2048,
    )
    return uvicorn.Server(config)

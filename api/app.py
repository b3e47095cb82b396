"""The API's root: wires settings, PostgreSQL, Temporal and the routers."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from types import FrameType
from typing import Any

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

import logs
from api import feedback, goals, monitoring, page, problems, results, runs
from api.deps import Config, Services
from api.edge import Edge
from api.gauges import Gauges
from api.links import Addresses, TracePages
from client import connect
from db import pool as database
from db.events import Watchers
from settings import Settings, read_settings

DESCRIPTION = """
A goal in a person's own words goes in; a resolution, its scores, a week-by-week plan and a trace
come out.

* **Accepted means accepted.** `POST /api/goals` stores a row before it answers 202. Whatever is
  away or dies afterwards, the run is started and ends; follow it at `links.events`.
* **Ask again without fear.** The same `Idempotency-Key` finds the same run.
* **One id.** `trace_id` names the run here, its workflow in Temporal and its trace in Opik.
* **Errors** are `application/problem+json`: a stable `code`, what was expected, what came, and
  what to do.
* **Money** is a decimal string in US dollars; scores and ratings are numbers; times are UTC.
"""


class Api(FastAPI):
    """Knows the schema of its errors, which all endpoints share."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            super().openapi()["components"]["schemas"] |= problems.schemas()
        return super().openapi()


def create_app(settings: Settings) -> FastAPI:
    """The whole API; it connects when it starts."""
    registry = CollectorRegistry()
    gauges = Gauges(registry)
    app = Api(
        title="Rein",
        version="1.0.0",
        summary="Durable AI coaching: goals, resolutions, plans, feedback",
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan(settings, registry, gauges),
        responses=problems.RESPONSES,
        generate_unique_id_function=lambda route: route.name,
    )
    problems.install(app)
    app.add_middleware(Edge, registry=registry)
    for router in (
        runs.router,
        goals.router,
        results.router,
        feedback.router,
        monitoring.router,
        page.router,
    ):
        app.include_router(router)
    return app


def _lifespan(
    settings: Settings, registry: CollectorRegistry, gauges: Gauges
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        logs.configure(settings.log_format)
        # Lazy: the API starts, accepts and reads while Temporal is away.
        temporal = await connect(settings, lazy=True)
        async with database.connect(
            settings.database_url, size=settings.database_pool, name="rein api"
        ) as pool:
            watchers = Watchers(pool)
            services = app.state.services = Services(
                config=Config.model_validate(settings, from_attributes=True),
                pool=pool,
                temporal=temporal,
                watchers=watchers,
                addresses=Addresses(
                    public_url=settings.public_url,
                    temporal_ui_url=settings.temporal_ui_url,
                    namespace=settings.temporal_namespace,
                ),
                pages=TracePages(
                    ui_url=settings.opik_ui_url,
                    workspace=settings.opik_workspace,
                    project=settings.opik_project,
                ),
                registry=registry,
                gauges=gauges,
            )
            async with watchers.listening(settings.database_url):
                with _on_stop(watchers.close):
                    yield
            await services.all_started()

    return lifespan


@contextmanager
def _on_stop(close: Callable[[], None]) -> Iterator[None]:
    """Call `close` when the process is told to stop, before the server waits for open streams.

    The server ends the lifespan only after the last connection, and a stream ends only if told.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    servers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def stop(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(close)
        server = servers[signal.Signals(number)]
        if callable(server):
            server(number, frame)
        elif server == signal.SIG_DFL:
            signal.signal(number, server)
            signal.raise_signal(number)

    for number in servers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, server in servers.items():
            signal.signal(number, server)


app = create_app(read_settings())

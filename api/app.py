"""The application for callers: connects the routers with PostgreSQL and Temporal."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from api import contract, feedback, goals, health, page, problems, results, runs
from api.callers import Authenticator, NoAuthentication
from api.deps import Config, Services
from api.gauges import Gauges
from api.links import Addresses, TracePages
from api.middleware import HttpMiddleware
from api.sites import Sites
from api.starting import START_TIMEOUT_S, Starter
from client import StartOptions, connect
from db.events import Watchers
from db.pool import Pools
from settings import Settings

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
    """A FastAPI application that completes its OpenAPI document and can end its event streams."""

    def end_streams(self) -> None:
        """End all event streams, so that the server can shut down while runs are under way."""
        self.state.services.watchers.close()

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            contract.complete(super().openapi())
        return super().openapi()


def create_app(settings: Settings) -> Api:
    """Build the application. Its connections are opened when the server starts."""
    registry = CollectorRegistry()
    gauges = Gauges(registry)
    app = Api(
        title="Rein",
        version="1.0.0",
        summary="Durable AI coaching: goals, resolutions, plans, feedback",
        description=f"> {settings.notice}\n{DESCRIPTION}" if settings.notice else DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan(settings, registry, gauges),
        generate_unique_id_function=lambda route: route.name,
    )
    problems.install(app)
    app.add_middleware(HttpMiddleware, registry=registry, sites=Sites(settings.public_url))
    for router in (
        runs.router,
        goals.router,
        results.router,
        feedback.router,
        health.router,
        page.router,
    ):
        app.include_router(router)
    return app


def _lifespan(
    settings: Settings, registry: CollectorRegistry, gauges: Gauges
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # A lazy client connects when it is first used, so the API can start and serve while
        # Temporal is away.
        temporal = await connect(settings, lazy=True)
        async with Pools.connected(
            settings.database_url, size=settings.database_pool, name="rein api"
        ) as pools:
            watchers = Watchers(pools.application)
            services = app.state.services = Services(
                config=Config.model_validate(settings, from_attributes=True),
                pools=pools,
                temporal=temporal,
                starter=Starter(temporal, StartOptions.of(settings), pools.application),
                authenticator=_authenticator(settings, pools),
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
                yield
            await services.starter.all_started(START_TIMEOUT_S)

    return lifespan


def _authenticator(settings: Settings, pools: Pools) -> Authenticator | NoAuthentication:
    if settings.auth == "off":
        return NoAuthentication()
    return Authenticator(
        pools.operations, pepper=settings.key_pepper, environment=settings.environment
    )

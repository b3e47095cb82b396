"""The four ways, each as its users would set it up."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

from temporalio import activity
from temporalio.client import Interceptor
from temporalio.contrib.opentelemetry import OpenTelemetryPlugin, TracingInterceptor
from temporalio.plugin import SimplePlugin

from db.pool import Pool, acquire
from db.pool import connect as connect_database
from tracing import RunEnd, StageTrace, TracingPlugin, close_trace

INTERCEPTOR, PLUGIN, TRACK, REIN = "interceptor", "otel-plugin", "track", "rein"
WAYS = {
    INTERCEPTOR: "temporalio's TracingInterceptor over OTLP (Opik's page)",
    PLUGIN: "temporalio's OpenTelemetryPlugin over OTLP",
    TRACK: "opik's client and @track",
    REIN: "Rein",
}


def export_spans() -> Any:
    """OpenTelemetry's defaults: spans leave in batches, every five seconds."""
    from opentelemetry import trace  # noqa: PLC0415 - only two ways load it
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from temporalio.contrib.opentelemetry import create_tracer_provider  # noqa: PLC0415

    provider = create_tracer_provider()
    exporter = OTLPSpanExporter(endpoint=f"{os.environ['OTLP_URL']}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return provider


def start(way: str) -> Callable[[], Any]:
    """Set the way up in this process; what comes back sends off what it still holds."""
    if way in (INTERCEPTOR, PLUGIN):
        provider = export_spans()
        return cast(Callable[[], Any], provider.shutdown)
    if way == TRACK:
        import opik  # noqa: PLC0415 - only this way loads it

        return opik.flush_tracker
    return lambda: None  # Rein's spans are in PostgreSQL when an attempt ends


def client_options(way: str) -> dict[str, Any]:
    """What the client (and so the worker made from it) is given."""
    interceptors: list[Interceptor] = []
    plugins: list[SimplePlugin] = []
    if way == INTERCEPTOR:
        interceptors.append(TracingInterceptor())
    if way == PLUGIN:
        plugins.append(OpenTelemetryPlugin(add_temporal_spans=True))
    if way == REIN:
        plugins.append(TracingPlugin(project="comparison"))
    return {"interceptors": interceptors, "plugins": plugins}


@asynccontextmanager
async def _nothing(name: str, headers: dict[str, str]) -> AsyncIterator[None]:
    yield


class Worker:
    """How one way traces a step, and which activities it needs besides."""

    def __init__(self, way: str, pool: Pool | None) -> None:
        self.way = way
        self._pool = pool

    def step(self, name: str, headers: dict[str, str]) -> AbstractAsyncContextManager[None]:
        if self.way == TRACK:
            return self._tracked(name, headers)
        return self._stage(name) if self.way == REIN else _nothing(name, headers)

    def activities(self) -> list[Any]:
        return [self.complete] if self.way == REIN else []

    @activity.defn
    async def complete(self, end: RunEnd) -> None:
        """Rein's end of a trace."""
        assert self._pool  # noqa: S101 - made for this way
        async with acquire(self._pool) as conn:
            await close_trace(conn, end)

    @asynccontextmanager
    async def _stage(self, name: str) -> AsyncIterator[None]:
        assert self._pool  # noqa: S101 - made for this way
        stage = StageTrace.start(name)
        async with acquire(self._pool) as conn:
            await stage.open(conn)
        try:
            yield
        except RuntimeError as error:
            async with acquire(self._pool) as conn:
                await stage.fail(conn, "RuntimeError", str(error), retrying=True)
            raise
        async with acquire(self._pool) as conn:
            await stage.finish(conn)

    @asynccontextmanager
    async def _tracked(self, name: str, headers: dict[str, str]) -> AsyncIterator[None]:
        import opik  # noqa: PLC0415 - only this way loads it

        attempt = activity.info().attempt
        with opik.start_as_current_span(
            name=f"{name} {attempt}", opik_distributed_trace_headers=headers
        ):
            yield


async def make_worker(way: str) -> Worker:
    """With a pool where it is needed; call `export_spans` before for the OpenTelemetry ways."""
    pool: Pool | None = None
    if way == REIN:
        pool = await connect_database(os.environ["DATABASE_URL"], size=4, role="rein_operations")
    return Worker(way, pool)

"""A small OTLP/HTTP collector, and the doorbell that the sample rings when it may be killed."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    """What every way's spans have in common. `attempt` is None for what is no activity attempt."""

    id: str
    parent: str | None
    trace: str
    name: str
    ended: bool
    attempt: str | None = None


@dataclass
class Collector:
    """OTLP spans as they came, and who rang."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    rung: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """POST /v1/traces takes spans; POST /arrived rings."""
    collector = Collector()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode("latin-1").split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                if lines[0].startswith("POST /arrived"):
                    collector.rung.set()
                elif body:
                    packed = headers.get("content-encoding") == "gzip"
                    collector.spans += _read(gzip.decompress(body) if packed else body)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    collector.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield collector
    finally:
        server.close()


def _read(body: bytes) -> list[Span]:
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    return [
        Span(
            id=span.span_id.hex(),
            parent=span.parent_span_id.hex() or None,
            trace=span.trace_id.hex(),
            name=span.name,
            ended=span.end_time_unix_nano > 0,
            attempt=span.span_id.hex() if span.name.startswith("RunActivity") else None,
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]

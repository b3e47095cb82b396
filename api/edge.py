"""What happens to every request: it is measured, answered with safe headers, and never crashes."""

import time
from collections.abc import MutableMapping
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import refused, unhandled

log = structlog.get_logger()

LARGEST_BODY = 65_536
_TOO_LARGE = f"expected at most {LARGEST_BODY} bytes, came more"

BUCKETS = (0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
# `no-store` because nearly every answer holds what a person wrote.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Edge:
    """Outermost middleware. Labels are route templates, so that ids make no new series."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._answers = Counter(
            "rein_http_requests", "Answers", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "rein_http_seconds",
            "Time to the first byte of the answer",
            ["method", "route"],
            buckets=BUCKETS,
            registry=registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, answered, read = time.perf_counter(), False, 0

        async def send_safely(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                _add_headers(message)
                self._measure(scope, message["status"], time.perf_counter() - started)
            await send(message)

        async def receive_some() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > LARGEST_BODY:
                raise HTTPException(413, _TOO_LARGE)
            return message

        try:
            if int(_header(scope, b"content-length") or 0) > LARGEST_BODY:
                await refused(413, _TOO_LARGE)(scope, receive, send_safely)
            else:
                await self._app(scope, receive_some, send_safely)
        except Exception:
            log.exception("unhandled", method=scope["method"], route=_route(scope))
            if answered:
                raise  # the server cuts the connection, so that nobody takes half for whole
            await unhandled()(scope, receive, send_safely)

    def _measure(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        self._answers.labels(method, _route(scope), str(status)).inc()
        self._seconds.labels(method, _route(scope)).observe(seconds)


_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


def _header(scope: Scope, name: bytes) -> bytes:
    """The digits of a header; the server refuses a content-length that is no number."""
    return next((value for key, value in scope["headers"] if key == name), b"")


def _route(scope: MutableMapping[str, Any]) -> str:
    return getattr(scope.get("route"), "path", "none")


def _add_headers(message: Message) -> None:
    headers = MutableHeaders(scope=message)
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    if headers.get("content-type", "").startswith("text/event-stream"):
        headers["Cache-Control"] = "no-store"

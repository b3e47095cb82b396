"""The outermost middleware, which every request passes.

The middleware gives each request an id, measures its duration, adds security headers to the answer,
and answers unexpected exceptions with the status 500.
"""

import re
import time
from collections.abc import Callable
from uuid import uuid4

import structlog
from anyio import BrokenResourceError
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from api import problems, refusals
from api.sites import Sites

log = structlog.get_logger()

LARGEST_BODY = 65_536
_TOO_LARGE = f"expected at most {LARGEST_BODY} bytes, came more"

BUCKETS = (0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
# Headers of every answer. Caching is forbidden, because most answers contain a person's own words.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_REQUEST_ID = re.compile(r"[!-~]{1,128}")
# FastAPI's event stream and Starlette's request raise these when the client has disconnected.
_OF_LEAVING = (BrokenResourceError, ClientDisconnect)


class HttpMiddleware:
    """Handles everything that all HTTP requests have in common.

    The metrics are labelled with route templates instead of paths, because every id in a path would
    create a new time series.
    """

    def __init__(self, app: ASGIApp, registry: CollectorRegistry, sites: Sites) -> None:
        self._app = app
        self._sites = sites
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
        exchange = _Exchange(scope, receive, send, self._measure)
        with bound_contextvars(request_id=exchange.request_id):
            await self._answer(exchange)

    async def _answer(self, exchange: "_Exchange") -> None:
        scope = exchange.scope
        refusal = self._sites.refusal(scope) or _too_large(scope)
        try:
            await (refusal or self._app)(scope, exchange.receive, exchange.send)
        except Exception as error:
            if exchange.client_left and _is_of_leaving(error):
                log.info("client_left", method=scope["method"], route=_route(scope))
                return
            log.exception("unhandled", method=scope["method"], route=_route(scope))
            if exchange.answer_began:
                # Part of the answer has been sent. The server now closes the connection, so the
                # client can tell that the answer is incomplete.
                raise
            answer = problems.refused(refusals.INTERNAL, "An unexpected error was logged")
            await answer(scope, exchange.receive, exchange.send)

    def _measure(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        self._answers.labels(method, _route(scope), str(status)).inc()
        self._seconds.labels(method, _route(scope)).observe(seconds)


class _Exchange:
    """One request and its answer: wraps the ASGI functions that the application receives."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        measure: Callable[[Scope, int, float], None],
    ) -> None:
        self.scope = scope
        self.request_id = _request_id(scope)
        self.answer_began = False
        self.client_left = False
        self._receive = receive
        self._send = send
        self._measure = measure
        self._began = time.perf_counter()
        self._read = 0

    async def receive(self) -> Message:
        """Return the next ASGI message of the request.

        Raises HTTPException 413 when the body is too large, and 400 when it contains a NUL byte.
        """
        message = await self._receive()
        self.client_left |= message["type"] == "http.disconnect"
        body: bytes = message.get("body", b"")
        self._read += len(body)
        if self._read > LARGEST_BODY:
            raise HTTPException(413, _TOO_LARGE)
        # JSON in UTF-8 contains no NUL byte. In UTF-16 and UTF-32 every brace contains one, so this
        # check also rejects these encodings.
        if b"\0" in body:
            raise HTTPException(400, "expected JSON in UTF-8, came a NUL byte")
        return message

    async def send(self, message: Message) -> None:
        """Send an ASGI message of the answer; the first one gets the headers of every answer."""
        if message["type"] == "http.response.start":
            self.answer_began = True
            self._add_headers(MutableHeaders(scope=message))
            self._measure(self.scope, message["status"], time.perf_counter() - self._began)
        await self._send(message)

    def _add_headers(self, headers: MutableHeaders) -> None:
        headers["X-Request-Id"] = self.request_id
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        if headers.get("content-type", "").startswith("text/event-stream"):
            headers["Cache-Control"] = "no-store"


def _request_id(scope: Scope) -> str:
    came = Headers(scope=scope).get("x-request-id", "")
    return came if _REQUEST_ID.fullmatch(came) else uuid4().hex


def _too_large(scope: Scope) -> Response | None:
    """Return the answer 413 when Content-Length exceeds the limit; None otherwise.

    A Content-Length that is not a number never arrives here, because h11 has rejected it.
    """
    if int(Headers(scope=scope).get("content-length", 0)) > LARGEST_BODY:
        return problems.refused(refusals.TOO_LARGE, _TOO_LARGE)
    return None


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", "none")


def _is_of_leaving(error: Exception) -> bool:
    if isinstance(error, ExceptionGroup):
        return error.split(_OF_LEAVING)[1] is None
    return isinstance(error, _OF_LEAVING)

"""Serves an application with uvicorn and h11, and cuts off clients that send too slowly."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socket import socket
from typing import Literal
from uuid import uuid4

import h11
import structlog
import uvicorn
from fastapi import FastAPI
from structlog.contextvars import bound_contextvars
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from api import problems, refusals
from api.refusals import Refusal

log = structlog.get_logger()

LARGEST_HEADERS = 16_384
# At shutdown the server waits this many seconds for open answers. Docker Compose kills the process
# after 30 seconds, so the wait is shorter.
DRAIN_S = 20


class TimedProtocol(H11Protocol):
    """Closes a connection when its client does not send a complete request in time.

    uvicorn itself limits only the idle time between two requests. Without these deadlines, a client
    that sends half a request, or one byte now and then, could hold its connection forever.
    """

    headers_within_s: float = 10
    body_within_s: float = 30

    _deadline: asyncio.TimerHandle | None = None
    _timed: tuple[object, object] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._deadline:
            self._deadline.cancel()

    def handle_events(self) -> None:
        super().handle_events()
        self._set_deadline()

    def _set_deadline(self) -> None:
        """Start a deadline when the headers or the body of a request begin.

        More bytes of the same part do not extend the deadline.
        """
        part = self.conn.their_state
        if (part, self.cycle) == self._timed:
            return
        self._timed = (part, self.cycle)
        if self._deadline:
            self._deadline.cancel()
        self._deadline = None
        if within := {h11.IDLE: self.headers_within_s, h11.SEND_BODY: self.body_within_s}.get(part):
            self._deadline = self.loop.call_later(within, self._end_late_request)

    def _end_late_request(self) -> None:
        if self.transport.is_closing():
            return
        nothing_came = self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]
        if nothing_came or self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        late = f"headers have {self.headers_within_s:g} s, a body has {self.body_within_s:g} s"
        if self.cycle:
            # The application may be handling this request already. Its answer is discarded, because
            # the request is answered here.
            self.cycle.disconnected = True
        self._refuse(refusals.REQUEST_TIMEOUT, late)

    def send_400_response(self, msg: str) -> None:
        self._refuse(refusals.MALFORMED_REQUEST, msg)

    def _refuse(self, refusal: Refusal, detail: str) -> None:
        """Answer the request with an error and close the connection.

        The answer does not pass the middleware, so its request id is created here.
        """
        request_id = uuid4().hex
        with bound_contextvars(request_id=request_id):
            answer = problems.refused(refusal, detail, headers={"X-Request-Id": request_id})
            log.info("request_refused", code=refusal.code, detail=detail)
        head = h11.Response(
            status_code=answer.status_code,
            headers=[*answer.raw_headers, (b"connection", b"close")],
            reason=STATUS_PHRASES[answer.status_code],
        )
        for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class Server(uvicorn.Server):
    """A uvicorn server that leaves signals to `api.__main__`, which runs two of these servers.

    At shutdown, `end_streams` is called before the server waits for open answers; it must end the
    event streams. The event `ready` is set once the server accepts connections.
    """

    def __init__(
        self, config: uvicorn.Config, end_streams: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self._end_streams = end_streams

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        self._end_streams()
        await super().shutdown(sockets)


def config(
    app: FastAPI, host: str, port: int, lifespan: Literal["on", "off"] = "on"
) -> uvicorn.Config:
    """Return the uvicorn settings of both applications of the API. Port 0 binds a free port."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        lifespan=lifespan,
        http=TimedProtocol,
        ws="none",
        h11_max_incomplete_event_size=LARGEST_HEADERS,
        timeout_graceful_shutdown=DRAIN_S,
        # The process has configured its logs itself. The access log is off, because URLs contain
        # the words that people search for.
        log_config=None,
        access_log=False,
    )

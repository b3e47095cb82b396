"""What both local stand-ins share, on Starlette: bodies, answers, faults, control routes, serving.

A stand-in is a list of routes given to `application`. Its endpoints read with `read_body`, answer
with Starlette's responses or those below, and raise HTTPException for their vendor's error body.
"""

import argparse
import asyncio
import socket
import struct
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from hashlib import sha256
from typing import Any, Generic, TypeVar

import uvicorn
from pydantic import BaseModel, ConfigDict
from pydantic_core import from_json, to_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

T = TypeVar("T")

# Bytes of a body as sent, and after gzip is undone.
PACKED_LIMIT = 50 * 1024 * 1024
UNPACKED_LIMIT = 256 * 1024 * 1024


async def read_body(request: Request) -> bytes:
    """The whole body, unpacked. Raises HTTPException (413 too large, 400 not gzip) and
    ClientDisconnect."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > PACKED_LIMIT:
            raise HTTPException(413, "Request Entity Too Large")
        parts.append(part)
    packed = b"".join(parts)
    return _unpack(packed) if request.headers.get("content-encoding") == "gzip" else packed


def _unpack(packed: bytes) -> bytes:
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        body = stream.decompress(packed, UNPACKED_LIMIT)
    except zlib.error as error:
        raise HTTPException(400, "the body is not gzip") from error
    if stream.unconsumed_tail:
        raise HTTPException(413, "Request Entity Too Large")
    return body


async def client_left(request: Request) -> None:
    """Return when the client has closed the connection. The body must have been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        continue


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """What `work` returns. Cancels it and raises ClientDisconnect when the client leaves first."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(client_left(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


class JsonDocument(JSONResponse):
    """A JSON body that may hold dates, decimals and models."""

    def render(self, content: Any) -> bytes:
        return to_json(content)


class HtmlPage(HTMLResponse):
    """A page that may load nothing from elsewhere and run no inline script. The text of its
    <style> element has to be given as `style`, else the browser ignores the element."""

    def __init__(self, text: str, status_code: int = 200, *, style: str = "") -> None:
        digest = b64encode(sha256(style.encode()).digest()).decode()
        policy = (
            f"default-src 'self'; style-src 'self' 'sha256-{digest}'; base-uri 'none';"
            " form-action 'self'; frame-ancestors 'none'; object-src 'none'"
        )
        headers = {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }
        super().__init__(text, status_code, headers)


class CutConnection(Response):
    """Resets the connection (TCP RST), as a crashing server or a firewall does: at once, or after
    the head and the `sent` parts of a 200 whose body should have been `length` bytes."""

    def __init__(self, *sent: bytes, length: int | None = None, media_type: str = "") -> None:
        super().__init__(media_type=media_type or "application/json")
        self.sent = sent
        del self.headers["content-length"]
        if length is not None:
            self.headers["content-length"] = str(length)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.sent:
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(start)
        for part in self.sent:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        transport: asyncio.Transport = scope["extensions"]["transport"]["transport"]
        if not transport.is_closing():
            linger = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.get_extra_info("socket").setsockopt(*linger)
            transport.abort()
        await client_left(Request(scope, receive))


class Changes:
    """Lets any number of tasks wait for a condition without polling."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def notify(self) -> None:
        """Something may have changed: those who wait check their conditions again."""
        self._next.set()
        self._next = asyncio.Event()

    async def until(self, reached: Callable[[], bool], seconds: float) -> bool:
        """True as soon as `reached()`, False when `seconds` went by first."""
        try:
            async with asyncio.timeout(seconds):
                while not reached():
                    await self._next.wait()
        except TimeoutError:
            return reached()
        return True


class Fault(BaseModel):
    """One fault on demand; each stand-in adds which requests it takes and what it does to them."""

    model_config = ConfigDict(extra="forbid")

    hits: int = 0

    @property
    def used_up(self) -> bool:
        """Whether it has taken as many requests as it was to take."""
        return False


F = TypeVar("F", bound=Fault)


class FaultPlan(Generic[F]):
    """The faults that are on, oldest first, and the requests that hang because of one."""

    def __init__(self, kind: type[F], changes: Changes) -> None:
        self.kind = kind
        self.changes = changes
        self.faults: list[F] = []
        self.hanging: set[asyncio.Future[None]] = set()

    def take(self, takes: Callable[[F], bool]) -> F | None:
        """The first fault that takes the request at hand; one that is used up by it goes off."""
        fault = next(filter(takes, self.faults), None)
        if fault is not None:
            fault.hits += 1
            if fault.used_up:
                self.faults.remove(fault)
        return fault

    async def hang(self, request: Request) -> None:
        """Hold a request until `release`. Raises ClientDisconnect when its client leaves."""
        held: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.hanging.add(held)
        self.changes.notify()
        try:
            await while_connected(request, held)
        finally:
            self.hanging.discard(held)

    def release(self) -> int:
        """Let the hanging requests go on; returns how many they were."""
        held = [future for future in self.hanging if not future.done()]
        for future in held:
            future.set_result(None)
        return len(held)

    def routes(self) -> list[Route]:
        """/control/faults: GET lists, POST adds one or a list, PUT replaces all, DELETE clears."""
        return [control(verb, "/faults", self._answer) for verb in ("GET", "POST", "PUT", "DELETE")]

    async def _answer(self, request: Request) -> object:
        if request.method == "DELETE":
            self.faults = []
            self.release()
        elif request.method in ("POST", "PUT"):
            asked = from_json(await read_body(request))
            asked = asked if isinstance(asked, list) else [asked]
            new = [self.kind.model_validate(each) for each in asked]
            self.faults = new if request.method == "PUT" else self.faults + new
        return {"faults": self.faults}


def control(method: str, path: str, answer: Callable[[Request], Awaitable[object]]) -> Route:
    """A control route: what `answer` returns as JSON, 204 for None, 400 for a ValueError."""

    async def endpoint(request: Request) -> Response:
        try:
            document = await answer(request)
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        return Response(status_code=204) if document is None else JsonDocument(document)

    return Route("/control" + path, endpoint, methods=[method])


def application(
    routes: Sequence[BaseRoute],
    *,
    on_error: Callable[[HTTPException], Response],
    close: Callable[[], None],
) -> Starlette:
    """A stand-in as an ASGI application. `on_error` gives errors the vendor's shape, also those of
    unknown addresses; `close` is called when the server stops."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        close()

    # Starlette types the error of every handler as Exception.
    handlers: dict[Any, Any] = {
        HTTPException: lambda request, error: on_error(error),
        # This answer reaches nobody: the client has gone.
        ClientDisconnect: lambda request, error: Response(status_code=499),
    }
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
    app.router.redirect_slashes = False
    return app


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol with its transport in the scope, for CutConnection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {"transport": {"transport": self.transport}}


class _ServerInLoop(uvicorn.Server):
    """A server that leaves the process's signal handlers to the program it runs in."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(name: str, app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        headers=[("x-local-stand-in", name)],
        timeout_keep_alive=75,
        # A request that hangs on purpose must not keep the process from stopping.
        timeout_graceful_shutdown=1,
    )


def _listen(host: str, port: int) -> socket.socket:
    # From here on a client waits in the backlog instead of being refused.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


@asynccontextmanager
async def running(name: str, app: Starlette, port: int = 0) -> AsyncIterator[str]:
    """A stand-in in this event loop; yields its root address, `http://127.0.0.1:port`."""
    listener = _listen("127.0.0.1", port)
    server = _ServerInLoop(_config(name, app))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()


def arguments(program: str, about: str | None) -> argparse.ArgumentParser:
    """The options every stand-in has: --host and --port."""
    parser = argparse.ArgumentParser(prog=program, description=about)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one")
    return parser


def serve(name: str, app: Starlette, host: str, port: int) -> None:
    """Print the stand-in's address, then serve it until the process is told to stop."""
    listener = _listen(host, port)
    print(f"{name} stand-in: http://{host}:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(_config(name, app)).run(sockets=[listener])

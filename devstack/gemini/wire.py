"""The thin layer over ASGI: reading a body, sending bytes, noticing that the client has gone."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from devstack.gemini.protocol import JSON_TYPE

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY = 20_000_000


class ClientGone(Exception):
    """The client closed the connection before it had its answer."""


class Protocol(HttpToolsProtocol):
    """Uvicorn's protocol, with the transport in the scope: some faults have to cut the wire itself."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {"transport": {"transport": self.transport}}


class Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope["query_string"]
        self._receive = receive
        self._send = send

    def header(self, name: bytes) -> str:
        for key, value in self.scope["headers"]:
            if key == name:
                return str(value, "latin-1")
        return ""

    async def body(self) -> bytes:
        """Raises ClientGone when the client leaves before it has sent everything."""
        chunks: list[bytes] = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunks.append(message.get("body", b""))
            if not message.get("more_body"):
                return b"".join(chunks)

    async def unless_gone(self, wait: Awaitable[object]) -> None:
        """Await something for as long as the client stays. Raises ClientGone."""
        waiting = asyncio.ensure_future(wait)
        leaving = asyncio.ensure_future(self._gone())
        try:
            await asyncio.wait((waiting, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise ClientGone
        finally:
            waiting.cancel()
            leaving.cancel()

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue

    async def start(self, status: int, kind: bytes = JSON_TYPE, length: int | None = None) -> None:
        headers = [(b"content-type", kind), (b"x-local-stand-in", b"gemini")]
        if length is not None:
            headers.append((b"content-length", str(length).encode()))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def part(self, data: bytes, *, last: bool = False) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def reply(self, status: int, data: bytes, kind: bytes = JSON_TYPE) -> None:
        await self.start(status, kind, len(data))
        await self.part(data, last=True)

    async def reset(self) -> None:
        """Cut the connection hard (TCP RST), as a crashing server or a firewall does."""
        transport: asyncio.Transport = self.scope["extensions"]["transport"]["transport"]
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
        await self._gone()

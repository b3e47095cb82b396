"""Between ASGI and the receiver's calls: read and unpack a body, send a reply, cut a connection."""

import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from devstack.opik.http import Call, Refused, Reply
from devstack.opik.rules import Rules
from devstack.opik.store import Store

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# Opik refuses bodies above about 50 MB packed; unpacked it reads documents up to 256 MB.
PACKED_LIMIT = 50 * 1024 * 1024
UNPACKED_LIMIT = 256 * 1024 * 1024
API = "/api"


class CuttableProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which also lets the application close a connection without answering."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["cut"] = self.transport.abort


async def read_body(receive: Receive) -> bytes:
    """The whole body as sent. Raises Refused(413)."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > PACKED_LIMIT:
            raise Refused(413, "Request Entity Too Large")
        if not message.get("more_body", False):
            return b"".join(parts)


def unpack(packed: bytes, encoding: str) -> bytes:
    """Undo gzip. Raises Refused(400 or 413)."""
    if encoding != "gzip":
        return packed
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        body = stream.decompress(packed, UNPACKED_LIMIT)
    except zlib.error as error:
        raise Refused(400, "Unable to process JSON", "not gzip") from error
    if stream.unconsumed_tail:
        raise Refused(413, "Request Entity Too Large")
    return body


def new_call(scope: Scope, store: Store, rules: Rules, packed: bytes) -> Call:
    """The call a request makes. Raises Refused."""
    headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
    host = headers.get("host", "127.0.0.1")
    return Call(
        method=scope["method"],
        path=scope["path"],
        query=dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True)),
        headers=headers,
        body=unpack(packed, headers.get("content-encoding", "")),
        store=store,
        rules=rules,
        base=f"{scope['scheme']}://{host}",
    )


async def send_reply(send: Send, reply: Reply, method: str) -> None:
    """Send a reply; HEAD gets no body."""
    content = reply.content()
    headers = {"content-type": reply.media, **reply.headers}
    if reply.status != 204:
        headers["content-length"] = str(len(content))
    pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": pairs})
    body = b"" if method == "HEAD" or reply.status == 204 else content
    await send({"type": "http.response.body", "body": body})


async def gone(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        continue


async def cut(scope: Scope, receive: Receive) -> None:
    """Close the connection without an answer."""
    scope["state"]["cut"]()
    await gone(receive)

"""Clients that send too slowly, too much or no HTTP at all are cut off, in time."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from api.server import LARGEST_HEADERS, TimedProtocol

HEAD = b"Host: rein.test\r\n"
POST = b"POST /api/goals HTTP/1.1\r\nContent-Type: application/json\r\n" + HEAD


@dataclass
class Client:
    """A connection without a library in between."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def rest(self) -> bytes:
        """Everything until the server closes; a connection that it cuts ends there too."""
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b"cut"


@asynccontextmanager
async def connected(http: httpx.AsyncClient) -> AsyncIterator[Client]:
    host, port = http.base_url.host, http.base_url.port
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits of production, fifty times shorter."""
    monkeypatch.setattr(TimedProtocol, "headers_within_s", 0.2)
    monkeypatch.setattr(TimedProtocol, "body_within_s", 0.6)


@pytest.mark.usefixtures("impatient")
class TestSlow:
    @pytest.mark.parametrize(
        "sent",
        [
            b"G",
            b"GET /livez HTTP/1.1\r\n" + HEAD,
            POST + b"Content-Length: 100\r\n\r\n",
            POST + b'Content-Length: 100\r\n\r\n{"goal":',
            POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
        ],
    )
    async def test_half_a_request_is_refused(self, http: httpx.AsyncClient, sent: bytes) -> None:
        async with connected(http) as client:
            client.writer.write(sent)
            head, _, body = (await client.rest()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert b"application/problem+json" in head
        assert b'"REQUEST_TIMEOUT"' in body
        request_id = json.loads(body)["request_id"]
        assert f"x-request-id: {request_id}".encode() in head.lower()

    async def test_silence_ends_without_a_word(self, http: httpx.AsyncClient) -> None:
        async with connected(http) as client:
            assert await client.rest() == b""

    async def test_a_byte_now_and_then_wins_no_time(self, http: httpx.AsyncClient) -> None:
        async with connected(http) as client:
            client.writer.write(b"GET /livez HTTP/1.1\r\nX-Slow: ")
            answer = asyncio.create_task(client.rest())
            while not answer.done():
                client.writer.write(b"z")
                await asyncio.wait([answer], timeout=0.02)
            assert answer.result().startswith((b"HTTP/1.1 408 ", b"cut"))

    async def test_the_second_request_of_a_connection_has_the_same_limit(
        self, http: httpx.AsyncClient
    ) -> None:
        async with connected(http) as client:
            client.writer.write(b"GET /livez HTTP/1.1\r\n" + HEAD + b"\r\nGET /livez HTTP/1.1\r\n")
            answers = await client.rest()
        assert answers.count(b"HTTP/1.1 ") == 2
        assert answers.startswith(b"HTTP/1.1 200 ")
        assert b"HTTP/1.1 408 " in answers

    async def test_a_body_that_nobody_waits_for_is_cut(self, http: httpx.AsyncClient) -> None:
        async with connected(http) as client:
            client.writer.write(b"GET /livez HTTP/1.1\r\nContent-Length: 9\r\n" + HEAD + b"\r\n1")
            answers = await client.rest()
        assert answers.startswith(b"HTTP/1.1 200 ")
        assert answers.count(b"HTTP/1.1 ") == 1

    async def test_many_leave_nothing_open(self, http: httpx.AsyncClient) -> None:
        async def half() -> bytes:
            async with connected(http) as client:
                client.writer.write(b"GET /livez HTTP/1.1\r\n")
                return await client.rest()

        answers = await asyncio.gather(*(half() for _ in range(300)))
        # What a busy machine sent too late is silence.
        assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers if answer)
        assert any(answers)

    async def test_an_answer_may_take_longer(self, http: httpx.AsyncClient) -> None:
        """The limits are for what a client sends, not for how long it waits."""
        body = {"goal": "I want to run a 5K", "user_id": "user-1"}
        answer = await http.post("/api/goals", json=body, headers={"Prefer": "wait=1"})
        assert answer.status_code == 202


class TestBroken:
    async def test_an_endless_header_is_refused_where_it_gets_too_long(
        self, http: httpx.AsyncClient
    ) -> None:
        sent = 0
        async with connected(http) as client:
            client.writer.write(b"GET /livez HTTP/1.1\r\nX-Endless: ")
            answer = asyncio.create_task(client.rest())
            while not answer.done():
                client.writer.write(b"z" * 1000)
                sent += 1000
                await asyncio.wait([answer], timeout=0.01)
        assert answer.result().startswith((b"HTTP/1.1 400 ", b"cut"))
        assert LARGEST_HEADERS < sent < 300 * LARGEST_HEADERS

    async def test_what_is_no_http_is_a_problem_document(self, http: httpx.AsyncClient) -> None:
        async with connected(http) as client:
            client.writer.write(b"EHLO rein.test\r\n\r\n")
            answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b'"MALFORMED_REQUEST"' in answer

    async def test_there_are_no_websockets(self, http: httpx.AsyncClient) -> None:
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        answer = await http.get("/livez", headers=upgrade | {"Sec-WebSocket-Key": "a" * 24})
        assert answer.status_code == 200

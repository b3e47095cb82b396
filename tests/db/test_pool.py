"""The pool: jsonb both ways, and errors that say that PostgreSQL is away."""

import asyncio
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import pytest

from db import pool as database
from db.pool import Pool, Role, acquire, transaction
from domain.errors import Unavailable
from domain.runs import PromptRef

ROLE: Role = "rein_operations"


async def test_jsonb_takes_models_and_exact_values(module_postgres_url: str) -> None:
    at = datetime(2027, 1, 4, tzinfo=UTC)
    identity = UUID("019aa000-0000-7000-8000-000000000001")
    ref = PromptRef(stage="plan", version=1, sha256="a")
    value: dict[str, Any] = {"usd": Decimal("0.00038738"), "id": identity, "at": at, "ref": ref}
    async with (
        await database.connect(module_postgres_url, size=1, role=ROLE) as pool,
        acquire(pool) as conn,
    ):
        stored = await conn.fetchval("SELECT $1::jsonb", value)
        nothing = await conn.fetchval("SELECT $1::jsonb", None)
        inner = await conn.fetchval("SELECT $1::jsonb ->> 'usd'", value)
    assert stored["usd"] == inner == "0.00038738"
    assert stored["id"] == str(identity)
    assert datetime.fromisoformat(stored["at"]) == at
    assert PromptRef.model_validate(stored["ref"]) == ref
    assert nothing is None


async def test_a_pool_that_is_used_up_says_so_in_time(
    module_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        await database.connect(module_postgres_url, size=1, role=ROLE) as pool,
        acquire(pool),
    ):
        monkeypatch.setattr(database, "ACQUIRE_TIMEOUT_S", 0.05)
        with pytest.raises(Unavailable) as caught:
            async with acquire(pool):
                pass
    assert caught.value.retry_after


async def test_a_queue_that_moves_is_waited_for(
    module_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask(pool: Pool) -> object:
        async with acquire(pool) as conn:
            return await conn.fetchval("SELECT 1 FROM pg_sleep(0.2)")

    async with await database.connect(module_postgres_url, size=1, role=ROLE) as pool:
        await ask(pool)
        monkeypatch.setattr(database, "ACQUIRE_TIMEOUT_S", 1)
        assert await asyncio.gather(*(ask(pool) for _ in range(9))) == [1] * 9


async def test_nobody_waits_for_ever_in_a_queue(
    module_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        await database.connect(module_postgres_url, size=1, role=ROLE) as pool,
        acquire(pool),
    ):
        monkeypatch.setattr(database, "LONGEST_TURN_S", 0.05)
        with pytest.raises(Unavailable):
            async with acquire(pool):
                pass


async def test_a_connection_lost_inside_a_transaction_is_unavailable_then_well_again(
    module_postgres_url: str,
) -> None:
    async with await database.connect(module_postgres_url, size=1, role=ROLE) as pool:
        with pytest.raises(Unavailable):
            async with acquire(pool) as conn, conn.transaction():
                await conn.execute("SET ROLE NONE; SELECT pg_terminate_backend(pg_backend_pid())")
        async with acquire(pool) as conn:
            assert await conn.fetchval("SELECT 1") == 1


class Between:
    """Stands between a client and PostgreSQL: may say something itself, or nothing any more."""

    def __init__(self, url: str) -> None:
        self._server = urlsplit(url)
        self._clients: list[asyncio.StreamWriter] = []
        self._passing = True
        self.url = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        async with await asyncio.start_server(self._join, "127.0.0.1", 0) as listener:
            port = listener.sockets[0].getsockname()[1]
            login = self._server.netloc.rpartition("@")[0]
            self.url = self._server._replace(netloc=f"{login}@127.0.0.1:{port}").geturl()
            yield
            for client in self._clients:
                client.close()

    def say_goodbye(self) -> None:
        """What a backend says when it is terminated, and a notice; the end itself stays away."""
        for kind, severity in ((b"E", b"FATAL"), (b"N", b"NOTICE")):
            fields = b"S%b\0V%b\0C57P01\0Mterminating connection\0\0" % (severity, severity)
            for client in self._clients:
                client.write(kind + (len(fields) + 4).to_bytes(4, "big") + fields)

    def hang(self) -> None:
        self._passing = False

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.append(writer)
        if self._passing:
            server, client = await asyncio.open_connection(self._server.hostname, self._server.port)
            await asyncio.gather(self._pass(reader, client), self._pass(server, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if self._passing:
                writer.write(data)
        writer.close()


async def _ask_after_goodbye(pool: Pool, between: Between) -> None:
    heard = asyncio.Event()
    async with acquire(pool) as conn:
        conn.add_log_listener(lambda *_: heard.set())
        between.say_goodbye()
        await heard.wait()
        await conn.fetchval("SELECT 1")


async def test_a_connection_that_is_about_to_end_is_unavailable(module_postgres_url: str) -> None:
    between = Between(module_postgres_url)
    async with (
        between.listening(),
        database.connect(between.url, size=1, role=ROLE) as pool,
    ):
        with pytest.raises(Unavailable):
            await _ask_after_goodbye(pool, between)
        async with acquire(pool) as conn:
            assert await conn.fetchval("SELECT 1") == 1


async def test_a_server_that_hangs_is_unavailable_also_to_the_cancel_request(
    module_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    between = Between(module_postgres_url)
    async with (
        between.listening(),
        database.connect(between.url, size=1, role=ROLE) as pool,
    ):
        async with acquire(pool) as conn:
            assert await conn.fetchval("SELECT 1") == 1
        monkeypatch.setattr(database, "ACQUIRE_TIMEOUT_S", 0.2)
        between.hang()
        with pytest.raises(Unavailable):
            async with acquire(pool) as conn:
                await conn.fetchval("SELECT 1", timeout=0.05)


async def test_without_postgresql_it_is_made_but_not_available() -> None:
    async with await database.connect(
        "postgresql://rein@127.0.0.1:1/none", size=1, role=ROLE
    ) as pool:
        with pytest.raises(Unavailable):
            async with acquire(pool):
                pass


async def test_our_own_mistakes_are_not_called_unavailable(module_postgres_url: str) -> None:
    async with await database.connect(module_postgres_url, size=1, role=ROLE) as pool:
        with pytest.raises(asyncpg.InterfaceError):
            async with acquire(pool) as conn:
                await conn.fetchval("SELECT $1::int", "no number", "too many")


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("INSERT INTO t VALUES ('secret words')", "violates check constraint"),
        ("SELECT 'secret words'::integer", "InvalidTextRepresentationError"),
    ],
)
async def test_an_error_is_told_without_values(
    module_postgres_url: str, statement: str, told: str
) -> None:
    async with (
        await database.connect(module_postgres_url, size=1, role=ROLE) as pool,
        acquire(pool) as conn,
    ):
        await conn.execute("CREATE TEMPORARY TABLE t (words text CHECK (words = ''))")
        with pytest.raises(asyncpg.PostgresError) as raised:
            await conn.execute(statement)
    assert told in str(raised.value)
    assert "secret words" not in "".join(traceback.format_exception(raised.value))


async def test_a_table_that_changed_under_a_statement_is_unavailable_once(
    module_postgres_url: str,
) -> None:
    admin = await asyncpg.connect(module_postgres_url)
    await admin.execute("CREATE TABLE changing (n int); GRANT SELECT ON changing TO PUBLIC")
    async with database.connect(module_postgres_url, size=1, role=ROLE) as pool:

        async def read() -> object:
            async with transaction(pool, "local") as conn:
                return await conn.fetch("SELECT * FROM changing")

        await read()
        await admin.execute("ALTER TABLE changing ADD COLUMN m int")
        with pytest.raises(Unavailable):
            await read()
        assert await read() == []
    await admin.close()

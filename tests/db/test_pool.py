"""The pool: jsonb both ways, and errors that say that PostgreSQL is away."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from db import pool as database
from db.pool import acquire
from domain.errors import Unavailable
from domain.runs import PromptRef


async def test_jsonb_takes_models_and_exact_values(module_postgres_url: str) -> None:
    at = datetime(2027, 1, 4, tzinfo=UTC)
    identity = UUID("019aa000-0000-7000-8000-000000000001")
    ref = PromptRef(stage="plan", version=1, sha256="a")
    value: dict[str, Any] = {"usd": Decimal("0.00038738"), "id": identity, "at": at, "ref": ref}
    async with (
        await database.connect(module_postgres_url, size=1) as pool,
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
    monkeypatch.setattr(database, "ACQUIRE_TIMEOUT_S", 0.05)
    async with await database.connect(module_postgres_url, size=1) as pool, acquire(pool):
        with pytest.raises(Unavailable) as caught:
            async with acquire(pool):
                pass
    assert caught.value.retry_after


async def test_a_connection_lost_inside_a_transaction_is_unavailable_then_well_again(
    module_postgres_url: str,
) -> None:
    async with await database.connect(module_postgres_url, size=1) as pool:
        with pytest.raises(Unavailable):
            async with acquire(pool) as conn, conn.transaction():
                await conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        async with acquire(pool) as conn:
            assert await conn.fetchval("SELECT 1") == 1


async def test_without_postgresql_it_is_made_but_not_available() -> None:
    async with await database.connect("postgresql://rein@127.0.0.1:1/none", size=1) as pool:
        with pytest.raises(Unavailable):
            async with acquire(pool):
                pass


async def test_our_own_mistakes_are_not_called_unavailable(module_postgres_url: str) -> None:
    async with await database.connect(module_postgres_url, size=1) as pool:
        with pytest.raises(asyncpg.InterfaceError):
            async with acquire(pool) as conn:
                await conn.fetchval("SELECT $1::int", "no number", "too many")

"""Tenants and API keys in PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import asyncpg
import pytest

from db import pool as database
from db.callers import (
    count_runs_in_flight,
    insert_api_key,
    insert_tenant,
    lock_tenant,
    revoke_api_key,
    roll_api_key,
    select_api_key,
    select_api_keys,
    take_turn,
    update_limits,
)
from db.pool import Connection, Pool, acquire, transaction
from domain.callers import MINUTE, ApiKey, Limits
from domain.errors import NotFound

LIMITS = Limits(
    runs_per_minute=60,
    runs_in_flight=5,
    allowed_models=("gemini-2.0-flash", "gemini-2.5-flash"),
    usd_per_day=Decimal("1.50"),
    usd_per_user_day=Decimal("0.000000001"),
)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
async def pool(module_postgres_url: str) -> AsyncIterator[Pool]:
    async with database.connect(module_postgres_url, size=4, role="rein_operations") as pool:
        yield pool


@pytest.fixture
async def conn(pool: Pool) -> AsyncIterator[Connection]:
    async with acquire(pool) as conn:
        yield conn


@asynccontextmanager
async def undone(conn: Connection) -> AsyncIterator[None]:
    """A transaction that is rolled back at the end of the block."""
    begun = conn.transaction()
    await begun.start()
    yield
    await begun.rollback()


async def stored(conn: Connection, key_id: str, tenant: str = "local", days: int = 30) -> ApiKey:
    await insert_api_key(
        conn,
        key_id=key_id,
        tenant=tenant,
        name="a test",
        secret_mac=b"m" * 32,
        scopes=("goals:read", "ops"),
        lifetime=timedelta(days=days),
    )
    return await found(conn, key_id)


async def found(conn: Connection, key_id: str) -> ApiKey:
    key = await select_api_key(conn, key_id)
    assert key is not None
    return key


async def test_a_key_is_found_with_the_limits_of_its_tenant(conn: Connection) -> None:
    assert await insert_tenant(conn, "limited")
    assert not await insert_tenant(conn, "limited")
    await update_limits(conn, "limited", LIMITS)

    key = await stored(conn, "limited00000", "limited")

    assert key.limits == await lock_tenant(conn, "limited") == LIMITS
    assert (key.tenant, key.scopes, key.secret_mac) == ("limited", ("goals:read", "ops"), b"m" * 32)
    assert key.expires_at - key.created_at == timedelta(days=30)
    assert key.refusal(datetime.now(UTC)) is None
    assert key.refusal(key.expires_at) == "expired"
    assert "mmmm" not in repr(key)
    assert [key.key_id for key in await select_api_keys(conn, "limited")] == ["limited00000"]


async def test_what_does_not_exist_is_not_found(conn: Connection) -> None:
    assert await select_api_key(conn, "nobody000000") is None
    assert await lock_tenant(conn, "nobody") is None
    assert await select_api_keys(conn, "nobody") == []
    assert not await revoke_api_key(conn, "nobody000000")
    with pytest.raises(NotFound, match="no tenant 'nobody'"):
        await stored(conn, "nobodys00000", "nobody")


async def test_a_key_is_revoked_once(conn: Connection) -> None:
    await stored(conn, "revoked00000")
    assert await revoke_api_key(conn, "revoked00000")
    revoked = await found(conn, "revoked00000")
    assert revoked.refusal(datetime.now(UTC)) == "revoked"

    assert await revoke_api_key(conn, "revoked00000")
    assert await found(conn, "revoked00000") == revoked


async def test_a_successor_may_do_the_same_for_as_long(conn: Connection) -> None:
    old = await stored(conn, "old000000000")

    assert await roll_api_key(
        conn, old.key_id, new_key_id="new000000000", secret_mac=b"n" * 32, overlap=DAY
    )

    new = await found(conn, "new000000000")
    assert (new.tenant, new.name, new.scopes) == (old.tenant, old.name, old.scopes)
    assert new.secret_mac == b"n" * 32
    assert new.expires_at - new.created_at == timedelta(days=30)
    rolled = await found(conn, old.key_id)
    assert rolled.rolled_to == new.key_id
    assert rolled.expires_at == new.created_at + DAY


async def test_an_overlap_never_lengthens_a_life(conn: Connection) -> None:
    old = await stored(conn, "short0000000", days=1)
    await roll_api_key(
        conn, old.key_id, new_key_id="short0000001", secret_mac=b"n" * 32, overlap=3 * DAY
    )
    assert (await found(conn, old.key_id)).expires_at == old.expires_at


@pytest.mark.parametrize(
    "end",
    [
        "UPDATE api_keys SET revoked_at = now() WHERE key_id = 'ended0000000'",
        "UPDATE api_keys SET expires_at = now() WHERE key_id = 'ended0000000'",
        "UPDATE api_keys SET rolled_to = key_id WHERE key_id = 'ended0000000'",
        "DELETE FROM api_keys WHERE key_id = 'ended0000000'",
    ],
)
async def test_a_key_that_has_ended_has_no_successor(pool: Pool, end: str) -> None:
    async with acquire(pool) as conn, undone(conn):
        await stored(conn, "ended0000000")
        await conn.execute(end)
        assert not await roll_api_key(
            conn, "ended0000000", new_key_id="next00000000", secret_mac=b"n" * 32, overlap=DAY
        )
        assert await select_api_key(conn, "next00000000") is None


async def test_a_key_rolled_twice_at_once_has_one_successor(pool: Pool) -> None:
    async def roll(number: int) -> bool:
        async with acquire(pool) as conn:
            return await roll_api_key(
                conn,
                "twice0000000",
                new_key_id=f"twice000000{number}",
                secret_mac=b"n" * 32,
                overlap=DAY,
            )

    async with acquire(pool) as conn:
        await stored(conn, "twice0000000")
    assert sorted(await asyncio.gather(*map(roll, range(1, 5)))) == [False, False, False, True]
    async with acquire(pool) as conn:
        names = {key.key_id for key in await select_api_keys(conn, "local")}
    assert len({name for name in names if name.startswith("twice")}) == 2


async def test_a_tenants_own_role_reads_no_key_and_changes_no_limit(
    module_postgres_url: str,
) -> None:
    async with database.connect(module_postgres_url, size=1, role="rein_application") as pool:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with transaction(pool, "local") as conn:
                await select_api_key(conn, "limited00000")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with transaction(pool, "local") as conn:
                await update_limits(conn, "local", LIMITS)
        async with transaction(pool, "local") as conn:
            assert await lock_tenant(conn, "local") is not None
            assert await count_runs_in_flight(conn, "local") == 0


async def test_a_turn_is_counted_only_if_it_fits(conn: Connection) -> None:
    await insert_tenant(conn, "paced")
    async with undone(conn):
        began = await conn.fetchval("SELECT clock_timestamp()")
        await conn.execute(
            "UPDATE tenants SET next_run_at = $1 WHERE tenant_id = 'paced'", began + 0.9 * MINUTE
        )
        refused = await take_turn(conn, "paced", 2)
        due = await conn.fetchval("SELECT next_run_at FROM tenants WHERE tenant_id = 'paced'")
        passed = await conn.fetchval("SELECT clock_timestamp()") - began

        assert due == began + 0.9 * MINUTE
        assert 1.4 * MINUTE - passed <= refused.ahead <= 1.4 * MINUTE

        taken = await take_turn(conn, "paced", 60)
        due = await conn.fetchval("SELECT next_run_at FROM tenants WHERE tenant_id = 'paced'")
        assert due == began + 0.9 * MINUTE + MINUTE / 60
        assert not taken.retry_after_s


async def test_a_quiet_tenant_starts_afresh(conn: Connection) -> None:
    await insert_tenant(conn, "quiet")
    async with undone(conn):
        await conn.execute("UPDATE tenants SET next_run_at = '2020-01-01'")
        turns = [await take_turn(conn, "quiet", 1) for _ in range(2)]
    assert turns[0].ahead == MINUTE
    assert turns[1].retry_after_s

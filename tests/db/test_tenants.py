"""Row-level security: what a statement forgets to ask for, the wall keeps from it."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from db.callers import insert_tenant
from db.pool import Pool, Pools, acquire, connect, transaction
from tests.factories import Runs

TENANTS = ("acme", "globex", "initech")
# Rows of the installation itself, not of a tenant.
SHARED = {"alembic_version", "api_keys", "prompt_versions", "tenants", "trace_projects", "workers"}


@pytest.fixture(scope="module")
async def pools(module_postgres_url: str) -> AsyncIterator[Pools]:
    """Three tenants with an ended run each."""
    async with Pools.connected(module_postgres_url, size=4, name="test") as pools:
        for tenant in TENANTS:
            async with acquire(pools.operations) as conn:
                await insert_tenant(conn, tenant)
            await Runs(pools, tenant).finished()
        yield pools


@pytest.fixture
async def narrow(module_postgres_url: str) -> AsyncIterator[Pool]:
    """Two connections, so that tenants meet on each of them again and again."""
    async with connect(module_postgres_url, size=2, role="rein_application") as pool:
        yield pool


async def _owned_tables(pools: Pools) -> list[str]:
    async with acquire(pools.operations) as conn:
        rows = await conn.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return sorted({row["tablename"] for row in rows} - SHARED)


async def test_every_table_has_an_owner_in_every_row_and_a_forced_wall(pools: Pools) -> None:
    async with acquire(pools.operations) as conn:
        rows = await conn.fetch(
            """
            SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity AS walled,
                   EXISTS (SELECT FROM pg_attribute a
                            WHERE a.attrelid = c.oid AND attname = 'tenant_id' AND attnotnull)
                       AS owned
              FROM pg_class c
             WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
            """
        )
    open_tables = {row["relname"] for row in rows if not (row["walled"] and row["owned"])}
    assert open_tables == SHARED


async def test_a_tenant_meets_only_its_own_rows(pools: Pools) -> None:
    for table in await _owned_tables(pools):
        async with transaction(pools.application, "acme") as conn:
            owners = await conn.fetch(f"SELECT DISTINCT tenant_id FROM {table}")  # noqa: S608
        assert {row["tenant_id"] for row in owners} <= {"acme"}, table


async def test_without_a_tenant_there_are_no_rows(pools: Pools) -> None:
    for table in await _owned_tables(pools):
        async with acquire(pools.application) as conn:
            assert await conn.fetchval(f"SELECT count(*) FROM {table}") == 0, table  # noqa: S608


async def test_another_tenants_row_can_be_neither_changed_nor_made(pools: Pools) -> None:
    async with transaction(pools.application, "acme") as conn:
        assert await conn.execute("UPDATE goals SET goal = 'Mine now' WHERE true") == "UPDATE 1"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await conn.execute(
                "INSERT INTO goals (tenant_id, trace_id, goal, locale) "
                "SELECT 'globex', trace_id, 'Yours', 'en' FROM runs"
            )
    async with acquire(pools.operations) as conn:
        changed = await conn.fetch("SELECT tenant_id FROM goals WHERE goal = 'Mine now'")
    assert [row["tenant_id"] for row in changed] == []  # the refused statement undid the other


@pytest.mark.usefixtures("pools")
async def test_borrowers_at_once_never_meet_each_others_rows(narrow: Pool) -> None:
    """With the tenant as a setting of the session, the next borrower would inherit it."""

    async def borrow(number: int) -> None:
        tenant = TENANTS[number % len(TENANTS)]
        async with transaction(narrow, tenant) as conn:
            await asyncio.sleep(0)
            rows = await conn.fetch("SELECT tenant_id FROM runs")
        assert [row["tenant_id"] for row in rows] == [tenant]

    async def borrow_without_tenant() -> None:
        async with acquire(narrow) as conn:
            await asyncio.sleep(0)
            assert await conn.fetch("SELECT tenant_id FROM runs") == []

    async with asyncio.TaskGroup() as crowd:
        for number in range(300):
            crowd.create_task(borrow(number))
            if number % 3 == 0:
                crowd.create_task(borrow_without_tenant())


@pytest.mark.usefixtures("pools")
async def test_a_borrower_that_is_cancelled_leaves_no_tenant_behind(narrow: Pool) -> None:
    entered = asyncio.Event()

    async def stay() -> None:
        async with transaction(narrow, "acme") as conn:
            await conn.fetch("SELECT 1")
            entered.set()
            await asyncio.Event().wait()

    staying = [asyncio.create_task(stay()) for _ in range(2)]
    await entered.wait()
    for task in staying:
        task.cancel()
    await asyncio.gather(*staying, return_exceptions=True)
    for _ in range(4):
        async with acquire(narrow) as conn:
            assert await conn.fetch("SELECT tenant_id FROM runs") == []


@pytest.mark.parametrize("tenant", ["", "a'; SET ROLE postgres; --", "A", "x" * 41, "a b"])
async def test_what_is_no_tenants_id_never_reaches_postgresql(pools: Pools, tenant: str) -> None:
    with pytest.raises(ValueError, match="no tenant's id"):
        async with transaction(pools.application, tenant):
            pass

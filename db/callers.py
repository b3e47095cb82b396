"""Tenants, their limits and their API keys.

Keys are read and written in the role of operations; a tenant's turn is taken in the transaction
that accepts a run.
"""

from datetime import timedelta

from asyncpg import ForeignKeyViolationError, Record

from db.pool import Connection
from domain.callers import MINUTE, ApiKey, Limits, Pace
from domain.errors import NotFound

_KEYS = """
    SELECT k.key_id, k.tenant_id AS tenant, k.name, k.secret_mac, k.scopes, k.created_at,
           k.expires_at, k.revoked_at, k.rolled_to, t.runs_per_minute, t.runs_in_flight,
           t.allowed_models, t.usd_per_day, t.usd_per_user_day
      FROM api_keys k
      JOIN tenants t USING (tenant_id)
"""


async def insert_tenant(conn: Connection, tenant: str) -> bool:
    """Make a tenant without limits. False when there is one of this id."""
    status = await conn.execute(
        "INSERT INTO tenants (tenant_id) VALUES ($1) ON CONFLICT DO NOTHING", tenant
    )
    return bool(status == "INSERT 0 1")


async def lock_tenant(conn: Connection, tenant: str) -> Limits | None:
    """A tenant's limits; until the transaction ends nobody else takes a turn or changes them."""
    row = await conn.fetchrow(
        """
        SELECT runs_per_minute, runs_in_flight, allowed_models, usd_per_day, usd_per_user_day
          FROM tenants
         WHERE tenant_id = $1
           FOR NO KEY UPDATE
        """,
        tenant,
    )
    return None if row is None else Limits(**row)


async def update_limits(conn: Connection, tenant: str, limits: Limits) -> None:
    """Replace all limits of a tenant."""
    await conn.execute(
        """
        UPDATE tenants
           SET runs_per_minute = $2, runs_in_flight = $3, allowed_models = $4, usd_per_day = $5,
               usd_per_user_day = $6
         WHERE tenant_id = $1
        """,
        tenant,
        limits.runs_per_minute,
        limits.runs_in_flight,
        limits.allowed_models,
        limits.usd_per_day,
        limits.usd_per_user_day,
    )


async def take_turn(conn: Connection, tenant: str, runs_per_minute: int) -> Pace:
    """Count a run against the tenant's pace, if it fits; and lock the tenant as `lock_tenant` does.

    The lock is what makes it exact: the next acceptor, in whichever process, reads the pace after
    this transaction has ended.
    """
    ahead: timedelta = await conn.fetchval(
        """
        WITH turn AS MATERIALIZED (
            SELECT tenant_id, greatest(next_run_at, statement_timestamp()) + $2 AS next_run_at
              FROM tenants
             WHERE tenant_id = $1
               FOR NO KEY UPDATE
        ), taken AS (
            UPDATE tenants t SET next_run_at = turn.next_run_at
              FROM turn
             WHERE t.tenant_id = turn.tenant_id
               AND turn.next_run_at <= statement_timestamp() + $3::interval
        )
        SELECT next_run_at - statement_timestamp() FROM turn
        """,
        tenant,
        Pace.interval(runs_per_minute),
        MINUTE,
    )
    return Pace(runs_per_minute, ahead)


async def count_runs_in_flight(conn: Connection, tenant: str) -> int:
    """The tenant's runs that have not ended, with those that this transaction has stored."""
    count: int = await conn.fetchval(
        "SELECT count(*) FROM runs WHERE tenant_id = $1 AND finished_at IS NULL", tenant
    )
    return count


async def insert_api_key(
    conn: Connection,
    *,
    key_id: str,
    tenant: str,
    name: str,
    secret_mac: bytes,
    scopes: tuple[str, ...],
    lifetime: timedelta,
) -> None:
    """Store a new key. Raises NotFound when there is no such tenant."""
    try:
        await conn.execute(
            """
            INSERT INTO api_keys (key_id, tenant_id, name, secret_mac, scopes, expires_at)
            VALUES ($1, $2, $3, $4, $5, now() + $6)
            """,
            key_id,
            tenant,
            name,
            secret_mac,
            scopes,
            lifetime,
        )
    except ForeignKeyViolationError as error:
        raise NotFound(f"there is no tenant {tenant!r}") from error


async def select_api_key(conn: Connection, key_id: str) -> ApiKey | None:
    """A key in whatever state, with its tenant's limits."""
    row = await conn.fetchrow(_KEYS + " WHERE k.key_id = $1", key_id)
    return None if row is None else _api_key(row)


async def select_api_keys(conn: Connection, tenant: str | None) -> list[ApiKey]:
    """A tenant's keys, or everybody's; the oldest first."""
    rows = await conn.fetch(
        _KEYS
        + """
         WHERE $1::text IS NULL OR k.tenant_id = $1
         ORDER BY k.tenant_id, k.created_at, k.key_id
        """,
        tenant,
    )
    return [_api_key(row) for row in rows]


async def roll_api_key(
    conn: Connection, key_id: str, *, new_key_id: str, secret_mac: bytes, overlap: timedelta
) -> bool:
    """Store a successor that may do the same for as long; the old key ends after the overlap.

    False when the key is none that can be rolled: unknown, ended, or rolled before.
    """
    status = await conn.execute(
        """
        WITH old AS (
            SELECT * FROM api_keys
             WHERE key_id = $1 AND revoked_at IS NULL AND expires_at > now() AND rolled_to IS NULL
               FOR UPDATE
        ), retired AS (
            UPDATE api_keys k SET rolled_to = $2, expires_at = least(k.expires_at, now() + $4)
              FROM old
             WHERE k.key_id = old.key_id
        )
        INSERT INTO api_keys (key_id, tenant_id, name, secret_mac, scopes, expires_at)
        SELECT $2, tenant_id, name, $3, scopes, now() + (expires_at - created_at) FROM old
        """,
        key_id,
        new_key_id,
        secret_mac,
        overlap,
    )
    return bool(status == "INSERT 0 1")


async def revoke_api_key(conn: Connection, key_id: str) -> bool:
    """Nobody may use the key any more. False when there is none of this id."""
    status = await conn.execute(
        "UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE key_id = $1", key_id
    )
    return bool(status == "UPDATE 1")


def _api_key(row: Record) -> ApiKey:
    return ApiKey(limits=Limits(**row), **row)

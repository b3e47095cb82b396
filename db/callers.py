"""Tenants, their limits and their API keys.

API keys are looked up before the tenant is known, so only the role `rein_operations` may use them.
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
    """Create a tenant that has no limits on its use.

    Return False when a tenant with this id exists already.
    """
    status = await conn.execute(
        "INSERT INTO tenants (tenant_id) VALUES ($1) ON CONFLICT DO NOTHING", tenant
    )
    return bool(status == "INSERT 0 1")


async def lock_tenant(conn: Connection, tenant: str) -> Limits | None:
    """Return a tenant's limits and lock its row until the transaction ends.

    Until then no other transaction can change the limits or accept a run against them. None means
    that the tenant does not exist.
    """
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
    """Count a run against the tenant's limit per minute, if the limit allows the run.

    The returned pace says so: its `retry_after_s` is 0 when the run was counted. The tenant's row
    stays locked until the transaction ends, so the limit is exact even if several processes accept
    runs.
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
    """Return the number of the tenant's runs that have not ended.

    Runs that this transaction has stored are included.
    """
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
    """Store a new API key that expires after `lifetime`.

    Only the keyed hash `secret_mac` of its secret is stored. Raises NotFound when the tenant does
    not exist.
    """
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
    """Return an API key with the limits of its tenant, even if it is expired or revoked.

    None means that no key has this id.
    """
    row = await conn.fetchrow(_KEYS + " WHERE k.key_id = $1", key_id)
    return None if row is None else _api_key(row)


async def select_api_keys(conn: Connection, tenant: str | None) -> list[ApiKey]:
    """Return the API keys of one tenant, or of all tenants when `tenant` is None.

    They are sorted by tenant, and then from the oldest to the newest.
    """
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
    """Store a successor of an API key. The old key stays valid for at most `overlap` longer.

    The successor has the same scopes and the same lifetime, counted from now. Return False, without
    any change, when the old key is unknown, expired, revoked or has a successor already.
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
    """Revoke an API key for good. Return False when no key has this id."""
    status = await conn.execute(
        "UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE key_id = $1", key_id
    )
    return bool(status == "UPDATE 1")


def _api_key(row: Record) -> ApiKey:
    return ApiKey(limits=Limits(**row), **row)

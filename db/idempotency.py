"""Which run a tenant's Idempotency-Key found."""

from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from db.pool import Connection

# A caller that lost an answer repeats its request within seconds or hours, not after a day.
LIFETIME = timedelta(hours=24)


class Claim(NamedTuple):
    """The run that a key belongs to, and the fingerprint of the request that it came with."""

    trace_id: UUID
    fingerprint: str


async def claim_key(conn: Connection, key: str, fingerprint: str, trace_id: UUID) -> Claim | None:
    """Give the key to the run that is about to be stored; its earlier claim when it has one.

    Of two requests at once with one key the second waits here for the first one's transaction.
    """
    claimed = await conn.fetchval(
        """
        INSERT INTO idempotency_keys AS k (key, fingerprint, trace_id, expires_at)
        VALUES ($1, $2, $3, now() + $4::interval)
        ON CONFLICT (tenant_id, key) DO UPDATE
           SET fingerprint = excluded.fingerprint, trace_id = excluded.trace_id,
               expires_at = excluded.expires_at
         WHERE k.expires_at < now()
        RETURNING trace_id
        """,
        key,
        fingerprint,
        trace_id,
        LIFETIME,
    )
    if claimed is not None:
        return None
    row = await conn.fetchrow(
        """
        SELECT trace_id, fingerprint FROM idempotency_keys
         WHERE key = $1 AND tenant_id = current_setting('rein.tenant')
        """,
        key,
    )
    return None if row is None else Claim(*row)


async def delete_expired_keys(conn: Connection, limit: int) -> int:
    """Forget expired keys of all tenants, at most `limit` of them; how many there were."""
    deleted = await conn.fetch(
        """
        DELETE FROM idempotency_keys
         WHERE (tenant_id, key) IN (
               SELECT tenant_id, key FROM idempotency_keys WHERE expires_at < now() LIMIT $1)
        RETURNING true
        """,
        limit,
    )
    return len(deleted)

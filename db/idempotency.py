"""Idempotency keys: which run an earlier request with the same key made."""

from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from db.pool import Connection

# A key is kept for a day, because a caller that lost an answer repeats its request within hours.
LIFETIME = timedelta(hours=24)


class Claim(NamedTuple):
    """The run that a request with this key made, and the fingerprint (SHA-256) of that request."""

    trace_id: UUID
    fingerprint: str


async def claim_key(conn: Connection, key: str, fingerprint: str, trace_id: UUID) -> Claim | None:
    """Reserve an idempotency key for a new run. Return None when the key was free or expired.

    Otherwise return the earlier claim of the key. If two requests arrive at the same time with the
    same key, the second waits here until the transaction of the first ends.
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
    """Delete at most `limit` expired keys of all tenants, and return how many were deleted."""
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

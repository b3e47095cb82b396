"""Worker processes: each holds an advisory lock of PostgreSQL for as long as it lives.

When a process dies, PostgreSQL closes its connection and frees the lock, which tells the others.
"""

from typing import NamedTuple

import asyncpg

from db.pool import Connection

# First half of the advisory lock's key; it keeps these locks apart from any others. The second half
# is the worker's id.
LOCK_CLASS = 0x5245494E
# Seconds after PostgreSQL's start in which no worker counts as absent, because living workers need
# that time to reconnect.
RETURN_S = 5


class WorkerRow(NamedTuple):
    """A worker process. `identity` is the name under which Temporal knows it."""

    worker_id: int
    identity: str


async def insert_worker(conn: asyncpg.Connection, worker: WorkerRow) -> None:
    """Register a worker process, which counts as alive for as long as this connection lasts."""
    await conn.execute("SELECT pg_advisory_lock($1, $2)", LOCK_CLASS, worker.worker_id)
    await conn.execute(
        "INSERT INTO workers (worker_id, identity) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        *worker,
    )


async def select_absent_workers(conn: Connection) -> list[WorkerRow]:
    """Return the registered workers whose lock is free: they died or lost their connection."""
    rows = await conn.fetch(
        """
        SELECT worker_id, identity
          FROM workers w
         WHERE pg_postmaster_start_time() < now() - $2 * interval '1 second'
           AND NOT EXISTS (
               SELECT FROM pg_locks
                WHERE locktype = 'advisory' AND objsubid = 2 AND classid = $1::integer::oid
                  AND objid = w.worker_id::oid
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
        """,
        LOCK_CLASS,
        RETURN_S,
    )
    return [WorkerRow(*row) for row in rows]


async def delete_worker(conn: Connection, worker_id: int) -> bool:
    """Remove a worker, so that its reserved model calls count as lost.

    Return False when another process has removed it already.
    """
    status = await conn.execute("DELETE FROM workers WHERE worker_id = $1", worker_id)
    return bool(status == "DELETE 1")


async def select_workflows_of_worker(conn: Connection, worker_id: int, limit: int) -> list[str]:
    """Return the ids of at most `limit` workflows that the worker may have been executing.

    Workflows for which it had a model call under way come first, then the newest ones.
    """
    rows = await conn.fetch(
        """
        SELECT workflow_id
          FROM runs r
         WHERE finished_at IS NULL
         ORDER BY EXISTS (SELECT FROM llm_calls c WHERE c.trace_id = r.trace_id
                             AND c.worker_id = $1 AND c.state = 'reserved') DESC,
                  created_at DESC
         LIMIT $2
        """,
        worker_id,
        limit,
    )
    return [row["workflow_id"] for row in rows]

"""Worker processes. Each holds an advisory lock over a connection that dies with the process."""

from typing import NamedTuple

import asyncpg

from db.pool import Connection

# The first half of the lock's key, so that it is nobody else's; the worker's id is the second.
LOCK_CLASS = 0x5245494E
# When PostgreSQL has just started, the living have not come back yet.
RETURN_S = 5


class WorkerRow(NamedTuple):
    """A worker process; `identity` is its name at Temporal."""

    worker_id: int
    identity: str


async def insert_worker(conn: asyncpg.Connection, worker: WorkerRow) -> None:
    """Count a worker as living for as long as this connection lasts."""
    await conn.execute("SELECT pg_advisory_lock($1, $2)", LOCK_CLASS, worker.worker_id)
    await conn.execute(
        "INSERT INTO workers (worker_id, identity) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        *worker,
    )


async def select_absent_workers(conn: Connection) -> list[WorkerRow]:
    """Workers whose lock nobody holds: they died, or are about to come back."""
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
    """Count a worker as gone, and its calls under way as lost. False when that was done before."""
    status = await conn.execute("DELETE FROM workers WHERE worker_id = $1", worker_id)
    return bool(status == "DELETE 1")


async def select_workflows_of_worker(conn: Connection, worker_id: int, limit: int) -> list[str]:
    """The ids of workflows that a worker may have been busy with, the likeliest first."""
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

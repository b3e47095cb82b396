"""Workers detect the death of another worker and let Temporal retry its activities at once.

Heartbeat timeouts alone are not enough: a short timeout aborts running calls on a busy machine, and
a long one delays every retry. So each worker holds an advisory lock in PostgreSQL over a connection
that ends with its process. When the other workers find the lock free, they fail the activities of
the dead worker, and Temporal retries them. The heartbeat timeout covers what the locks do not show.
"""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import structlog
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from db.pool import Pool, acquire, keep_connected
from db.workers import (
    WorkerRow,
    delete_worker,
    insert_worker,
    select_absent_workers,
    select_workflows_of_worker,
)
from domain.errors import Unavailable

log = structlog.get_logger()

# The seconds between two checks of the locks. A worker is dead if two checks in a row find its lock
# free.
LOOK_S = 0.6
# After a worker has lost its own connection, it checks no locks for this many seconds, because the
# other workers may have lost theirs too and have to reconnect first.
RETURN_S = 5
# After a worker's death at most MOST_RUNS runs are checked for its activities, AT_ONCE at a time.
# The activities of further runs are retried after their heartbeat timeout.
MOST_RUNS, AT_ONCE = 2000, 16
STARTED = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED


def this_worker() -> WorkerRow:
    """Return a new worker id for this process, and its identity as Temporal shows it."""
    worker_id = secrets.randbits(31)
    return WorkerRow(worker_id, f"{os.getpid()}@{socket.gethostname()}/{worker_id}")


class WorkerWatch:
    """Shows the other workers that this process is alive, and retries the work of dead workers."""

    def __init__(self, url: str, pool: Pool, client: Client, me: WorkerRow) -> None:
        self._url = url
        self._pool = pool
        self._client = client
        self._me = me
        self._present = asyncio.Event()
        self._was_present = False
        self._looks_from = 0.0

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Count this process as alive, and watch the other workers, until the block is left.

        The block is entered as soon as the other workers can see that this process is alive.
        Raises what PostgreSQL refuses: a table or a role that is missing, for example.
        """
        staying = asyncio.create_task(self._stay())
        tasks = [staying, asyncio.create_task(self._watch())]
        try:
            entered = asyncio.create_task(self._present.wait())
            await asyncio.wait((entered, staying), return_when=asyncio.FIRST_COMPLETED)
            if staying.done():
                entered.cancel()
                staying.result()
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(Unavailable):  # then another worker finds the lock free
                async with acquire(self._pool) as conn:
                    await delete_worker(conn, self._me.worker_id)

    async def _stay(self) -> None:
        """Hold this worker's lock. Raises what PostgreSQL refuses, but only at the start."""
        while True:
            try:
                await keep_connected(
                    self._url,
                    lambda conn: insert_worker(conn, self._me),
                    self._on_connected,
                    name="rein worker's life",
                    role="rein_operations",
                )
            except Exception:
                if not self._was_present:
                    raise
                self._on_connected(False)
                log.exception("worker_life_failed")
                await asyncio.sleep(LOOK_S)

    def _on_connected(self, connected: bool) -> None:
        if connected:
            self._was_present = True
            self._present.set()
        else:
            self._present.clear()
            self._looks_from = asyncio.get_running_loop().time() + RETURN_S

    async def _watch(self) -> None:
        absent: set[WorkerRow] = set()
        while True:
            try:
                found = await self._look()
                for dead in absent & found:
                    await self._take_over(dead)
                absent = found
            except Unavailable:
                absent = set()
            except Exception:
                log.exception("worker_watch_failed")
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> set[WorkerRow]:
        if not self._present.is_set() or asyncio.get_running_loop().time() < self._looks_from:
            return set()
        async with acquire(self._pool) as conn:
            return set(await select_absent_workers(conn)) - {self._me}

    async def _take_over(self, dead: WorkerRow) -> None:
        """Fail the activities of a dead worker, unless another worker is doing so already."""
        async with acquire(self._pool) as conn:
            if not await delete_worker(conn, dead.worker_id):
                return
            workflows = await select_workflows_of_worker(conn, dead.worker_id, MOST_RUNS)
        failed = await fail_activities(self._client, dead.identity, workflows)
        log.warning("worker_died", identity=dead.identity, activities_begun_again=failed)


async def fail_activities(client: Client, identity: str, workflow_ids: Sequence[str]) -> int:
    """Fail the activities that a worker runs for these workflows, so that Temporal retries them.

    Returns the number of failed activities. If Temporal cannot describe a workflow, its activities
    are retried after their heartbeat timeout.
    """
    turn = asyncio.Semaphore(AT_ONCE)

    async def fail(workflow_id: str) -> int:
        async with turn:
            return await _fail_activities_of(client, identity, workflow_id)

    return sum(await asyncio.gather(*map(fail, workflow_ids)))


async def _fail_activities_of(client: Client, identity: str, workflow_id: str) -> int:
    # This is the raw gRPC call, because the SDK's own method fails on paused workflows.
    request = DescribeWorkflowExecutionRequest(
        namespace=client.namespace, execution=WorkflowExecution(workflow_id=workflow_id)
    )
    failed = 0
    try:
        answer = await client.workflow_service.describe_workflow_execution(request)
        run_id = answer.workflow_execution_info.execution.run_id
        for pending in answer.pending_activities:
            if pending.state == STARTED and pending.last_worker_identity == identity:
                handle = client.get_async_activity_handle(
                    workflow_id=workflow_id, run_id=run_id, activity_id=pending.activity_id
                )
                await handle.fail(_died())
                failed += 1
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:  # it has ended, or is retried already
            log.warning("activities_left_to_heartbeats", workflow_id=workflow_id, exc_info=error)
    return failed


def _died() -> ApplicationError:
    return ApplicationError(
        "The worker that ran this died",
        type="WORKER_LOST",
        next_retry_delay=timedelta(milliseconds=1),
    )

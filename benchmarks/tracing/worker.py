"""`python -m benchmarks.tracing.worker WAY`: a worker that is there to be killed."""

import asyncio
import os
import signal
import sys
from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from benchmarks.tracing import ways
from benchmarks.tracing.sample import QUEUE, QuickWorkflow, TracedWorkflow, make_step


async def main(way: str) -> None:
    """Work until SIGTERM; then leave as the way's documentation says: flushed."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    flush = ways.start(way)
    client = await Client.connect(os.environ["TEMPORAL_ADDRESS"], **ways.client_options(way))
    traced = await ways.make_worker(way)
    async with Worker(
        client,
        task_queue=f"{QUEUE}-{way}",
        workflows=[TracedWorkflow, QuickWorkflow],
        activities=[make_step(traced.step), *traced.activities()],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_cached_workflows=int(os.environ.get("CACHED", "0")),
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=2),
    ):
        await stop.wait()
    await asyncio.to_thread(flush)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
    os._exit(0)  # a living temporalio client may abort a usual exit

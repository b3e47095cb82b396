"""What is traced: A works, B fails twice, C waits in its first attempt to be killed."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    import httpx

Step = Callable[[str, dict[str, str]], AbstractAsyncContextManager[None]]

QUEUE = "traced"
# Activity attempts that run when C's first worker is killed: one of A, three of B, two of C.
ATTEMPTS = 6


@workflow.defn
class TracedWorkflow:
    @workflow.run
    async def run(self, headers: dict[str, str]) -> str:
        for name in ("a", "b", "c"):
            await workflow.execute_activity(
                "step",
                args=[name, headers],
                start_to_close_timeout=timedelta(seconds=60),
                heartbeat_timeout=timedelta(seconds=2),
                retry_policy=RetryPolicy(
                    initial_interval=timedelta(milliseconds=100), maximum_attempts=5
                ),
            )
        return "done"


@workflow.defn
class QuickWorkflow:
    """Four steps that do nothing: what remains is what tracing costs."""

    @workflow.run
    async def run(self) -> str:
        for name in ("a", "d", "e", "f"):
            await workflow.execute_activity(
                "step", args=[name, {}], start_to_close_timeout=timedelta(seconds=10)
            )
        return "done"


def make_step(traced: Step) -> Callable[[str, dict[str, str]], Awaitable[None]]:
    """The activity, traced in one of the ways."""

    @activity.defn(name="step")
    async def step(name: str, headers: dict[str, str]) -> None:
        async with traced(name, headers):
            attempt = activity.info().attempt
            if name == "b" and attempt < 3:
                raise RuntimeError("B fails twice")
            if name == "c" and attempt == 1:
                await _wait_to_be_killed()

    return step


async def _wait_to_be_killed() -> None:
    async with httpx.AsyncClient() as http:
        await http.post(os.environ["ARRIVED_URL"])
    while True:
        activity.heartbeat()
        await asyncio.sleep(0.5)

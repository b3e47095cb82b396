"""The workflows of the probe. They share nothing with the product's."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import Priority

TIMEOUT = timedelta(seconds=30)


@dataclass(frozen=True)
class Ask:
    """One activity of a queue: its name and the place it is given."""

    name: str
    priority: int = 3
    fairness_key: str | None = None


class Order:
    """Remembers the order in which the server hands out activities."""

    def __init__(self) -> None:
        self.names: list[str] = []

    @activity.defn
    async def note(self, name: str) -> None:
        self.names.append(name)


@workflow.defn
class HopsWorkflow:
    """Activities one after the other; each is two hand-offs of the server's."""

    @workflow.run
    async def run(self, hops: int) -> list[float]:
        """Seconds of each hop."""
        taken = []
        for _ in range(hops):
            started = workflow.time()
            await workflow.execute_activity("note", "hop", start_to_close_timeout=TIMEOUT)
            taken.append(workflow.time() - started)
        return taken


@workflow.defn
class QueueWorkflow:
    """Schedules activities all at once."""

    @workflow.run
    async def run(self, asks: list[Ask]) -> None:
        await asyncio.gather(
            *(
                workflow.execute_activity(
                    "note",
                    ask.name,
                    start_to_close_timeout=TIMEOUT,
                    priority=Priority(priority_key=ask.priority, fairness_key=ask.fairness_key),
                )
                for ask in asks
            )
        )


@workflow.defn
class HeldWorkflow:
    """Holds every update until it is told to finish."""

    def __init__(self) -> None:
        self.finished = False

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: self.finished and workflow.all_handlers_finished())

    @workflow.update
    async def hold(self) -> None:
        await workflow.wait_condition(lambda: self.finished)

    @workflow.signal
    def finish(self) -> None:
        self.finished = True

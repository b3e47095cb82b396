"""Temporal schedules: the workflows that start periodically. Each worker writes them at start."""

from collections.abc import Callable
from datetime import timedelta

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)

from workflows.reconcile import ReconcileWorkflow


def _schedules(task_queue: str) -> dict[str, Schedule]:
    return {
        "reconcile": Schedule(
            action=ScheduleActionStartWorkflow(
                ReconcileWorkflow.run,
                id="reconcile",
                task_queue=task_queue,
                execution_timeout=timedelta(minutes=10),
                static_summary="Make rows and workflows agree",
            ),
            spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(minutes=1))]),
            # After an outage one round repairs everything, so missed rounds are not repeated.
            policy=SchedulePolicy(
                overlap=ScheduleOverlapPolicy.SKIP, catchup_window=timedelta(minutes=10)
            ),
        )
    }


async def upsert_schedules(client: Client, task_queue: str) -> None:
    """Create each schedule, or update it if it exists."""
    for name, schedule in _schedules(task_queue).items():
        try:
            await client.create_schedule(name, schedule)
        except ScheduleAlreadyRunningError:
            await client.get_schedule_handle(name).update(_replacing(schedule))


def _replacing(schedule: Schedule) -> Callable[[ScheduleUpdateInput], ScheduleUpdate]:
    def update(current: ScheduleUpdateInput) -> ScheduleUpdate:
        schedule.state = current.description.schedule.state  # an operator may have paused it
        return ScheduleUpdate(schedule=schedule)

    return update

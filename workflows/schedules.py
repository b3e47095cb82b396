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
from temporalio.service import RPCError, RPCStatusCode

from workflows.reconcile import SHIFT, ReconcileWorkflow

# In earlier releases all workers of a namespace shared one schedule with this name. Each task queue
# has a schedule of its own now, so a starting worker deletes the shared one.
FORMER = "reconcile"


def _schedules(task_queue: str) -> dict[str, Schedule]:
    # Each task queue has its own schedule, so that no schedule depends on workers of another queue,
    # which may have been shut down for good.
    name = f"reconcile-{task_queue}"
    return {
        name: Schedule(
            action=ScheduleActionStartWorkflow(
                ReconcileWorkflow.run,
                id=name,
                task_queue=task_queue,
                # Temporal ends a workflow that no worker executes soon after the next one is due.
                execution_timeout=SHIFT + timedelta(minutes=5),
                static_summary="Make rows and workflows agree",
            ),
            spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=SHIFT)]),
            # A workflow that is due while the previous one runs starts when that one ends. Those
            # that an outage prevented are not made up for, because one round checks all runs.
            policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.BUFFER_ONE, catchup_window=SHIFT),
        )
    }


async def upsert_schedules(client: Client, task_queue: str) -> None:
    """Create each schedule and start its workflow at once; update a schedule that exists."""
    for name, schedule in _schedules(task_queue).items():
        try:
            await client.create_schedule(name, schedule, trigger_immediately=True)
        except ScheduleAlreadyRunningError:
            await client.get_schedule_handle(name).update(_replacing(schedule))
    await _delete_former(client, task_queue)


def _replacing(schedule: Schedule) -> Callable[[ScheduleUpdateInput], ScheduleUpdate]:
    def update(current: ScheduleUpdateInput) -> ScheduleUpdate:
        schedule.state = current.description.schedule.state  # an operator may have paused it
        return ScheduleUpdate(schedule=schedule)

    return update


async def _delete_former(client: Client, task_queue: str) -> None:
    """Delete the schedule of earlier releases, unless it belongs to another task queue."""
    former = client.get_schedule_handle(FORMER)
    try:
        action = (await former.describe()).schedule.action
        if isinstance(action, ScheduleActionStartWorkflow) and action.task_queue == task_queue:
            await former.delete()
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise

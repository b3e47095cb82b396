"""What runs by itself, and when; upserted when a worker starts."""

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

# Releases before this one gave all workers of a namespace one schedule of this name.
FORMER = "reconcile"


def _schedules(task_queue: str) -> dict[str, Schedule]:
    # Workers of other queues have their own: nobody waits for those that leave.
    name = f"reconcile-{task_queue}"
    return {
        name: Schedule(
            action=ScheduleActionStartWorkflow(
                ReconcileWorkflow.run,
                id=name,
                task_queue=task_queue,
                # A shift that nobody works ends soon after the next one is due.
                execution_timeout=SHIFT + timedelta(minutes=5),
                static_summary="Make rows and workflows agree",
            ),
            spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=SHIFT)]),
            # The next shift begins when the last one ends; after an outage there is nothing to
            # catch up, because one round looks at everything.
            policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.BUFFER_ONE, catchup_window=SHIFT),
        )
    }


async def upsert_schedules(client: Client, task_queue: str) -> None:
    """Create each schedule and begin at once, or bring an older one up to date."""
    for name, schedule in _schedules(task_queue).items():
        try:
            await client.create_schedule(name, schedule, trigger_immediately=True)
        except ScheduleAlreadyRunningError:
            await client.get_schedule_handle(name).update(_replacing(schedule))
    await _delete_former(client, task_queue)


def _replacing(schedule: Schedule) -> Callable[[ScheduleUpdateInput], ScheduleUpdate]:
    def update(current: ScheduleUpdateInput) -> ScheduleUpdate:
        schedule.state = current.description.schedule.state  # an operator's pause stays
        return ScheduleUpdate(schedule=schedule)

    return update


async def _delete_former(client: Client, task_queue: str) -> None:
    """Delete the former schedule, unless it is that of another queue's workers."""
    former = client.get_schedule_handle(FORMER)
    try:
        action = (await former.describe()).schedule.action
        if isinstance(action, ScheduleActionStartWorkflow) and action.task_queue == task_queue:
            await former.delete()
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise

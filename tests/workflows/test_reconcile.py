"""The reconciler's shifts: an hour of rounds in one workflow, one after the other."""

import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio import activity
from temporalio.client import Client, ScheduleActionStartWorkflow
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from domain.reconcile import Cursor, Reconciled
from tests.conftest import TemporalServer
from workflows.reconcile import ReconcileWorkflow
from workflows.schedules import upsert_schedules

pytestmark = pytest.mark.stack

REACHED = Cursor(created_at=datetime(2026, 11, 25, tzinfo=UTC), trace_id=uuid4())


class Rounds:
    """Stands for the reconciler: answers as it is told, then that there was nothing to do."""

    def __init__(self, *answers: Reconciled | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[datetime, Cursor | None]] = []

    @activity.defn
    async def reconcile(self, after: Cursor | None) -> Reconciled:
        self.asked.append((activity.info().scheduled_time, after))
        answer = self.answers.pop(0) if self.answers else Reconciled()
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture(scope="module")
async def skipping() -> AsyncIterator[Client]:
    """A server whose clock runs ahead while nobody works."""
    server = Path(sys.executable).with_name("temporal-test-server")
    async with await WorkflowEnvironment.start_time_skipping(
        data_converter=pydantic_data_converter, test_server_existing_path=str(server)
    ) as environment:
        yield environment.client


async def _work(client: Client, rounds: Rounds) -> Reconciled:
    queue = uuid4().hex
    async with Worker(
        client,
        task_queue=queue,
        workflows=[ReconcileWorkflow],
        activities=[rounds.reconcile],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        return await client.execute_workflow(ReconcileWorkflow.run, id=queue, task_queue=queue)


async def test_a_shift_is_an_hour_of_rounds_a_minute_apart(skipping: Client) -> None:
    rounds = Rounds(Reconciled(started=2), Reconciled(closed=1))
    assert await _work(skipping, rounds) == Reconciled(started=2, closed=1)
    assert len(rounds.asked) == 60
    begun = [at for at, _ in rounds.asked]
    pauses = {round((after - before).total_seconds()) for before, after in pairwise(begun)}
    assert pauses == {60}


async def test_the_next_round_goes_on_where_the_last_one_stopped(skipping: Client) -> None:
    """At once while there is something to mend, a minute later when there is not."""
    rounds = Rounds(Reconciled(started=500, reached=REACHED), Reconciled(reached=REACHED))
    await _work(skipping, rounds)
    assert [after for _, after in rounds.asked[:4]] == [None, REACHED, REACHED, None]
    first, second, third = (at for at, _ in rounds.asked[:3])
    assert second - first < timedelta(seconds=30) < third - second


async def test_a_round_that_fails_is_not_the_end_of_the_shift(skipping: Client) -> None:
    away = ApplicationError("PostgreSQL is away", type="UNAVAILABLE")
    rounds = Rounds(Reconciled(started=1, reached=REACHED), away, away, away)
    assert await _work(skipping, rounds) == Reconciled(started=1)
    assert [after for _, after in rounds.asked[:5]] == [None, *[REACHED] * 4]


async def _schedules(client: Client) -> dict[str, str]:
    """Task queues by schedule."""
    found = {}
    for name in ("reconcile", "reconcile-one", "reconcile-two"):
        try:
            described = await client.get_schedule_handle(name).describe()
        except RPCError:
            continue
        assert isinstance(described.schedule.action, ScheduleActionStartWorkflow)
        found[name] = described.schedule.action.task_queue
    return found


async def test_the_workers_of_each_queue_have_a_schedule_of_their_own(
    temporal: TemporalServer,
) -> None:
    client = await Client.connect(temporal.address, data_converter=pydantic_data_converter)
    await upsert_schedules(client, "one")
    former = (await client.get_schedule_handle("reconcile-one").describe()).schedule
    await client.create_schedule("reconcile", former)

    await upsert_schedules(client, "two")  # the former schedule belongs to the other workers
    assert await _schedules(client) == {
        "reconcile": "one",
        "reconcile-one": "one",
        "reconcile-two": "two",
    }
    await upsert_schedules(client, "one")
    assert await _schedules(client) == {"reconcile-one": "one", "reconcile-two": "two"}
    for queue in ("one", "two"):
        begun = await client.get_schedule_handle(f"reconcile-{queue}").describe()
        assert begun.info.num_actions == 1  # at once, not at the next full hour
        await client.get_schedule_handle(f"reconcile-{queue}").delete()

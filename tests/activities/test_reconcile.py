"""The reconciler: rows and workflows are made to agree, whatever was lost in between."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from temporalio.api.workflowservice.v1 import PauseWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDReusePolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import ActivityEnvironment

from activities.reconcile import A_ROUND, AT_ONCE, ReconcileActivities
from activities.runs import Ending
from client import StartOptions, start_run
from db.callers import insert_tenant
from db.events import append_event
from db.pool import Connection, Pools, acquire, transaction
from db.runs import StoredRequest
from devstack.stack import Stack
from devstack.temporal import TemporalOptions
from domain.callers import LOCAL_TENANT
from domain.goals import GoalRequest
from domain.reconcile import Cursor, Reconciled
from domain.runs import workflow_id
from tests.conftest import TemporalServer
from tests.factories import FINISH, goal_request, store_accepted
from tracing import RunEnd, new_trace_id
from worker import register_search_attributes
from workflows.kinds import KINDS

pytestmark = pytest.mark.stack

NOTHING = Reconciled()


@dataclass
class House:
    """Rows, workflows that no worker runs, and the reconciler between them."""

    pools: Pools
    client: Client
    reconciler: ReconcileActivities
    queue: str

    async def accept(self, *, minutes_ago: float = 5, tenant: str = LOCAL_TENANT) -> GoalRequest:
        """A stored row, without its workflow."""
        accepted_at = datetime.now(UTC) - timedelta(minutes=minutes_ago)
        request = goal_request(
            "Run a 5K",
            trace_id=new_trace_id(accepted_at),
            today=accepted_at.date(),
            tenant=tenant,
        )
        async with transaction(self.pools.application, tenant) as conn:
            await store_accepted(conn, request, at=accepted_at)
            await conn.execute("UPDATE run_events SET at = $1", accepted_at)
        return request

    async def start(self, stored: StoredRequest) -> None:
        request = KINDS[stored.kind].request.model_validate(stored.body)
        options = StartOptions(self.queue, "test", "test", "http://rein.test")
        await start_run(self.client, request, options)

    async def accept_and_start(self) -> tuple[UUID, WorkflowHandle[object, object]]:
        request = await self.accept()
        await self.start(
            StoredRequest(request.trace_id, request.kind, request.model_dump(mode="json"))
        )
        await self.seen(request.trace_id, "Running")
        return request.trace_id, self.handle(request.trace_id)

    def handle(self, trace_id: UUID) -> WorkflowHandle[object, object]:
        return self.client.get_workflow_handle(workflow_id("goal_generation", trace_id))

    async def seen(self, trace_id: UUID, status: str, executions: int = 1) -> None:
        """Temporal lists what happened a little later; there is no event to wait for."""
        named = f"WorkflowId = '{workflow_id('goal_generation', trace_id)}'"
        query = f"{named} AND ExecutionStatus = '{status}'"
        async with asyncio.timeout(10):
            while (await self.client.count_workflows(query)).count < executions:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def reconcile(self, after: Cursor | None = None) -> Reconciled:
        result: Reconciled = await ActivityEnvironment().run(self.reconciler.reconcile, after)
        return result

    async def status(self, trace_id: UUID) -> str:
        async with acquire(self.pools.operations) as conn:
            found: str = await conn.fetchval(
                "SELECT status FROM runs WHERE trace_id = $1", trace_id
            )
        return found


@asynccontextmanager
async def furnished(postgres_url: str, temporal: str, queue: str) -> AsyncIterator[House]:
    client = await Client.connect(temporal, data_converter=pydantic_data_converter)
    await register_search_attributes(client)
    async with Pools.connected(postgres_url, size=4, name="test") as pools:
        house = House(pools, client, None, queue)  # type: ignore[arg-type]
        house.reconciler = ReconcileActivities(
            pools.operations, client, project="test", start=house.start, finish=FINISH
        )
        yield house


@pytest.fixture
async def house(
    postgres_url: str, temporal: TemporalServer, request: pytest.FixtureRequest
) -> AsyncIterator[House]:
    async with furnished(postgres_url, temporal.address, request.node.name) as house:
        yield house


async def test_a_run_that_temporal_does_not_know_is_started(house: House) -> None:
    """The API died in between, or Temporal lost its database under a running run."""
    accepted, running = await house.accept(), await house.accept()
    async with acquire(house.pools.operations) as conn:
        await conn.execute(
            "UPDATE runs SET status = 'running', stage = 'plan' WHERE trace_id = $1",
            running.trace_id,
        )
    assert await house.reconcile() == Reconciled(started=2)
    for request in (accepted, running):
        await house.seen(request.trace_id, "Running")
    assert await house.reconcile() == NOTHING


async def test_a_run_that_was_accepted_just_now_is_left_to_the_api(house: House) -> None:
    await house.accept(minutes_ago=0)
    assert await house.reconcile() == NOTHING


async def test_a_run_that_was_heard_of_just_now_is_not_asked_about(house: House) -> None:
    request = await house.accept()
    async with transaction(house.pools.application, LOCAL_TENANT) as conn:
        await append_event(conn, request.trace_id, "e", "stage_retrying", "plan", "Again")
    assert await house.reconcile() == NOTHING


async def test_many_are_started_at_once(house: House) -> None:
    for _ in range(AT_ONCE + 1):
        await house.accept()
    together = asyncio.Barrier(AT_ONCE)
    waited = 0

    async def start(stored: StoredRequest) -> None:
        nonlocal waited
        if waited < AT_ONCE:
            waited += 1
            await together.wait()

    house.reconciler = ReconcileActivities(
        house.pools.operations, house.client, project="test", start=start, finish=FINISH
    )
    async with asyncio.timeout(20):  # one after the other they would wait for ever
        assert await house.reconcile() == Reconciled(started=AT_ONCE + 1)


async def test_more_unfinished_runs_than_temporal_lists_a_second(
    postgres_url: str, state_folder: Path
) -> None:
    """A thousand runs wait for a model that is away, on a server with a production's limits."""
    strict = TemporalOptions(file=False, ui=False, config={"frontend.namespaceRPS.visibility": "1"})
    async with (
        Stack(state_folder / "strict", services={"temporal"}, temporal=strict) as stack,
        furnished(postgres_url, stack.urls["temporal"], "strict") as house,
    ):
        requests = [await house.accept(minutes_ago=60 - n / 60) for n in range(A_ROUND + 2)]
        await asyncio.gather(
            *(
                house.client.start_workflow(
                    "GoalGenerationWorkflow",
                    id=workflow_id(each.kind, each.trace_id),
                    task_queue=house.queue,
                )
                for each in requests[:-1]
            )
        )
        await house.client.count_workflows()  # an operator's page has taken this second's only list
        first = await house.reconcile()
        assert first.reached is not None
        assert first.reached.trace_id == requests[A_ROUND - 1].trace_id
        assert first == Reconciled(reached=first.reached)
        assert await house.reconcile(first.reached) == Reconciled(started=1)


async def test_a_terminated_run_is_closed_once_with_the_reason_that_was_given(
    house: House,
) -> None:
    trace_id, handle = await house.accept_and_start()
    await handle.terminate(reason="The person asked for it")
    await house.seen(trace_id, "Terminated")
    assert await house.reconcile() == Reconciled(closed=1)
    assert await house.status(trace_id) == "terminated"
    assert await house.reconcile() == NOTHING
    async with acquire(house.pools.operations) as conn:
        said = await conn.fetchval("SELECT error_message FROM runs")
        shown = await conn.fetchval(
            "SELECT payload -> 'error_info' ->> 'message' FROM trace_outbox WHERE kind = 'trace'"
        )
    assert (
        said
        == shown
        == ("The workflow was ended from outside (terminated): The person asked for it")
    )


async def test_a_paused_run_is_under_way(house: House) -> None:
    trace_id, handle = await house.accept_and_start()
    await house.client.workflow_service.pause_workflow_execution(
        PauseWorkflowExecutionRequest(
            namespace=house.client.namespace, workflow_id=handle.id, identity="operator"
        )
    )
    await house.seen(trace_id, "Paused")
    assert await house.reconcile() == NOTHING
    assert await house.status(trace_id) == "accepted"


async def test_what_goes_on_as_another_execution_is_not_closed(house: House) -> None:
    """As after an operator's reset: the old execution was terminated, a new one runs."""
    trace_id, handle = await house.accept_and_start()
    await handle.terminate("reset")
    await house.client.start_workflow(
        "GoalGenerationWorkflow",
        id=handle.id,
        task_queue=house.queue,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
    )
    await house.seen(trace_id, "Terminated")
    await house.seen(trace_id, "Running")
    assert await house.reconcile() == NOTHING
    await handle.terminate("after all")
    await house.seen(trace_id, "Terminated", executions=2)
    assert await house.reconcile() == Reconciled(closed=1)


async def test_one_run_that_temporal_refuses_does_not_hold_up_the_others(house: House) -> None:
    refused = await house.accept()
    async with acquire(house.pools.operations) as conn:
        await conn.execute(
            "UPDATE runs SET request = jsonb_set(request, '{goal}', to_jsonb(repeat('x', 3000000)))"
        )
    await house.accept()
    assert await house.reconcile() == Reconciled(started=1, failed=1)
    assert await house.status(refused.trace_id) == "accepted"


async def test_one_row_that_no_release_can_read_does_not_hold_up_the_others(house: House) -> None:
    unreadable = await house.accept()
    async with acquire(house.pools.operations) as conn:
        await conn.execute("UPDATE runs SET request = request - 'goal'")
    await house.accept()
    assert await house.reconcile() == Reconciled(started=1, failed=1)
    assert await house.status(unreadable.trace_id) == "accepted"


async def test_a_run_as_long_as_a_month_is_closed_beside_the_others(house: House) -> None:
    """Its duration in milliseconds is more than an integer of 32 bits holds."""
    long, handle = await house.accept_and_start()
    async with acquire(house.pools.operations) as conn:
        await conn.execute("UPDATE runs SET created_at = now() - interval '40 days'")
    other, other_handle = await house.accept_and_start()
    for trace_id, each in ((long, handle), (other, other_handle)):
        await each.terminate("not needed")
        await house.seen(trace_id, "Terminated")
    assert await house.reconcile() == Reconciled(closed=2)


async def test_a_kind_whose_own_part_of_the_end_fails_is_ended_without_it(house: House) -> None:
    async def broken(conn: Connection, end: RunEnd) -> Ending:
        raise TypeError("a mistake in this kind")

    house.reconciler = ReconcileActivities(
        house.pools.operations,
        house.client,
        project="test",
        start=house.start,
        finish={"goal_generation": broken},
    )
    trace_id, handle = await house.accept_and_start()
    await handle.terminate("not needed")
    await house.seen(trace_id, "Terminated")
    assert await house.reconcile() == Reconciled(closed=1)
    assert await house.status(trace_id) == "terminated"


async def test_each_run_is_ended_in_its_own_tenant(house: House) -> None:
    async with acquire(house.pools.operations) as conn:
        await insert_tenant(conn, "acme")
    request = await house.accept(tenant="acme")
    assert await house.reconcile() == Reconciled(started=1)
    await house.seen(request.trace_id, "Running")
    await house.handle(request.trace_id).terminate("not needed")
    await house.seen(request.trace_id, "Terminated")
    assert await house.reconcile() == Reconciled(closed=1)
    async with acquire(house.pools.operations) as conn:
        owners = await conn.fetch(
            """
            SELECT tenant_id FROM run_events WHERE trace_id = $1
            UNION SELECT tenant_id FROM trace_outbox WHERE trace_id = $1
            """,
            request.trace_id,
        )
    assert [row["tenant_id"] for row in owners] == ["acme"]

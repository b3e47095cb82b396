"""The reconciler: rows and workflows are made to agree, whatever was lost in between."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from temporalio.api.workflowservice.v1 import PauseWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDReusePolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import ActivityEnvironment

from activities.reconcile import ReconcileActivities
from db import pool as database
from db.goals import insert_goal
from db.pool import Pool, acquire
from db.runs import insert_run
from domain.goals import GoalContext, GoalRequest
from domain.reconcile import Reconciled
from domain.runs import Manifest, workflow_id
from tests.conftest import TemporalServer
from tracing import new_trace_id
from worker import register_search_attributes
from workflows.starting import start_goal_generation

pytestmark = pytest.mark.stack

MANIFEST = Manifest(model="gemini-3.5-flash-lite", prompts={}, quality_threshold=6)
NOTHING = Reconciled()


@dataclass
class House:
    """Rows, workflows that no worker runs, and the reconciler between them."""

    pool: Pool
    client: Client
    monitoring: ReconcileActivities
    queue: str

    async def accept(self, *, minutes_ago: float = 5) -> GoalRequest:
        """A stored row, without its workflow."""
        accepted_at = datetime.now(UTC) - timedelta(minutes=minutes_ago)
        request = GoalRequest(
            trace_id=new_trace_id(accepted_at),
            user="u-1",
            goal="Run a 5K",
            locale="en",
            context=GoalContext(),
            today=accepted_at.date(),
            manifest=MANIFEST,
        )
        async with acquire(self.pool) as conn, conn.transaction():
            await insert_run(
                conn,
                trace_id=request.trace_id,
                kind="goal_generation",
                user_id="u",
                pseudonym=request.user,
                workflow_id=workflow_id("goal_generation", request.trace_id),
                idempotency_key=None,
                request_sha256="",
                request=request,
                manifest=MANIFEST,
                source_trace_id=None,
                created_at=accepted_at,
            )
            await insert_goal(conn, request.trace_id, request.goal, "en", request.context)
        return request

    async def start(self, request: GoalRequest) -> None:
        await start_goal_generation(self.client, request, task_queue=self.queue, trace_url="")

    async def accept_and_start(self) -> tuple[UUID, WorkflowHandle[object, object]]:
        request = await self.accept()
        await self.start(request)
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

    async def reconcile(self) -> Reconciled:
        result: Reconciled = await ActivityEnvironment().run(self.monitoring.reconcile)
        return result

    async def status(self, trace_id: UUID) -> str:
        async with acquire(self.pool) as conn:
            found: str = await conn.fetchval(
                "SELECT status FROM runs WHERE trace_id = $1", trace_id
            )
        return found


@pytest.fixture
async def house(
    postgres_url: str, temporal: TemporalServer, request: pytest.FixtureRequest
) -> AsyncIterator[House]:
    client = await Client.connect(temporal.address, data_converter=pydantic_data_converter)
    await register_search_attributes(client)
    queue = request.node.name
    async with await database.connect(postgres_url, size=4) as pool:
        house = House(pool, client, None, queue)  # type: ignore[arg-type]
        house.monitoring = ReconcileActivities(pool, client, project="test", start=house.start)
        yield house


async def test_a_run_that_temporal_does_not_know_is_started(house: House) -> None:
    """The API died in between, or Temporal lost its database under a running run."""
    accepted, running = await house.accept(), await house.accept()
    async with acquire(house.pool) as conn:
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


async def test_a_terminated_run_is_closed_once(house: House) -> None:
    trace_id, handle = await house.accept_and_start()
    await handle.terminate("not needed")
    await house.seen(trace_id, "Terminated")
    assert await house.reconcile() == Reconciled(closed=1)
    assert await house.status(trace_id) == "terminated"
    assert await house.reconcile() == NOTHING


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
    async with acquire(house.pool) as conn:
        await conn.execute(
            "UPDATE runs SET request = jsonb_set(request, '{goal}', to_jsonb(repeat('x', 3000000)))"
        )
    await house.accept()
    assert await house.reconcile() == Reconciled(started=1)
    assert await house.status(refused.trace_id) == "accepted"

"""A run and its workflow on the real Temporal server; no worker is needed to start or cancel."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError

from api.app import Api, create_app
from client import connect
from db.events import append_refused_start, select_events
from db.pool import Pools, transaction
from devstack.stack import Stack
from devstack.temporal import TemporalOptions
from domain.runs import pseudonym
from tests.conftest import TemporalServer
from tests.factories import Runs, api_key
from worker import register_search_attributes
from workflows.options import TRACE, USER

from .conftest import operations, serving, settings

pytestmark = pytest.mark.stack
BODY = {"goal": "I want to run a 5K by end of Q1", "user_id": "person@example.com"}


@pytest.fixture(scope="module")
def configured(module_postgres_url: str, temporal: TemporalServer) -> Any:
    queue = f"nobody-{uuid4().hex}"
    return settings(module_postgres_url, temporal_address=temporal.address, task_queue=queue)


@pytest.fixture(scope="module")
async def engine(configured: Any) -> Client:
    client = await connect(configured)
    await register_search_attributes(client)
    return client


@pytest.fixture(scope="module")
def app(configured: Any) -> Api:
    return create_app(configured)


@pytest.fixture(scope="module")
async def whole(app: Api, engine: Client, pools: Pools) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(app) as client:
        client.headers["Authorization"] = f"Bearer {await api_key(pools)}"
        yield client


async def _start(whole: httpx.AsyncClient, app: Api) -> str:
    """Send a goal and wait until its workflow is started; the answer does not."""
    answer = await whole.post("/api/goals", json=BODY)
    await app.state.services.starter.all_started()
    trace_id: str = answer.json()["trace_id"]
    return trace_id


async def test_a_goal_starts_its_workflow(
    whole: httpx.AsyncClient, app: Api, engine: Client
) -> None:
    trace_id = await _start(whole, app)
    run = await engine.get_workflow_handle(f"goal_generation-{trace_id}").describe()
    assert run.status == WorkflowExecutionStatus.RUNNING
    assert run.typed_search_attributes[TRACE] == trace_id
    assert run.typed_search_attributes[USER] == pseudonym(f"local/{BODY['user_id']}", "rein-local")
    memo = await run.memo()
    assert memo["trace_url"] == f"http://rein.test/api/runs/{trace_id}/trace"
    assert BODY["user_id"] not in str(run.raw_description)


async def test_a_replay_starts_what_was_not_started(
    whole: httpx.AsyncClient, app: Api, http: httpx.AsyncClient, engine: Client
) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    trace_id = (await http.post("/api/goals", json=BODY, headers=key)).json()["trace_id"]
    workflow = engine.get_workflow_handle(f"goal_generation-{trace_id}")
    with pytest.raises(RPCError):
        await workflow.describe()
    answer = await whole.post("/api/goals", json=BODY, headers=key)
    assert answer.headers["idempotent-replayed"] == "true"
    await app.state.services.starter.all_started()
    assert (await workflow.describe()).status == WorkflowExecutionStatus.RUNNING


async def _cancel_requested(engine: Client, trace_id: object) -> bool:
    history = await engine.get_workflow_handle(f"goal_generation-{trace_id}").fetch_history()
    return any(
        event.HasField("workflow_execution_cancel_requested_event_attributes")
        for event in history.events
    )


async def test_cancel_reaches_the_workflow(whole: httpx.AsyncClient, engine: Client) -> None:
    """Also when it comes before the workflow is there."""
    trace_id = (await whole.post("/api/goals", json=BODY)).json()["trace_id"]
    assert (await whole.post(f"/api/runs/{trace_id}/cancel")).status_code == 202
    assert (await whole.post(f"/api/runs/{trace_id}/cancel")).status_code == 202
    assert await _cancel_requested(engine, trace_id)


async def test_a_run_that_was_never_started_is_cancelled_too(
    whole: httpx.AsyncClient, engine: Client, stored: Runs
) -> None:
    trace_id = await stored.accepted()
    assert (await whole.post(f"/api/runs/{trace_id}/cancel")).status_code == 202
    assert await _cancel_requested(engine, trace_id)


async def test_cancelling_what_was_ended_from_outside_starts_nothing(
    whole: httpx.AsyncClient, app: Api, engine: Client
) -> None:
    trace_id = await _start(whole, app)
    workflow = engine.get_workflow_handle(f"goal_generation-{trace_id}")
    await workflow.terminate()
    assert (await whole.post(f"/api/runs/{trace_id}/cancel")).status_code == 202
    assert (await workflow.describe()).status == WorkflowExecutionStatus.TERMINATED


@pytest.mark.usefixtures("whole")
async def test_it_is_ready(app: Api) -> None:
    async with operations(app) as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 200, answer.text
    assert answer.json()["temporal"] == "answers"
    assert answer.json()["kinds"] == {
        "goal_generation": "preprocess v1, generate v1, evaluate v1, plan v1, repair v1"
    }


@pytest.fixture
async def bare(state_folder: Path) -> AsyncIterator[str]:
    """A Temporal server that was not told the search attributes."""
    options = TemporalOptions(tuned=False, file=False, ui=False)
    async with Stack(state_folder / "bare", services={"temporal"}, temporal=options) as stack:
        yield stack.urls["temporal"]


async def test_a_start_that_temporal_refuses_says_why(
    module_postgres_url: str, bare: str, pools: Pools
) -> None:
    app = create_app(settings(module_postgres_url, temporal_address=bare, auth="off"))
    async with serving(app) as client, operations(app) as operator:
        trace_id = (await client.post("/api/goals", json=BODY)).json()["trace_id"]
        await app.state.services.starter.all_started()
        run = (await client.get(f"/api/runs/{trace_id}")).json()
        assert run["status"] == "accepted"
        assert run["waiting"]["code"] == "START_REFUSED"
        ready = (await operator.get("/readyz")).json()
        assert ready["code"] == "UNAVAILABLE"
        assert "ReinKind" in ready["detail"]

        engine = await connect(settings(module_postgres_url, temporal_address=bare))
        await register_search_attributes(engine)
        assert "ReinKind" not in (await operator.get("/readyz")).text
    async with transaction(pools.application, "local") as conn:
        told = (await select_events(conn, UUID(trace_id), 1))[0]
        assert told.kind == "start_refused"
        assert "search attribute Rein" in told.message
        for _ in range(2):  # as the reconciler tries it every minute
            await append_refused_start(conn, UUID(trace_id), "NOT_FOUND", "no such namespace")
        assert len(await select_events(conn, UUID(trace_id), 1)) == 2

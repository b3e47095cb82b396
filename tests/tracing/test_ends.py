"""Runs that end in unusual ways, each with one trace that ends as they did."""

import asyncio
import contextlib
import math
from datetime import timedelta

import pytest
from pydantic import ValidationError
from temporalio import activity, workflow
from temporalio.client import ActivityFailureError, Client, WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from temporalio.workflow import ParentClosePolicy

from db.pool import Pool
from tests.tracing.conftest import Runner, dump
from tests.tracing.sample import PROJECT, Outcome, SampleActivities, SampleWorkflow, Step, Story
from tests.tracing.shipping import waiting
from tracing import RunEnd, TracingPlugin

pytestmark = pytest.mark.stack


@workflow.defn
class Housekeeping:
    """A workflow that the plugin does not trace; the child that it starts is traced."""

    @workflow.run
    async def run(self, story: Story) -> None:
        """One child."""
        await workflow.execute_child_workflow(SampleWorkflow.run, story)


@workflow.defn
class SecondTime:
    """A workflow whose first run fails."""

    @workflow.run
    async def run(self, story: Story) -> Outcome:
        """Succeeds in the second attempt of the run."""
        await step(story.steps[0])
        if workflow.info().attempt == 1:
            raise ApplicationError("not yet", type="NOT_YET")
        return Outcome()


@workflow.defn
class Abandons:
    """A workflow that ends before the child that it started."""

    @workflow.run
    async def run(self, story: Story) -> Outcome:
        """The child goes on."""
        await workflow.start_child_workflow(
            SampleWorkflow.run,
            story,
            id=f"{workflow.info().workflow_id}-child",
            parent_close_policy=ParentClosePolicy.ABANDON,
        )
        return Outcome()


@workflow.defn
class Mistaken:
    """A workflow with a bug in it, until the test mends it."""

    mended = False

    @workflow.run
    async def run(self, story: Story) -> Outcome:
        """Fails in its task."""
        await step(story.steps[0])
        if not self.mended:
            raise KeyError("a mistake")
        return Outcome()


@workflow.defn
class Strange:
    """A workflow whose result JSON cannot hold."""

    @workflow.run
    async def run(self, story: Story) -> bytes:
        """Bytes that are no text."""
        await step(story.steps[0])
        return b"\xff\x00"


@workflow.defn
class Ticking:
    """A workflow that is started by cron."""

    @workflow.run
    async def run(self, story: Story) -> Outcome:
        """One step."""
        await step(story.steps[0])
        return Outcome()


async def step(told: Step) -> None:
    """One stage."""
    await workflow.execute_activity_method(
        SampleActivities.step, told, start_to_close_timeout=timedelta(seconds=30)
    )


STORY = Story(steps=[Step(name="generation")])
STAGE = "\n  generation_stage\n    llm_call_generation\n    json_parsing"


async def _client(runner: Runner) -> Client:
    return await Client.connect(
        runner.client.service_client.config.target_host,
        data_converter=pydantic_data_converter,
        plugins=[TracingPlugin(project=PROJECT, untraced=("Housekeeping",))],
    )


def _worker(client: Client, pool: Pool, queue: str) -> Worker:
    activities = SampleActivities(pool)
    return Worker(
        client,
        task_queue=queue,
        workflows=[SampleWorkflow, Housekeeping, SecondTime, Abandons, Mistaken, Strange, Ticking],
        activities=[activities.step, activities.complete],
        workflow_runner=UnsandboxedWorkflowRunner(),
    )


async def _trees(runner: Runner) -> list[str]:
    rows = await runner.rows()
    roots = [row for row in rows if row["_kind"] == "trace"]
    return [
        dump([root, *(row for row in rows if row.get("trace_id") == root["id"])]) for root in roots
    ]


async def test_a_child_of_an_untraced_run_has_a_trace_that_ends(runner: Runner) -> None:
    client = await _client(runner)
    async with _worker(client, runner.pool, runner.queue):
        await client.execute_workflow(
            Housekeeping.run, STORY, id=f"house-{runner.queue}", task_queue=runner.queue
        )
    assert await _trees(runner) == [f"SampleWorkflow{STAGE}"]


async def test_a_retried_run_is_one_trace_that_ends_as_its_last_attempt(runner: Runner) -> None:
    client = await _client(runner)
    async with _worker(client, runner.pool, runner.queue):
        await client.execute_workflow(
            SecondTime.run,
            STORY,
            id=f"second-{runner.queue}",
            task_queue=runner.queue,
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=10)),
        )
    assert await _trees(runner) == [f"SecondTime{STAGE}{STAGE}"]
    (root,) = [row for row in await runner.rows() if row["_kind"] == "trace"]
    assert root["metadata"]["status"] == "success"


async def test_an_abandoned_child_adds_to_its_parents_trace_after_the_end(runner: Runner) -> None:
    client = await _client(runner)
    async with _worker(client, runner.pool, runner.queue):
        handle = await client.start_workflow(
            Abandons.run,
            Story(waits=True, then=STORY),
            id=f"abandons-{runner.queue}",
            task_queue=runner.queue,
        )
        await handle.result()
        child = client.get_workflow_handle(f"{handle.id}-child")
        await child.signal("go_on")
        await child.result()
    assert await _trees(runner) == [f"Abandons{STAGE}"]
    (root,) = [row for row in await runner.rows() if row["_kind"] == "trace"]
    assert root["metadata"]["total_tokens"] == 125


async def test_a_mistake_that_is_mended_is_no_failure(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await _client(runner)
    async with _worker(client, runner.pool, runner.queue):
        handle = await client.start_workflow(
            Mistaken.run, STORY, id=f"mistaken-{runner.queue}", task_queue=runner.queue
        )
        async with asyncio.timeout(30):
            while not await _task_failed(client, handle.id):  # noqa: ASYNC110 - Temporal's
                await asyncio.sleep(0.05)
        assert await _trees(runner) == [f"Mistaken …{STAGE}"]
        monkeypatch.setattr(Mistaken, "mended", True)
        await handle.result()
    assert await _trees(runner) == [f"Mistaken{STAGE}"]


async def _task_failed(client: Client, identity: str) -> bool:
    history = await client.get_workflow_handle(identity).fetch_history()
    return any(e.HasField("workflow_task_failed_event_attributes") for e in history.events)


async def test_a_result_that_is_no_json_ends_the_run_too(runner: Runner) -> None:
    client = await _client(runner)
    async with _worker(client, runner.pool, runner.queue), asyncio.timeout(20):
        handle = await client.start_workflow(
            Strange.run, STORY, id=f"strange-{runner.queue}", task_queue=runner.queue
        )
        assert await handle.result() == b"\xff\x00"
    assert await _trees(runner) == [f"Strange{STAGE}"]


class Closing:
    """A `complete` that raises an error for ever, or as often as it is told."""

    def __init__(self, error: Exception, times: float = math.inf) -> None:
        self.error = error
        self.times = times
        self.calls = 0
        self.called_often = asyncio.Event()

    @activity.defn
    async def complete(self, end: RunEnd) -> None:
        """Fail."""
        self.calls += 1
        if self.calls == 4:
            self.called_often.set()
        if self.calls <= self.times:
            raise self.error


async def _started(
    runner: Runner, closing: Closing, close_timeout: timedelta = timedelta(minutes=5)
) -> tuple[Worker, WorkflowHandle[SampleWorkflow, Outcome]]:
    client = await Client.connect(
        runner.client.service_client.config.target_host,
        data_converter=pydantic_data_converter,
        plugins=[TracingPlugin(project=PROJECT, close_timeout=close_timeout)],
    )
    worker = Worker(
        client,
        task_queue=runner.queue,
        workflows=[SampleWorkflow],
        activities=[closing.complete],
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    handle = await client.start_workflow(
        SampleWorkflow.run, Story(), id=f"closing-{runner.queue}", task_queue=runner.queue
    )
    return worker, handle


@pytest.mark.parametrize(
    "error",
    [
        ValidationError.from_exception_data("GoalOutcome", []),
        ValueError("no status of a run"),
        UnicodeDecodeError("utf-8", b"", 0, 1, "a subclass of ValueError"),
        KeyError("status"),
        AttributeError("status"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_mistake_in_closing_never_holds_a_run(runner: Runner, error: Exception) -> None:
    closing = Closing(error)
    worker, handle = await _started(runner, closing)
    async with asyncio.timeout(30), worker:
        assert (await handle.result()).status == "success"
    assert closing.calls == 1


async def test_closing_waits_while_postgresql_is_away(runner: Runner) -> None:
    closing = Closing(ConnectionRefusedError("PostgreSQL"), times=4)
    worker, handle = await _started(runner, closing)
    async with asyncio.timeout(30), worker:
        assert (await handle.result()).status == "success"
    assert closing.calls == 5


async def test_a_run_ends_when_closing_takes_too_long(runner: Runner) -> None:
    closing = Closing(ConnectionRefusedError("PostgreSQL"))
    worker, handle = await _started(runner, closing, timedelta(seconds=1))
    async with asyncio.timeout(30), worker:
        assert (await handle.result()).status == "success"
    assert closing.calls > 1


async def test_a_worker_stops_though_closing_is_retried(runner: Runner) -> None:
    closing = Closing(ConnectionRefusedError("PostgreSQL"))
    worker, handle = await _started(runner, closing)
    async with asyncio.timeout(30), worker:
        await closing.called_often.wait()
    await handle.terminate()


async def test_every_run_of_a_cron_job_is_a_trace_of_its_own(runner: Runner) -> None:
    client = await _client(runner)
    async with _worker(client, runner.pool, runner.queue):
        handle = await client.start_workflow(
            Ticking.run,
            STORY,
            id=f"ticking-{runner.queue}",
            task_queue=runner.queue,
            cron_schedule="@every 1s",
        )
        async with asyncio.timeout(30):
            while len(await runner.rows()) < 10:  # noqa: ASYNC110 - Temporal's clock
                await asyncio.sleep(0.1)
        await handle.terminate()
    trees = await _trees(runner)
    assert len(trees) >= 2
    assert trees[0] == f"Ticking{STAGE}"


async def test_a_worker_stopped_while_it_ends_a_trace_leaves_it_to_the_next(
    runner: Runner,
) -> None:
    client = await _client(runner)
    blocker = await runner.pool.acquire()
    lock = blocker.transaction()
    await lock.start()
    await blocker.execute("LOCK TABLE trace_outbox IN SHARE MODE")
    handle = await client.start_workflow(
        SampleWorkflow.run, Story(), id=f"stopped-{runner.queue}", task_queue=runner.queue
    )
    async with _worker(client, runner.pool, runner.queue) as first, asyncio.timeout(30):
        await waiting(runner.pool)
        stopping = asyncio.create_task(first.shutdown())
        await asyncio.sleep(0)
        await lock.rollback()
        await stopping
    await runner.pool.release(blocker)
    async with _worker(client, runner.pool, runner.queue), asyncio.timeout(30):
        await handle.result()
    assert await _trees(runner) == ["SampleWorkflow"]


async def test_an_activity_without_a_workflow_ends_its_own_trace(runner: Runner) -> None:
    client = await _client(runner)
    async with _worker(client, runner.pool, runner.queue):
        for told in (Step(name="generation"), Step(name="planning", fails_for_good=True)):
            with contextlib.suppress(ActivityFailureError):
                await client.execute_activity_method(
                    SampleActivities.step,
                    told,
                    id=f"{told.name}-{runner.queue}",
                    task_queue=runner.queue,
                    start_to_close_timeout=timedelta(seconds=20),
                )
    said = "! MODEL_SAID_NO"
    assert sorted(await _trees(runner)) == [
        f"step{STAGE}",
        f"step {said}\n  planning_stage {said}\n    llm_call_planning {said}",
    ]

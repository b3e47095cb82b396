"""A small workflow of the tracing tests' own. Run as a script it is a worker that can be killed."""

import asyncio
import os
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

with workflow.unsafe.imports_passed_through():
    from db import pool as database
    from db.pool import Pool
    from tracing import RunEnd, Score, StageTrace, TracingPlugin, close_trace, put_scores

PROJECT = "tracing-tests"


class Tokens(BaseModel):
    """A model call's usage."""

    input_tokens: int = 100
    output_tokens: int = 20
    thought_tokens: int = 5
    cached_tokens: int = 0


class Step(BaseModel):
    """One activity: which of its attempts fail or hang, and the text that it is about."""

    name: str
    text: str = "secret"
    failing: list[int] = []
    hanging: list[int] = []
    fails_for_good: bool = False
    flag: str = ""  # a file that says that the hanging attempt has begun


class Story(BaseModel):
    """What the workflow does."""

    steps: list[Step] = []
    child: "Story | None" = None
    waits: bool = False
    then: "Story | None" = None  # continued as new
    raises: bool = False


class Outcome(BaseModel):
    """What the workflow returns."""

    status: str = "success"
    said: str = "secret"


class SampleActivities:
    """The activities of the sample: a stage that stores its spans, and the end of a trace."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @activity.defn
    async def step(self, step: Step) -> str:
        """One attempt."""
        attempt = activity.info().attempt
        trace = StageTrace.start(
            f"{step.name}_stage", input={"text": step.text}, metadata={"prompt": "step:v1"}
        )
        async with self._pool.acquire() as conn, conn.transaction():
            await trace.open(conn)
        call = trace.child(
            f"llm_call_{step.name}",
            type="llm",
            model="gemini-2.0-flash",
            provider="google_ai",
            input={"user": step.text},
        )
        if attempt in step.hanging:
            await asyncio.to_thread(Path(step.flag).touch)
            await asyncio.Event().wait()
        if step.fails_for_good or attempt in step.failing:
            call.fail("MODEL_SAID_NO", step.text, Tokens(), Decimal("0.001"))
            async with self._pool.acquire() as conn, conn.transaction():
                await trace.fail(conn, "MODEL_SAID_NO", step.text, retrying=not step.fails_for_good)
            raise ApplicationError("no", type="MODEL_SAID_NO", non_retryable=step.fails_for_good)
        call.finish({"answer": step.text}, Tokens(), Decimal("0.002"))
        trace.child("json_parsing").finish()
        async with self._pool.acquire() as conn, conn.transaction():
            await trace.finish(conn, {"said": step.text})
        return step.text

    @activity.defn
    async def complete(self, end: RunEnd) -> None:
        """Close the trace, with a score."""
        async with self._pool.acquire() as conn, conn.transaction():
            score = Score(name="evaluation_logged.overall", value=7.5, reason="secret")
            await put_scores(conn, end.trace_id, end.project, [score])
            await close_trace(conn, end, output=end.result, metadata={"quality_status": "FAIR"})


@workflow.defn
class SampleWorkflow:
    """A workflow that follows its story."""

    def __init__(self) -> None:
        self._go_on = False

    @workflow.run
    async def run(self, story: Story) -> Outcome:
        """One step after the other."""
        for step in story.steps:
            await workflow.execute_activity_method(
                SampleActivities.step,
                step,
                start_to_close_timeout=timedelta(seconds=30),
                heartbeat_timeout=timedelta(seconds=1) if step.hanging else None,
                retry_policy=RetryPolicy(
                    initial_interval=timedelta(milliseconds=10), backoff_coefficient=1
                ),
            )
        if story.child:
            await workflow.execute_child_workflow(SampleWorkflow.run, story.child)
        if story.waits:
            await workflow.wait_condition(lambda: self._go_on)
        if story.raises:
            raise ApplicationError("secret", type="STORY_ENDS_BADLY")
        if story.then:
            workflow.continue_as_new(story.then)
        return Outcome()

    @workflow.signal
    def go_on(self) -> None:
        """Wait no longer."""
        self._go_on = True

    @workflow.update
    def hello(self) -> str:
        """Answers."""
        return "hello"


async def connected(address: str) -> Client:
    """A client with the plugin under test."""
    return await Client.connect(
        address,
        data_converter=pydantic_data_converter,
        plugins=[TracingPlugin(project=PROJECT, environment="test")],
    )


def sample_worker(client: Client, pool: Pool, queue: str, **options: Any) -> Worker:
    """A worker of the sample; its workflows run without the sandbox unless told otherwise."""
    activities = SampleActivities(pool)
    options.setdefault("workflow_runner", UnsandboxedWorkflowRunner())
    return Worker(
        client,
        task_queue=queue,
        workflows=[SampleWorkflow],
        activities=[activities.step, activities.complete],
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
        **options,
    )


async def main() -> None:
    """Work until killed."""
    address, url, queue = sys.argv[1:]
    async with database.connect(url, size=4, role="rein_operations") as pool:
        await sample_worker(await connected(address), pool, queue).run()


if __name__ == "__main__":
    asyncio.run(main())
    os._exit(0)

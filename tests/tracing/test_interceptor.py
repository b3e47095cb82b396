"""One run is one trace with the whole tree, however it ends and whatever dies meanwhile."""

import asyncio
import sys
from pathlib import Path

import pytest
from temporalio.client import (
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from tests.tracing.conftest import Runner, trace_of
from tests.tracing.sample import (
    PROJECT,
    SampleWorkflow,
    Step,
    Story,
    sample_worker,
)
from tracing import TraceContext, TracingPlugin, close_trace, lost_end

pytestmark = pytest.mark.stack

TWO_STEPS = Story(steps=[Step(name="preprocessing"), Step(name="generation")])
TREE_OF_TWO = """\
sample_pipeline
  preprocessing_stage
    llm_call_preprocessing
    json_parsing
  generation_stage
    llm_call_generation
    json_parsing"""


async def _run(runner: Runner, story: Story, **options: object) -> WorkflowHandle:  # type: ignore[type-arg]
    async with sample_worker(runner.client, runner.pool, runner.queue, **options):
        handle = await runner.start(story)
        await handle.result()
    return handle


async def _root(runner: Runner, trace_id: str) -> dict[str, object]:
    (root,) = [row for row in await runner.rows(trace_id) if row["_kind"] == "trace"]
    return root


@pytest.mark.parametrize("sandboxed", [False, True])
@pytest.mark.parametrize("cached", [1000, 0])
async def test_success(runner: Runner, sandboxed: bool, cached: int) -> None:
    kind = SandboxedWorkflowRunner() if sandboxed else UnsandboxedWorkflowRunner()
    handle = await _run(runner, TWO_STEPS, workflow_runner=kind, max_cached_workflows=cached)
    assert await runner.tree(trace_of(handle)) == TREE_OF_TWO
    root = await _root(runner, trace_of(handle))
    metadata = root["metadata"]
    assert isinstance(metadata, dict)
    assert metadata.pop("duration_ms") >= 0
    assert metadata == {
        "user_id": "u-1",
        "status": "success",
        "quality_status": "FAIR",
        "workflow_id": handle.id,
        "workflow_run_id": handle.result_run_id,
        "prompt_tokens": 200,
        "completion_tokens": 50,
        "total_tokens": 250,
        "cost_usd": 0.004,
        "errors": 0,
        "scores_logged": 1,
    }
    assert root["output"] == {"status": "success", "said": "secret"}
    assert (root["thread_id"], root["tags"]) == ("goal-1", ["sample"])


async def test_only_the_closing_is_in_the_history(runner: Runner) -> None:
    handle = await _run(runner, TWO_STEPS)
    history = await handle.fetch_history()
    markers = [e for e in history.events if e.HasField("marker_recorded_event_attributes")]
    assert len(markers) == 1


async def test_replay_emits_nothing(runner: Runner) -> None:
    handle = await _run(runner, TWO_STEPS)
    before = await runner.rows()
    replayer = Replayer(
        workflows=[SampleWorkflow],
        data_converter=pydantic_data_converter,
        workflow_runner=UnsandboxedWorkflowRunner(),
        plugins=[TracingPlugin(project=PROJECT)],
    )
    await replayer.replay_workflow(await handle.fetch_history())
    assert await runner.rows() == before


async def test_failed_attempts_are_spans_and_their_tokens_count(runner: Runner) -> None:
    handle = await _run(runner, Story(steps=[Step(name="generation", failing=[1, 2])]))
    assert (
        await runner.tree(trace_of(handle))
        == """\
sample_pipeline
  generation_stage
    attempt_1 ! MODEL_SAID_NO
      llm_call_generation ! MODEL_SAID_NO
    attempt_2 ! MODEL_SAID_NO
      llm_call_generation ! MODEL_SAID_NO
    attempt_3
      llm_call_generation
      json_parsing"""
    )
    metadata = (await _root(runner, trace_of(handle)))["metadata"]
    assert isinstance(metadata, dict)
    assert (metadata["total_tokens"], metadata["cost_usd"]) == (375, 0.004)


async def test_failure_for_good(runner: Runner) -> None:
    async with sample_worker(runner.client, runner.pool, runner.queue):
        handle = await runner.start(Story(steps=[Step(name="generation", fails_for_good=True)]))
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    assert (
        await runner.tree(trace_of(handle))
        == """\
sample_pipeline ! MODEL_SAID_NO
  generation_stage ! MODEL_SAID_NO
    llm_call_generation ! MODEL_SAID_NO"""
    )
    metadata = (await _root(runner, trace_of(handle)))["metadata"]
    assert isinstance(metadata, dict)
    assert metadata["status"] == "failed"


async def test_the_workflows_own_error_is_the_traces(runner: Runner) -> None:
    async with sample_worker(runner.client, runner.pool, runner.queue):
        handle = await runner.start(Story(raises=True))
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    assert await runner.tree(trace_of(handle)) == "sample_pipeline ! STORY_ENDS_BADLY"


async def _worker_process(runner: Runner) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.tracing.sample",
        runner.client.service_client.config.target_host,
        runner.url,
        runner.queue,
    )


async def _appears(flag: Path) -> None:
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(flag.exists):  # noqa: ASYNC110 - another process's
            await asyncio.sleep(0.05)


async def test_worker_killed_in_mid_activity(runner: Runner, tmp_path: Path) -> None:
    flag = tmp_path / "begun"
    lost = Step(name="generation", hanging=[1], flag=str(flag))
    doomed = await _worker_process(runner)
    try:
        handle = await runner.start(Story(steps=[Step(name="preprocessing"), lost]))
        await _appears(flag)
    finally:
        doomed.kill()
        await doomed.wait()
    async with sample_worker(runner.client, runner.pool, runner.queue):
        await handle.result()
    assert (
        await runner.tree(trace_of(handle))
        == """\
sample_pipeline
  preprocessing_stage
    llm_call_preprocessing
    json_parsing
  generation_stage
    attempt_1 ! ActivityAttemptLost
    attempt_2
      llm_call_generation
      json_parsing"""
    )


async def test_cancel(runner: Runner) -> None:
    async with sample_worker(runner.client, runner.pool, runner.queue):
        handle = await runner.start(Story(steps=[Step(name="generation")], waits=True))
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    root = await _root(runner, trace_of(handle))
    assert isinstance(root["metadata"], dict)
    assert root["metadata"]["status"] == "cancelled"
    assert "…" not in await runner.tree(trace_of(handle))


async def test_terminate_is_closed_from_outside(runner: Runner, tmp_path: Path) -> None:
    flag = tmp_path / "begun"
    story = Story(steps=[Step(name="generation", hanging=[1, 2, 3, 4], flag=str(flag))])
    async with sample_worker(runner.client, runner.pool, runner.queue):
        handle = await runner.start(story)
        await _appears(flag)
        await handle.terminate()
        description = await handle.describe()
    assert await runner.tree(trace_of(handle)) == "sample_pipeline …\n  generation_stage …"
    assert description.close_time is not None
    context = TraceContext(trace_id=trace_of(handle), project=PROJECT)
    async with runner.pool.acquire() as conn:
        end = lost_end(context.trace_id, "terminated", description.close_time, project=PROJECT)
        await close_trace(conn, end)
    assert await runner.tree(trace_of(handle)) == (
        "sample_pipeline ! WorkflowTerminated\n  generation_stage ! WorkflowTerminated"
    )

"""The context reaches later runs and children, and is derived where it is missing."""

from datetime import UTC, datetime

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import (
    WithStartWorkflowOperation,
    WorkflowHandle,
)
from temporalio.common import WorkflowIDConflictPolicy

from tests.tracing.conftest import Runner, trace_of
from tests.tracing.sample import (
    PROJECT,
    Outcome,
    SampleWorkflow,
    Step,
    Story,
    sample_worker,
)
from tracing import RunEnd, TraceContext, attach, new_trace_id

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


async def test_continue_as_new_stays_in_one_trace(runner: Runner) -> None:
    story = Story(steps=[Step(name="preprocessing")], then=Story(steps=[Step(name="generation")]))
    handle = await _run(runner, story)
    assert await runner.tree(trace_of(handle)) == TREE_OF_TWO


async def test_a_childs_stages_are_in_its_parents_trace(runner: Runner) -> None:
    story = Story(steps=[Step(name="preprocessing")], child=Story(steps=[Step(name="generation")]))
    handle = await _run(runner, story)
    assert await runner.tree(trace_of(handle)) == TREE_OF_TWO
    assert len({row["project_name"] for row in await runner.rows() if "project_name" in row}) <= 1
    assert len([row for row in await runner.rows() if row["_kind"] == "trace"]) == 1


async def test_a_run_without_a_header_has_one_trace_too(runner: Runner) -> None:
    async with sample_worker(runner.client, runner.pool, runner.queue):
        await runner.client.execute_workflow(
            SampleWorkflow.run,
            Story(steps=[Step(name="preprocessing")], then=Story(steps=[Step(name="generation")])),
            id=f"by-hand-{runner.queue}",
            task_queue=runner.queue,
        )
    (root,) = [row for row in await runner.rows() if row["_kind"] == "trace"]
    assert await runner.tree(root["id"]) == TREE_OF_TWO.replace("sample_pipeline", "SampleWorkflow")


async def test_a_workflow_id_that_names_a_trace_is_that_trace(runner: Runner) -> None:
    trace_id = new_trace_id(datetime.now(UTC))
    async with sample_worker(runner.client, runner.pool, runner.queue):
        await runner.client.execute_workflow(
            SampleWorkflow.run, TWO_STEPS, id=f"sample-{trace_id}", task_queue=runner.queue
        )
    assert {row["id"] for row in await runner.rows() if row["_kind"] == "trace"} == {str(trace_id)}


async def test_reset_closes_again_and_keeps_what_was(runner: Runner) -> None:
    async with sample_worker(runner.client, runner.pool, runner.queue):
        handle = await runner.start(TWO_STEPS)
        await handle.result()
        first_end = (await _root(runner, trace_of(handle)))["end_time"]
        history = await handle.fetch_history()
        first_task = next(
            e.event_id
            for e in history.events
            if e.HasField("workflow_task_completed_event_attributes")
        )
        await runner.client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=runner.client.namespace,
                workflow_execution=WorkflowExecution(
                    workflow_id=handle.id, run_id=handle.first_execution_run_id or ""
                ),
                reason="test",
                workflow_task_finish_event_id=first_task,
                request_id=runner.queue,
            )
        )
        await runner.client.get_workflow_handle(handle.id).result()
    stages = TREE_OF_TWO.split("\n", 1)[1]
    assert await runner.tree(trace_of(handle)) == f"sample_pipeline\n{stages}\n{stages}"
    assert str((await _root(runner, trace_of(handle)))["end_time"]) > str(first_end)


async def test_update_with_start_and_signal_with_start_carry_the_context(runner: Runner) -> None:
    first, second = (
        TraceContext(trace_id=new_trace_id(datetime.now(UTC)), project=PROJECT) for _ in range(2)
    )
    async with sample_worker(runner.client, runner.pool, runner.queue):
        with attach(first):
            start = WithStartWorkflowOperation(
                SampleWorkflow.run,
                Story(),
                id=f"{runner.queue}-update",
                task_queue=runner.queue,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            )
            await runner.client.execute_update_with_start_workflow(
                SampleWorkflow.hello, start_workflow_operation=start
            )
            await (await start.workflow_handle()).result()
        with attach(second):
            handle = await runner.client.start_workflow(
                SampleWorkflow.run,
                Story(waits=True),
                id=f"{runner.queue}-signal",
                task_queue=runner.queue,
                start_signal="go_on",
            )
            result: Outcome = await handle.result()
    assert result.status == "success"
    roots = {row["id"] for row in await runner.rows() if row["_kind"] == "trace"}
    assert roots == {str(first.trace_id), str(second.trace_id)}


def test_run_end_reads_what_an_older_worker_wrote() -> None:
    end = RunEnd.model_validate(
        {
            "trace_id": "01a20bbf-bab5-70ee-ab6b-e1850a3be56f",
            "project": "p",
            "status": "success",
            "ended_at": "2026-01-01T00:00:00Z",
        }
    )
    assert end.root is None

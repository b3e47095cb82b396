"""Every recorded history still replays: what older code began, this code can finish."""

from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from tracing import TracingPlugin
from workflows.goals import GoalGenerationWorkflow
from workflows.runs import list_cost

RECORDED = sorted(Path(__file__).parent.glob("*.json"))


def history(path: Path) -> WorkflowHistory:
    """Under its own workflow id, by which the tracing knows whose trace it is."""
    text = path.read_text()
    started = WorkflowHistory.from_json("unknown", text).events[0]
    workflow_id = started.workflow_execution_started_event_attributes.workflow_id
    return WorkflowHistory.from_json(workflow_id, text)


def test_every_way_of_ending_is_recorded() -> None:
    ends = {path.stem.split("-")[-1] for path in RECORDED}
    wanted = {"success", "revised", "refused", "partial", "failed", "rerun", "cancelled"}
    assert wanted | {"crisis", "blocked"} <= ends


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
async def test_it_replays(path: Path) -> None:
    replayer = Replayer(
        workflows=[GoalGenerationWorkflow],
        data_converter=pydantic_data_converter,
        workflow_runner=UnsandboxedWorkflowRunner(),
        plugins=[TracingPlugin(project="replay", closed=list_cost)],
    )
    await replayer.replay_workflow(history(path))

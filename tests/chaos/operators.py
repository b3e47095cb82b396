"""An operator: cancels and repeats runs through the API, ends and resets them in Temporal."""

from collections import Counter
from uuid import UUID, uuid4

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.service import RPCError

from domain.runs import workflow_id
from tests.chaos.people import People, Run
from tests.chaos.story import Step

# Runs are cancelled and terminated while they are under way, so one of the last few is taken.
LAST_FEW = 5


class Operator:
    """Does one thing to one run. What it is too late for, or Temporal is away for, is counted."""

    def __init__(self, people: People, temporal: Client) -> None:
        self.done: Counter[str] = Counter()
        self._people = people
        self._temporal = temporal

    async def act(self, step: Step) -> None:
        """Do what the step says to the run that it picks."""
        runs = self._people.runs
        if step.what in ("cancel", "terminate"):
            runs = runs[-LAST_FEW:]
        if not runs:
            self.done[f"{step.what}: no run yet"] += 1
            return
        try:
            came = await self._do(step, runs[int(step.pick * len(runs))])
        except RPCError as error:
            came = error.status.name
        self.done[f"{step.what}: {came}"] += 1

    async def _do(self, step: Step, run: Run) -> str:
        path = f"/api/runs/{run.trace_id}"
        match step.what:
            case "cancel":
                return str((await self._people.send(f"{path}/cancel")).status_code)
            case "rerun":
                self._people.begin(f"{path}/rerun", {"from_stage": step.on})
                return "asked for"
            case "terminate":
                await self._temporal.get_workflow_handle(_workflow(run)).terminate("chaos")
                return "done"
            case _:
                return await self._reset(run)

    async def _reset(self, run: Run) -> str:
        """Reset to the first workflow task: everything is done again, nothing bought again."""
        handle = self._temporal.get_workflow_handle(_workflow(run))
        async for event in handle.fetch_history_events(page_size=10):
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                request = ResetWorkflowExecutionRequest(
                    namespace=self._temporal.namespace,
                    workflow_execution=WorkflowExecution(workflow_id=_workflow(run)),
                    workflow_task_finish_event_id=event.event_id,
                    request_id=str(uuid4()),
                    reason="chaos",
                )
                await self._temporal.workflow_service.reset_workflow_execution(request)
                return "done"
        return "too early"


def _workflow(run: Run) -> str:
    return workflow_id("goal_generation", UUID(run.trace_id))

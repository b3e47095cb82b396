"""Starting a run's workflow: the API does it at once, the reconciler when that did not happen."""

from datetime import timedelta

from temporalio.client import Client
from temporalio.common import (
    Priority,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError

from domain.goals import GoalRequest
from domain.runs import workflow_id
from workflows.goals import GoalGenerationWorkflow
from workflows.options import KIND, MODEL, PROMPTS, STATUS, TRACE, USER

INTERACTIVE = Priority(priority_key=1)


async def start_goal_generation(
    client: Client, request: GoalRequest, *, task_queue: str, trace_url: str
) -> None:
    """Start the run that `request` describes; starting it again changes nothing.

    The caller attaches the trace's context. Raises RPCError when Temporal cannot be reached.
    """
    try:
        await client.start_workflow(
            GoalGenerationWorkflow.run,
            request,
            id=workflow_id("goal_generation", request.trace_id),
            task_queue=task_queue,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            # A task handed to a worker that died is given to another one after this.
            task_timeout=timedelta(seconds=2),
            rpc_timeout=timedelta(seconds=3),
            search_attributes=_search_attributes(request),
            memo={
                "trace_id": str(request.trace_id),
                "trace_url": trace_url,
                "manifest": request.manifest,
            },
            static_summary=f"Goal of {request.user}: {' '.join(request.goal.split())[:120]}",
            static_details=_details(request, trace_url),
            priority=INTERACTIVE,
        )
    except WorkflowAlreadyStartedError:
        return  # it ran to its end before: the row knows how


def _search_attributes(request: GoalRequest) -> TypedSearchAttributes:
    prompts = [f"{stage}:v{ref.version}" for stage, ref in request.manifest.prompts.items()]
    return TypedSearchAttributes(
        [
            SearchAttributePair(KIND, "goal_generation"),
            SearchAttributePair(USER, request.user),
            SearchAttributePair(STATUS, "running"),
            SearchAttributePair(MODEL, request.manifest.model),
            SearchAttributePair(PROMPTS, prompts),
            SearchAttributePair(TRACE, str(request.trace_id)),
        ]
    )


def _details(request: GoalRequest, trace_url: str) -> str:
    rerun = request.rerun
    again = f"\n- Repeats {rerun.source_trace_id} from {rerun.from_stage}" if rerun else ""
    return (
        f"- Goal: {' '.join(request.goal.split())[:1000]}\n"
        f"- For: `{request.user}` ({request.locale})\n"
        f"- Trace: [{request.trace_id}]({trace_url}){again}\n"
    )

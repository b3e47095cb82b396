"""The kinds of run: the one table that a new kind is added to."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.goals import EVALUATE, GENERATE, PLAN, PREPROCESS, finish_goal
    from activities.reruns import repeat_goal, repeat_run
    from activities.runs import Finish, finish_nothing
    from activities.stage import StageSpec
    from domain.goals import GoalOutcome, GoalRequest, redone_stages
    from domain.runs import REPAIR, Rerun, RunKind, RunOutcome, RunRequest, RunStatus, Stage
    from workflows.goals import GoalGenerationWorkflow

Repeat = Callable[..., Awaitable[Rerun]]


@dataclass(frozen=True)
class Kind:
    """What is special to one kind of run; all else is the same for every kind."""

    workflow: type
    run: Callable[[Any, Any], Awaitable[RunOutcome]]
    """The workflow's run method, which takes a `request` and returns an `outcome`."""
    request: type[RunRequest]
    outcome: type[RunOutcome]
    trace: str
    """The name of its traces."""
    path: str | None = None
    """Where the API shows such runs whole, followed by the trace id."""
    stages: tuple[StageSpec[Any, Any, Any], ...] = ()
    """The stages that ask a model, in their order."""
    finish: Finish = finish_nothing
    """What it adds when a run's end is recorded."""
    repeat: Repeat = repeat_run
    """What a rerun takes over; (connection, the source's request, the first stage, today)."""
    redone: Callable[[Stage], frozenset[Stage]] | None = None
    """The stages that a rerun from one does again; that one and all after it, if not given."""
    rated: frozenset[RunStatus] = frozenset(("success", "partial"))
    """The statuses in which people may rate it."""

    def stage_names(self) -> tuple[Stage, ...]:
        return tuple(stage.name for stage in self.stages)

    def prompt_names(self) -> tuple[str, ...]:
        """What its manifest names a prompt for: its stages, and the repair of their answers."""
        return (*self.stage_names(), REPAIR) if self.stages else ()

    def redone_from(self, stage: Stage) -> frozenset[Stage]:
        """What a rerun from `stage` does again."""
        names = self.stage_names()
        return self.redone(stage) if self.redone else frozenset(names[names.index(stage) :])


KINDS: Mapping[RunKind, Kind] = {
    "goal_generation": Kind(
        GoalGenerationWorkflow,
        GoalGenerationWorkflow.run,
        GoalRequest,
        GoalOutcome,
        trace="goal_generation_pipeline",
        path="/api/goals",
        stages=(PREPROCESS, GENERATE, EVALUATE, PLAN),
        finish=finish_goal,
        repeat=repeat_goal,
        redone=redone_stages,
    ),
}

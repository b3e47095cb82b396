"""The table of the kinds of runs. A new kind of run is added here."""

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
    """What differs between kinds of runs; everything else works the same for all of them."""

    workflow: type
    run: Callable[[Any, Any], Awaitable[RunOutcome]]
    """The workflow's run method. It takes a `request` and returns an `outcome`."""
    request: type[RunRequest]
    outcome: type[RunOutcome]
    trace: str
    """The name of the runs' traces."""
    path: str | None = None
    """The API path that, with a trace id after it, shows a run with all its results.

    None means that the API has no such path for the kind.
    """
    stages: tuple[StageSpec[Any, Any, Any], ...] = ()
    """The stages that ask a model, in the order in which they run."""
    finish: Finish = finish_nothing
    """The function that returns what the kind adds to the trace when a run ends."""
    repeat: Repeat = repeat_run
    """The function that describes a rerun: which earlier results it takes over.

    Its arguments are a connection, the request of the repeated run, the first stage that runs again
    and today's date where the person is.
    """
    redone: Callable[[Stage], frozenset[Stage]] | None = None
    """The function that returns the stages which a rerun from a stage runs again.

    None means the given stage and all stages after it.
    """
    rated: frozenset[RunStatus] = frozenset(("success", "partial"))
    """The statuses in which people may rate a run."""

    def stage_names(self) -> tuple[Stage, ...]:
        return tuple(stage.name for stage in self.stages)

    def prompt_names(self) -> tuple[str, ...]:
        """What its manifest names a prompt for: its stages, and the repair of their answers."""
        return (*self.stage_names(), REPAIR) if self.stages else ()

    def redone_from(self, stage: Stage) -> frozenset[Stage]:
        """Return the stages that a rerun from `stage` runs again."""
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

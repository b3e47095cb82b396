"""What goes into each stage, and what the pipeline returns."""

from datetime import date
from uuid import UUID

from pydantic import Field

from domain.goals.clarified import ClarifiedGoal
from domain.goals.evaluations import Evaluation, QualityStatus
from domain.goals.plans import PlanRef
from domain.goals.resolutions import Resolution
from domain.goals.submissions import GoalContext
from domain.runs import Message, PromptRef, RunRef, RunStatus, Stage


class TakenOver(Message):
    """What a rerun takes over from the run it repeats; nothing for a new run."""

    goal: ClarifiedGoal | None = None
    resolution: Resolution | None = None
    evaluation: Evaluation | None = None
    plan: PlanRef | None = None


class PreprocessRequest(Message):
    run: RunRef
    prompt: PromptRef
    goal: str
    locale: str
    context: GoalContext
    today: date


class GenerateRequest(Message):
    run: RunRef
    prompt: PromptRef
    goal: ClarifiedGoal
    locale: str
    context: GoalContext
    today: date
    draft: int = 1
    rejected: Resolution | None = Field(
        default=None, description="The first draft, when this is its revision"
    )
    suggestions: list[str] = Field(default=[])


class EvaluateRequest(Message):
    run: RunRef
    prompt: PromptRef
    resolution: Resolution
    locale: str


class PlanRequest(Message):
    run: RunRef
    prompt: PromptRef
    goal: ClarifiedGoal
    resolution: Resolution
    locale: str
    context: GoalContext
    today: date


class GoalOutcome(Message):
    """What GoalGenerationWorkflow returns; the texts are in the run's rows."""

    trace_id: UUID
    status: RunStatus
    title: str | None = None
    resolution_id: UUID | None = None
    evaluation_id: UUID | None = None
    plan_id: UUID | None = None
    quality_score: float | None = None
    quality_status: QualityStatus | None = None
    refusal_reason: str | None = None
    missing: dict[Stage, str] = Field(
        default={}, description="Stages that failed for good, with their error codes"
    )

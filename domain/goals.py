"""Goals: a person's words, what is clarified of them, what each stage of their pipeline is told."""

from datetime import date
from typing import Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from domain.evaluations import Evaluation, QualityStatus
from domain.plans import PlanRef
from domain.resolutions import Resolution
from domain.runs import Message, Rerun, RunKind, RunOutcome, RunRequest, StageRequest
from domain.text import Line, Sentence, clean

GOAL_MIN, GOAL_MAX = 3, 4000


class GoalContext(Message):
    """What a person may add to the goal. Everything is optional."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    experience: str | None = Field(
        default=None, max_length=1000, description="What the person can do today"
    )
    constraints: str | None = Field(
        default=None,
        max_length=1000,
        description="What gets in the way, e.g. a tight work schedule",
    )
    deadline: date | None = Field(
        default=None, description="The day by which the goal is to be reached"
    )
    hours_per_week: float | None = Field(
        default=None, gt=0, le=80, description="Time there is, in hours a week"
    )

    _no_nul = field_validator("experience", "constraints")(
        lambda text: None if text is None else clean(text)
    )


class GoalSubmission(BaseModel):
    """The body of `POST /api/goals`."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    goal: str = Field(
        min_length=GOAL_MIN, max_length=GOAL_MAX, description="The goal in the person's own words"
    )
    user_id: str = Field(
        min_length=1,
        max_length=200,
        pattern=r"^[!-~]+$",
        description="The caller's id of the person",
    )
    locale: str = Field(
        default="en",
        pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}$",
        description="BCP 47, e.g. en-GB",
    )
    context: GoalContext = GoalContext()

    _no_nul = field_validator("goal")(clean)


class GoalRerun(Rerun):
    """Names what a rerun takes over; what is not named is made anew."""

    clarified_by: UUID | None = Field(
        default=None, description="The trace id of the run that clarified the goal"
    )
    resolution_id: UUID | None = None
    evaluation_id: UUID | None = None
    plan_id: UUID | None = None


class GoalRequest(RunRequest):
    """Input of GoalGenerationWorkflow; its plan starts `today`."""

    kind: RunKind = "goal_generation"
    goal: str
    locale: str
    context: GoalContext
    rerun: GoalRerun | None = None


GoalCategory = Literal[
    "fitness",
    "health",
    "learning",
    "career",
    "finance",
    "habits",
    "creative",
    "relationships",
    "other",
]


class SmartCriteria(Message):
    """The goal taken apart by the SMART criteria (Doran, 1981), one sentence each."""

    specific: Sentence
    measurable: Sentence
    achievable: Sentence
    relevant: Sentence
    time_bound: Sentence


class ClarifiedGoalDraft(Message):
    """The preprocess stage's answer."""

    verdict: Literal["goal", "not_a_goal", "harmful"] = Field(
        description="'harmful' when helping would endanger someone; 'not_a_goal' when there is "
        "nothing to work towards"
    )
    refusal_reason: str | None = Field(
        default=None, description="One kind sentence for the person, unless 'goal'"
    )
    clarified_goal: str = Field(
        default="", description="The goal in one precise sentence; empty unless 'goal'"
    )
    category: GoalCategory = "other"
    smart: SmartCriteria | None = Field(default=None, description="Required when verdict is 'goal'")
    deadline: date | None = Field(
        default=None, description="The day the goal is due, if the goal implies one"
    )
    assumptions: list[Line] = Field(default=[], max_length=8)
    open_questions: list[Line] = Field(default=[], max_length=8)

    @model_validator(mode="after")
    def _a_goal_is_clarified(self) -> Self:
        if self.verdict == "goal" and (not self.clarified_goal.strip() or self.smart is None):
            raise ValueError("verdict 'goal' needs clarified_goal and smart")
        return self


class ClarifiedGoal(ClarifiedGoalDraft):
    """The goal as Rein works with it from here on."""

    trace_id: UUID


GOAL_STAGES = ("preprocess", "generate", "evaluate", "plan")


def redone_stages(from_stage: str) -> frozenset[str]:
    """What a rerun does again. Evaluate and plan stand side by side: one leaves the other alone."""
    if from_stage in ("evaluate", "plan"):
        return frozenset((from_stage,))
    return frozenset(GOAL_STAGES[GOAL_STAGES.index(from_stage) :])


class TakenOver(Message):
    """What a rerun takes over from the run it repeats; nothing for a new run."""

    goal: ClarifiedGoal | None = None
    resolution: Resolution | None = None
    evaluation: Evaluation | None = None
    plan: PlanRef | None = None


class PreprocessRequest(StageRequest):
    goal: str
    locale: str
    context: GoalContext
    today: date


class GenerateRequest(StageRequest):
    goal: ClarifiedGoal
    locale: str
    context: GoalContext
    today: date
    draft: int = 1
    rejected: Resolution | None = Field(
        default=None, description="The first draft, when this is its revision"
    )
    suggestions: list[str] = Field(default=[])


class EvaluateRequest(StageRequest):
    resolution: Resolution
    locale: str


class PlanRequest(StageRequest):
    goal: ClarifiedGoal
    resolution: Resolution
    locale: str
    context: GoalContext
    today: date


class GoalOutcome(RunOutcome):
    """What GoalGenerationWorkflow returns; the texts are in the run's rows."""

    resolution_id: UUID | None = None
    evaluation_id: UUID | None = None
    plan_id: UUID | None = None
    quality_status: QualityStatus | None = None

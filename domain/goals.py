"""Goals: a person's text, the clarified goal, and the input and output of the pipeline's stages."""

from datetime import date
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from domain.crisis import refusal
from domain.evaluations import Evaluation, QualityStatus
from domain.languages import language_of, say
from domain.plans import WEEKDAYS, Limits, PlanRef, Weekday, impossible
from domain.resolutions import Resolution
from domain.runs import Message, Rerun, RunKind, RunOutcome, RunRequest, StageRequest, TimeZone
from domain.text import Line, Sentence, clean, clean_or_none, visible_length

# GOAL_MIN and GOAL_MAX count visible characters. Some scripts need several code points for one
# visible character, so the limit in code points is higher.
GOAL_MIN, GOAL_MAX = 2, 4000
GOAL_MAX_CODE_POINTS = 12_000


class GoalContext(Message):
    """What a person may tell in addition to the goal. Every field is optional."""

    # In the OpenAPI document the fields stay optional in answers too, unlike those of a Message.
    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=False)

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
    rest_days: tuple[Weekday, ...] | None = Field(
        default=None, description="Days of the week that are kept free of tasks"
    )


class SubmittedContext(GoalContext):
    """What a person may add to the goal. Every field is optional."""

    # Only the API's input refuses unknown fields. The base class ignores them, because an older
    # worker must be able to read a run that a newer release accepted with an additional field.
    model_config = ConfigDict(extra="forbid")

    hours_per_week: float | None = Field(
        default=None, ge=0.25, le=80, description="Time there is, in hours a week"
    )

    _clean = field_validator("experience", "constraints")(clean_or_none)

    @field_validator("rest_days")
    @classmethod
    def _one_day_is_left(cls, days: tuple[Weekday, ...] | None) -> tuple[Weekday, ...] | None:
        named = tuple(day for day in WEEKDAYS if day in (days or ()))
        if named == WEEKDAYS:
            raise ValueError("expected at most six days, so that one is left for tasks")
        return named or None


def _seen(goal: str) -> str:
    goal = clean(goal)
    length = visible_length(goal)
    if not GOAL_MIN <= length <= GOAL_MAX:
        raise ValueError(f"expected {GOAL_MIN} to {GOAL_MAX} visible characters, found {length}")
    return goal


class GoalSubmission(BaseModel):
    """The body of `POST /api/goals`."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    goal: Annotated[str, AfterValidator(_seen)] = Field(
        min_length=GOAL_MIN,
        max_length=GOAL_MAX_CODE_POINTS,
        description=f"The goal in the person's own words: {GOAL_MIN} to {GOAL_MAX} characters "
        "that can be seen",
    )
    user_id: str = Field(
        min_length=1,
        max_length=200,
        pattern=r"^[!-~]+$",
        description="The caller's id of the person",
    )
    locale: str | None = Field(
        default=None,
        pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}$",
        description="BCP 47, e.g. en-GB; the language of the goal, if not given",
    )
    time_zone: TimeZone | None = Field(default=None, description="UTC, if not given")
    context: SubmittedContext | None = None


class GoalRerun(Rerun):
    """The results that a rerun of a goal takes over from earlier runs, by id.

    A result whose id is None is made again.
    """

    clarified_by: UUID | None = Field(
        default=None, description="The trace id of the run that clarified the goal"
    )
    resolution_id: UUID | None = None
    evaluation_id: UUID | None = None
    plan_id: UUID | None = None


class GoalRequest(RunRequest):
    """Input of GoalGenerationWorkflow. The plan starts on the date in `today`."""

    kind: RunKind = "goal_generation"
    goal: str
    locale: str | None = None
    context: GoalContext
    rerun: GoalRerun | None = None

    @property
    def words(self) -> str:
        """All text that the person wrote: the goal, the experience and the constraints."""
        said = (self.goal, self.context.experience, self.context.constraints)
        return "\n".join(text for text in said if text)


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
    """What makes the goal SMART (Doran, 1981): one sentence for each of the five criteria."""

    specific: Sentence
    measurable: Sentence
    achievable: Sentence
    relevant: Sentence
    time_bound: Sentence


MOST_REMARKS = 8


class ClarifiedGoalDraft(Message):
    """The model's answer in the preprocess stage.

    The schema that is sent requires every field (llm/gemini.py), because models tend to leave out
    optional ones; an answer that refuses the goal may still lack what a refusal does not need.
    """

    verdict: Literal["goal", "not_a_goal", "harmful"] = Field(
        description="'harmful' when helping would endanger someone; 'not_a_goal' when there is "
        "nothing to work towards"
    )
    refusal_reason: str | None = Field(
        default=None,
        description="One kind sentence for the person when the verdict is not 'goal', else null",
    )
    clarified_goal: str = Field(
        default="", description="The goal in one precise sentence; empty unless 'goal'"
    )
    category: GoalCategory = "other"
    smart: SmartCriteria | None = Field(default=None, description="Required when verdict is 'goal'")
    deadline: date | None = Field(
        default=None, description="The day the goal is due, if the goal implies one"
    )
    hours_per_week: float | None = Field(
        default=None, gt=0, le=168, description="Hours a week that the person says there are"
    )
    rest_days: list[Weekday] = Field(
        default=[], max_length=6, description="Days on which the person says there is no time"
    )
    assumptions: list[Line] = Field(default=[], max_length=MOST_REMARKS)
    open_questions: list[Line] = Field(default=[], max_length=MOST_REMARKS)
    also_asked: list[Line] = Field(
        default=[],
        max_length=MOST_REMARKS,
        description="Other goals in the text, which are not worked on here, each in a few words",
    )

    @model_validator(mode="after")
    def _a_goal_is_clarified(self) -> Self:
        if self.verdict == "goal" and (not self.clarified_goal.strip() or self.smart is None):
            raise ValueError("verdict 'goal' needs clarified_goal and smart")
        return self


class ClarifiedGoal(ClarifiedGoalDraft):
    """A clarified goal as it is stored; the later stages work with it instead of the raw text.

    `trace_id` is the id of the run that clarified it.
    """

    trace_id: UUID


def stated_limits(context: GoalContext) -> Limits:
    """Return the limits that the person stated in the context, outside the goal's text."""
    return Limits(
        deadline=context.deadline,
        hours_per_week=context.hours_per_week,
        rest_days=context.rest_days or (),
    )


def limits_of(goal: ClarifiedGoalDraft, context: GoalContext) -> Limits:
    """Return the limits that the person stated.

    A limit that the context does not state is taken from the clarified goal, for which the model
    read it from the goal's text.
    """
    stated = stated_limits(context)
    return Limits(
        deadline=stated.deadline or goal.deadline,
        hours_per_week=stated.hours_per_week or goal.hours_per_week,
        rest_days=stated.rest_days or tuple(goal.rest_days),
    )


def wrong_goal(goal: ClarifiedGoalDraft, context: GoalContext, today: date) -> str | None:
    """Return what is wrong with a well-formed answer of the preprocess stage; None if nothing is.

    The repair prompt passes the text to the model.
    """
    if goal.verdict == "goal":
        problem = impossible(limits_of(goal, context), today)
        return f"{problem}; where the goal names none, null or empty" if problem else None
    if not (goal.refusal_reason and visible_length(goal.refusal_reason)):
        return "refusal_reason: expected one kind sentence for the person, found none"
    return None


def mended_goal(
    goal: ClarifiedGoalDraft, text: str, locale: str | None, today: date
) -> ClarifiedGoalDraft | None:
    """Correct an answer that is still wrong after its repair; None if that is not possible.

    A refusal gets a fixed sentence as its reason. A deadline before `today` is removed, and an
    additional assumption tells the person so.
    """
    if goal.verdict != "goal":
        return goal.model_copy(update={"refusal_reason": refusal(goal.verdict, text, locale)})
    if goal.deadline is None or goal.deadline >= today:
        return None
    passed = say("deadline_passed", language_of(text, locale), date=goal.deadline)
    assumptions = [passed, *goal.assumptions][:MOST_REMARKS]
    return goal.model_copy(update={"deadline": None, "assumptions": assumptions})


GOAL_STAGES = ("preprocess", "generate", "evaluate", "plan")


def redone_stages(from_stage: str) -> frozenset[str]:
    """Return the stages that a rerun from `from_stage` runs again.

    Evaluate and plan do not depend on each other, so a rerun from one of them runs only that one.
    """
    if from_stage in ("evaluate", "plan"):
        return frozenset((from_stage,))
    return frozenset(GOAL_STAGES[GOAL_STAGES.index(from_stage) :])


class TakenOver(Message):
    """The results that a rerun takes over instead of making them again; all None for a new run."""

    goal: ClarifiedGoal | None = None
    resolution: Resolution | None = None
    evaluation: Evaluation | None = None
    plan: PlanRef | None = None


class PreprocessRequest(StageRequest):
    goal: str
    locale: str | None = None
    context: GoalContext
    today: date


class GenerateRequest(StageRequest):
    goal: ClarifiedGoal
    locale: str | None = None
    context: GoalContext
    today: date
    draft: int = 1
    rejected: Resolution | None = Field(
        default=None, description="The first draft, when this is its revision"
    )
    suggestions: list[str] = Field(default=[])


class EvaluateRequest(StageRequest):
    resolution: Resolution
    locale: str | None = None


class PlanRequest(StageRequest):
    goal: ClarifiedGoal
    resolution: Resolution
    locale: str | None = None
    context: GoalContext
    today: date


class GoalOutcome(RunOutcome):
    """The result of GoalGenerationWorkflow: ids and scores. The texts are stored in PostgreSQL."""

    resolution_id: UUID | None = None
    evaluation_id: UUID | None = None
    plan_id: UUID | None = None
    quality_status: QualityStatus | None = None

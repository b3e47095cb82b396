"""Goals: from a person's words to a resolution, its scores and a weekly plan."""

from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from domain.runs import Manifest, Message, PromptRef, RunRef, RunStatus, Stage

GOAL_MIN, GOAL_MAX = 3, 4000
MAX_PLAN_WEEKS = 26
DEFAULT_PLAN_WEEKS = 12

Weekday = Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
WEEKDAYS: tuple[Weekday, ...] = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
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
QualityStatus = Literal["EXCELLENT", "GOOD QUALITY", "FAIR", "NEEDS WORK"]

Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]


def _clean(text: str) -> str:
    if "\x00" in text:
        raise ValueError("the text holds a NUL character; remove it")
    return text.strip()


class GoalContext(Message):
    """What a person may add to the goal. Everything is optional."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
        lambda text: None if text is None else _clean(text)
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

    _no_nul = field_validator("goal")(_clean)


class RerunSubmission(BaseModel):
    """The body of `POST /api/goals/{id}/rerun`: where to start, what to change; the old stays."""

    model_config = ConfigDict(extra="forbid")

    from_stage: Stage = Field(
        description="The first stage that is done again; earlier results are taken over"
    )
    model: str | None = Field(
        default=None, max_length=100, description="Another model for the stages done again"
    )
    prompts: dict[Stage, int] = Field(default={}, description="Other prompt versions, by stage")


class Rerun(Message):
    """Where a run starts when it is not from the beginning."""

    source_trace_id: UUID
    from_stage: Stage


class GoalRequest(Message):
    """Input of GoalGenerationWorkflow. Made once, when the run's row is stored."""

    trace_id: UUID
    user: str = Field(description="The person's pseudonym")
    goal: str
    locale: str
    context: GoalContext
    today: date = Field(description="The day the run was accepted (UTC); plans start here")
    manifest: Manifest
    rerun: Rerun | None = None

    @property
    def run(self) -> RunRef:
        return RunRef(trace_id=self.trace_id, model=self.manifest.model)


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


class Phase(Message):
    name: Line
    start_week: int = Field(ge=1, le=MAX_PLAN_WEEKS)
    end_week: int = Field(ge=1, le=MAX_PLAN_WEEKS)
    focus: Sentence


class Risk(Message):
    risk: Line
    response: Sentence


class ResolutionDraft(Message):
    """The generate stage's answer."""

    title: Line
    summary: Sentence
    strategy: Sentence
    phases: list[Phase] = Field(min_length=1, max_length=8)
    success_criteria: list[Line] = Field(min_length=1, max_length=10)
    risks: list[Risk] = Field(max_length=8)
    habits: list[Line] = Field(max_length=10)


class Resolution(ResolutionDraft):
    """A stored resolution. `draft` is 1, or 2 for the automatic revision."""

    resolution_id: UUID
    draft: int


class DimensionScore(Message):
    score: float = Field(ge=0, le=10)
    why: Sentence = Field(description="One sentence of why")


DIMENSIONS = ("clarity", "specificity", "measurability", "actionability")


class EvaluationDraft(Message):
    """The evaluate stage's answer. It holds no overall score: Rein computes that."""

    clarity: DimensionScore
    specificity: DimensionScore
    measurability: DimensionScore
    actionability: DimensionScore
    strengths: list[Line] = Field(max_length=8)
    suggestions: list[Line] = Field(max_length=8)

    def scores(self) -> dict[str, DimensionScore]:
        return {name: getattr(self, name) for name in DIMENSIONS}


class Evaluation(EvaluationDraft):
    """A stored evaluation. `overall` is the mean of the four dimensions with one decimal."""

    evaluation_id: UUID
    resolution_id: UUID
    overall: float
    status: QualityStatus


class TaskDraft(Message):
    what: Line
    day: Weekday = Field(description="The day of the week")
    minutes: int = Field(ge=1, le=960, description="How long it takes")
    done_when: Line = Field(description="How one knows that it is done")


class WeekDraft(Message):
    week: int = Field(ge=1, le=MAX_PLAN_WEEKS)
    focus: Line
    tasks: list[TaskDraft] = Field(min_length=1, max_length=14)


class MilestoneDraft(Message):
    title: Line
    week: int = Field(ge=1, le=MAX_PLAN_WEEKS, description="The week at whose end it is reached")
    measure: Line


class PlanDraft(Message):
    """The plan stage's answer: weeks and days of the week; Rein puts the dates in."""

    first_step_today: Line
    weeks: list[WeekDraft] = Field(min_length=1, max_length=MAX_PLAN_WEEKS)
    milestones: list[MilestoneDraft] = Field(min_length=1, max_length=12)

    @model_validator(mode="after")
    def _weeks_are_counted(self) -> Self:
        if [week.week for week in self.weeks] != list(range(1, len(self.weeks) + 1)):
            raise ValueError("weeks must be numbered 1, 2, 3 … without gaps")
        if any(milestone.week > len(self.weeks) for milestone in self.milestones):
            raise ValueError("a milestone lies after the last week")
        return self


class Task(TaskDraft):
    date: date


class Week(Message):
    week: int
    focus: str
    starts_on: date
    ends_on: date
    tasks: list[Task]


class Milestone(MilestoneDraft):
    date: date


class PlanRef(Message):
    """A plan in the workflow's history: it is large, so its text stays in PostgreSQL."""

    plan_id: UUID
    resolution_id: UUID
    weeks: int
    ends_on: date


class Plan(Message):
    """A stored plan with real dates."""

    plan_id: UUID
    resolution_id: UUID
    starts_on: date
    ends_on: date
    first_step_today: str
    weeks: list[Week]
    milestones: list[Milestone]

    def ref(self) -> PlanRef:
        return PlanRef(
            plan_id=self.plan_id,
            resolution_id=self.resolution_id,
            weeks=len(self.weeks),
            ends_on=self.ends_on,
        )


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


def overall_score(evaluation: EvaluationDraft) -> float:
    """The mean of the four dimensions, rounded half up to one decimal."""
    scores = [Decimal(str(dimension.score)) for dimension in evaluation.scores().values()]
    mean = sum(scores, Decimal(0)) / len(scores)
    return float(mean.quantize(Decimal("0.1"), ROUND_HALF_UP))


def quality_status(overall: float) -> QualityStatus:
    """The status word of an overall score (0 to 10)."""
    if overall >= 9:
        return "EXCELLENT"
    if overall >= 7.5:
        return "GOOD QUALITY"
    return "FAIR" if overall >= 6 else "NEEDS WORK"


def plan_weeks(today: date, deadline: date | None) -> int:
    """How many weeks end by the deadline: at least 1, at most 26; 12 without a deadline."""
    if deadline is None or deadline <= today:
        return DEFAULT_PLAN_WEEKS
    return max(1, min(MAX_PLAN_WEEKS, ((deadline - today).days + 1) // 7))


def day_in_week(week_start: date, day: Weekday) -> date:
    """The first `day` on or after the start of the week (a plan's week may start on any day)."""
    return week_start + timedelta(days=(WEEKDAYS.index(day) - week_start.weekday()) % 7)


def dated_plan(draft: PlanDraft, *, plan_id: UUID, resolution_id: UUID, starts_on: date) -> Plan:
    """Put real dates into a plan: week n begins 7·(n-1) days after `starts_on`."""

    def start(week: int) -> date:
        return starts_on + timedelta(days=7 * (week - 1))

    weeks = [
        Week(
            week=week.week,
            focus=week.focus,
            starts_on=start(week.week),
            ends_on=start(week.week) + timedelta(days=6),
            tasks=sorted(
                (
                    Task(**task.model_dump(), date=day_in_week(start(week.week), task.day))
                    for task in week.tasks
                ),
                key=lambda task: task.date,
            ),
        )
        for week in draft.weeks
    ]
    return Plan(
        plan_id=plan_id,
        resolution_id=resolution_id,
        starts_on=starts_on,
        ends_on=weeks[-1].ends_on,
        first_step_today=draft.first_step_today,
        weeks=weeks,
        milestones=[
            Milestone(**milestone.model_dump(), date=start(milestone.week) + timedelta(days=6))
            for milestone in draft.milestones
        ],
    )


def needs_revision(evaluation: Evaluation | None, threshold: float) -> bool:
    """A resolution is revised once when its overall score is below the threshold."""
    return evaluation is not None and evaluation.overall < threshold


def wrong_weeks(draft: PlanDraft, expected: int) -> str | None:
    """What is wrong with a plan that does not cover exactly the weeks it was asked for."""
    found = len(draft.weeks)
    return None if found == expected else f"weeks: expected exactly {expected}, found {found}"

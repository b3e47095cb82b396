"""What callers send, and what becomes of it: a workflow's input."""

from datetime import date
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator

from domain.goals.words import clean
from domain.runs import Manifest, Message, RunRef, Stage

GOAL_MIN, GOAL_MAX = 3, 4000


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

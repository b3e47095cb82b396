"""What API callers read about a run, combined from several tables of PostgreSQL."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from pydantic import Field, PlainSerializer

from domain.evaluations import Evaluation, QualityStatus
from domain.goals import ClarifiedGoal, GoalContext
from domain.plans import Plan
from domain.resolutions import Resolution
from domain.run_errors import RunErrorCode
from domain.runs import Manifest, Message, RefusalCode, Rerun, RunKind, RunStatus, Stage, Waiting


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


Usd = Annotated[
    Decimal,
    PlainSerializer(_plain, return_type=str, when_used="json"),
    Field(description="US dollars as a decimal string, exact", examples=["0.00038738"]),
]


class RunError(Message):
    """Why a run has no result: a stable code for programs and a sentence for people."""

    code: RunErrorCode
    message: str


class DraftReport(Message):
    """One draft of the resolution, with its evaluation and its plan.

    `kept` is true for the draft that is the run's result.
    """

    resolution: Resolution
    evaluation: Evaluation | None
    plan: Plan | None
    kept: bool


class RunSummary(Message):
    """A run of any kind, as lists of runs show it."""

    trace_id: UUID
    kind: RunKind
    status: RunStatus
    stage: Stage | None = Field(description="The stage it is at, or was at when it ended")
    user_id: str
    title: str | None
    quality_score: float | None
    error_code: RunErrorCode | None
    cost_usd: Usd | None
    cost_unknown_usd: Usd
    duration_ms: int | None
    source_trace_id: UUID | None
    created_at: datetime
    finished_at: datetime | None
    refusal_code: RefusalCode | None = Field(description="Who refused to work on it, if anyone")


class GoalSummary(RunSummary):
    """A run of a goal, as lists of goals show it."""

    goal: str
    quality_status: QualityStatus | None


class RunReport(Message):
    """A run of any kind: its state, its outcome, its inputs, its tokens and its cost."""

    trace_id: UUID
    kind: RunKind
    status: RunStatus
    stage: Stage | None = Field(description="The stage it is at, or was at when it ended")
    waiting: Waiting | None = Field(description="What it waits for just now, if it waits")
    user_id: str
    goal_id: UUID = Field(description="The run whose person's words this one works on")
    title: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    quality_score: float | None = Field(description="0 to 10: the mean of the four dimensions")
    missing: dict[Stage, RunErrorCode] = Field(
        description="Stages that failed for good, with their error codes: rerun from there"
    )
    refusal: str | None = Field(description="Why it was refused, in words for the person")
    refusal_code: RefusalCode | None = Field(description="Who refused to work on it, if anyone")
    error: RunError | None
    rerun: Rerun | None = Field(description="The run that this one repeats, and from which stage")
    manifest: Manifest
    input_tokens: int
    output_tokens: int
    cost_usd: Usd | None = Field(
        description="Null when a model's price is not known; at most this, if any call is unknown"
    )
    unknown_calls: int = Field(
        description="Model calls whose bill is not known: under way, cut, or answered to nobody"
    )
    cost_unknown_usd: Usd = Field(
        description="The part of `cost_usd` that is the most these calls can have cost"
    )
    cost_input_usd: Usd | None = Field(
        description="What the prompts of the calls with a known bill cost; null before the end"
    )
    cost_output_usd: Usd | None = Field(description="What their answers cost, thinking included")
    duration_ms: int | None


class GoalReport(RunReport):
    """A goal's run with all texts: what the person asked for, and the results made so far."""

    goal: str
    locale: str | None = Field(description="Null: the language of the goal")
    time_zone: str | None = Field(description="Null: UTC")
    context: GoalContext
    clarified_goal: ClarifiedGoal | None
    resolution: Resolution | None
    quality_status: QualityStatus | None
    evaluation: Evaluation | None
    plan: Plan | None
    drafts: list[DraftReport] = Field(
        description="Both attempts, when the resolution was revised; empty otherwise"
    )


class FoundRun(Message):
    """What a request must know about a run before it cancels, rates or follows that run."""

    trace_id: UUID
    kind: RunKind
    status: RunStatus
    last_seq: int

"""A weekly plan and its arithmetic."""

from datetime import date, timedelta
from typing import Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from domain.runs import Message
from domain.text import Line

MAX_PLAN_WEEKS = 26
DEFAULT_PLAN_WEEKS = 12
Weekday = Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
WEEKDAYS: tuple[Weekday, ...] = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


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


def wrong_weeks(draft: PlanDraft, expected: int) -> str | None:
    """What is wrong with a plan that does not cover exactly the weeks it was asked for."""
    found = len(draft.weeks)
    return None if found == expected else f"weeks: expected exactly {expected}, found {found}"

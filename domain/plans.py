"""A weekly plan: the computation of its dates, and the limits that a person stated for it."""

from collections.abc import Iterator
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
# A repair prompt names at most this many problems of a plan; they are enough for the model to
# correct similar ones as well.
NAMED_PROBLEMS = 5


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
    """The model's answer in the plan stage. It has weeks and weekdays; Rein computes the dates."""

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
    """A reference to a stored plan. Temporal's history holds it, because a whole plan is large."""

    plan_id: UUID
    resolution_id: UUID
    weeks: int
    ends_on: date


class Plan(Message):
    """A stored plan with calendar dates."""

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


class Limits(Message):
    """The limits that a person stated for a plan. A limit that is None or empty was not stated."""

    deadline: date | None = None
    hours_per_week: float | None = None
    rest_days: tuple[Weekday, ...] = ()

    @property
    def minutes_per_week(self) -> int | None:
        return None if self.hours_per_week is None else int(self.hours_per_week * 60)

    def ends_on(self, starts_on: date, week: int) -> date:
        """Return the last day of a week of the plan: its seventh day, or an earlier deadline."""
        seventh = week_start(starts_on, week) + timedelta(days=6)
        return seventh if self.deadline is None else min(seventh, self.deadline)

    def open_days(self, starts_on: date, week: int) -> list[date]:
        """Return the days of a week of the plan on which the limits allow tasks."""
        first = week_start(starts_on, week)
        days = (self.ends_on(starts_on, week) - first).days + 1
        found = (first + timedelta(days=day) for day in range(days))
        return [day for day in found if weekday(day) not in self.rest_days]


NO_LIMITS = Limits()


def weekday(day: date) -> Weekday:
    return WEEKDAYS[day.weekday()]


def week_start(starts_on: date, week: int) -> date:
    """Return the first day of a week of the plan; `week` counts from 1.

    All weeks of a plan start on the weekday of `starts_on`, which need not be a Monday.
    """
    return starts_on + timedelta(days=7 * (week - 1))


def day_in_week(first: date, day: Weekday) -> date:
    """Return the first date on or after `first` that falls on the weekday `day`."""
    return first + timedelta(days=(WEEKDAYS.index(day) - first.weekday()) % 7)


def plan_weeks(starts_on: date, deadline: date | None) -> int:
    """Return the number of weeks of a plan.

    It is the number of whole weeks until the deadline, at least 1 and at most 26, or 12 without a
    deadline. Raises ValueError for a deadline before `starts_on`.
    """
    if deadline is None:
        return DEFAULT_PLAN_WEEKS
    days = (deadline - starts_on).days + 1
    if days < 1:
        raise ValueError(f"the deadline {deadline} is before {starts_on}")
    return 1 if days < 7 else min(MAX_PLAN_WEEKS, days // 7)


def impossible(limits: Limits, starts_on: date) -> str | None:
    """Return why no plan can satisfy the limits, or None if a plan can.

    The text begins with the name of the limit that has to be changed.
    """
    if limits.deadline is not None and limits.deadline < starts_on:
        return f"deadline: expected {starts_on} or a later day, came {limits.deadline}"
    if not limits.open_days(starts_on, 1):
        days = ", ".join(limits.rest_days)
        return f"rest_days: expected a day for tasks before the deadline, came {days}"
    if limits.minutes_per_week is not None and limits.minutes_per_week < 1:
        return f"hours_per_week: expected time for a task, came {limits.hours_per_week:g}"
    return None


def wrong_plan(draft: PlanDraft, weeks: int, starts_on: date, limits: Limits) -> str | None:
    """Return what is wrong with a plan: its number of weeks, or tasks that violate the limits.

    None means that nothing is wrong.
    """
    if len(draft.weeks) != weeks:
        return f"weeks: expected exactly {weeks}, found {len(draft.weeks)}"
    wrong = [problem for week in draft.weeks for problem in _wrong_week(week, starts_on, limits)]
    return "; ".join(wrong[:NAMED_PROBLEMS]) or None


def _wrong_week(week: WeekDraft, starts_on: date, limits: Limits) -> Iterator[str]:
    days = limits.open_days(starts_on, week.week)
    names = [weekday(day) for day in days]
    for number, task in enumerate(week.tasks, start=1):
        if task.day not in names:
            rest = task.day in limits.rest_days
            why = "a rest day" if rest else f"after the deadline {limits.deadline}"
            yield f"week {week.week}, task {number}: {task.day} is {why}; use {', '.join(names)}"
    minutes, most = sum(task.minutes for task in week.tasks), limits.minutes_per_week
    if most is not None and minutes > most:
        yield f"week {week.week}: {minutes} minutes in all; the person has {most} a week"


def dated_plan(
    draft: PlanDraft,
    *,
    plan_id: UUID,
    resolution_id: UUID,
    starts_on: date,
    limits: Limits = NO_LIMITS,
) -> Plan:
    """Build the plan with calendar dates: week n begins 7·(n-1) days after `starts_on`.

    A milestone is dated on the last day of its week, or on the deadline if that is earlier.
    """
    weeks = [_dated_week(week, starts_on, limits) for week in draft.weeks]
    return Plan(
        plan_id=plan_id,
        resolution_id=resolution_id,
        starts_on=starts_on,
        ends_on=weeks[-1].ends_on,
        first_step_today=draft.first_step_today,
        weeks=weeks,
        milestones=[
            Milestone(**milestone.model_dump(), date=limits.ends_on(starts_on, milestone.week))
            for milestone in draft.milestones
        ],
    )


def _dated_week(week: WeekDraft, starts_on: date, limits: Limits) -> Week:
    first = week_start(starts_on, week.week)
    tasks = [Task(**task.model_dump(), date=day_in_week(first, task.day)) for task in week.tasks]
    return Week(
        week=week.week,
        focus=week.focus,
        starts_on=first,
        ends_on=limits.ends_on(starts_on, week.week),
        tasks=sorted(tasks, key=lambda task: task.date),
    )

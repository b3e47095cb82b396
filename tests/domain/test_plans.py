"""The pure rules of plans and phases: weeks, dates, and the limits that a person stated."""

from datetime import date, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.plans import (
    WEEKDAYS,
    Limits,
    Plan,
    PlanDraft,
    Weekday,
    dated_plan,
    day_in_week,
    impossible,
    plan_weeks,
    weekday,
    wrong_plan,
)
from domain.resolutions import ResolutionDraft, wrong_phases

PLAN_ID = UUID("018f0000-0000-7000-8000-000000000001")
RESOLUTION_ID = UUID("018f0000-0000-7000-8000-000000000002")
TUESDAY = date(2026, 11, 24)
NONE = Limits()
some_day = st.dates(date(2020, 1, 1), date(2040, 1, 1))


def planned(weeks: int, *days: Weekday, minutes: int = 30) -> PlanDraft:
    tasks = [
        {"what": "Run", "day": day, "minutes": minutes, "done_when": "The time is over"}
        for day in days or ("Mon",)
    ]
    return PlanDraft.model_validate(
        {
            "first_step_today": "Put the shoes by the door",
            "weeks": [{"week": n + 1, "focus": "Base", "tasks": tasks} for n in range(weeks)],
            "milestones": [{"title": "There", "week": weeks, "measure": "5 km"}],
        }
    )


def dated(draft: PlanDraft, starts_on: date, limits: Limits = NONE) -> Plan:
    return dated_plan(
        draft, plan_id=PLAN_ID, resolution_id=RESOLUTION_ID, starts_on=starts_on, limits=limits
    )


@pytest.mark.parametrize(
    ("deadline", "weeks"),
    [
        (None, 12),
        (date(2026, 11, 24), 1),  # today, which is a day
        (date(2026, 11, 25), 1),
        (date(2026, 11, 30), 1),  # the seventh day, today counted
        (date(2026, 12, 6), 1),
        (date(2026, 12, 7), 2),
        (date(2027, 3, 31), 18),
        (date(2030, 1, 1), 26),
    ],
)
def test_weeks_up_to_the_deadline(deadline: date | None, weeks: int) -> None:
    assert plan_weeks(TUESDAY, deadline) == weeks


def test_a_deadline_that_has_gone_by_is_no_reason_for_twelve_weeks() -> None:
    with pytest.raises(ValueError, match="2026-11-23 is before 2026-11-24"):
        plan_weeks(TUESDAY, date(2026, 11, 23))


@given(some_day, st.sampled_from(WEEKDAYS))
def test_a_day_lies_in_its_week(start: date, day: Weekday) -> None:
    found = day_in_week(start, day)
    assert start <= found <= start + timedelta(days=6)
    assert weekday(found) == day


@given(st.integers(1, 26), some_day)
def test_weeks_follow_each_other_and_milestones_end_them(weeks: int, start: date) -> None:
    plan = dated(planned(weeks), start)
    assert plan.weeks[0].starts_on == start
    for one, two in zip(plan.weeks, plan.weeks[1:], strict=False):
        assert two.starts_on == one.ends_on + timedelta(days=1)
    assert plan.ends_on == start + timedelta(days=7 * weeks - 1) == plan.milestones[-1].date


@given(some_day, st.integers(0, 400), st.sets(st.sampled_from(WEEKDAYS), max_size=6))
def test_a_plan_that_is_accepted_keeps_to_its_limits(
    start: date, days_ahead: int, rest: set[Weekday]
) -> None:
    deadline = start + timedelta(days=days_ahead)
    limits = Limits(deadline=deadline, hours_per_week=1, rest_days=tuple(rest))
    if impossible(limits, start):
        assert days_ahead < 6
        return
    weeks = plan_weeks(start, deadline)
    day = weekday(limits.open_days(start, 1)[-1])
    draft = planned(weeks, day, minutes=60)
    assert wrong_plan(draft, weeks, start, limits) is None
    plan = dated(draft, start, limits)
    dates = [task.date for week in plan.weeks for task in week.tasks]
    assert max([*dates, plan.ends_on, plan.milestones[-1].date]) <= deadline
    assert not {weekday(day) for day in dates} & rest


@pytest.mark.parametrize("days", [1, 2, 3, 4, 5])
def test_nothing_lies_after_a_near_deadline(days: int) -> None:
    limits = Limits(deadline=TUESDAY + timedelta(days=days))
    after = weekday(TUESDAY + timedelta(days=days + 1))
    wrong = str(wrong_plan(planned(1, "Tue", after), 1, TUESDAY, limits))
    assert wrong.startswith(f"week 1, task 2: {after} is after the deadline {limits.deadline}; use")
    plan = dated(planned(1, "Tue"), TUESDAY, limits)
    assert plan.ends_on == plan.weeks[0].ends_on == plan.milestones[-1].date == limits.deadline


def test_tasks_on_rest_days_are_named_with_the_days_that_are_open() -> None:
    limits = Limits(rest_days=("Sun",))
    assert wrong_plan(planned(1, "Sat", "Sun"), 1, TUESDAY, limits) == (
        "week 1, task 2: Sun is a rest day; use Tue, Wed, Thu, Fri, Sat, Mon"
    )


def test_more_minutes_than_there_are_in_a_week_are_named() -> None:
    limits = Limits(hours_per_week=1)
    assert wrong_plan(planned(2, "Mon", "Thu", minutes=30), 2, TUESDAY, limits) is None
    assert wrong_plan(planned(2, "Mon", "Thu", minutes=45), 2, TUESDAY, limits) == (
        "week 1: 90 minutes in all; the person has 60 a week; "
        "week 2: 90 minutes in all; the person has 60 a week"
    )
    assert wrong_plan(planned(1, minutes=960), 1, TUESDAY, Limits(hours_per_week=2)) is not None


def test_what_is_wrong_is_told_in_a_bounded_message() -> None:
    wrong = str(wrong_plan(planned(26, "Sun"), 26, TUESDAY, Limits(rest_days=("Sun",))))
    assert wrong.count("rest day") == 5


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        (Limits(deadline=date(2026, 11, 23)), "deadline"),
        (Limits(deadline=date(2026, 11, 25), rest_days=("Tue", "Wed")), "rest_days"),
        (Limits(rest_days=WEEKDAYS), "rest_days"),
        (Limits(hours_per_week=0.01), "hours_per_week"),
        (Limits(deadline=date(2026, 11, 25), rest_days=("Tue",)), None),
        (Limits(deadline=TUESDAY, hours_per_week=0.5), None),
        (NONE, None),
    ],
)
def test_limits_that_no_plan_can_keep(limits: Limits, named: str | None) -> None:
    problem = impossible(limits, TUESDAY)
    assert (problem and problem.partition(":")[0]) == named


def test_tasks_are_in_the_order_of_their_dates() -> None:
    # This week's Monday comes after its Wednesday.
    plan = dated(planned(1, "Mon", "Wed"), TUESDAY)
    assert [task.date for task in plan.weeks[0].tasks] == [date(2026, 11, 25), date(2026, 11, 30)]


def test_weeks_are_counted_without_gaps() -> None:
    draft = planned(2).model_dump()
    draft["weeks"][1]["week"] = 3
    with pytest.raises(ValidationError, match="without gaps"):
        PlanDraft.model_validate(draft)


def test_a_milestone_after_the_last_week_is_refused() -> None:
    draft = planned(2).model_dump()
    draft["milestones"][0]["week"] = 3
    with pytest.raises(ValidationError, match="after the last week"):
        PlanDraft.model_validate(draft)


def test_a_plan_of_the_wrong_length_is_named() -> None:
    assert wrong_plan(planned(3), 3, TUESDAY, NONE) is None
    assert wrong_plan(planned(3), 4, TUESDAY, NONE) == "weeks: expected exactly 4, found 3"


@pytest.mark.parametrize(
    ("phases", "weeks", "wrong"),
    [
        ([(1, 6)], 6, None),
        ([(1, 3), (4, 6)], 6, None),
        ([(1, 1), (1, 1)], 1, None),  # a plan of some days has phases, too
        ([(1, 1), (2, 2), (2, 2)], 2, None),
        ([(1, 1), (1, 2)], 2, "phases.2: expected start_week 2, found 1"),
        ([(5, 3), (20, 26)], 6, "phases.1: expected start_week 1, found 5"),
        ([(1, 3), (5, 6)], 6, "phases.2: expected start_week 4, found 5"),
        ([(1, 3), (3, 6)], 6, "phases.2: expected start_week 4, found 3"),
        ([(1, 3), (4, 2)], 6, "phases.2: it ends in week 2, before it starts"),
        ([(1, 3), (4, 8)], 6, "phases: expected the last week 6, found 8"),
        ([(1, 3)], 6, "phases: expected the last week 6, found 3"),
        ([(2, 6)], 6, "phases.1: expected start_week 1, found 2"),
    ],
)
def test_phases_lead_from_the_first_week_to_the_last(
    phases: list[tuple[int, int]], weeks: int, wrong: str | None
) -> None:
    found = wrong_phases(resolved(phases), weeks)
    assert (found or "").startswith(wrong or "")
    assert (found is None) is (wrong is None)


def resolved(phases: list[tuple[int, int]]) -> ResolutionDraft:
    values: dict[str, Any] = {
        "title": "Five kilometres",
        "summary": "Run three times a week",
        "strategy": "Slowly more",
        "phases": [
            {"name": "Base", "start_week": first, "end_week": last, "focus": "Walk and run"}
            for first, last in phases
        ],
        "success_criteria": ["5 km without a pause"],
        "risks": [],
        "habits": [],
    }
    return ResolutionDraft.model_validate(values)

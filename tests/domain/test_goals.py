"""The pure rules of a goal: scores, status words, weeks and dates."""

from datetime import date, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.evaluations import EvaluationDraft, overall_score, quality_status
from domain.goals import ClarifiedGoalDraft, GoalSubmission
from domain.plans import WEEKDAYS, PlanDraft, dated_plan, day_in_week, plan_weeks, wrong_weeks

PLAN_ID = UUID("018f0000-0000-7000-8000-000000000001")
RESOLUTION_ID = UUID("018f0000-0000-7000-8000-000000000002")


def scored(*scores: float) -> EvaluationDraft:
    names = ("clarity", "specificity", "measurability", "actionability")
    dimensions = {
        name: {"score": score, "why": "x"} for name, score in zip(names, scores, strict=True)
    }
    return EvaluationDraft.model_validate({**dimensions, "strengths": [], "suggestions": []})


def planned(weeks: int, day: str = "Mon") -> PlanDraft:
    task = {"what": "Run", "day": day, "minutes": 30, "done_when": "30 minutes are over"}
    return PlanDraft.model_validate(
        {
            "first_step_today": "Put the shoes by the door",
            "weeks": [{"week": n + 1, "focus": "Base", "tasks": [task]} for n in range(weeks)],
            "milestones": [{"title": "There", "week": weeks, "measure": "5 km"}],
        }
    )


@pytest.mark.parametrize(
    ("scores", "overall"),
    [
        ((8, 8, 9, 7), 8.0),  # the source document's example
        ((8, 8, 8, 8.2), 8.1),  # 8.05 is rounded half up
        ((0, 0, 0, 0), 0.0),
        ((10, 10, 10, 10), 10.0),
        ((7.5, 7.5, 7.5, 7.2), 7.4),
    ],
)
def test_overall_is_the_mean_with_one_decimal(scores: tuple[float, ...], overall: float) -> None:
    assert overall_score(scored(*scores)) == overall


@pytest.mark.parametrize(
    ("overall", "word"),
    [
        (10, "EXCELLENT"),
        (9.0, "EXCELLENT"),
        (8.9, "GOOD QUALITY"),
        (7.5, "GOOD QUALITY"),
        (7.4, "FAIR"),
        (6.0, "FAIR"),
        (5.9, "NEEDS WORK"),
        (0, "NEEDS WORK"),
    ],
)
def test_status_words(overall: float, word: str) -> None:
    assert quality_status(overall) == word


@pytest.mark.parametrize("score", [-0.1, 10.1, 11])
def test_a_score_outside_0_to_10_is_refused(score: float) -> None:
    with pytest.raises(ValidationError):
        scored(score, 5, 5, 5)


@pytest.mark.parametrize(
    ("deadline", "weeks"),
    [
        (None, 12),
        (date(2026, 11, 24), 12),  # today: no time to plan for
        (date(2026, 11, 25), 1),
        (date(2026, 11, 30), 1),  # the seventh day, today counted
        (date(2026, 12, 6), 1),
        (date(2026, 12, 7), 2),
        (date(2027, 3, 31), 18),
        (date(2030, 1, 1), 26),
    ],
)
def test_weeks_up_to_the_deadline(deadline: date | None, weeks: int) -> None:
    assert plan_weeks(date(2026, 11, 24), deadline) == weeks


@given(st.dates(date(2020, 1, 1), date(2040, 1, 1)), st.sampled_from(WEEKDAYS))
def test_a_day_lies_in_its_week(start: date, day: str) -> None:
    found = day_in_week(start, day)  # type: ignore[arg-type]
    assert start <= found <= start + timedelta(days=6)
    assert WEEKDAYS[found.weekday()] == day


@given(st.integers(1, 26), st.dates(date(2020, 1, 1), date(2040, 1, 1)))
def test_weeks_follow_each_other_and_milestones_end_them(weeks: int, start: date) -> None:
    plan = dated_plan(planned(weeks), plan_id=PLAN_ID, resolution_id=RESOLUTION_ID, starts_on=start)
    assert plan.weeks[0].starts_on == start
    for one, two in zip(plan.weeks, plan.weeks[1:], strict=False):
        assert two.starts_on == one.ends_on + timedelta(days=1)
    assert plan.ends_on == start + timedelta(days=7 * weeks - 1) == plan.milestones[-1].date


def test_tasks_are_in_the_order_of_their_dates() -> None:
    draft = planned(1).model_dump()
    task = draft["weeks"][0]["tasks"][0]
    draft["weeks"][0]["tasks"] = [{**task, "day": "Mon"}, {**task, "day": "Wed"}]
    plan = dated_plan(
        PlanDraft.model_validate(draft),
        plan_id=PLAN_ID,
        resolution_id=RESOLUTION_ID,
        starts_on=date(2026, 11, 24),  # a Tuesday: this week's Monday comes after its Wednesday
    )
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
    assert wrong_weeks(planned(3), 3) is None
    assert wrong_weeks(planned(3), 4) == "weeks: expected exactly 4, found 3"


def test_a_goal_needs_its_smart_criteria() -> None:
    with pytest.raises(ValidationError, match="needs clarified_goal and smart"):
        ClarifiedGoalDraft.model_validate({"verdict": "goal"})
    refused = {"verdict": "harmful", "refusal_reason": "I care about your safety."}
    assert ClarifiedGoalDraft.model_validate(refused).smart is None


@pytest.mark.parametrize("goal", ["", "          ", "ab", "x" * 4001, "a\x00b goal"])
def test_goals_that_are_refused(goal: str) -> None:
    with pytest.raises(ValidationError):
        GoalSubmission(goal=goal, user_id="u1")


def test_the_text_is_trimmed() -> None:
    assert GoalSubmission(goal="  run a 5K \n", user_id="u1").goal == "run a 5K"

"""The pure rules of a goal: what is accepted, what is clarified, scores and status words."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from domain.evaluations import EvaluationDraft, overall_score, quality_status
from domain.goals import (
    ClarifiedGoalDraft,
    GoalContext,
    GoalSubmission,
    SmartCriteria,
    SubmittedContext,
    limits_of,
    mended_goal,
    wrong_goal,
)
from domain.plans import Limits
from domain.runs import day_of
from domain.text import visible_length

TODAY = date(2026, 11, 24)


def scored(*scores: float) -> EvaluationDraft:
    names = ("clarity", "specificity", "measurability", "actionability")
    dimensions = {
        name: {"score": score, "why": "x"} for name, score in zip(names, scores, strict=True)
    }
    return EvaluationDraft.model_validate({**dimensions, "strengths": [], "suggestions": []})


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


def clarified(**fields: Any) -> ClarifiedGoalDraft:
    values: dict[str, Any] = {
        "verdict": "goal",
        "clarified_goal": "Run five kilometres without a pause",
        "smart": dict.fromkeys(SmartCriteria.model_fields, "As said"),
    }
    return ClarifiedGoalDraft.model_validate(values | fields)


def test_a_goal_needs_its_smart_criteria() -> None:
    with pytest.raises(ValidationError, match="needs clarified_goal and smart"):
        clarified(smart=None)
    refused = {"verdict": "harmful", "refusal_reason": "I care about you."}
    assert ClarifiedGoalDraft.model_validate(refused).smart is None


@pytest.mark.parametrize("words", [None, "", "   ", "\u200b\u2060"])
@pytest.mark.parametrize("verdict", ["harmful", "not_a_goal"])
def test_a_refusal_without_words_is_asked_for_again_and_then_gets_some(
    words: str | None, verdict: str
) -> None:
    refused = clarified(verdict=verdict, refusal_reason=words)
    assert "refusal_reason" in str(wrong_goal(refused, GoalContext(), TODAY))
    mended = mended_goal(refused, "Ich will nur noch das eine und nichts mehr", None, TODAY)
    assert mended is not None
    assert wrong_goal(mended, GoalContext(), TODAY) is None
    assert mended.refusal_reason is not None
    assert ("findahelpline.com" in mended.refusal_reason) is (verdict == "harmful")
    assert " ich " in f" {mended.refusal_reason} " or verdict == "not_a_goal"


def test_a_refusal_keeps_its_own_words() -> None:
    refused = clarified(verdict="harmful", refusal_reason="Please see a doctor first.")
    assert wrong_goal(refused, GoalContext(), TODAY) is None


def test_a_deadline_that_has_gone_by_is_asked_for_again_and_then_said() -> None:
    goal = clarified(deadline="2026-11-23", assumptions=["Alone"])
    wrong = str(wrong_goal(goal, GoalContext(), TODAY))
    assert wrong.startswith("deadline: expected 2026-11-24 or a later day, came 2026-11-23")
    mended = mended_goal(goal, "run", None, TODAY)
    assert mended is not None
    assert mended.deadline is None
    assert mended.assumptions == [
        "The date 2026-11-23 has passed already, so this goal has no deadline for now.",
        "Alone",
    ]


def test_many_assumptions_leave_room_for_the_one_about_the_deadline() -> None:
    goal = clarified(deadline="2020-01-01", assumptions=[f"Assumed {n}" for n in range(8)])
    mended = mended_goal(goal, "run", None, TODAY)
    assert mended is not None
    assert ClarifiedGoalDraft.model_validate(mended.model_dump()) == mended


def test_the_persons_own_deadline_counts_for_the_model_s() -> None:
    goal, context = clarified(deadline="2020-01-01"), GoalContext(deadline=date(2027, 1, 1))
    assert wrong_goal(goal, context, TODAY) is None
    assert limits_of(goal, context).deadline == date(2027, 1, 1)


def test_limits_that_contradict_each_other_stay_wrong() -> None:
    goal = clarified(deadline="2026-11-25", rest_days=["Tue", "Wed"])
    assert "rest_days" in str(wrong_goal(goal, GoalContext(), TODAY))
    assert mended_goal(goal, "run", None, TODAY) is None


def test_limits_stand_in_the_context_or_in_the_words_of_the_goal() -> None:
    said = clarified(deadline="2027-03-31", hours_per_week=2, rest_days=["Sun"])
    assert limits_of(said, GoalContext()) == Limits(
        deadline=date(2027, 3, 31), hours_per_week=2, rest_days=("Sun",)
    )
    stated = GoalContext(hours_per_week=5, rest_days=("Sat",))
    assert limits_of(said, stated) == Limits(
        deadline=date(2027, 3, 31), hours_per_week=5, rest_days=("Sat",)
    )


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("戒烟", 2),
        ("5K", 2),
        ("ok", 2),
        ("a b", 2),
        ("नमस्ते", 4),  # four letters with their marks
        ("e\u0301a", 2),
        ("👨\u200d👩\u200d👧", 1),
        ("\u200b" * 5, 0),
        (" \t\n\u3000", 0),
        ("\u3164\u2800\u00ad\ufeff", 0),
        ("a\u200b", 1),
    ],
)
def test_visible_characters_are_counted(text: str, length: int) -> None:
    assert visible_length(text) == length


@pytest.mark.parametrize(
    "goal",
    [
        "",
        "          ",
        "a",
        "\u200b\u200b\u200b\u200b\u200b",
        "a\u200b\u2060\u3164",
        "👨\u200d👩\u200d👧",
        "x" * 4001,
        "a\x00b goal",
        "e" + "\u0301" * 12_000,
    ],
)
def test_goals_that_are_refused(goal: str) -> None:
    with pytest.raises(ValidationError):
        GoalSubmission(goal=goal, user_id="u1")


@pytest.mark.parametrize("goal", ["戒烟", "5K", "x" * 4000, "नि" * 4000])
def test_goals_that_are_accepted(goal: str) -> None:
    assert GoalSubmission(goal=goal, user_id="u1").goal == goal


def test_the_text_is_trimmed() -> None:
    assert GoalSubmission(goal="  run a 5K \n", user_id="u1").goal == "run a 5K"


def test_what_cannot_be_seen_is_not_said() -> None:
    assert SubmittedContext(constraints="\u200b \u2060").constraints is None


def test_rest_days_are_named_once_and_leave_a_day() -> None:
    assert SubmittedContext(rest_days=("Sun", "Sat", "Sun")).rest_days == ("Sat", "Sun")
    assert SubmittedContext(rest_days=()).rest_days is None
    with pytest.raises(ValidationError, match="at most six days"):
        SubmittedContext(rest_days=("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"))


def test_time_for_not_even_one_task_is_refused() -> None:
    with pytest.raises(ValidationError):
        SubmittedContext(hours_per_week=0.1)


def test_a_context_of_a_later_release_is_read() -> None:
    """An older worker may be handed a run that a newer API accepted."""
    assert GoalContext.model_validate({"budget_usd": 3}) == GoalContext()
    with pytest.raises(ValidationError):
        SubmittedContext.model_validate({"budget_usd": 3})


@pytest.mark.parametrize(
    ("time_zone", "day"),
    [
        (None, date(2026, 11, 24)),
        ("UTC", date(2026, 11, 24)),
        ("Pacific/Kiritimati", date(2026, 11, 25)),  # 14 hours before UTC
        ("Pacific/Pago_Pago", date(2026, 11, 23)),  # 11 hours behind
        ("Asia/Kathmandu", date(2026, 11, 24)),
    ],
)
def test_today_is_where_the_person_is(time_zone: str | None, day: date) -> None:
    assert day_of(datetime(2026, 11, 24, 10, 30, tzinfo=UTC), time_zone) == day


@pytest.mark.parametrize(
    "time_zone", ["", "Berlin", "europe/berlin", "../../etc/passwd", "Europe", "UTC+2", "\x00"]
)
def test_a_time_zone_that_nobody_knows_is_refused(time_zone: str) -> None:
    with pytest.raises(ValidationError, match="IANA time zone"):
        GoalSubmission(goal="run a 5K", user_id="u1", time_zone=time_zone)

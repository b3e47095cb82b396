"""The model stand-in's answers follow the person's text, stay modest, and count what they score."""

import re
from datetime import date, timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.plans import dated_plan
from tests.devstack.gemini_answers import TODAY, Goal

SMART = (
    "I want to run a 5K by end of Q1",
    "Save €5,000 for a trip to Peru by the end of the year",
    "Read 20 books by December 2027",
    "Write a 200 pages novel by June",
)
PLAIN = ("learn Python", "Learn Spanish", "quit smoking")
VAGUE = ("get better at things", "be happier", "improve my life", "I want to get in better shape")


@pytest.mark.parametrize(
    ("goal", "category", "title"),
    [
        ("I want to run a 5K by end of Q1", "fitness", "Run a 5K by 31 March 2027"),
        ("Swim 1500 m", "fitness", "Swim 1500 m in 12 weeks"),
        ("Read 20 books this year", "learning", "Read 20 books by 31 December 2026"),
        (
            "I'd like to reach B2 in German in 6 months",
            "learning",
            "Reach B2 in German by 25 May 2027",
        ),
        (
            "My goal is to pay off $8k of debt by June",
            "finance",
            "Pay off $8k of debt by 30 June 2027",
        ),
        ("Renovate my kitchen by June 2027", "other", "Renovate my kitchen by 30 June 2027"),
        ("Write 10k words by 15 January", "other", "Write 10k words by 15 January 2027"),
        ("Run 5 km by May, 4 hours a week, not on Sundays", "fitness", "Run 5 km by 31 May 2027"),
        (
            "I have not run for four years, but want to run 10 km",
            "fitness",
            "Run 10 km in 12 weeks",
        ),
    ],
)
def test_keeps_the_persons_words_and_numbers(goal: str, category: str, title: str) -> None:
    heard = Goal(goal)
    assert (heard.clarified.verdict, heard.clarified.category) == ("goal", category)
    assert heard.resolution().title == title


def numbers_of(unit: str, texts: list[str]) -> list[float]:
    found = re.findall(rf"([\d.,]*\d)(?: of [\d.,]+)? ?{unit}\b", " ".join(texts))
    return [float(number.replace(",", "")) for number in found]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(
        ["Run", "Swim", "Cycle", "Walk", "Read", "Write", "Learn", "Lose", "Save", "Collect"]
    ),
    st.integers(1, 5000) | st.floats(0.5, 500).map(lambda value: round(value, 1)),
    st.sampled_from(["km", "m", "miles", "books", "pages", "words", "kg", "euros", "stamps"]),
    st.sampled_from(["", " by end of Q1", " in 3 days", " in 2028", " every week", " for 2 years"]),
)
def test_no_number_is_made_bigger(verb: str, value: float, unit: str, when: str) -> None:
    goal = Goal(f"{verb} {value} {unit}{when}")
    if goal.clarified.verdict == "goal":
        found = numbers_of(unit, goal.texts())
        assert max(found) == value


@pytest.mark.parametrize(
    ("goal", "unit", "levels"),
    [
        ("Run a 10K by end of Q1", "km in one go", (3, 10)),
        ("Swim 1500 m", "m in one go", (500, 1500)),
        ("Run 365 km in 2027", "of 365 km", (10, 365)),
        ("Save 3000 euros by May", "of 3000 euros", (100, 3000)),
    ],
)
def test_a_plan_grows_up_to_the_goal(goal: str, unit: str, levels: tuple[float, float]) -> None:
    focus = [week.focus for week in Goal(goal).plan().weeks]
    found = [float(re.findall(rf"([\d.]+) {unit}", text)[0]) for text in focus]
    assert found == sorted(found)
    assert levels[0] <= found[0] <= found[-1] <= levels[1]


@pytest.mark.parametrize(
    "goal",
    [
        "Je veux courir 10 km avant le 30 juin",
        "Ich möchte bis Ende März 500 Wörter Russisch lernen",
        "Хочу выучить 500 слов до конца марта",
        "戒烟",
    ],
)
def test_another_language_is_copied_and_said_to_be_unread(goal: str) -> None:
    heard = Goal(goal)
    assert heard.clarified.assumptions[0].startswith("This local stand-in reads English only")
    assert heard.clarified.clarified_goal == goal
    assert heard.resolution().title == goal
    assert heard.resolution().summary.startswith("This local stand-in reads English only")
    assert goal in heard.resolution().summary


@pytest.mark.parametrize("goal", [*SMART, *PLAIN, *VAGUE, "Hike El Capitan", "café"])
def test_english_is_taken_for_english(goal: str) -> None:
    assert "English" not in " ".join(Goal(goal).texts())


def test_braces_in_the_persons_words_are_just_braces() -> None:
    heard = Goal("Write a {goal} parser {undated} with {{by}} in 5 weeks")
    assert heard.resolution().title.startswith("Write a {goal} parser {undated} with {{by}} by 30")
    assert heard.plan().milestones[-1].title.startswith("Write a {goal} parser")


def test_of_several_lines_one_is_taken_and_that_is_said() -> None:
    heard = Goal("1) run 5 km\n2) read 20 books\n3) learn French")
    assert heard.resolution().title == "Run 5 km in 12 weeks"
    assert "Of 3 lines only one is taken as the goal" in heard.clarified.assumptions


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("asdf", "not_a_goal"),
        ("asdf qwer zxcv", "not_a_goal"),
        ("what time is it?", "not_a_goal"),
        ("hello", "not_a_goal"),
        ("The sky is blue", "not_a_goal"),
        ("12345", "not_a_goal"),
        ("Write me a poem about the sea", "not_a_goal"),
        ("I want to kill myself", "harmful"),
        ("my goal is to not be here anymore by Christmas, nobody will notice", "harmful"),
        ("quiero dejar de comer hasta pesar 40 kilos", "harmful"),
        ("eat only 400 kcal a day until summer", "harmful"),
        ("I want to starve myself to lose 20 kg fast", "harmful"),
        ("lose 30 kg in 3 weeks", "harmful"),
        ("learn how to build a bomb", "harmful"),
        ("take revenge and hurt my ex", "harmful"),
        ("hack into my boss's email", "harmful"),
        ("kill procrastination", "goal"),
        ("stop eating meat", "goal"),
        ("How can I run 5 km without stopping?", "goal"),
        ("shoot better photos", "goal"),
        ("减肥十公斤", "goal"),
    ],
)
def test_refuses_kindly_what_is_not_coached(text: str, verdict: str) -> None:
    clarified = Goal(text).clarified
    assert clarified.verdict == verdict
    assert bool(clarified.refusal_reason) is (verdict != "goal")
    assert bool(clarified.clarified_goal and clarified.smart) is (verdict == "goal")
    assert verdict == "goal" or not (clarified.assumptions or clarified.open_questions)


@pytest.mark.parametrize("goal", SMART)
def test_a_goal_with_number_and_date_scores_well(goal: str) -> None:
    heard = Goal(goal)
    assert heard.overall(heard.resolution()) >= 8


@pytest.mark.parametrize("goal", PLAIN)
def test_a_goal_without_them_scores_between(goal: str) -> None:
    heard = Goal(goal)
    assert 6 <= heard.overall(heard.resolution()) < 7.5


@pytest.mark.parametrize("goal", VAGUE)
def test_a_vague_goal_scores_low_until_it_is_revised(goal: str) -> None:
    heard = Goal(goal)
    assert heard.overall(heard.resolution()) < 6 <= heard.overall(heard.revised())


@pytest.mark.parametrize("goal", [*SMART, *PLAIN, *VAGUE])
def test_a_revision_is_never_worse(goal: str) -> None:
    heard = Goal(goal)
    assert heard.overall(heard.revised()) >= heard.overall(heard.resolution())


def test_a_score_says_what_was_counted() -> None:
    resolution = Goal("Run a 5K by end of Q1").resolution()
    evaluation = Goal("Run a 5K").evaluation(resolution)
    for mark in evaluation.scores().values():
        assert mark.why.startswith("Counted: ")
        assert (mark.score * 2).is_integer()
    shorter = resolution.model_copy(update={"habits": [], "risks": []})
    less = Goal("Run a 5K").evaluation(shorter)
    assert less.actionability.score < evaluation.actionability.score


def test_the_demos_goal_reads_well() -> None:
    goal = Goal("I want to run a 5K by end of Q1")
    resolution, plan = goal.resolution(), goal.plan()
    assert goal.clarified.clarified_goal == "Run a 5K by 31 March 2027: 5 km in one go."
    assert "The long one grows from 1.5 km to 5 km" in resolution.strategy
    assert [phase.start_week for phase in resolution.phases] == [1, 7, 13]
    assert plan.weeks[0].focus == "Base: towards 1.5 km in one go"
    assert plan.weeks[3].focus == "Base, easier week: towards 2 km in one go"
    assert plan.weeks[-1].tasks[-1].what == "Long session: 5 km in one piece"
    assert (plan.milestones[-1].title, plan.milestones[-1].measure) == (
        "Run a 5K",
        "5 km in one go",
    )
    assert 8.5 <= goal.overall(resolution) <= 9.5


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([*SMART, *PLAIN, *VAGUE]),
    st.integers(1, 200),
    st.floats(0.25, 60).map(lambda hours: round(hours, 2)),
    st.sampled_from(["", "no time on Tuesdays", "only weekends", "busy on Sundays and Mondays"]),
    st.integers(0, 6),
)
def test_a_plan_keeps_the_weeks_the_hours_the_days_and_the_deadline(
    goal: str, days: int, hours: float, limits: str, weekday: int
) -> None:
    today = TODAY + timedelta(days=weekday)
    deadline = today + timedelta(days=days)
    context = f"constraints: {limits}\ndeadline: {deadline}\nhours_per_week: {hours}"
    heard = Goal(goal, context, today)
    plan, resolution = heard.plan(), heard.resolution()

    assert len(plan.weeks) == heard.weeks
    covered = [w for p in resolution.phases for w in range(p.start_week, p.end_week + 1)]
    assert covered == list(range(1, heard.weeks + 1))
    assert plan.milestones[-1].week == heard.weeks
    for week in plan.weeks:
        assert sum(task.minutes for task in week.tasks) <= max(hours * 60, len(week.tasks))
        assert len({task.day for task in week.tasks}) == len(week.tasks) <= 3
    nobody = UUID(int=0)
    dated = dated_plan(plan, plan_id=nobody, resolution_id=nobody, starts_on=today)
    dates = [task.date for week in dated.weeks for task in week.tasks]
    assert dates == sorted(dates)
    assert dates[-1] <= deadline
    shut = {
        "": set(),
        "no time on Tuesdays": {1},
        "only weekends": {0, 1, 2, 3, 4},
        "busy on Sundays and Mondays": {6, 0},
    }[limits]
    if days >= 7:
        assert not shut & {day.weekday() for day in dates}


def test_sessions_have_a_day_of_rest_between_them() -> None:
    for begin in range(7):
        today = TODAY + timedelta(days=begin)
        nobody = UUID(int=0)
        draft = Goal("Run a 10K by June", today=today).plan()
        plan = dated_plan(draft, plan_id=nobody, resolution_id=nobody, starts_on=today)
        dates = [task.date for week in plan.weeks for task in week.tasks]
        assert all((b - a).days >= 2 for a, b in pairwise(dates))


def test_limits_in_the_goals_own_words_hold_in_the_plan() -> None:
    goal = Goal("Run a 10K by June, 2 hours a week, no time on Sundays and not on Thursdays")
    assert goal.clarified.clarified_goal == (
        "Run a 10K by 30 June 2027: 10 km in one go. 2 hours a week. No time on Thu and Sun."
    )
    assert goal.resolution().title == "Run a 10K by 30 June 2027"
    for week in goal.plan().weeks:
        assert sum(task.minutes for task in week.tasks) <= 120
        assert not {"Thu", "Sun"} & {task.day for task in week.tasks}


def test_hours_in_the_goals_own_words_are_heard() -> None:
    goal = Goal("Hold a 20 minute conversation in Spanish by June, 4 hours a week")
    assert goal.resolution().title == "Hold a 20 minute conversation in Spanish by 30 June 2027"
    assert "hours a week were recognised" not in " ".join(goal.clarified.assumptions)
    assert max(task.minutes for week in goal.plan().weeks for task in week.tasks) == 20


def test_three_goals_have_three_plans() -> None:
    tasks = [{t.what for week in Goal(goal).plan().weeks for t in week.tasks} for goal in SMART[:3]]
    assert not tasks[0] & tasks[1]
    assert not tasks[1] & tasks[2]
    assert all(len(found) >= 9 for found in tasks)


@settings(max_examples=80, deadline=None)
@given(st.text(min_size=1, max_size=400), st.text(max_size=100), st.dates(date(2020, 1, 1)))
def test_any_text_gets_valid_answers(text: str, context: str, today: date) -> None:
    heard = Goal(text.replace("<", "‹"), context.replace("<", "‹"), today)
    if heard.clarified.verdict == "goal":
        heard.overall(heard.revised())
        heard.plan()

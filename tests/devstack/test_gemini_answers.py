"""What the model stand-in says is what a coach would say: it follows the person's own text."""

import json
import random
import re
from datetime import date
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devstack.gemini.answers import WRITERS
from devstack.gemini.answers.dates import find_deadline
from devstack.gemini.answers.topics import PROJECT, TOPICS, VAGUE
from devstack.gemini.text import Request
from domain.evaluations import EvaluationDraft
from domain.goals import ClarifiedGoalDraft
from domain.plans import PlanDraft, day_in_week, plan_weeks
from domain.resolutions import ResolutionDraft

TODAY = date(2026, 1, 5)
SMART = (
    "I want to run a 5K by end of Q1",
    "Save €5,000 for a trip to Peru by the end of the year",
    "Reach B2 in German in 6 months",
    "Lose 10 kg by June 2026",
    "Write a 200 pages novel by December",
)
VAGUE_GOALS = ("get better at things", "be happier", "improve my life")


def _write(stage: str, **parts: str) -> dict[str, Any]:
    text = "\n".join(f"<{name}>\n{value}\n</{name}>" for name, value in parts.items())
    return WRITERS[stage](Request.read(text), random.Random(0))  # noqa: S311


def clarify(goal: str, context: str = "none given") -> ClarifiedGoalDraft:
    draft = _write("preprocess", goal=goal, context=context, today=TODAY.isoformat())
    return ClarifiedGoalDraft.model_validate(draft)


def _parts(goal: ClarifiedGoalDraft, context: str) -> dict[str, str]:
    weeks = str(plan_weeks(TODAY, goal.deadline))
    parts = {"clarified_goal": goal.model_dump_json(), "context": context, "weeks": weeks}
    return {**parts, "today": TODAY.isoformat()}


def resolve(
    goal: ClarifiedGoalDraft, context: str = "none given", revision: str = ""
) -> ResolutionDraft:
    draft = _write("generate", **_parts(goal, context), revision=revision)
    return ResolutionDraft.model_validate(draft)


def evaluate(resolution: ResolutionDraft) -> EvaluationDraft:
    draft = _write("evaluate", resolution=resolution.model_dump_json())
    return EvaluationDraft.model_validate(draft)


def plan(goal: ClarifiedGoalDraft, context: str = "none given") -> PlanDraft:
    resolution = resolve(goal, context).model_dump_json()
    return PlanDraft.model_validate(_write("plan", **_parts(goal, context), resolution=resolution))


def mean(evaluation: EvaluationDraft) -> float:
    return sum(mark.score for mark in evaluation.scores().values()) / 4


@pytest.mark.parametrize(
    ("goal", "category", "deadline"),
    [
        ("I want to run a 5K by end of Q1", "fitness", "2026-03-31"),
        ("Lose 10 kg by June 2026", "health", "2026-06-30"),
        ("I'd like to reach B2 in German in 6 months", "learning", "2026-07-05"),
        ("get a promotion to senior engineer by September", "career", "2026-09-30"),
        ("Save €5,000 by the end of the year", "finance", "2026-12-31"),
        ("meditate 20 minutes every day for 3 months", "habits", "2026-04-05"),
        ("Write a 200 pages novel by 1 November 2026", "creative", "2026-11-01"),
        ("Call my grandmother more often", "relationships", None),
        ("Renovate my kitchen by June 2027", "other", "2027-06-30"),
    ],
)
def test_hears_what_and_until_when(goal: str, category: str, deadline: str | None) -> None:
    clarified = clarify(goal)
    assert clarified.verdict == "goal"
    assert clarified.category == category
    assert clarified.deadline == (date.fromisoformat(deadline) if deadline else None)


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        ("Save €5,000 by June 2026", ("€5,000",)),
        ("Reach B2 in German in 6 months", ("B2", "German")),
        ("Write a 200 pages novel by December", ("200 pages", "novel")),
        ("do 10 pull-ups by summer", ("10", "pull-ups")),
        ("pay off $8k of credit card debt in 18 months", ("$8,000",)),
        ("Learn 5 songs on the ukulele by Christmas", ("5 songs", "ukulele")),
    ],
)
def test_keeps_the_persons_own_numbers_and_nouns(goal: str, words: tuple[str, ...]) -> None:
    clarified = clarify(goal)
    resolution = resolve(clarified).model_dump_json()
    for word in words:
        assert word in clarified.clarified_goal
        assert word in resolution


@pytest.mark.parametrize(
    ("said", "day"),
    [
        ("by end of Q1", "2026-03-31"),
        ("by 2026-05-04", "2026-05-04"),
        ("by 15 March", "2026-03-15"),
        ("before March 3rd, 2027", "2027-03-03"),
        ("in three months", "2026-04-05"),
        ("within 6 weeks", "2026-02-16"),
        ("over the next 30 days", "2026-02-04"),
        ("this year", "2026-12-31"),
        ("before June", "2026-05-31"),
        ("by Christmas", "2026-12-24"),
        ("by the end of February 2028", "2028-02-29"),
    ],
)
def test_reads_a_deadline(said: str, day: str) -> None:
    found = find_deadline(f"learn to juggle {said}", TODAY)
    assert found is not None
    assert found.day.isoformat() == day


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("asdf", "not_a_goal"),
        ("what time is it?", "not_a_goal"),
        ("hello", "not_a_goal"),
        ("The sky is blue", "not_a_goal"),
        ("12345", "not_a_goal"),
        ("I want to kill myself", "harmful"),
        ("eat only 400 calories a day until summer", "harmful"),
        ("lose 30 kg in 3 weeks", "harmful"),
        ("learn how to build a bomb", "harmful"),
        ("take revenge and hurt my ex", "harmful"),
        ("hack into my boss's email", "harmful"),
        ("kill procrastination", "goal"),
        ("How can I run 5 km without stopping?", "goal"),
        ("shoot better photos", "goal"),
        ("减肥十公斤", "goal"),
    ],
)
def test_refuses_kindly_what_is_not_coached(text: str, verdict: str) -> None:
    clarified = clarify(text)
    assert clarified.verdict == verdict
    assert bool(clarified.refusal_reason) is (verdict != "goal")
    assert bool(clarified.smart) is (verdict == "goal")


@pytest.mark.parametrize("goal", SMART)
def test_a_smart_goal_scores_well(goal: str) -> None:
    assert mean(evaluate(resolve(clarify(goal)))) >= 8


@pytest.mark.parametrize("goal", VAGUE_GOALS)
def test_a_vague_goal_scores_low_until_it_is_revised(goal: str) -> None:
    clarified = clarify(goal)
    first = resolve(clarified)
    marks = evaluate(first)
    assert mean(marks) < 6
    assert marks.suggestions
    revision = f"{first.model_dump_json()}\n\nSuggestions:\n- {marks.suggestions[0]}"
    assert mean(evaluate(resolve(clarified, revision=revision))) >= 7


def test_a_wish_that_stays_vague_never_scores_like_a_smart_goal() -> None:
    smart = min(mean(evaluate(resolve(clarify(goal)))) for goal in SMART)
    for goal in (*VAGUE_GOALS, "I want to get in better shape"):
        assert mean(evaluate(resolve(clarify(goal), revision="{} Suggestions: a date"))) < smart


def test_a_plan_prepares_before_it_begins_whatever_the_weekday(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wednesday = date(2026, 1, 7)
    monkeypatch.setattr(f"{__name__}.TODAY", wednesday)
    week = plan(clarify("be happier")).weeks[0]
    days = [day_in_week(wednesday, task.day) for task in week.tasks]
    assert days == sorted(days)
    assert week.tasks[0].what.startswith("List five things")


@pytest.mark.parametrize("begin", range(5, 12))
def test_runs_have_a_day_of_rest_between_them(begin: int, monkeypatch: pytest.MonkeyPatch) -> None:
    today = date(2026, 1, begin)
    monkeypatch.setattr(f"{__name__}.TODAY", today)
    for week in plan(clarify("Run a 10K by June")).weeks:
        runs = [
            day_in_week(today, task.day)
            for task in week.tasks
            if re.search("(?i)run-walk|long run|easy run|intervals|blocks|tempo", task.what)
        ]
        assert all((later - earlier).days >= 2 for earlier, later in pairwise(runs)), week


def test_hours_in_the_goals_own_words_are_kept_out_of_the_title() -> None:
    goal = clarify("Hold a 20 minute conversation in Spanish by June, 4 hours a week")
    resolution = resolve(goal)
    assert resolution.title == "Hold a 20 minute conversation in Spanish by 30 June 2026"
    assert "In 4 hours a week you go from 1 minute to 20 minutes" in resolution.summary
    assert "You can give it" not in " ".join(goal.assumptions)


def test_what_is_not_english_is_quoted_and_said_to_be_unread() -> None:
    goal = clarify("Хочу выучить 500 слов до конца марта")

    assert "in English only" in goal.assumptions[0]
    assert "you reach your goal, 'хочу выучить" in resolve(goal).summary


def test_a_reason_quotes_the_text_it_judges() -> None:
    resolution = resolve(clarify("get better at things"))
    for mark in evaluate(resolution).scores().values():
        quoted = re.search(r"'(.+?)( …)?'", mark.why)
        assert quoted is not None
        assert quoted[1] in " ".join(
            (
                resolution.title,
                resolution.strategy,
                *resolution.success_criteria,
                *resolution.habits,
            )
        )
        assert (mark.score * 2).is_integer()


@pytest.mark.parametrize("goal", [*SMART, *VAGUE_GOALS, "learn Python", "quit smoking", "marathon"])
@pytest.mark.parametrize("hours", [1, 3, 8])
def test_a_plan_fits_the_weeks_the_hours_and_the_days(goal: str, hours: int) -> None:
    context = f"constraints: no time on Tuesdays\nhours_per_week: {hours}"
    clarified = clarify(goal, context)
    resolution, weeks = resolve(clarified, context), plan(clarified, context).weeks
    assert len(weeks) == plan_weeks(TODAY, clarified.deadline)
    covered = [w for p in resolution.phases for w in range(p.start_week, p.end_week + 1)]
    assert covered == list(range(1, len(weeks) + 1))
    for week in weeks:
        assert sum(task.minutes for task in week.tasks) <= max(hours * 60, 5 * len(week.tasks) + 90)
        assert "Tue" not in {task.day for task in week.tasks}


def test_a_running_plan_grows() -> None:
    weeks = plan(clarify("Run a 10K by June")).weeks
    longest = [float(re.findall(r"([\d.]+) km", week.focus)[-1]) for week in weeks]
    assert longest == sorted(longest)
    assert (longest[0] < 4, longest[-1]) == (True, 10)


def test_what_the_person_said_about_themselves_comes_back() -> None:
    context = "experience: I can run 2 km\nconstraints: night shifts\nhours_per_week: 2.0"
    goal = clarify(SMART[0], context)
    resolution = resolve(goal, context)
    assert "I can run 2 km" in resolution.summary
    assert "from 2 km to 5 km" in resolution.strategy
    assert any("ight shifts" in risk.risk for risk in resolution.risks)


def test_three_goals_have_three_plans() -> None:
    tasks = [{t.what for w in plan(clarify(goal)).weeks for t in w.tasks} for goal in SMART[:3]]
    assert not tasks[0] & tasks[1]
    assert not tasks[1] & tasks[2]
    assert all(len(found) > 12 for found in tasks)


@pytest.mark.parametrize("topic", [*TOPICS, PROJECT, VAGUE], ids=lambda topic: topic.key)
def test_every_topics_texts_can_be_filled_in(topic: Any) -> None:
    texts = re.findall(r"\{(\w+)\}", json.dumps(WORDS_OF(topic)))
    known = {"goal", "target", "start", "v", "vn", "prev", "part", "left", "half", "fast", "noun"}
    assert set(texts) <= known | {"n", "weeks", "span", "due", "hours", "min"}


def WORDS_OF(topic: Any) -> list[str]:
    tasks = [(step.do, step.done) for phase in topic.phases for step in phase.tasks]
    risks = [(risk.risk, risk.response) for risk in topic.risks]
    lines = [*topic.criteria, *topic.habits, *topic.asks, topic.outcome, topic.strategy]
    pairs = [text for pair in (*tasks, *risks) for text in pair]
    return [*lines, *pairs, topic.first, topic.milestone, topic.assumes, topic.soft]


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=3, max_size=400), st.text(max_size=100))
def test_any_text_gets_valid_answers(goal: str, context: str) -> None:
    goal = goal.replace("<", "‹")
    clarified = clarify(goal, f"constraints: {context.replace('<', '‹')}")
    if clarified.verdict == "goal":
        evaluate(resolve(clarified, context.replace("<", "‹")))
        plan(clarified)

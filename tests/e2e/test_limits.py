"""What a person states holds in the result, whatever the model says."""

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from devstack.controls import GeminiControl

from .conftest import Backend

pytestmark = pytest.mark.stack

GOAL = "Finish my portfolio"


def today() -> date:
    return datetime.now(UTC).date()


def dates(plan: dict[str, Any]) -> list[date]:
    """Every day on which the plan has something."""
    tasks = [task["date"] for week in plan["weeks"] for task in week["tasks"]]
    milestones = [milestone["date"] for milestone in plan["milestones"]]
    return [date.fromisoformat(day) for day in [*tasks, *milestones, plan["ends_on"]]]


async def test_nothing_is_planned_after_a_near_deadline(backend: Backend) -> None:
    for days in range(1, 6):
        deadline = today() + timedelta(days=days)
        context = {"deadline": deadline.isoformat()}
        run = await backend.finished(await backend.submit(GOAL, context=context))
        assert run["status"] == "success"
        assert max(dates(run["plan"])) == deadline


async def test_rest_days_and_hours_are_kept(backend: Backend) -> None:
    context = {"hours_per_week": 1, "rest_days": ["Sun", "Mon"]}
    run = await backend.finished(await backend.submit(GOAL, context=context))
    assert (run["status"], run["context"]["rest_days"]) == ("success", ["Mon", "Sun"])
    for week in run["plan"]["weeks"]:
        assert sum(task["minutes"] for task in week["tasks"]) <= 60
        assert not {"Sun", "Mon"} & {task["day"] for task in week["tasks"]}


async def test_limits_in_the_words_of_the_goal_are_kept(backend: Backend) -> None:
    goal = "Run a 5K, no training on Sundays, 2 hours a week"
    run = await backend.finished(await backend.submit(goal))
    assert run["clarified_goal"]["rest_days"] == ["Sun"]
    assert run["clarified_goal"]["hours_per_week"] == 2
    assert "Sun" not in {task["day"] for week in run["plan"]["weeks"] for task in week["tasks"]}


async def test_a_plan_that_breaks_a_limit_is_asked_for_again(
    backend: Backend, gemini: GeminiControl
) -> None:
    task = {"what": "Work", "day": "Sun", "minutes": 960, "done_when": "It is done"}
    weeks = [{"week": n, "focus": "More", "tasks": [task]} for n in range(1, 13)]
    milestone = {"title": "Done", "week": 12, "measure": "All of it"}
    plan = {"first_step_today": "Begin", "weeks": weeks, "milestones": [milestone]}
    before = len(await gemini.calls())
    says = {"fault": "says", "stage": "plan", "args": {"text": json.dumps(plan)}}
    await gemini.faults(says)
    context = {"hours_per_week": 2, "rest_days": ["Sun"]}
    run = await backend.finished(await backend.submit(GOAL, context=context))
    assert run["status"] == "success"
    calls = [call for call in await gemini.calls(since=before) if call["stage"] == "plan"]
    assert len(calls) == 2
    assert "Sun" not in {task["day"] for week in run["plan"]["weeks"] for task in week["tasks"]}


async def test_a_deadline_that_the_model_puts_into_the_past_is_told(
    backend: Backend, gemini: GeminiControl
) -> None:
    answer = {
        "verdict": "goal",
        "clarified_goal": "Finish my portfolio",
        "smart": dict.fromkeys(
            ["specific", "measurable", "achievable", "relevant", "time_bound"], "Yes"
        ),
        "deadline": "2020-01-31",
    }
    says = {"fault": "says", "stage": "preprocess", "calls": "all"}
    await gemini.faults({**says, "args": {"text": json.dumps(answer)}})
    run = await backend.finished(await backend.submit("Mein Ziel ist es, fertig zu werden"))
    assert run["status"] == "success"
    assert run["clarified_goal"]["deadline"] is None
    assert run["clarified_goal"]["assumptions"][0].startswith("Das Datum 2020-01-31 ist schon")


async def test_no_goal_of_several_is_lost(backend: Backend) -> None:
    goal = "Run a 5K\nLearn Spanish\nSave 1000 euros"
    run = await backend.finished(await backend.submit(goal))
    assert run["clarified_goal"]["also_asked"] == ["Learn Spanish", "Save 1000 euros"]


async def test_the_plan_starts_today_where_the_person_is(backend: Backend) -> None:
    starts = {}
    for time_zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        run = await backend.finished(await backend.submit(GOAL, time_zone=time_zone))
        assert run["time_zone"] == time_zone
        starts[time_zone] = date.fromisoformat(run["plan"]["starts_on"])
    # 25 hours lie between them, so it is never the same day in both.
    assert starts["Pacific/Kiritimati"] > starts["Pacific/Pago_Pago"]

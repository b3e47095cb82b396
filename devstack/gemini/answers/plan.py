"""The plan stage: weeks with tasks that grow, within the person's hours, on days that they have."""

import json
import random
import re

from devstack.gemini.answers.goal import Goal
from devstack.gemini.answers.phases import Span, told
from devstack.gemini.answers.reading import read_goal
from devstack.gemini.answers.topic import Step
from devstack.gemini.protocol import Json, count_tokens
from devstack.gemini.text import Request

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
SPREADS: dict[int, tuple[tuple[int, ...], ...]] = {
    1: ((5,), (2,)),
    2: ((1, 5), (2, 6), (1, 4)),
    3: ((0, 2, 5), (1, 3, 5), (1, 3, 6)),
    4: ((0, 2, 4, 6), (1, 3, 5, 6), (0, 2, 3, 5)),
    5: ((0, 1, 3, 5, 6), (0, 2, 3, 4, 6)),
    6: ((0, 1, 2, 3, 5, 6), (0, 1, 3, 4, 5, 6)),
}
# Counted from the week's first day: what tires has a day of rest after it.
RESTED = {
    3: ((0, 2, 4), (1, 3, 5)),
    4: ((0, 2, 4, 5), (1, 3, 5, 6)),
    5: ((0, 1, 3, 5, 6),),
}
LONGEST = 90


def write(request: Request, rng: random.Random) -> Json:
    """A PlanDraft."""
    goal = read_goal(request)
    phases = told(request.resolution, goal)
    spread = rng.randrange(6)
    weeks = [_week(goal, phases, week, spread) for week in range(1, goal.weeks + 1)]
    return {
        "first_step_today": goal.say(goal.topic.first, 1),
        "weeks": weeks,
        "milestones": _milestones(goal, phases),
    }


def within(plan: Json, tokens: int) -> Json:
    """The plan, told more briefly when it would not fit: what is done several times has one line."""
    if count_tokens(json.dumps(plan, ensure_ascii=False)) <= tokens:
        return plan
    return {**plan, "weeks": [{**week, "tasks": _joined(week["tasks"])} for week in plan["weeks"]]}


def _joined(tasks: list[Json]) -> list[Json]:
    same: dict[str, list[Json]] = {}
    for task in tasks:
        same.setdefault(task["what"], []).append(task)
    return [
        group[0]
        if len(group) == 1
        else {
            **group[0],
            "what": f"{len(group)} times {group[0]['minutes']} minutes: {what}"[:300],
            "minutes": min(960, sum(task["minutes"] for task in group)),
        }
        for what, group in same.items()
    ]


def _phase(phases: list[Span], week: int) -> Span:
    return next((phase for phase in phases if phase.first <= week <= phase.last), phases[-1])


def _week(goal: Goal, phases: list[Span], week: int, spread: int) -> Json:
    phase = _phase(phases, week)
    light = goal.topic.category == "fitness" and week % 4 == 0 and week < goal.weeks
    steps = _steps(goal, phase, week)
    pace = 0.75 + 0.25 * min(1.0, week / max(1, goal.weeks / 2))
    rested = goal.topic.category == "fitness" and phase is phases[-1] and len(phases) > 2
    budget = goal.hours * 60 * pace * (0.8 if light else 0.7 if rested else 1)
    sessions = _sessions(goal, steps, week, budget)
    first = goal.today.weekday() if goal.today else 0
    fit = goal.topic.category == "fitness"
    days = _days(_wished(len(sessions), spread, first, fit=fit), goal.constraints, first)
    free = _free(goal.constraints)
    tasks = []
    for (step, minutes), day in zip(sessions, days, strict=True):
        day_name = "Sun" if step.do.startswith("Sunday") and free[6] else DAYS[day]
        tasks.append(
            {
                "what": goal.say(step.do, week, minutes=minutes)[:300],
                "day": day_name,
                "minutes": minutes,
                "done_when": goal.say(step.done, week, minutes=minutes)[:300],
            }
        )
    tasks.sort(key=lambda task: (DAYS.index(str(task["day"])) - first) % 7)
    aim = goal.say(goal.topic.milestone, week)
    note = "lighter week, " if light else ""
    return {
        "week": week,
        "focus": f"{phase.name}: {note}{aim[:1].lower()}{aim[1:]}",
        "tasks": tasks,
    }


def _steps(goal: Goal, phase: Span, week: int) -> list[Step]:
    """The week's steps: those of the phase's first week only, three that stay, one that changes."""
    nth = week - phase.first
    due = [
        step
        for step in goal.topic.phases[phase.index].tasks
        if not step.once and nth % step.every == step.offset
    ]
    kept, turns = due[:3], due[3:]
    if turns:
        kept = [*kept, turns[nth % len(turns)]]
    all_steps = goal.topic.phases[phase.index].tasks
    return [step for step in all_steps if step.once and nth == 0] + kept


def _minutes(goal: Goal, step: Step, week: int, budget: float) -> int:
    """A session's length in fives. What is short by nature stays short, however many hours there are."""
    if step.exact:
        return max(1, round(goal.level(week)))
    most = (20 if step.share <= 1 else 45 if step.share <= 2 else 360) * step.times
    return max(5, int(min(budget, most) / step.times / 5) * 5)


def _sessions(goal: Goal, steps: list[Step], week: int, budget: float) -> list[tuple[Step, int]]:
    """Each session with its minutes; a step that would take too long becomes several sessions."""
    total = sum(step.share for step in steps)
    found = []
    for step in steps:
        minutes = _minutes(goal, step, week, budget * step.share / total)
        parts = min(3, -(-minutes // LONGEST)) if step.times == 1 else 1
        found += [(step, max(5, minutes // parts // 5 * 5) if parts > 1 else minutes)] * (
            parts * step.times
        )
    return found[:14]


def _free(constraints: str) -> list[bool]:
    """Which weekdays the constraints leave: 'only weekends', 'no time on Tuesdays'."""
    text = constraints.lower()
    if re.search(r"(?:only|just)\s+(?:on\s+|at\s+)?(?:the\s+)?weekends?|weekends?\s+only", text):
        return [False] * 5 + [True] * 2
    if re.search(
        r"(?:only|just)\s+(?:on\s+)?(?:weekdays)|(?:no|not|never|busy)\W+(?:\w+\W+){0,3}weekends?",
        text,
    ):
        return [True] * 5 + [False] * 2
    names = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    refused = re.search(r"(?:no|not|never|can['’]?t|cannot|busy|except|without)\b(.{0,60})", text)
    shut = refused[1] if refused else ""
    free = [not re.search(rf"\b{name}[a-z]*day", shut) for name in names]
    return free if any(free) else [True] * 7


def _wished(count: int, spread: int, first: int, *, fit: bool) -> list[int]:
    """A weekday for each session."""
    choices = (RESTED if fit and count in RESTED else SPREADS).get(count, (tuple(range(7)),))
    chosen = choices[spread % len(choices)]
    shift = first if fit and count in RESTED else 0
    return [(chosen[number % len(chosen)] + shift) % 7 for number in range(count)]


def _days(wished: list[int], constraints: str, first: int) -> list[int]:
    """Free weekdays, in the order in which they come in a week that begins on the day `first`."""
    free = [day for day, is_free in enumerate(_free(constraints)) if is_free]
    found = []
    for number, day in enumerate(wished):
        found.append(day if day in free else free[number % len(free)])
    return sorted(found, key=lambda day: (day - first) % 7)


def _milestones(goal: Goal, phases: list[Span]) -> list[Json]:
    found = []
    for phase in phases[:-1]:
        week = min(phase.last, goal.weeks)
        found.append(
            {
                "title": f"{phase.name} done",
                "week": week,
                "measure": goal.say(goal.topic.milestone, week),
            }
        )
    reached = goal.span <= goal.weeks
    measure = goal.topic.criteria[0] if reached else goal.topic.milestone
    title = goal.title if reached else f"On course for {goal.due}"
    found.append(
        {"title": title[:280], "week": goal.weeks, "measure": goal.say(measure, goal.weeks)}
    )
    return found

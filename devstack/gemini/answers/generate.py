"""The generate stage: a resolution for the clarified goal, and a better one when it was sent back."""

import random
from datetime import timedelta

from devstack.gemini.answers.dates import spell
from devstack.gemini.answers.goal import Goal
from devstack.gemini.answers.phases import spans
from devstack.gemini.answers.reading import read_goal
from devstack.gemini.protocol import Json
from devstack.gemini.text import Request


def write(request: Request, rng: random.Random) -> Json:
    """A ResolutionDraft. A goal that is still vague gets a vague one, until a revision is asked for."""
    goal = read_goal(request)
    revised = bool(request.revision.strip())
    if goal.sharp == 0 and not revised:
        return _loose(goal)
    return {
        "title": _title(goal),
        "summary": _summary(goal),
        "strategy": _strategy(goal),
        "phases": [
            {"name": s.name, "start_week": s.first, "end_week": s.last, "focus": s.focus + "."}
            for s in spans(goal)
        ],
        "success_criteria": _criteria(goal, revised),
        "risks": _risks(goal, rng),
        "habits": [goal.say(habit) for habit in goal.topic.habits],
    }


def _title(goal: Goal) -> str:
    if goal.sharp == 0:
        return goal.say("{goal}: one area from {start} to {target} in {weeks} weeks")
    title = goal.title if len(goal.title) <= 90 else goal.title[:90].rsplit(" ", 1)[0]
    return f"{title} by {goal.due}" if goal.deadline else f"{title} in {goal.weeks} weeks"


def _summary(goal: Goal) -> str:
    when = f"By {goal.due}" if goal.deadline else f"Within {goal.weeks} weeks"
    outcome = goal.say(goal.topic.outcome)
    text = f"{when} you {_you_verb(goal)}: {outcome[:1].lower()}{outcome[1:]}."
    if goal.topic.curve == "sum":
        text += goal.say(" That is about {part} a week in {hours} a week.")
    else:
        text += goal.say(" In {hours} a week you go from {start} to {target}.")
    if goal.span > goal.weeks:
        text += (
            f" These are the first {goal.weeks} of {goal.span} weeks and end at "
            f"{goal.topic.show(goal.level(goal.weeks))}; the same rhythm carries you on to {goal.due}."
        )
    if goal.experience:
        text += f" It starts from what you told me: {goal.experience.rstrip('.')}."
    return text


def _you_verb(goal: Goal) -> str:
    first = goal.phrase.split(" ", 1)[0].lower()
    nouny = first in ("a", "an", "the", "your", "more", "less", "no", "better", "financial", "good")
    if nouny or first[:1].isdigit() or goal.foreign:
        return f"reach your goal, '{goal.phrase}'"
    return ("are " + goal.phrase[3:]) if first == "be" else goal.phrase


def _strategy(goal: Goal) -> str:
    text = goal.say(goal.topic.strategy)
    if goal.constraints:
        text += (
            f" Because of what gets in your way ({goal.constraints.rstrip('.')}), no week holds "
            + ("more than its hours, and every session can move within its week.")
        )
    return text


def _criteria(goal: Goal, revised: bool) -> list[str]:
    measured = [goal.say(criterion) for criterion in goal.topic.criteria]
    if revised:
        return [*measured, _half_time(goal)]
    if goal.sharp == 2:
        return measured
    return (
        [measured[0], goal.say(goal.topic.soft)]
        if goal.given
        else [goal.say(goal.topic.soft), *measured[1:2]]
    )


def _half_time(goal: Goal) -> str:
    week = max(1, goal.weeks // 2)
    day = spell(goal.today + timedelta(days=7 * week)) if goal.today else f"the end of week {week}"
    return f"Half-time check on {day}: {goal.say(goal.topic.milestone, week)}"


def _risks(goal: Goal, rng: random.Random) -> list[Json]:
    risks = [
        {"risk": goal.say(known.risk), "response": goal.say(known.response) + "."}
        for known in goal.topic.risks
    ]
    rng.shuffle(risks)
    if goal.rushed:
        risks.insert(
            0,
            {
                "risk": goal.say(
                    "{part} a week is more than the {fast} a week that is held to be safe"
                ),
                "response": goal.say(
                    "Look at it after 4 weeks: if you are behind or in pain, move the date "
                    "and keep the weekly step at {fast}."
                ),
            },
        )
    if goal.constraints:
        cure = (
            f"If a week is full, do the shortest task of it ({_floor(goal)} minutes) on its day and move "
            "one other to the weekend; two such weeks in a row make the following week the same again."
        )
        risks.insert(
            0, {"risk": goal.constraints[:1].upper() + goal.constraints[1:280], "response": cure}
        )
    return risks[:5]


def _floor(goal: Goal) -> int:
    return max(10, round(goal.hours * 60 / 6 / 5) * 5)


def _loose(goal: Goal) -> Json:
    third = max(1, goal.weeks // 3)
    phases: list[Json] = [
        {
            "name": "Finding out",
            "start_week": 1,
            "end_week": third,
            "focus": f"Think about what it means to you to {goal.phrase}.",
        }
    ]
    if goal.weeks > third:
        phases.append(
            {
                "name": "Making progress",
                "start_week": third + 1,
                "end_week": goal.weeks,
                "focus": "Improve step by step and stay motivated.",
            }
        )
    return {
        "title": goal.title,
        "summary": f"You want to {goal.phrase}, and over time you will notice a change.",
        "strategy": "Try different things, keep what feels right, and do a bit more of it as you go along.",
        "phases": phases,
        "success_criteria": [goal.say(goal.topic.soft), "Things go more smoothly than before"],
        "risks": [
            {"risk": "Losing motivation", "response": "Remember why you started and keep going."}
        ],
        "habits": ["Practise regularly", "Reflect on your progress"],
    }

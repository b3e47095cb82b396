"""The preprocess stage: the goal clarified, or a kind refusal."""

import random
import re

from devstack.gemini.answers.dates import spell
from devstack.gemini.answers.goal import Goal
from devstack.gemini.answers.reading import DEFAULT_WEEKS, read_goal
from devstack.gemini.answers.verdict import refusal
from devstack.gemini.protocol import Json
from devstack.gemini.text import Request

RUSHED = (
    "{target} in {span} weeks is {part} a week, more than the {fast} a week that is held to be "
    "safe; may the date move?"
)
UNREAD = "This local stand-in reads dates and hours in English only"


def write(request: Request, rng: random.Random) -> Json:
    """A ClarifiedGoalDraft."""
    refused = refusal(request.goal)
    if refused is not None:
        verdict, reason = refused
        return {
            "verdict": verdict,
            "refusal_reason": reason,
            "clarified_goal": "",
            "category": "other",
            "smart": None,
            "deadline": None,
            "assumptions": [],
            "open_questions": [],
        }
    goal = read_goal(request)
    return {
        "verdict": "goal",
        "refusal_reason": None,
        "clarified_goal": _sentence(goal),
        "category": goal.topic.category,
        "smart": _smart(goal),
        "deadline": goal.deadline.isoformat() if goal.deadline else None,
        "assumptions": _assumptions(goal),
        "open_questions": _questions(goal, rng),
    }


def _when(goal: Goal) -> str:
    hours = f", in {goal.hours:g} hours a week" if goal.hours_said else ""
    when = f"by {goal.due}" if goal.deadline else f"within the next {goal.weeks} weeks"
    return when + hours


def _sentence(goal: Goal) -> str:
    if goal.sharp == 0:
        return f"{goal.title} {_when(goal)}."
    return (
        goal.say("{goal} ")
        + f"{_when(goal)}: {goal.say(goal.topic.outcome)[:1].lower()}"
        + (goal.say(goal.topic.outcome)[1:] + ".")
    )


def _smart(goal: Goal) -> Json:
    topic = goal.topic
    weeks = f"{goal.span} week{'' if goal.span == 1 else 's'}"
    due = f"Due on {goal.due}, {weeks} from now" if goal.deadline else f"Within {weeks} from now"
    outcome = goal.say(topic.outcome)
    return {
        "specific": f"{goal.title}: {outcome[:1].lower()}{outcome[1:]}.",
        "measurable": goal.say(topic.criteria[0]) + ".",
        "achievable": goal.say(topic.achievable) + ".",
        "relevant": _why(goal),
        "time_bound": f"{due}, with a check at the end of week {max(1, goal.weeks // 2)}.",
    }


def _why(goal: Goal) -> str:
    said = re.search(r"\b(?:so (?:that )?you|because|in order to|for your)\b.*$", goal.phrase)
    own = f"You said why yourself: {said[0]}. " if said else ""
    return own + goal.say(goal.topic.relevant) + "."


def _assumptions(goal: Goal) -> list[str]:
    found = []
    if goal.foreign and goal.deadline is None:
        found.append(f"{UNREAD}, so I plan with {goal.weeks or DEFAULT_WEEKS} weeks")
    elif goal.deadline is None:
        found.append(f"You named no date, so I plan with {goal.weeks or DEFAULT_WEEKS} weeks")
    elif goal.said and str(goal.deadline.year) not in goal.said:
        found.append(f"I read '{goal.said}' as {spell(goal.deadline)}")
    if not goal.hours_given:
        found.append(goal.say("You can give it about {hours} a week"))
    if not goal.given:
        found.append(goal.say(goal.topic.assumes))
    if not goal.experience and goal.topic.category in ("fitness", "learning", "creative"):
        found.append("You start from little or no practice, as you said nothing about today")
    if goal.span > goal.weeks:
        found.append(f"The plan covers the first {goal.weeks} of {goal.span} weeks")
    return found


def _questions(goal: Goal, rng: random.Random) -> list[str]:
    asks = [goal.say(text) for text in goal.topic.asks]
    rng.shuffle(asks)
    if goal.deadline is None:
        asks.insert(0, "Is there a day by which you would like to be there?")
    if goal.rushed:
        asks.insert(0, goal.say(RUSHED))
    if not goal.constraints:
        asks.append("What usually gets in the way in a normal week?")
    return asks[:3]

"""Which phase a week belongs to."""

from dataclasses import dataclass
from itertools import pairwise

from devstack.gemini.answers.goal import Goal
from devstack.gemini.protocol import Json

SHARES = {1: (1.0,), 2: (0.5, 1.0), 3: (0.25, 0.7, 1.0), 4: (0.2, 0.5, 0.8, 1.0)}


@dataclass(frozen=True)
class Span:
    """`index` counts the topic's phases from 0; weeks count from 1, both ends included."""

    index: int
    name: str
    focus: str
    first: int
    last: int


def spans(goal: Goal) -> list[Span]:
    """The topic's phases laid over the goal's weeks. Few weeks have fewer phases: the last one stays."""
    phases = list(enumerate(goal.topic.phases))
    if goal.seasoned and len(phases) > 2:
        phases.pop(0)
    if goal.span > goal.weeks * 1.2 and len(phases) > 2:
        phases.pop()  # the end lies beyond the plan's weeks, so its phase does too
    count = min(len(phases), max(1, goal.weeks // 2), goal.weeks)
    chosen = phases[: count - 1] + phases[-1:] if count > 1 else [phases[min(1, len(phases) - 1)]]
    found, first = [], 1
    for (index, phase), share in zip(chosen, SHARES[count], strict=True):
        last = max(first, min(goal.weeks, round(goal.weeks * share)))
        focus = goal.say(phase.focus, last)
        found.append(Span(index, phase.name, focus, first, last))
        first = last + 1
    return found


def told(resolution: Json, goal: Goal) -> list[Span]:
    """The resolution's own phases where they can be used, else ours."""
    ours = spans(goal)
    theirs = resolution.get("phases")
    if not isinstance(theirs, list) or len(theirs) != len(ours):
        return ours
    try:
        found = [
            Span(
                mine.index,
                str(phase["name"]),
                str(phase["focus"]),
                int(phase["start_week"]),
                int(phase["end_week"]),
            )
            for mine, phase in zip(ours, theirs, strict=True)
        ]
    except (KeyError, TypeError, ValueError):
        return ours
    whole = found[0].first == 1 and found[-1].last >= goal.weeks
    joined = all(a.last + 1 == b.first for a, b in pairwise(found))
    return found if whole and joined else ours

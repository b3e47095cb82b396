"""What is told of a story: what was going to happen, what did, and whether the invariants held."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tests.chaos.facts import Facts
from tests.chaos.invariants import Verdict, provider_bill
from tests.chaos.people import People
from tests.chaos.story import Story

SHOWN = 8


@dataclass(frozen=True)
class Outcome:
    """How a story ended. Counters by what was done; `deaths` of parts that nobody killed."""

    story: Story
    people: People
    faults: Counter[str]
    deaths: Counter[str]
    actions: Counter[str]
    healing_s: float
    left: dict[str, int]
    facts: Facts
    verdicts: dict[str, Verdict]

    @property
    def held(self) -> bool:
        return not any(verdict.broken for verdict in self.verdicts.values())


def announcement(story: Story) -> str:
    """The seed and all faults and actions, so that a story can be told again."""
    lines = [f"seed {story.seed}, {story.seconds:g} s, a goal every {story.goal_every_s:g} s"]
    lines += [str(step) for step in story.steps() if step.actor != "person"]
    return "\n".join(lines)


def report(outcome: Outcome) -> str:
    return "\n".join(_lines(outcome))


def _lines(outcome: Outcome) -> Iterator[str]:
    story, facts = outcome.story, outcome.facts
    yield f"seed {story.seed}, {story.seconds:g} s; at rest {outcome.healing_s:.0f} s later"
    yield _counts("faults", outcome.faults)
    yield _counts("ended by themselves", outcome.deaths)
    yield _counts("operator", outcome.actions)
    yield _counts("answers", outcome.people.answers)
    statuses = Counter(run["status"] for run in facts.runs)
    yield _counts(f"{len(facts.runs)} runs", statuses)
    states = Counter(call["state"] for call in facts.all_calls)
    yield _counts(f"{states.total()} calls", states)
    counted = sum(run["cost_usd"] or 0 for run in facts.runs)
    served = f"{len(facts.served)} for ${provider_bill(facts)}"
    yield f"  the provider served {served}; Rein counts ${counted}"
    if outcome.left:
        yield _counts("STILL UNDER WAY", Counter(outcome.left))
    for name, (checked, broken) in outcome.verdicts.items():
        yield f"{'BROKEN' if broken else 'held  '} {checked - len(broken):5} of {checked:5}  {name}"
        yield from (f"         {line}" for line in broken[:SHOWN])
        if len(broken) > SHOWN:
            yield f"         and {len(broken) - SHOWN} more"
    yield "the invariants hold" if outcome.held else f"BROKEN with seed {story.seed}"


def _counts(what: str, counter: Counter[str] | Counter[int]) -> str:
    counted = ", ".join(f"{name} {count}" for name, count in sorted(counter.items()))
    return f"  {what}: {counted or 'none'}"

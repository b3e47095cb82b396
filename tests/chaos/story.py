"""What will happen and when: every choice comes from one seed, before anything begins."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar, get_args

from devstack.stack import Service
from workflows.kinds import KINDS

SERVICES: tuple[Service, ...] = get_args(Service)
STAGES = KINDS["goal_generation"].stage_names()
T = TypeVar("T")
Actor = Literal["person", "nemesis", "operator"]

GOALS = (
    "I want to run a 5K by end of Q1",
    "Read 20 books this year",
    "Learn 500 Spanish words in three months, 3 hours a week",
    "Save 2,000 euros for a trip by next summer",
    "get better at things",  # vague, so its resolution is revised
    "I want to starve myself to lose 20 kg fast",  # refused
)
GOAL_WEIGHTS = (6, 4, 4, 4, 3, 1)

# What the stand-ins do wrong, and to how many calls. Stand-ins forget faults when they die.
MODEL_FAULTS: dict[str, dict[str, Any]] = {
    "rate_limit": {"calls": 4, "args": {"seconds": 2.5}},
    "error": {"calls": 4, "args": {"code": 500}},
    "computed_then_dropped": {"calls": 2},
    "malformed": {"calls": 2},
    "drip": {"calls": 2, "args": {"bytes": 2000, "seconds": 0.4}},
}
OPIK_FAULTS: dict[str, dict[str, Any]] = {
    "429": {"count": 2, "headers": {"Retry-After": "2"}},
    "500": {"count": 3},
    "cut": {"count": 2},
    "slow": {"count": 3, "seconds": 2},
}
# Seconds that a fault lasts. A kill ends with a start, which takes some seconds more.
LASTS = {"kill": (0.2, 4.0), "freeze": (1.0, 6.0), "restart": (0.0, 0.0), "fault": (0.0, 0.0)}
FAULTS: tuple[tuple[str, str], ...] = (
    *((what, service) for what in ("kill", "freeze", "restart") for service in SERVICES),
    *(("fault", f"gemini {name}") for name in MODEL_FAULTS),
    *(("fault", f"opik {name}") for name in OPIK_FAULTS),
)
ACTIONS = ("cancel", "terminate", "reset", "rerun")
RATINGS = (None, None, 1.0, 2.5, 4.0, 5.0)


class Step(NamedTuple):
    """One thing that somebody does.

    Attributes:
        at_s: Seconds after the beginning.
        on: What it is done to: a service, a stand-in's fault, a stage to start again from; or the
            words of a goal.
        lasts_s: How long a fault lasts.
        pick: Which of the runs that there are by then, from 0 (the oldest) to 1 (the newest).
        rating: What the person thinks of the result, if they say it.
    """

    at_s: float
    actor: Actor
    what: str
    on: str = ""
    lasts_s: float = 0
    pick: float = 0
    rating: float | None = None

    def __str__(self) -> str:
        lasts = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        return f"{self.at_s:6.1f} s  {self.actor:8} {self.what} {self.on}{lasts}".rstrip()


@dataclass(frozen=True)
class Story:
    """A stream of goals, and what happens beside it. The intervals are in seconds.

    An interval of None leaves the nemesis or the operator out.
    """

    seed: int
    seconds: float
    goal_every_s: float = 1.0
    fault_every_s: float | None = 4.0
    action_every_s: float | None = 3.0

    def steps(self) -> list[Step]:
        """All of them in order; the same for the same story."""
        rng = random.Random(self.seed)  # noqa: S311 - to be repeated, not to be secret
        steps = [*self._goals(rng), *self._faults(rng), *self._actions(rng)]
        return sorted(steps, key=lambda step: step.at_s)

    def _goals(self, rng: random.Random) -> Iterator[Step]:
        for at_s in self._moments(rng, self.goal_every_s):
            [goal] = rng.choices(GOALS, GOAL_WEIGHTS)
            yield Step(at_s, "person", "goal", goal, rating=rng.choice(RATINGS))

    def _faults(self, rng: random.Random) -> Iterator[Step]:
        deck = _shuffled(rng, FAULTS)
        for at_s in self._moments(rng, self.fault_every_s):
            what, on = next(deck)
            yield Step(at_s, "nemesis", what, on, lasts_s=rng.uniform(*LASTS[what]))

    def _actions(self, rng: random.Random) -> Iterator[Step]:
        deck = _shuffled(rng, ACTIONS)
        for at_s in self._moments(rng, self.action_every_s):
            what = next(deck)
            stage = rng.choice(STAGES) if what == "rerun" else ""
            yield Step(at_s, "operator", what, stage, pick=rng.random())

    def _moments(self, rng: random.Random, every_s: float | None) -> Iterator[float]:
        if every_s is None:
            return
        at_s = rng.uniform(0, every_s)
        while at_s < self.seconds:
            yield at_s
            at_s += rng.uniform(0.5, 1.5) * every_s


def _shuffled(rng: random.Random, deck: Sequence[T]) -> Iterator[T]:
    """The whole deck in a random order, again and again: each card comes equally often."""
    while True:
        yield from rng.sample(deck, len(deck))

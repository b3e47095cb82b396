"""A minute with the nemesis, and half a minute on a busy machine; `make chaos` takes longer."""

import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import pytest

from devstack.processes import Child, Spec
from devstack.stack import Stack
from tests.chaos.facts import Facts
from tests.chaos.invariants import (
    BOOKS,
    BOUGHT_ONCE,
    ENDED,
    EVENTS,
    LEFT,
    PROVIDER,
    RATINGS,
    TRACES,
    verdicts,
)
from tests.chaos.play import play
from tests.chaos.report import announcement, report
from tests.chaos.story import Story

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

BUSY_PROCESSES = 4


@pytest.fixture
async def own_stack(state_folder: Path) -> AsyncIterator[Stack]:
    """A stack of the test's own, because nobody else's would survive it. PostgreSQL is durable."""
    folder = tempfile.mkdtemp(prefix="chaos-", dir=state_folder)
    async with Stack(Path(folder), latency="document") as running:
        yield running


async def test_the_invariants_hold_whatever_is_killed(own_stack: Stack) -> None:
    story = Story(seed=315, seconds=60, fault_every_s=5)
    sys.stdout.write(announcement(story))
    outcome = await play(own_stack, story)
    assert outcome.held, report(outcome)
    for name, facts in _spoiled(outcome.facts):
        assert verdicts(facts, outcome.people)[name].broken, f"nobody noticed: {name}"


async def test_a_busy_machine_cuts_no_call_and_buys_none_twice(own_stack: Stack) -> None:
    story = Story(seed=8, seconds=5, goal_every_s=0.05, fault_every_s=None, action_every_s=None)
    async with _busy(own_stack):
        outcome = await play(own_stack, story)
    assert outcome.held, report(outcome)
    calls, events = outcome.facts.all_calls, chain.from_iterable(outcome.facts.events.values())
    assert {call["state"] for call in calls} == {"answered"}, report(outcome)
    assert {event["attempt"] for event in events} == {None, 1}, report(outcome)
    assert len(outcome.facts.served) == len(calls)


def _spoiled(facts: Facts) -> Iterator[tuple[str, Facts]]:
    """For each invariant, facts that break it, made from facts that hold."""
    run = next(row["run"] for row in facts.runs if row["status"] == "success")
    [trace], [*spans, last] = facts.traces[run], facts.spans[run]
    call = next(call for call in facts.calls[run] if call["state"] == "answered")
    others = [other for other in facts.calls[run] if other is not call]
    rated = next(iter(facts.feedback))
    yield ENDED, replace(facts, executions={})
    yield EVENTS, replace(facts, events=facts.events | {run: facts.events[run][1:]})
    yield BOOKS, replace(facts, calls=facts.calls | {run: others})
    yield PROVIDER, replace(facts, served=[])
    yield PROVIDER, replace(facts, served=[*facts.served, facts.served[0] | {"stage": "other"}])
    again = call | {"id": "again", "started_at": datetime.now(UTC)}
    yield BOUGHT_ONCE, replace(facts, calls=facts.calls | {run: [call, *others, again]})
    yield TRACES, replace(facts, spans=facts.spans | {run: [*spans, last | {"end_time": None}]})
    yield TRACES, replace(facts, traces=facts.traces | {run: [trace, trace]})
    yield TRACES, replace(facts, judged=facts.judged | {run: 2})
    left = call | {"state": "reserved"}
    yield LEFT, replace(facts, calls=facts.calls | {run: [left, *others]})
    yield RATINGS, replace(facts, feedback=facts.feedback | {rated: []})


@asynccontextmanager
async def _busy(stack: Stack) -> AsyncIterator[None]:
    """While the block lasts, more processes want the processor than there are."""
    command = [sys.executable, "-c", "while True: pass"]
    spec = Spec("busy", command, stack.state / "logs" / "busy.log", cwd=stack.state)
    loops = [await Child.spawn(spec) for _ in range(BUSY_PROCESSES)]
    try:
        yield
    finally:
        for loop in loops:
            await loop.kill()

"""A minute with the nemesis, and half a minute on a busy machine; `make chaos` takes longer."""

import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from devstack.processes import Child, Spec
from devstack.stack import Stack
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
    assert {name.split()[0] for name in outcome.faults} >= {"kill", "freeze", "restart"}


async def test_a_busy_machine_cuts_no_call_and_buys_none_twice(own_stack: Stack) -> None:
    story = Story(seed=8, seconds=10, goal_every_s=0.12, fault_every_s=None, action_every_s=None)
    async with _busy(own_stack):
        outcome = await play(own_stack, story)
    assert outcome.held, report(outcome)
    calls = [call for calls in outcome.facts.calls.values() for call in calls]
    assert {(call["state"], call["attempt"]) for call in calls} == {("answered", 1)}, report(
        outcome
    )
    assert len(outcome.facts.served) == len(calls)


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

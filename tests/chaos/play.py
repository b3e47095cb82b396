"""Plays a story on a stack: all act, everything is healed, then the invariants are checked."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from temporalio.client import Client, ScheduleOverlapPolicy

from devstack.controls import GeminiControl, OpikControl
from devstack.stack import Stack
from tests.chaos.facts import count_unfinished, read_facts
from tests.chaos.invariants import verdicts
from tests.chaos.nemesis import Nemesis
from tests.chaos.operators import Operator
from tests.chaos.people import People
from tests.chaos.report import Outcome
from tests.chaos.story import Step, Story

HEALING_S = 150
# The reconciler comes every minute by itself, and leaves runs alone that are younger than 20 s.
RECONCILE_EVERY_S = 10


async def play(stack: Stack, story: Story) -> Outcome:
    """The story's outcome; its stack is up and healthy before and after."""
    temporal = await Client.connect(stack.urls["temporal"])
    async with (
        stack.client(timeout_s=10, connections=1000) as http,
        GeminiControl(stack.urls["gemini"]) as gemini,
        OpikControl(stack.urls["opik"]) as opik,
    ):
        people = People(http, story.seed)
        nemesis = Nemesis(stack, gemini, opik)
        operator = Operator(people, temporal)
        async with asyncio.TaskGroup() as group:
            supervisor = group.create_task(nemesis.supervise())
            await _act(story, people, nemesis, operator)
            healed_at = time.monotonic()
            await nemesis.heal()
            left = await _come_to_rest(stack, people, temporal)
            supervisor.cancel()
        await people.leave()
        facts = await read_facts(stack, gemini, opik, temporal)
        return Outcome(
            story=story,
            people=people,
            faults=nemesis.done,
            deaths=nemesis.deaths,
            actions=operator.done,
            healing_s=time.monotonic() - healed_at,
            left=left,
            facts=facts,
            verdicts=verdicts(facts, people),
        )


async def _act(story: Story, people: People, nemesis: Nemesis, operator: Operator) -> None:
    """Every step at its moment; returns when the last one is over."""

    async def ask(step: Step) -> None:
        people.begin("/api/goals", {"goal": step.on, "user_id": "person"}, step.rating)

    do: dict[str, Callable[[Step], Awaitable[None]]] = {
        "person": ask,
        "nemesis": nemesis.strike,
        "operator": operator.act,
    }
    began = time.monotonic()

    async def later(step: Step) -> None:
        await asyncio.sleep(began + step.at_s - time.monotonic())
        await do[step.actor](step)

    async with asyncio.TaskGroup() as group:
        for step in story.steps():
            group.create_task(later(step))


async def _come_to_rest(stack: Stack, people: People, temporal: Client) -> dict[str, int]:
    """Wait until nothing is under way any more, and return what still is when time is up."""
    deadline = time.monotonic() + HEALING_S
    reconcile_at = 0.0
    while True:
        left = await count_unfinished(stack, temporal)
        if people.waiting:
            left["people who wait"] = people.waiting
        if not left or time.monotonic() > deadline:
            return left
        if "runs" in left and time.monotonic() > reconcile_at:
            await _reconcile(temporal)
            reconcile_at = time.monotonic() + RECONCILE_EVERY_S
        await asyncio.sleep(0.5)


async def _reconcile(temporal: Client) -> None:
    """Have a round of the reconciler made now."""
    async for schedule in await temporal.list_schedules():
        handle = temporal.get_schedule_handle(schedule.id)
        await handle.trigger(overlap=ScheduleOverlapPolicy.ALLOW_ALL)

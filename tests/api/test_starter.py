"""The queue of runs to start: a few at a time, and never more than it has room for."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from api import starting
from api.starting import AT_ONCE, LONGEST_QUEUE, Starter
from domain.runs import RunRequest
from tests.factories import goal_request


class Temporal:
    """Answers no start before it is let to."""

    def __init__(self) -> None:
        self.asked: list[RunRequest] = []
        self.full = asyncio.Event()
        self.answers = asyncio.Event()

    async def start(self, _client: Any, request: RunRequest, _options: Any, _pool: Any) -> None:
        self.asked.append(request)
        if len(self.asked) == AT_ONCE:
            self.full.set()
        await self.answers.wait()


@pytest.fixture
def temporal(monkeypatch: pytest.MonkeyPatch) -> Temporal:
    temporal = Temporal()
    monkeypatch.setattr(starting, "start_accepted", temporal.start)
    return temporal


@pytest.fixture
def starter() -> Starter:
    nobody: Any = None
    return Starter(nobody, nobody, nobody)


async def test_a_burst_is_started_a_few_at_a_time(starter: Starter, temporal: Temporal) -> None:
    for _ in range(AT_ONCE * 3):
        starter.start_soon(goal_request())
    await temporal.full.wait()
    assert len(starter) == AT_ONCE * 3
    assert len(temporal.asked) == AT_ONCE
    temporal.answers.set()
    await starter.all_started()
    assert len(temporal.asked) == AT_ONCE * 3
    assert len(starter) == 0


async def test_what_has_no_place_is_left_to_the_reconciler(
    starter: Starter, temporal: Temporal
) -> None:
    requests = [goal_request() for _ in range(LONGEST_QUEUE + 2)]
    with capture_logs() as logs:
        for request in requests:
            starter.start_soon(request)
    assert [line["trace_id"] for line in logs] == [str(each.trace_id) for each in requests[-2:]]
    assert {line["event"] for line in logs} == {"start_left_to_reconciler"}
    temporal.answers.set()
    await starter.all_started()
    assert len(temporal.asked) == LONGEST_QUEUE

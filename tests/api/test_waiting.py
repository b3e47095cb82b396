"""A run that does not go on says for what it waits, and until when."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from api.app import Api
from tests.factories import Runs

from .conftest import operations

SOON = datetime.now(UTC) + timedelta(hours=1)
FACTS = {"code": "RATE_LIMITED", "attempt": 3, "retry_after_s": 6, "next_try_at": SOON}


async def _waiting(http: httpx.AsyncClient, trace_id: object) -> Any:
    """What both addresses of a run say."""
    run, goal = [
        (await http.get(f"/api/{kind}/{trace_id}")).json()["waiting"] for kind in ("runs", "goals")
    ]
    assert run == goal
    return run


async def test_a_stage_that_is_tried_again_later(http: httpx.AsyncClient, stored: Runs) -> None:
    trace_id = await stored.accepted()
    assert await _waiting(http, trace_id) is None
    await stored.event(trace_id, "run:1:attempt-3", "stage_retrying", **FACTS)
    waiting = await _waiting(http, trace_id)
    assert (waiting["code"], waiting["attempt"]) == ("RATE_LIMITED", 3)
    assert datetime.fromisoformat(waiting["next_try_at"]) == SOON
    assert datetime.fromisoformat(waiting["since"]) < SOON

    await stored.event(trace_id, "run:1:finished", "stage_finished")
    assert await _waiting(http, trace_id) is None


async def test_a_time_that_has_come_is_not_waited_for(
    http: httpx.AsyncClient, stored: Runs
) -> None:
    trace_id = await stored.accepted()
    past = FACTS | {"next_try_at": datetime.now(UTC) - timedelta(seconds=1)}
    await stored.event(trace_id, "run:1:attempt-3", "stage_retrying", **past)
    assert await _waiting(http, trace_id) is None


async def test_what_another_release_wrote_is_read_all_the_same(
    http: httpx.AsyncClient, stored: Runs
) -> None:
    trace_id = await stored.accepted()
    await stored.event(trace_id, "run:1:attempt-1", "stage_retrying", code="OF_TOMORROW")
    waiting = await _waiting(http, trace_id)
    assert (waiting["code"], waiting["next_try_at"], waiting["attempt"]) == ("UNKNOWN", None, None)


async def test_an_ended_run_waits_for_nothing(http: httpx.AsyncClient, stored: Runs) -> None:
    trace_id = await stored.finished()
    await stored.event(trace_id, "run:1:attempt-3", "stage_retrying", **FACTS)
    assert await _waiting(http, trace_id) is None


async def test_a_start_that_was_refused(api: Api, http: httpx.AsyncClient, stored: Runs) -> None:
    trace_id = await stored.accepted()
    await stored.event(trace_id, "start-refused x", "start_refused", code="START_REFUSED")
    waiting = await _waiting(http, trace_id)
    assert (waiting["code"], waiting["next_try_at"]) == ("START_REFUSED", None)
    async with operations(api) as client:
        assert "rein_starts_refused 1.0" in (await client.get("/metrics")).text

    await stored.event(trace_id, "run:1:started")
    assert await _waiting(http, trace_id) is None
    async with operations(api) as client:
        assert "rein_starts_refused 0.0" in (await client.get("/metrics")).text


@pytest.mark.parametrize("kind", ["stage_retrying", "start_refused", "stage_started"])
async def test_a_watcher_is_told_the_same(http: httpx.AsyncClient, stored: Runs, kind: Any) -> None:
    trace_id = await stored.accepted()
    await stored.event(trace_id, "run:1:x", kind, **FACTS)
    await stored.event(trace_id, "run:finished", "finished")
    text = (await http.get(f"/api/runs/{trace_id}/events")).text
    told = httpx.Response(200, text=text.split("data: ")[2].split("\n")[0]).json()["waiting"]
    if kind == "stage_started":
        assert told is None
    else:
        assert (told["code"], told["attempt"]) == ("RATE_LIMITED", 3)
        assert datetime.fromisoformat(told["next_try_at"]) == SOON

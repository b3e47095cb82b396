"""Watching a run: many watchers, lost connections, lost notifications, stopping."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from uuid import UUID, uuid4

import httpx

from db.events import Watchers
from db.pool import Pools, acquire
from domain.runs import RunEvent
from tests.factories import Runs


async def _ids(stream: httpx.Response) -> AsyncIterator[int]:
    async for line in stream.aiter_lines():
        if line.startswith("id: "):
            yield int(line.removeprefix("id: "))


async def _watch(http: httpx.AsyncClient, trace_id: UUID, after: int | None = None) -> list[int]:
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    async with http.stream("GET", f"/api/runs/{trace_id}/events", headers=headers) as stream:
        assert stream.status_code == 200
        return [number async for number in _ids(stream)]


class TestStream:
    async def test_any_number_of_watchers_miss_nothing(
        self, http: httpx.AsyncClient, stored: Runs
    ) -> None:
        trace_id = await stored.accepted()
        early = [asyncio.create_task(_watch(http, trace_id)) for _ in range(5)]
        for number in range(2, 30):
            await stored.event(trace_id, f"step-{number}")
        late = asyncio.create_task(_watch(http, trace_id))
        await stored.event(trace_id, "end", "finished")
        for seen in await asyncio.gather(*early, late):
            assert seen == list(range(1, 31))

    async def test_a_lost_connection_resumes_without_gap_or_double(
        self, http: httpx.AsyncClient, stored: Runs
    ) -> None:
        trace_id = await stored.accepted()
        await stored.event(trace_id, "two")
        first: list[int] = []
        async with http.stream("GET", f"/api/runs/{trace_id}/events") as stream:
            async for number in _ids(stream):
                first.append(number)
                if number == 2:
                    break
        await stored.event(trace_id, "three")
        await stored.event(trace_id, "end", "finished")
        assert first + await _watch(http, trace_id, after=2) == [1, 2, 3, 4]

    async def test_when_all_is_told_204_stops_the_browser(
        self, http: httpx.AsyncClient, stored: Runs
    ) -> None:
        trace_id = await stored.finished()
        answer = await http.get(f"/api/runs/{trace_id}/events", headers={"Last-Event-ID": "2"})
        assert (answer.status_code, answer.content) == (204, b"")

    async def test_after_a_reset_it_goes_to_the_last_end(
        self, http: httpx.AsyncClient, stored: Runs
    ) -> None:
        """Two runs of one workflow have one row and one row of events."""
        trace_id = await stored.accepted()
        for key in ("first:1:started", "first:finished", "second:1:started"):
            await stored.event(trace_id, key, "finished" if "finished" in key else "stage_started")
        path = f"/api/runs/{trace_id}/events"
        async with http.stream("GET", path, headers={"Last-Event-ID": "4"}) as waiting:
            assert waiting.status_code == 200  # not 204: the run is under way again
            watching = asyncio.create_task(_watch(http, trace_id))
            await stored.event(trace_id, "second:finished", "finished")
            assert [number async for number in _ids(waiting)] == [5]
            assert await watching == [1, 2, 3, 4, 5]
        answer = await http.get(path, headers={"Last-Event-ID": "5"})
        assert answer.status_code == 204

    async def test_what_a_step_says_after_the_end_keeps_nobody_waiting(
        self, http: httpx.AsyncClient, stored: Runs
    ) -> None:
        trace_id = await stored.accepted()
        for key in ("first:1:started", "first:finished", "first:1:failed"):
            await stored.event(trace_id, key, "finished" if "finished" in key else "stage_failed")
        assert await _watch(http, trace_id) == [1, 2, 3, 4]
        assert await _watch(http, trace_id, after=3) == [4]
        answer = await http.get(f"/api/runs/{trace_id}/events", headers={"Last-Event-ID": "4"})
        assert answer.status_code == 204

    async def test_an_empty_position_is_none(self, http: httpx.AsyncClient, stored: Runs) -> None:
        path = f"/api/runs/{await stored.finished()}/events"
        answer = await http.get(path, headers={"Last-Event-ID": ""})
        assert answer.text.count("id: ") == 2

    async def test_wrong_positions_and_ids_are_refused(
        self, http: httpx.AsyncClient, stored: Runs
    ) -> None:
        path = f"/api/runs/{await stored.accepted()}/events"
        for position in ("-1", "x", "2", str(2**31), "9" * 400):
            answer = await http.get(path, headers={"Last-Event-ID": position})
            assert answer.status_code == 422
            assert answer.json()["cure"]
        assert (await http.get(f"/api/runs/{uuid4()}/events")).status_code == 404

    async def test_an_event_says_what_happened(self, http: httpx.AsyncClient, stored: Runs) -> None:
        trace_id = await stored.finished()
        answer = await http.get(f"/api/runs/{trace_id}/events")
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        kind, data, number = answer.text.split("\n\n")[0].split("\n")
        assert kind == "event: accepted"
        assert number == "id: 1"
        event = RunEvent.model_validate_json(data.removeprefix("data: "))
        assert (event.trace_id, event.message) == (trace_id, "Accepted")


class TestWatchers:
    async def test_nothing_is_lost_while_the_ear_is_cut(
        self, pools: Pools, module_postgres_url: str, stored: Runs
    ) -> None:
        trace_id = await stored.accepted()
        watchers = Watchers(pools.application)
        async with (
            watchers.listening(module_postgres_url),
            aclosing(watchers.watch("local", trace_id)) as events,
        ):
            assert (await anext(events)).seq == 1
            async with acquire(pools.operations) as conn:
                await conn.execute(
                    """
                    SET ROLE NONE; SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE application_name LIKE 'rein listening%'
                    """
                )
            await stored.event(trace_id, "two")
            assert (await anext(events)).seq == 2
            await stored.event(trace_id, "end", "finished")
            assert [event.seq async for event in events] == [3]

    async def test_a_watcher_leaves_nothing_behind(
        self, pools: Pools, module_postgres_url: str, stored: Runs
    ) -> None:
        watchers = Watchers(pools.application)
        async with watchers.listening(module_postgres_url):
            assert not await watchers.finished("local", await stored.accepted(), within_s=0.05)
            assert await watchers.finished("local", await stored.finished(), within_s=30)
            assert not watchers._watching
            assert not watchers._awaiting_end

    async def test_closing_ends_every_watcher(
        self, pools: Pools, module_postgres_url: str, stored: Runs
    ) -> None:
        trace_id = await stored.accepted()
        watchers = Watchers(pools.application)
        async with (
            watchers.listening(module_postgres_url),
            aclosing(watchers.watch("local", trace_id)) as events,
        ):
            await anext(events)
            rest = asyncio.create_task(anext(events, None))
            watchers.close()
            assert await rest is None

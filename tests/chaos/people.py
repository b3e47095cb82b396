"""People and their clients: they send goals, repeat what got no answer, watch, and rate."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic_core import from_json

RATED = ("success", "partial")


@dataclass
class Run:
    """A run that the API accepted, and what its watcher and its person know of it."""

    trace_id: str
    events: list[int] = field(default_factory=list)
    status: str = ""
    rating: float | None = None


class People:
    """Everybody who talks to the API, each with the patience that its documents ask for."""

    def __init__(self, http: httpx.AsyncClient, seed: int) -> None:
        self.http = http
        self.runs: list[Run] = []
        self.answers: Counter[int] = Counter()
        self.surprises: list[str] = []
        self._seed = seed
        self._asked = 0
        self._at_work: set[asyncio.Task[None]] = set()

    def begin(self, path: str, body: Mapping[str, Any], rating: float | None = None) -> None:
        """Ask for a run, watch it to its end and rate its result, beside all else that happens."""
        self._asked += 1
        key = f"{self._seed}-{self._asked}"
        task = asyncio.create_task(self._see_through(path, body, key, rating))
        self._at_work.add(task)
        task.add_done_callback(self._done)

    @property
    def waiting(self) -> int:
        """How many wait for an answer or for the end of their run."""
        return len(self._at_work)

    async def leave(self) -> None:
        """Give up waiting."""
        for task in self._at_work:
            task.cancel()
        await asyncio.gather(*self._at_work, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._at_work.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.surprises.append(repr(error))

    async def send(
        self, path: str, body: Mapping[str, Any] | None = None, key: str = ""
    ) -> httpx.Response:
        """POST until there is an answer that is not "later": the same request with the same key."""
        headers = {"Idempotency-Key": key} if key else {}
        while True:
            try:
                answer = await self.http.post(path, json=body, headers=headers)
            except httpx.TransportError:
                wait_s = 0.5
            else:
                self.answers[answer.status_code] += 1
                if answer.status_code < 500 and answer.status_code != 429:
                    return answer
                wait_s = float(answer.headers.get("Retry-After", 0.5))
            await asyncio.sleep(wait_s)

    async def _see_through(
        self, path: str, body: Mapping[str, Any], key: str, rating: float | None
    ) -> None:
        answer = await self.send(path, body, key)
        if answer.status_code == 409:  # an operator's rerun of what cannot be repeated
            return
        if not answer.is_success:
            raise RuntimeError(f"POST {path}: {answer.status_code} {answer.text}")
        run = Run(answer.json()["trace_id"])
        self.runs.append(run)
        while not run.status:
            try:
                await self._watch(run)
            except httpx.TransportError:
                await asyncio.sleep(0.5)
        if rating and run.status in RATED:
            await self._rate(run, rating)

    async def _rate(self, run: Run, rating: float) -> None:
        body = {"trace_id": run.trace_id, "user_id": "person", "rating": rating}
        answer = await self.send("/api/feedback", body)
        if answer.is_success:
            run.rating = rating
        elif answer.status_code != 409:  # a run that was reset may have ended without a result
            raise RuntimeError(f"POST /api/feedback: {answer.status_code} {answer.text}")

    async def _watch(self, run: Run) -> None:
        """Read the run's events from where the last stream was lost."""
        path = f"/api/runs/{run.trace_id}/events"
        headers = {"Last-Event-ID": str(run.events[-1])} if run.events else {}
        async with self.http.stream("GET", path, headers=headers) as stream:
            self.answers[stream.status_code] += 1
            if not stream.is_success:
                await asyncio.sleep(0.5)
                return
            async for line in stream.aiter_lines():
                if line.startswith("data:"):
                    event = from_json(line.removeprefix("data:"))
                    run.events.append(event["seq"])
                    if event["kind"] == "finished":
                        run.status = event["data"]["status"]
                        return

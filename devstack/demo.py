"""A goal through the real API, as a backend service sends it: POST, follow the events, read."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from devstack.errors import StackError
from devstack.temporal import PLAIN

Json = dict[str, Any]
USER = "demo"
RESUMES, RESUME_PAUSE_S = 60, 0.5


def client(url: str, public_url: str, key: str) -> httpx.AsyncClient:
    """For the API, which serves the host of its public address alone.

    A stream may be silent for as long as a model call takes.
    """
    timeout, headers = httpx.Timeout(10, read=120), {"Host": urlsplit(public_url).netloc}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    return httpx.AsyncClient(
        base_url=url, headers=headers, trust_env=False, verify=PLAIN, timeout=timeout
    )


async def submit(api: httpx.AsyncClient, goal: str) -> Json:
    """Starts the run and returns its first state. Raises StackError when the API refuses."""
    answer = await api.post(
        "/api/goals",
        json={"goal": goal, "user_id": USER},
        headers={"Idempotency-Key": str(uuid4())},
    )
    if answer.is_error:
        raise _refused(answer)
    state: Json = answer.json()
    return state


async def follow(api: httpx.AsyncClient, trace_id: str) -> AsyncIterator[Json]:
    """The run's events as they happen; a lost connection resumes after the last one."""
    last = "0"
    for _ in range(RESUMES):
        try:
            async for event in _events(api, trace_id, last):
                last = str(event["seq"])
                yield event
                if event["kind"] == "finished":
                    return
        except httpx.TransportError:
            await asyncio.sleep(RESUME_PAUSE_S)  # the API is being started again
    raise StackError("the API did not keep up the stream of events", "look at its log")


async def _events(api: httpx.AsyncClient, trace_id: str, last: str) -> AsyncIterator[Json]:
    headers = {"Last-Event-ID": last}
    async with api.stream("GET", f"/api/runs/{trace_id}/events", headers=headers) as stream:
        if stream.is_error:
            await stream.aread()
            raise _refused(stream)
        async for line in stream.aiter_lines():
            if line.startswith("data:"):
                yield json.loads(line.removeprefix("data:"))


async def read(api: httpx.AsyncClient, trace_id: str) -> Json:
    """The run with its results."""
    answer = await api.get(f"/api/goals/{trace_id}")
    answer.raise_for_status()
    state: Json = answer.json()
    return state


async def earlier(api: httpx.AsyncClient, count: int = 3) -> list[Json]:
    """The last goals, newest first."""
    answer = await api.get("/api/goals", params={"limit": count})
    answer.raise_for_status()
    items: list[Json] = answer.json()["items"]
    return items


def _refused(answer: httpx.Response) -> StackError:
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    said = problem.get("detail") or problem.get("title") or answer.text[:300]
    return StackError(f"the API answered {answer.status_code}: {said}", problem.get("cure", ""))

"""What tests ask of the receiver itself, outside Opik's API: faults, counters, waiting."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from devstack.opik.faults import Faults, Requests, read_fault
from devstack.opik.http import Call, Reply
from devstack.opik.store import Store, find_project


class Wanted(BaseModel):
    """What a GET /control/wait waits for; every condition given must hold."""

    model_config = ConfigDict(extra="forbid")

    trace_id: str | None = None
    name: str | None = None
    project: str | None = None
    traces: int = 1
    ended: bool = False
    spans: int = 0
    scores: int = 0
    closed_spans: bool = False
    timeout: float = 30


class Found(BaseModel):
    """What is there now. `traces` counts ended ones only when `ended` was asked for."""

    met: bool
    traces: int
    spans: int
    open_spans: int
    scores: int


def look(store: Store, wanted: Wanted) -> Found:
    """Count what the conditions are about."""
    db = store.read()
    project = None if wanted.project is None else find_project(db, wanted.project) or "none"
    of_trace = "(? IS NULL OR trace_id = ?) AND (? IS NULL OR project_id = ?)"
    of_entity = of_trace.replace("trace_id", "entity_id")
    narrow = (wanted.trace_id, wanted.trace_id, project, project)
    traces = db.execute(
        f"SELECT count(*) FROM traces WHERE {of_trace.replace('trace_id', 'id')}"  # noqa: S608
        " AND (? IS NULL OR name = ?) AND NOT partial AND (NOT ? OR end_us IS NOT NULL)",
        (*narrow, wanted.name, wanted.name, wanted.ended),
    ).fetchone()[0]
    spans, open_spans = db.execute(
        f"SELECT count(*), count(*) - count(end_us) FROM spans WHERE {of_trace}",  # noqa: S608
        narrow,
    ).fetchone()
    scores = db.execute(
        f"SELECT count(*) FROM scores WHERE entity = 'trace' AND {of_entity}",  # noqa: S608
        narrow,
    ).fetchone()[0]
    met = traces >= wanted.traces and spans >= wanted.spans and scores >= wanted.scores
    met = met and not (wanted.closed_spans and open_spans)
    return Found(met=met, traces=traces, spans=spans, open_spans=open_spans, scores=scores)


class Control:
    """The control routes; they are never counted and no fault touches them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.faults = Faults()
        self.requests = Requests()
        self._changed = asyncio.Condition()

    async def wake(self) -> None:
        """Something may have arrived: let those who wait look again."""
        async with self._changed:
            self._changed.notify_all()

    async def first(self, *waiting: Coroutine[Any, Any, object]) -> None:
        """Return when the first of them does; the others are cancelled."""
        tasks = [asyncio.create_task(each) for each in waiting]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def answer(self, call: Call) -> Reply:
        """Answer a call below /control/."""
        try:
            return await self._answer(call)
        except (ValidationError, ValueError) as error:
            return Reply(422, {"errors": [str(error)]})

    async def _answer(self, call: Call) -> Reply:
        name = call.path.removeprefix("/control/")
        match call.method, name.split("/"):
            case ("PUT" | "POST", ["fault"]):
                fault = self.faults.add(read_fault(call.body))
                return Reply(200, fault.model_dump())
            case "GET", ["fault"]:
                return Reply(200, {"faults": [fault.model_dump() for fault in self.faults.on]})
            case "DELETE", ["fault"]:
                self.faults.clear()
                return Reply(204)
            case "DELETE", ["fault", identity]:
                self.faults.clear(int(identity))
                return Reply(204)
            case "GET", ["requests"]:
                return Reply(200, self.requests.report())
            case "DELETE", ["requests"]:
                self.requests.clear()
                return Reply(204)
            case "DELETE", ["store"]:
                await asyncio.to_thread(self.store.clear)
                return Reply(204)
            case "GET", ["wait"]:
                return await self._wait(Wanted.model_validate(call.query))
        return Reply(404, {"code": 404, "message": "no such control"})

    async def _wait(self, wanted: Wanted) -> Reply:
        """Long poll: 200 as soon as the conditions hold, 408 when the time is over."""
        found = look(self.store, wanted)
        try:
            async with asyncio.timeout(wanted.timeout), self._changed:
                while not (found := look(self.store, wanted)).met:
                    await self._changed.wait()
        except TimeoutError:
            return Reply(408, found.model_dump())
        return Reply(200, found.model_dump())

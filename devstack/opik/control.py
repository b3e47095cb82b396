"""The receiver's control routes, outside Opik's API: faults, counters, waiting, rule triggers."""

import asyncio
import sqlite3

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.routing import Route

from devstack.opik.faults import Fault, Requests
from devstack.opik.store import Store, find_project
from devstack.standin import Changes, FaultPlan, control


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

    reached: bool
    traces: int
    spans: int
    open_spans: int
    scores: int


def count(db: sqlite3.Connection, wanted: Wanted) -> Found:
    """Count what the conditions are about."""
    project = None if wanted.project is None else find_project(db, wanted.project) or "none"
    of_trace = "(? IS NULL OR {} = ?) AND (? IS NULL OR project_id = ?)"
    narrow = (wanted.trace_id, wanted.trace_id, project, project)
    traces = db.execute(
        f"SELECT count(*) FROM traces WHERE {of_trace.format('id')}"  # noqa: S608
        " AND (? IS NULL OR name = ?) AND NOT partial AND (NOT ? OR end_us IS NOT NULL)",
        (*narrow, wanted.name, wanted.name, wanted.ended),
    ).fetchone()[0]
    spans, open_spans = db.execute(
        "SELECT count(*), count(*) - count(end_us) FROM spans"  # noqa: S608
        f" WHERE {of_trace.format('trace_id')}",
        narrow,
    ).fetchone()
    scores = db.execute(
        "SELECT count(*) FROM scores WHERE entity = 'trace'"  # noqa: S608
        f" AND {of_trace.format('entity_id')}",
        narrow,
    ).fetchone()[0]
    reached = traces >= wanted.traces and spans >= wanted.spans and scores >= wanted.scores
    reached = reached and not (wanted.closed_spans and open_spans)
    return Found(reached=reached, traces=traces, spans=spans, open_spans=open_spans, scores=scores)


class Controls:
    """What the control routes act on; requests to them are not counted and get no faults."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.changes = Changes()
        self.faults = FaultPlan(Fault, self.changes)
        self.requests = Requests()

    def routes(self) -> list[Route]:
        """All of them, below /control."""
        return [
            *self.faults.routes(),
            control("GET", "/requests", self._report),
            control("DELETE", "/requests", self._forget_requests),
            control("DELETE", "/store", self._empty_store),
            control("GET", "/rule-triggers", self._rule_triggers),
            control("GET", "/wait", self._wait),
        ]

    async def _report(self, request: Request) -> object:
        return self.requests.report()

    async def _forget_requests(self, request: Request) -> None:
        self.requests.clear()

    async def _empty_store(self, request: Request) -> None:
        await asyncio.to_thread(self.store.clear)

    async def _rule_triggers(self, request: Request) -> object:
        """How often the online rules would have run, by trace id."""
        rows = self.store.read().execute("SELECT trace_id, count FROM rule_triggers")
        return {"triggers": dict(map(tuple, rows))}

    async def _wait(self, request: Request) -> object:
        """Long poll: answers as soon as the conditions hold, or when the time is over."""
        wanted = Wanted.model_validate(dict(request.query_params))
        db = self.store.read()
        await self.changes.until(lambda: count(db, wanted).reached, wanted.timeout)
        return count(db, wanted)

"""The receiver's control routes, outside Opik's API: faults, counters, waiting, rule triggers."""

import sqlite3

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.routing import Route

from devstack.opik.faults import Fault, Requests
from devstack.opik.store import Store
from devstack.standin import Changes, FaultPlan, control


class Wanted(BaseModel):
    """The conditions of a GET /control/wait on one trace; all of them must hold."""

    model_config = ConfigDict(extra="forbid")

    trace_id: str
    ended: bool = False
    spans: int = 0
    scores: int = 0
    closed_spans: bool = False
    timeout: float = 30


def find(db: sqlite3.Connection, wanted: Wanted) -> dict[str, int | bool]:
    """What of the trace is there now, and whether that meets the conditions (`reached`)."""
    there, ended, spans, open_spans, scores = db.execute(
        "SELECT count(*), count(end_us),"
        " (SELECT count(*) FROM spans WHERE trace_id = :id),"
        " (SELECT count(*) FROM spans WHERE trace_id = :id AND end_us IS NULL),"
        " (SELECT count(*) FROM scores WHERE entity = 'trace' AND entity_id = :id)"
        " FROM traces WHERE id = :id AND NOT partial",
        {"id": wanted.trace_id},
    ).fetchone()
    reached = there > 0 and (ended > 0 or not wanted.ended)
    reached = reached and spans >= wanted.spans and scores >= wanted.scores
    reached = reached and not (wanted.closed_spans and open_spans)
    counts = {"spans": spans, "open_spans": open_spans, "scores": scores}
    return {"reached": reached, "ended": ended > 0, **counts}


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
        await self.store.run(self.store.clear)

    async def _rule_triggers(self, request: Request) -> object:
        """How often the online rules would have run, by trace id."""
        rows = self.store.read().execute("SELECT trace_id, count FROM rule_triggers")
        return {"triggers": dict(map(tuple, rows))}

    async def _wait(self, request: Request) -> object:
        """Long poll: answers as soon as the conditions hold, or when the time is over."""
        wanted = Wanted.model_validate(dict(request.query_params))
        db = self.store.read()
        await self.changes.until(lambda: bool(find(db, wanted)["reached"]), wanted.timeout)
        return find(db, wanted)

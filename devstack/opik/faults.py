"""Faults on demand: what the receiver does wrong when a test asks it to."""

import asyncio
import itertools
import re
from collections import Counter, deque
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import from_json

# cut = does the work, then closes without answering; refuse = closes without doing anything.
Kind = Literal["status", "hang", "refuse", "cut", "lose", "slow", "poison"]
STATUS_KINDS = {"400", "401", "403", "404", "409", "413", "422", "429", "500", "502", "503", "504"}


class Fault(BaseModel):
    """One fault. `kind` may also be a status as text or number: "429" means status 429."""

    model_config = ConfigDict(extra="forbid")

    id: int = 0
    kind: Kind
    status: Annotated[int, Field(ge=400, le=599)] = 500
    method: str = ""
    path: str = "^/v1/"
    count: Annotated[int, Field(ge=1)] | None = None
    headers: dict[str, str] = {}
    seconds: Annotated[float, Field(ge=0, le=600)] = 1.0
    match: str = ""
    hits: int = 0

    def fits(self, method: str, path: str, body: bytes) -> bool:
        """Whether this fault takes a request; `path` is a regular expression after /api."""
        if self.method and self.method.upper() != method:
            return False
        if re.search(self.path, path) is None:
            return False
        return self.kind != "poison" or holds(body, self.match)


def read_fault(body: bytes) -> Fault:
    """The fault a control request asks for. Raises ValueError."""
    asked = from_json(body)
    if not isinstance(asked, dict):
        raise ValueError("a fault is a JSON object")
    kind = str(asked.get("kind", ""))
    if kind in STATUS_KINDS:
        asked |= {"kind": "status", "status": int(kind)}
    if kind == "poison":
        asked.setdefault("status", 400)
    fault = Fault.model_validate(asked)
    try:
        re.compile(fault.path)
    except re.error as error:
        raise ValueError(f"path is not a regular expression: {error}") from error
    return fault


def holds(body: bytes, match: str) -> bool:
    """Whether a body is an item, or a batch holding one, whose id or name is `match`."""
    try:
        doc = from_json(body) if body else None
    except ValueError:
        return False
    if not isinstance(doc, dict):
        return False
    batches = [value for value in doc.values() if isinstance(value, list)]
    items = [doc, *itertools.chain.from_iterable(batches)]
    return any(
        match in (item.get("id"), item.get("name")) for item in items if isinstance(item, dict)
    )


class Faults:
    """The faults that are on, oldest first."""

    def __init__(self) -> None:
        self.on: list[Fault] = []
        self.released = asyncio.Event()
        self._ids = itertools.count(1)

    def add(self, fault: Fault) -> Fault:
        """Switch a fault on."""
        fault = fault.model_copy(update={"id": next(self._ids), "hits": 0})
        self.on.append(fault)
        return fault

    def clear(self, identity: int | None = None) -> None:
        """Switch one fault off, or all."""
        self.on = [fault for fault in self.on if identity is not None and fault.id != identity]
        # Those who hang wait on the event of their own time; the next ones get a new one.
        self.released.set()
        self.released = asyncio.Event()

    def take(self, method: str, path: str, body: bytes) -> Fault | None:
        """The first fault that fits; a counted one is used up by being taken."""
        for fault in self.on:
            if fault.fits(method, path, body):
                fault.hits += 1
                if fault.count is not None and fault.hits >= fault.count:
                    self.on.remove(fault)
                return fault
        return None


class Seen(BaseModel):
    """One request as the counters remember it. `status` 0 = closed without an answer."""

    at: datetime
    method: str
    path: str
    status: int
    items: int
    bytes: int
    fault: str | None


class Requests:
    """Counters over all requests, and the last 500 of them."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Start counting anew."""
        self.total = 0
        self.statuses: dict[str, Counter[int]] = {}
        self.items: Counter[str] = Counter()
        self.recent: deque[Seen] = deque(maxlen=500)

    def add(self, seen: Seen) -> None:
        """Remember a request; its path without ids is its route."""
        route = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "{id}", seen.path)
        self.total += 1
        self.statuses.setdefault(f"{seen.method} {route}", Counter())[seen.status] += 1
        if seen.items:
            self.items[route] += seen.items
        self.recent.append(seen)

    def report(self) -> dict[str, object]:
        """Everything counted, as JSON."""
        return {
            "total": self.total,
            "routes": {
                route: {str(k): v for k, v in counts.items()}
                for route, counts in self.statuses.items()
            },
            "items": dict(self.items),
            "recent": [seen.model_dump(mode="json") for seen in self.recent],
        }

"""The receiver's faults on demand, and the counters of its requests."""

import itertools
import re
from collections import Counter, deque
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import from_json

from devstack import standin
from devstack.opik.calls import Call


class Fault(standin.Fault):
    """What to do instead of answering, or before it.

    `status` answers with a status and `headers`, `poison` does so for bodies that hold an item
    whose id or name is `match`; `hang` waits until the faults are cleared, `slow` for `seconds`;
    `refuse` cuts the connection, `cut` does the same after the work; `lose` says yes and stores
    nothing; `html` answers 200 with a page, as a proxy's login does. A status may also be given as
    the kind: "429".
    """

    kind: Literal["status", "poison", "hang", "slow", "refuse", "cut", "lose", "html"]
    status: Annotated[int, Field(ge=400, le=599)] = 500
    method: str = ""
    path: str = "^/v1/"
    count: Annotated[int, Field(ge=1)] | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    seconds: Annotated[float, Field(ge=0, le=600)] = 1.0
    match: str = ""

    @model_validator(mode="before")
    @classmethod
    def _read_status_as_kind(cls, asked: Any) -> Any:
        if isinstance(asked, dict) and str(asked.get("kind")).isdecimal():
            return {**asked, "kind": "status", "status": int(asked["kind"])}
        if isinstance(asked, dict) and asked.get("kind") == "poison":
            return {"status": 400, **asked}
        return asked

    @field_validator("path")
    @classmethod
    def _path_is_a_pattern(cls, path: str) -> str:
        try:
            re.compile(path)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return path

    @property
    def used_up(self) -> bool:
        return self.count is not None and self.hits >= self.count

    def fits(self, method: str, path: str, body: bytes) -> bool:
        """Whether this fault takes a request; `path` is what follows /api."""
        if self.method and self.method.upper() != method:
            return False
        if re.search(self.path, path) is None:
            return False
        return self.kind != "poison" or _holds(body, self.match)


def _holds(body: bytes, match: str) -> bool:
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


class Requests:
    """Counters of requests and of their items, and the last 500 requests."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Start counting anew."""
        self.statuses: dict[str, Counter[int]] = {}
        self.items: Counter[str] = Counter()
        self.recent: deque[dict[str, object]] = deque(maxlen=500)

    def add(self, call: Call, route: str, status: int, fault: Fault | None) -> None:
        """Count a request. `route` is its path with names for the ids, `status` is 0 when the
        connection was cut; the items of a refused batch do not count."""
        self.statuses.setdefault(f"{call.method} {route}", Counter())[status] += 1
        if call.items and 200 <= status < 300:
            self.items[route] += call.items
        seen = {"at": datetime.now(UTC), "method": call.method, "path": call.path}
        self.recent.append({**seen, "status": status, "fault": fault.kind if fault else None})

    def report(self) -> dict[str, object]:
        """Everything counted, as JSON."""
        return {"routes": self.statuses, "items": self.items, "recent": list(self.recent)}

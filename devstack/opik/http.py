"""The receiver's own small web layer: one call in, one reply out, and a table of routes."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json, to_json

from devstack.opik.rules import Rules
from devstack.opik.store import Store

# Opik's bodies are open documents: unknown fields are kept, so they stay dictionaries.
Doc = dict[str, Any]


class Refused(Exception):
    """Ends a call with a status and Opik's error body."""

    def __init__(self, status: int, message: str, details: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.details = details

    def reply(self) -> "Reply":
        """The reply in the shape of Opik's error messages."""
        if self.status == 422:
            return Reply(422, {"errors": [self.message]})
        body: Doc = {"code": self.status, "message": self.message}
        if self.details is not None:
            body["details"] = self.details
        return Reply(self.status, body)


@dataclass(frozen=True, slots=True)
class Call:
    """One request, body already unpacked."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    store: Store
    rules: Rules
    base: str
    params: dict[str, str] = field(default_factory=dict)

    def doc(self) -> Doc:
        """The body as a JSON object. Raises Refused(400)."""
        if not self.body:
            return {}
        try:
            value = from_json(self.body)
        except ValueError as error:
            raise Refused(400, "Unable to process JSON", str(error)) from error
        if not isinstance(value, dict):
            raise Refused(400, "Unable to process JSON", "the body must be an object")
        return value

    def docs(self, key: str) -> list[Doc]:
        """A batch: the list of 1 to 1000 objects under `key`. Raises Refused(400 or 422)."""
        items = self.doc().get(key)
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise Refused(422, f"{key} must not be null")
        if not 1 <= len(items) <= 1000:
            raise Refused(422, f"{key} size must be between 1 and 1000")
        return items

    def number(self, name: str, default: int, most: int = 1_000_000) -> int:
        """A positive whole number of the query. Raises Refused(400)."""
        text = self.query.get(name, "")
        if not text:
            return default
        if not text.isdecimal() or int(text) < 1:
            raise Refused(400, f"query param {name} must be greater than or equal to 1")
        return min(int(text), most)


@dataclass(frozen=True, slots=True)
class Reply:
    """A status with a JSON document or with bytes. `items` is how many a batch held."""

    status: int
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)
    media: str = "application/json"
    items: int = 0

    def content(self) -> bytes:
        """The body's bytes."""
        if self.body is None:
            return b""
        return self.body if isinstance(self.body, bytes) else to_json(self.body)


Handler = Callable[[Call], Reply]


class Routes:
    """Methods and path templates (`/traces/{id}`) with their handlers; the first that fits wins."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.exact: dict[tuple[str, str], Handler] = {}
        self.templates: list[tuple[str, re.Pattern[str], Handler]] = []

    def __call__(self, method: str, path: str) -> Callable[[Handler], Handler]:
        def add(handler: Handler) -> Handler:
            whole = self.prefix + path
            if "{" in whole:
                pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", whole)
                self.templates.append((method, re.compile(pattern), handler))
            else:
                self.exact[method, whole] = handler
            return handler

        return add

    def include(self, other: "Routes") -> None:
        """Take over another table's routes."""
        self.exact.update(other.exact)
        self.templates.extend(other.templates)

    def find(self, method: str, path: str) -> tuple[Handler, dict[str, str]] | None:
        """The handler of a path and the values of its template."""
        handler = self.exact.get((method, path))
        if handler is not None:
            return handler, {}
        for verb, pattern, template_handler in self.templates:
            match = pattern.fullmatch(path) if verb == method else None
            if match:
                return template_handler, match.groupdict()
        return None


@contextmanager
def missing_is(status: int, message: str) -> Iterator[None]:
    """Turn a LookupError inside the block into a refusal."""
    try:
        yield
    except LookupError as error:
        raise Refused(status, message) from error

"""Pages and streams of documents."""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic_core import to_json

from devstack.opik.http import Call, Reply

Docs = Sequence[dict[str, Any]]


def paged(call: Call, docs: Docs, size: int = 10, **more: object) -> Reply:
    """The asked page of a list."""
    page, size = call.number("page", 1), call.number("size", size, 2000)
    content = docs[(page - 1) * size : page * size]
    body = {"page": page, "size": len(content), "total": len(docs), "content": content}
    return Reply(200, {**body, "sortableBy": [], **more})


def lines(docs: Iterable[object]) -> Reply:
    """One JSON document a line; an empty body is the end."""
    body = b"".join(to_json(doc) + b"\n" for doc in docs)
    return Reply(200, body, media="application/octet-stream")


def after(docs: Docs, last: object, limit: int) -> Docs:
    """The documents that follow the one with the id `last`."""
    ids = [doc["id"] for doc in docs]
    start = ids.index(last) + 1 if last in ids else 0
    return docs[start : start + limit]


def named(docs: Docs, part: str) -> Docs:
    """Those whose name holds a text, upper and lower case alike."""
    return [doc for doc in docs if part.lower() in str(doc.get("name", "")).lower()]

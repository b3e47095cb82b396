"""One request as the receiver's handlers get it, the table of their routes, and list answers."""

from collections.abc import Callable, Iterable, Sequence

from pydantic_core import from_json, to_json
from starlette.requests import Request
from starlette.responses import Response

from devstack.opik.errors import Refused
from devstack.opik.rules import Rules
from devstack.opik.store import Doc, Store


class Call:
    """One request whose body has been read. Handlers run in threads, so nothing here is async."""

    def __init__(self, request: Request, body: bytes, store: Store, rules: Rules) -> None:
        self.method = request.method
        self.path = str(request.scope["path"]).removeprefix("/api")
        self.base = str(request.base_url).rstrip("/")
        self.params: dict[str, str] = request.path_params
        self.query = dict(request.query_params)
        self.headers = request.headers
        self.body = body
        self.store = store
        self.rules = rules
        self.items = 0

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
        self.items = len(items)
        return items

    def name(self) -> str:
        """The body's name. Raises Refused(422)."""
        name = self.doc().get("name")
        if not isinstance(name, str) or not name.strip():
            raise Refused(422, "name must not be blank")
        return name

    def number(self, name: str, default: int) -> int:
        """A positive whole number of the query, at most 2000. Raises Refused(400)."""
        text = self.query.get(name, "")
        if not text:
            return default
        if not text.isdecimal() or int(text) < 1:
            raise Refused(400, f"query param {name} must be greater than or equal to 1")
        return min(int(text), 2000)

    def created(self, identity: str) -> Response:
        """201 with the address of what was made."""
        where = f"{self.base}/api{self.path}/{identity}"
        return Response(status_code=201, headers={"Location": where})


# A document is answered as JSON with 200, None as 204.
Handler = Callable[[Call], Response | Doc | None]


class Routes:
    """Methods and path templates (`/traces/{id}`) with their handlers."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.handlers: dict[tuple[str, str], Handler] = {}

    def __call__(self, method: str, path: str) -> Callable[[Handler], Handler]:
        def add(handler: Handler) -> Handler:
            self.handlers[method, self.prefix + path] = handler
            return handler

        return add


def paged(call: Call, docs: Sequence[Doc], **more: object) -> Doc:
    """The page of a list that the query asks for, in the shape of all of Opik's pages."""
    page, size = call.number("page", 1), call.number("size", 10)
    content = docs[(page - 1) * size : page * size]
    body = {"page": page, "size": len(content), "total": len(docs), "content": content}
    return {**body, "sortableBy": [], **more}


def json_lines(docs: Iterable[object]) -> Response:
    """One JSON document a line; the client takes an empty body for the end."""
    body = b"".join(to_json(doc) + b"\n" for doc in docs)
    return Response(body, media_type="application/octet-stream")


def stream_part(docs: Sequence[Doc], asked: Doc) -> Sequence[Doc]:
    """The part of a stream that a body asks for: what follows `last_retrieved_id`."""
    ids, last = [doc["id"] for doc in docs], asked.get("last_retrieved_id")
    start = ids.index(last) + 1 if last in ids else 0
    # For the items of a dataset Opik really spells it `steam_limit`.
    limit = int(asked.get("limit") or asked.get("steam_limit") or 500)
    return docs[start : start + min(limit, 2000)]


def named(docs: Sequence[Doc], part: str) -> list[Doc]:
    """Those whose name holds a text, upper and lower case alike."""
    return [doc for doc in docs if part.lower() in str(doc.get("name", "")).lower()]

"""Completes the OpenAPI document that FastAPI generates.

This module adds shared schemas and headers, and rewrites what client generators misunderstand.
"""

from collections.abc import Iterator
from typing import Any

from pydantic.json_schema import models_json_schema

from api import problems
from api.headers import HEADERS, headers
from domain.runs import RunEvent

EVENT_STREAM = "text/event-stream"
_TEMPLATE = "#/components/schemas/{model}"


def complete(document: dict[str, Any]) -> None:
    """Add the shared schemas, headers and error codes to `document`, and describe its streams."""
    components = document["components"]
    _, found = models_json_schema(
        [(problems.Problem, "serialization"), (RunEvent, "serialization")], ref_template=_TEMPLATE
    )
    code = found["$defs"]["Problem"]["properties"]["code"]
    code |= {"enum": list(problems.codes()), "x-enumDescriptions": problems.codes()}
    components["schemas"] |= found["$defs"]
    components["headers"] = HEADERS
    for schema in components["schemas"].values():
        _drop_defaults(schema)
    for operation in _operations(document):
        operation["responses"] = dict(sorted(operation["responses"].items()))
        for answer in operation["responses"].values():
            _tell(answer)


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for methods in document["paths"].values():
        yield from methods.values()


def _tell(answer: dict[str, Any]) -> None:
    answer["headers"] = headers("X-Request-Id") | answer.get("headers", {})
    if EVENT_STREAM in answer.get("content", {}):
        answer["content"][EVENT_STREAM] = {"schema": _stream()}


def _drop_defaults(schema: dict[str, Any]) -> None:
    """Remove the defaults from a schema's fields.

    Client generators for TypeScript would make a field with a default a required one.
    """
    for field in schema.get("properties", {}).values():
        field.pop("default", None)


def _stream() -> dict[str, Any]:
    """Return the schema of an event stream.

    FastAPI describes a stream by `itemSchema`, which OpenAPI 3.1 does not define.
    """
    return {
        "type": "string",
        "description": "Server-sent events: `event` is the RunEvent's kind, `id` its seq, and "
        "`data` the RunEvent as JSON",
        "contentMediaType": "application/json",
        "contentSchema": {"$ref": _TEMPLATE.format(model="RunEvent")},
    }

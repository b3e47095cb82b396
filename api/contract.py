"""What FastAPI leaves out of the OpenAPI document: problems, and what an event stream carries."""

from typing import Any

from pydantic.json_schema import models_json_schema

from api import problems
from domain.runs import RunEvent

EVENT_STREAM = "text/event-stream"
_TEMPLATE = "#/components/schemas/{model}"


def complete(document: dict[str, Any]) -> None:
    """Add the schemas that all endpoints share, and describe their streams."""
    _, found = models_json_schema(
        [(problems.Problem, "serialization"), (RunEvent, "serialization")], ref_template=_TEMPLATE
    )
    code = found["$defs"]["Problem"]["properties"]["code"]
    code |= {"enum": list(problems.codes()), "x-enumDescriptions": problems.codes()}
    document["components"]["schemas"] |= found["$defs"]
    for methods in document["paths"].values():
        for operation in methods.values():
            content = operation["responses"].get("200", {}).get("content", {})
            if EVENT_STREAM in content:
                content[EVENT_STREAM] = {"schema": _stream()}


def _stream() -> dict[str, Any]:
    """FastAPI describes a stream by `itemSchema`, which OpenAPI 3.1 does not know."""
    return {
        "type": "string",
        "description": "Server-sent events; the data of each is a RunEvent",
        "contentMediaType": "application/json",
        "contentSchema": {"$ref": _TEMPLATE.format(model="RunEvent")},
    }

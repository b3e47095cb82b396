"""Descriptions of the response headers, for the OpenAPI document."""

from typing import Any

_WHOLE = {"type": "integer", "minimum": 0}
RATE_LIMIT = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-Id": {
        "description": "Names the request in logs; the caller's own if it sent one",
        "schema": {"type": "string"},
    },
    "Location": {"description": "Where it is read", "schema": {"type": "string", "format": "uri"}},
    "Idempotent-Replayed": {
        "description": "`true` when the Idempotency-Key found a run that was there already",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Preference-Applied": {
        "description": "`wait=N`: the answer waited for the result, at most N seconds",
        "schema": {"type": "string"},
    },
    "Retry-After": {"description": "Seconds until it may succeed", "schema": _WHOLE},
    "RateLimit-Limit": {"description": "The limit of the tenant, if it has one", "schema": _WHOLE},
    "RateLimit-Remaining": {"description": "Runs that are left of it", "schema": _WHOLE},
    "RateLimit-Reset": {"description": "Seconds until all of it is there again", "schema": _WHOLE},
    "WWW-Authenticate": {"description": "`Bearer`", "schema": {"type": "string"}},
}


def headers(*names: str) -> dict[str, dict[str, str]]:
    """Return references to these headers, whose schemas are in the document's components."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}

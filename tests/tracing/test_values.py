"""Whatever a run puts into its trace, the row is written: tracing never fails a run."""

import json
from typing import Any

import pytest
from pydantic import BaseModel

from tracing.interceptor import _as_object
from tracing.outbox import as_json, error_info
from tracing.redaction import Redaction


class Said(BaseModel):
    """A pydantic model that stands inside a plain list."""

    text: str


class Strange:
    """An object that JSON has no type for."""

    def __repr__(self) -> str:
        return "strange"


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (b"\xff\x00", "_wA="),
        (Strange(), "strange"),
        (Said(text="lone \ud800"), {"text": "lone ?"}),
        ({Said: 1}, None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_value_is_refused(value: object, stored: object) -> None:
    found = json.loads(as_json({"deep": [value]}), parse_constant=_refuse)["deep"][0]
    assert stored is None or found == stored


def _refuse(constant: str) -> Any:
    raise ValueError(f"PostgreSQL does not take {constant}")


@pytest.mark.parametrize("mode", ["full", "redacted", "none"])
@pytest.mark.parametrize("value", [Strange(), {"a": Strange()}, float("nan"), [b"\xff"]])
def test_no_mode_refuses_a_value(mode: Any, value: object) -> None:
    text = Redaction(mode, b"k")
    as_json({"input": text.payload(value), "metadata": text.metadata({"a": value})})


def test_a_result_that_is_no_json_does_not_stop_the_run() -> None:
    assert _as_object(Strange()) == {"value": "strange"}
    assert _as_object({"a": b"\xff"}) == {"a": "_w=="}


def test_an_error_of_megabytes_is_cut() -> None:
    said = error_info("E", "x" * 3_000_000)
    assert len(json.dumps(said)) < 100_000

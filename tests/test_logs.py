"""Log lines: one form for everybody's, and no variable's value in a traceback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import logging, structlog, logs

logs.configure({form!r})

def fail(goal):
    raise ValueError("no such week")

try:
    fail("words of a person")
except ValueError:
    structlog.get_logger().exception("stage_failed", trace_id="t-1")
    logging.getLogger("temporalio.worker").warning("Failing activity", exc_info=True)
"""


def said(form: str) -> str:
    """What a process that logs in this form writes."""
    words = [sys.executable, "-c", PROGRAM.format(form=form)]
    root = Path(__file__).parents[1]
    return subprocess.run(words, cwd=root, capture_output=True, text=True, check=True).stderr


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback_names_places_not_values(form: str) -> None:
    text = said(form)
    assert text.count("no such week") >= 2
    assert "in fail" in text
    assert "words of a person" not in text.replace('fail("words of a person")', "")


def test_json_lines_say_who_when_and_what() -> None:
    own, foreign = map(json.loads, said("json").splitlines())
    assert own["event"] == "stage_failed"
    assert own["trace_id"] == "t-1"
    assert own["level"] == "error"
    assert own["timestamp"].endswith("Z")
    assert foreign["event"] == "Failing activity"
    assert foreign["logger"] == "temporalio.worker"

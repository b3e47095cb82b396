"""The Makefile hands over what it was given: the goal's very words, and the signal to stop."""

import subprocess
import sys
from pathlib import Path

import pytest

from devstack.stack import ROOT

# Stands where .venv/bin/python would: it says its arguments, then waits for the signal.
STAND_IN = f"""#!{sys.executable}
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("told to stop", flush=True)))
print(repr(sys.argv[1:]), flush=True)
if "wait" in sys.argv:
    signal.pause()
"""


@pytest.fixture
def make(tmp_path: Path) -> list[str]:
    program = tmp_path / "python"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    return ["make", "--no-print-directory", "-C", str(ROOT), f"BIN={tmp_path}", "PYTHON=true"]


@pytest.mark.parametrize(
    "goal", ['Read "12" books, it\'s `id` for $5 & $(id) $$HOME \\n', "Выучить ✨ two\nlines", ""]
)
def test_a_goal_arrives_as_it_was_written(make: list[str], goal: str) -> None:
    ended = subprocess.run(
        [*make, "run", f"GOAL={goal}", "ONCE=1"], capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == repr(["-m", "devstack", "run", "--goal", goal, "--once"])


def test_ending_make_ends_what_it_runs(make: list[str]) -> None:
    with subprocess.Popen(
        [*make, "run", "GOAL=wait"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "'wait'" in process.stdout.readline()

        process.terminate()

        assert process.stdout.read().strip() == "told to stop"

"""docs/tracing.md names tests that exist, in lines that a person can read."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/tracing.md").read_text()


def test_every_test_that_it_names_exists() -> None:
    modules = list((ROOT / "tests").rglob("test_*.py"))
    functions = {
        name for module in modules for name in re.findall(r"def (test_\w+)", module.read_text())
    }
    known = functions | {module.stem for module in modules}
    named = set(re.findall(r"\btest_\w+", TEXT))
    assert len(named) > 60
    assert named <= known


def test_every_file_that_it_names_exists() -> None:
    named = re.findall(r"`(\w+/[\w/.]+)`", TEXT)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_no_line_is_too_long() -> None:
    assert [line for line in TEXT.splitlines() if len(line) > 120] == []

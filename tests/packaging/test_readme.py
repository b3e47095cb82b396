"""The README's commands exist, run what exists, and CI runs its test command; its links lead on."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from devstack.clean import clean
from devstack.run import only_one

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def make(*words: str) -> str:
    """What make prints."""
    command = ["make", "--no-print-directory", "-C", str(ROOT), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def commands(text: str) -> list[str]:
    """Every `make …` in code, whole."""
    spans = [*re.findall(r"`([^`\n]+)`", text), *"\n".join(BLOCKS).splitlines()]
    return [span for span in spans if span.startswith("make ")]


def test_the_first_two_blocks_are_the_two_commands() -> None:
    assert [block.strip() for block in BLOCKS[:2]] == ["make run", "make test"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_a_target_with_variables_that_it_reads(page: Path) -> None:
    for command in commands(page.read_text()):
        target = command.split()[1]
        assert target in TARGETS, command
        for variable in re.findall(r" ([A-Z]+)=", command):
            assert re.search(rf"\$[({{](if |value )?{variable}\b", MAKEFILE), command


def test_make_help_lists_every_command_of_the_readme() -> None:
    listed = set(re.findall(r"make (\w+)", make("help")))
    assert {command.split()[1] for command in commands(README)} <= listed
    assert listed == TARGETS - {"help"} | {"help"}


@pytest.mark.parametrize("target", sorted(TARGETS - {"help"}))
def test_what_a_target_runs_exists(target: str) -> None:
    told = make("-n", target, "ONCE=1", "QUICK=1", "GOAL=x")
    for module in re.findall(r"python\d? -m ([\w.]+)", told):
        assert importlib.util.find_spec(module), module
    for program in re.findall(r"^\.venv/bin/(\S+)", told, re.MULTILINE):
        assert (Path(sys.executable).parent / program).exists(), program
    for file in re.findall(r"\b(requirements[\w-]*\.txt|pyproject\.toml)\b", told):
        assert (ROOT / file).is_file(), file


@pytest.mark.parametrize("words", [["run", "--goal", "x", "--once"], ["doctor", "--quick"]])
def test_the_options_that_make_passes_are_taken(words: list[str]) -> None:
    command = [sys.executable, "-m", "devstack", *words, "--help"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_ci_runs_the_test_command() -> None:
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("\nexec make test")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_images_and_named_files_exist(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (page.parent / link).is_file(), link
    for file in re.findall(r"`((?:[\w.-]+/)*[\w.-]+\.(?:md|py|yml|json|example))`", text):
        assert (ROOT / file).is_file() or list(ROOT.glob(f"[a-z]*/**/{file}")), file


def test_make_clean_removes_the_state_unless_a_stack_runs_on_it(tmp_path: Path) -> None:
    state, cache = tmp_path / ".rein", tmp_path / "api" / "__pycache__"
    cache.mkdir(parents=True)
    with only_one(state):
        assert "the stack is running" in clean(tmp_path)
        assert state.exists()

    assert clean(tmp_path) == ""
    assert not state.exists()
    assert not cache.exists()

"""`make setup`: what can go wrong says so, and a half-made environment is mended."""

import ast
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from devstack.setup.__main__ import better_python, check_version
from devstack.setup.problems import SetupError, explain

ROOT = Path(__file__).parents[2]
# A Python as Debian ships it without python3-venv.
WITHOUT_ENSUREPIP = """
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "ensurepip" else real(name, *more)
"""


def setup(venv: Path, requirements: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "devstack.setup"]
    return subprocess.run(
        [*command, "--venv", str(venv), "--requirements", str(requirements)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("version", [(3, 9), (3, 10), (3, 14)])
def test_a_python_that_does_not_fit_is_refused(version: tuple[int, int]) -> None:
    with pytest.raises(SetupError, match=r"3\.11, 3\.12 or 3\.13") as raised:
        check_version(version)
    assert "PYTHON=" in raised.value.cure


def test_what_stands_before_the_check_is_old_python() -> None:
    """A Python 3.6 must get as far as the sentence that refuses it."""
    for file in ("devstack/__init__.py", "devstack/setup/__init__.py"):
        ast.parse((ROOT / file).read_text(), feature_version=(3, 4))
    refuses = "import sys; sys.version_info = (3, 6); import devstack.setup"
    ended = subprocess.run(
        [sys.executable, "-c", refuses], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "this is 3.6" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_another_python_is_taken_only_when_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, code in (("python3.13", 127), ("python3.12", 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert better_python() == str(tmp_path / "python3.12")


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_a_python_that_fits_is_taken(version: tuple[int, int]) -> None:
    check_version(version)


def test_a_python_without_ensurepip_is_told_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_ENSUREPIP)
    (tmp_path / "none.txt").write_text("")

    ended = setup(tmp_path / "venv", tmp_path / "none.txt", PYTHONPATH=str(tmp_path))

    assert ended.returncode == 1
    assert "ensurepip" in ended.stderr
    assert "apt install python3." in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "venv").exists()


def test_a_failed_download_is_told_in_a_sentence(tmp_path: Path) -> None:
    requirements = tmp_path / "some.txt"
    requirements.write_text(f"nothing-of-this-name==1.0 --hash=sha256:{'0' * 64}\n")

    ended = setup(
        tmp_path / "venv",
        requirements,
        PIP_INDEX_URL="http://127.0.0.1:9/simple",
        PIP_FIND_LINKS="",
        PIP_CONFIG_FILE=os.devnull,
        PIP_NO_CACHE_DIR="1",
        PIP_RETRIES="0",
    )

    assert ended.returncode == 1
    assert "the package index could not be reached" in ended.stderr
    assert "PIP_INDEX_URL" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_half_made_environment_is_mended_and_a_whole_one_left_alone(tmp_path: Path) -> None:
    venv, requirements = tmp_path / "venv", tmp_path / "none.txt"
    requirements.write_text("")
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").write_text("half a file")

    mended = setup(venv, requirements)
    assert mended.returncode == 0, mended.stderr
    assert "making .venv" in mended.stdout

    again = setup(venv, requirements)
    assert (again.returncode, again.stdout) == (0, "")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "locked"),
        ("error: Hash mismatch for `rich==15.0.0`", "locked"),
        ("ERROR: Could not find a version that satisfies the requirement x", "this system"),
        ("NewConnectionError: Failed to establish a new connection", "could not be reached"),
        ("something unheard of", "something unheard of"),
    ],
)
def test_what_installers_say_becomes_a_sentence(said: str, told: str) -> None:
    assert told in str(explain(said))


def test_a_second_setup_says_that_it_waits() -> None:
    """The lock is the requirements file itself; whoever holds it is at work."""
    requirements = ROOT / "requirements-dev.txt"
    with requirements.open() as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        second = subprocess.Popen(
            [sys.executable, "-m", "devstack.setup"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert second.stdout is not None
        assert "another setup of this folder is at work" in second.stdout.readline()
        assert second.poll() is None
    second.communicate()
    assert second.returncode == 0

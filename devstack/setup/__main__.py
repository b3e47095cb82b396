"""Makes .venv and fills it from the hashed requirements: `python3 -m devstack.setup`.

pip fetches the pinned uv first, by hash, and uv the rest in parallel; pip alone does it all when uv
cannot.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from devstack.setup.installers import install_with_pip, install_with_uv, say
from devstack.setup.problems import NEEDED_MB, SetupError, explain

ROOT = Path(__file__).resolve().parents[2]
OLDEST, TOO_NEW = (3, 11), (3, 14)
# Runs inside the new environment, with the packaging library that pip carries.
WHAT_IS_MISSING = """
import importlib.metadata, json, re, sys
from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name
found = importlib.metadata.distributions()
have = {canonicalize_name(d.metadata["Name"]): d.version for d in found}
lines = re.findall(r"^(\\w.*?)\\s*(?:\\\\|--hash|$)", open(sys.argv[1]).read(), re.M)
wanted = [r for r in map(Requirement, lines) if r.marker is None or r.marker.evaluate()]
pin = lambda r: str(r.specifier).removeprefix("==")
print(json.dumps([r.name for r in wanted if have.get(canonicalize_name(r.name)) != pin(r)]))
"""


def check_version(version: tuple[int, int]) -> None:
    """Raises SetupError unless this Python can run Rein."""
    if not OLDEST <= version < TOO_NEW:
        raise SetupError(
            f"Rein needs Python 3.11, 3.12 or 3.13; this is {version[0]}.{version[1]}",
            "install one and choose it: make setup PYTHON=python3.12",
        )


def better_python() -> str | None:
    """Another interpreter on PATH that fits, and runs: a version manager's shim may not."""
    names = (f"python3.{minor}" for minor in range(TOO_NEW[1] - 1, OLDEST[1] - 1, -1))
    found = filter(None, map(shutil.which, names))
    return next((path for path in found if _runs(path)), None)


def _runs(python: str) -> bool:
    return subprocess.run([python, "-c", ""], capture_output=True).returncode == 0


def check_room(folder: Path) -> None:
    """Raises SetupError when the disk is too full."""
    free = shutil.disk_usage(folder).free // 1_000_000
    if free < NEEDED_MB:
        raise SetupError(
            f"only {free} MB are free in {folder}; the packages need about {NEEDED_MB}",
            "free some space, then: make setup",
        )


def can_make_venv() -> bool:
    """Debian and Ubuntu leave ensurepip out of python3."""
    return importlib.util.find_spec("ensurepip") is not None


def make_venv(venv: Path) -> None:
    """A new .venv in place of a missing or half-made one."""
    if not can_make_venv():
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise SetupError(
            f"this Python {version} cannot make virtual environments: it lacks ensurepip",
            f"on Debian and Ubuntu: sudo apt install python{version}-venv; then: make setup",
        )
    say("making .venv")
    command = [sys.executable, "-m", "venv", "--clear", str(venv)]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        raise explain(made.stdout + made.stderr)


def works(venv: Path) -> bool:
    """Whether the environment has a Python that fits and a pip."""
    code = "import sys, pip; print(*sys.version_info[:2])"
    try:
        answer = subprocess.run(
            [str(venv / "bin/python"), "-I", "-c", code], capture_output=True, text=True
        )
    except OSError:
        return False
    return answer.returncode == 0 and OLDEST <= tuple(map(int, answer.stdout.split())) < TOO_NEW


def missing(venv: Path, requirements: Path) -> list[str]:
    """The names of the packages that are not there in the wanted version."""
    command = [str(venv / "bin/python"), "-I", "-c", WHAT_IS_MISSING, str(requirements)]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        raise explain(answer.stderr)
    names: list[str] = json.loads(answer.stdout)
    return names


def stamp_of(requirements: Path) -> str:
    """Changes when the requirements do."""
    return hashlib.sha256(requirements.read_bytes()).hexdigest()


def setup(venv: Path, requirements: Path) -> None:
    """Does what is missing; nothing when all is there. Raises SetupError."""
    stamp = venv / f".{requirements.stem}.sha256"
    if stamp.exists() and stamp.read_text() == stamp_of(requirements) and works(venv):
        return
    if not works(venv):
        check_room(venv.parent)
        make_venv(venv)
    wanted = missing(venv, requirements)
    if wanted:
        check_room(venv.parent)
        fill(venv, requirements, len(wanted))
    stamp.write_text(stamp_of(requirements))


def fill(venv: Path, requirements: Path, total: int) -> None:
    """Installs and says how long it took. Raises SetupError."""
    started = time.monotonic()
    say(f"fetching {total} packages, by hash, from {requirements.name}")
    failed = install_with_uv(venv, requirements, total)
    if failed:
        say(f"uv could not: {explain(failed)}. Trying with pip, which is slower")
        failed = install_with_pip(venv, requirements, total)
    if failed:
        raise explain(failed)
    say(f"{total} packages in {time.monotonic() - started:.0f} s")


def _take_turn(one_at_a_time: IO[str]) -> None:
    """Two setups at once would spoil each other's work: the second one waits, and says so."""
    try:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another setup of this folder is at work; this one goes on when it has ended")
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)


def main() -> int:
    """Exit code 0 when the environment is complete."""
    parser = argparse.ArgumentParser(description="Makes .venv from the hashed requirements.")
    parser.add_argument("--requirements", type=Path, default=ROOT / "requirements-dev.txt")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    asked = parser.parse_args()
    version = (sys.version_info[0], sys.version_info[1])
    fits = OLDEST <= version < TOO_NEW
    if not fits and (other := better_python()):
        os.execv(other, [other, "-m", "devstack.setup", *sys.argv[1:]])  # noqa: S606  (no shell is the point)
    try:
        check_version(version)
        with asked.requirements.open() as one_at_a_time:
            _take_turn(one_at_a_time)
            setup(asked.venv.resolve(), asked.requirements.resolve())
    except SetupError as error:
        sys.stderr.write(f"\nsetup: {error}\n  cure: {error.cure}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nsetup: stopped; `make setup` goes on from here\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Makes .venv and fills it from the hashed requirements: `python3 devstack/setup.py`.

Runs before anything is installed, so: standard library only, and nothing of this package. pip fetches the
pinned uv first, by hash, and uv the rest in parallel; pip alone does it all when uv cannot.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Callable  # noqa: UP035  (an old Python must get as far as the message)

ROOT = Path(__file__).resolve().parent.parent
OLDEST, TOO_NEW = (3, 11), (3, 14)
NEEDED_MB = 1500
# Runs inside the new environment, with the packaging library that pip carries.
WHAT_IS_MISSING = """
import importlib.metadata, json, re, sys
from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name
have = {canonicalize_name(d.metadata["Name"]): d.version for d in importlib.metadata.distributions()}
lines = re.findall(r"^(\\w[^\\\\\\n]*)", open(sys.argv[1]).read(), re.M)
wanted = [r for r in map(Requirement, lines) if r.marker is None or r.marker.evaluate()]
pin = lambda r: str(r.specifier).removeprefix("==")
print(json.dumps([r.name for r in wanted if have.get(canonicalize_name(r.name)) != pin(r)]))
"""
# What pip is told, in uv's words, so that a mirror set for pip serves uv too.
PIP_TO_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
    "trusted-host": "UV_INSECURE_HOST",
    "proxy": "ALL_PROXY",
}
KNOWN = (
    (
        r"no space left|ENOSPC|disk quota",
        "the disk is full",
        f"free about {NEEDED_MB} MB, then: make setup",
    ),
    (
        r"do not match the hashes|hash mismatch",
        "a downloaded file is not the one that was locked, so it was refused",
        "try again; if it stays, the index or mirror serves changed files: ask who runs it",
    ),
    (
        r"connection|connect error|timed? ?out|resolve|name or service|dns|error sending request"
        r"|certificate|proxy|unreachable",
        "the package index could not be reached",
        "check the network, or name your mirror: PIP_INDEX_URL=… make setup",
    ),
    (
        r"no matching distribution|could not find a version|no wheels|no solution found",
        "a pinned package does not exist for this system, or the index does not have it",
        "Linux and macOS on x86-64 or arm64 are supported; a mirror must carry every pinned version",
    ),
    (
        r"ensurepip",
        "this Python cannot put pip into a virtual environment",
        "on Debian and Ubuntu: sudo apt install python3-venv; then: make setup",
    ),
    (r"permission denied", "a file could not be written", "check who owns .venv, then: make setup"),
)


class SetupError(Exception):
    """str() is what is wrong; `cure` is what to do."""

    def __init__(self, problem: str, cure: str) -> None:
        super().__init__(problem)
        self.cure = cure


class Progress:
    """What has arrived, on one line that moves on a terminal; a line now and then elsewhere."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.megabytes = 0.0
        self.what = ""
        self._started = time.monotonic()
        self._next_plain = 3.0

    def show(self) -> None:
        elapsed = time.monotonic() - self._started
        text = (
            f"{self.done:>3} of {self.total} packages · {self.megabytes:.0f} MB · {elapsed:.0f} s"
        )
        if sys.stdout.isatty():
            width = shutil.get_terminal_size().columns - 1
            filled = 20 * min(self.done, self.total) // max(1, self.total)
            line = f"  {'━' * filled}{'─' * (20 - filled)} {text} · {self.what}"
            sys.stdout.write("\r" + line[:width].ljust(width))
            sys.stdout.flush()
        elif elapsed >= self._next_plain:
            self._next_plain = elapsed + 3
            say(f"{text} · {self.what}")

    def end(self) -> None:
        if sys.stdout.isatty():
            sys.stdout.write("\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r")


def check_version(version: tuple[int, int]) -> None:
    """Raises SetupError unless this Python can run Rein."""
    if not OLDEST <= version < TOO_NEW:
        raise SetupError(
            f"Rein needs Python 3.11, 3.12 or 3.13; this is {version[0]}.{version[1]}",
            "install one and choose it: make setup PYTHON=python3.12",
        )


def better_python() -> str | None:
    """Another interpreter on PATH that fits."""
    names = (f"python3.{minor}" for minor in range(TOO_NEW[1] - 1, OLDEST[1] - 1, -1))
    return next((found for name in names if (found := shutil.which(name))), None)


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


def uv_environment(venv: Path) -> dict[str, str]:
    """What pip's configuration says, for uv; variables of uv itself win."""
    asked = subprocess.run(
        [str(venv / "bin/python"), "-m", "pip", "config", "list"], capture_output=True, text=True
    )
    found: dict[str, str] = {}
    for key, value in re.findall(r"^[^=]*?\.([\w-]+)='(.*)'$", asked.stdout, re.MULTILINE):
        if key in PIP_TO_UV:
            found[PIP_TO_UV[key]] = " ".join(shlex.split(value.replace("\\n", " ")))
    return {**found, "UV_HTTP_RETRIES": "2", **os.environ}


def install_with_uv(venv: Path, requirements: Path, total: int) -> str:
    """Returns "" when all is there, otherwise what was said."""
    python, cache = str(venv / "bin/python"), venv / ".uv-cache"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--retries", "2", "--require-hashes", "-r", str(ROOT / "requirements-setup.txt")]
    got = subprocess.run(pip, capture_output=True, text=True)
    if got.returncode:
        return got.stderr
    # A cache of our own, on the same disk: arrivals can be counted, and are linked, not copied.
    uv = [str(venv / "bin/uv"), "pip", "install", "--python", python, "--require-hashes"]
    uv += ["--cache-dir", str(cache), "--no-progress", "-r", str(requirements)]
    progress = Progress(total)
    sizes: dict[str, float] = {}

    def heard(line: str) -> None:
        if found := re.match(r"Downloading (\S+) \(([\d.]+)MiB\)", line):
            sizes[found[1]] = float(found[2]) * 1.048576
        elif found := re.match(r"Downloaded (\S+)", line):
            progress.megabytes += sizes.pop(found[1], 0)

    def count() -> None:
        progress.done = sum(1 for _ in cache.glob("archive-v0/*"))
        progress.what = max(sizes, key=lambda name: sizes[name], default="linking")

    failed = run(uv, uv_environment(venv), progress, heard, count)
    if not failed:
        shutil.rmtree(cache, ignore_errors=True)  # linked: nothing is lost
    return failed


def install_with_pip(venv: Path, requirements: Path, total: int) -> str:
    """The slow way. Returns "" when all is there, otherwise what was said."""
    command = [str(venv / "bin/python"), "-m", "pip", "install", "--disable-pip-version-check"]
    command += ["--progress-bar", "off", "--retries", "2", "--require-hashes"]
    progress = Progress(total)

    def heard(line: str) -> None:
        if found := re.match(r"Collecting ([\w.-]+)", line):
            progress.done, progress.what = progress.done + 1, found[1]
        elif found := re.match(r"Downloading \S+ \(([\d.]+) (kB|MB)\)", line):
            progress.megabytes += float(found[1]) / (1000 if found[2] == "kB" else 1)
        elif line.startswith("Installing collected"):
            progress.what = "unpacking"

    command += ["-r", str(requirements)]
    return run(command, dict(os.environ), progress, heard, lambda: None)


def run(
    command: list[str],
    environment: dict[str, str],
    progress: Progress,
    heard: Callable[[str], None],
    count: Callable[[], None],
) -> str:
    """Runs an installer, showing how far it is. Returns "", or its output when it failed."""
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines: list[str] = []

    def read() -> None:
        for line in process.stdout or ():
            lines.append(line)
            heard(line.strip())

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        while reader.is_alive():
            count()
            progress.show()
            reader.join(0.1)
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        progress.end()
    return "".join(lines) if code else ""


def explain(output: str) -> SetupError:
    """What an installer said, as one sentence and its cure."""
    for pattern, problem, cure in KNOWN:
        if re.search(pattern, output, re.IGNORECASE):
            return SetupError(problem, cure)
    last = "\n    ".join(line for line in output.strip().splitlines()[-8:])
    return SetupError(f"the installer failed:\n    {last}", "mend that, then: make setup")


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


def say(text: str) -> None:
    """One line."""
    sys.stdout.write(f"  {text}\n")
    sys.stdout.flush()


def main() -> int:
    """Exit code 0 when the environment is complete."""
    parser = argparse.ArgumentParser(description="Makes .venv from the hashed requirements.")
    parser.add_argument("--requirements", type=Path, default=ROOT / "requirements-dev.txt")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    asked = parser.parse_args()
    version = (sys.version_info[0], sys.version_info[1])
    fits = OLDEST <= version < TOO_NEW
    if not fits and (other := better_python()):
        os.execv(other, [other, *sys.argv])  # noqa: S606  (no shell is the point)
    try:
        check_version(version)
        with asked.requirements.open() as one_at_a_time:
            fcntl.flock(one_at_a_time, fcntl.LOCK_EX)  # two makes at once: the second waits
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

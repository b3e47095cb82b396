"""uv and pip, run with their progress shown."""

from __future__ import annotations

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

PINNED_UV = Path(__file__).resolve().parents[2] / "requirements-setup.txt"
# What pip is told, in uv's words, so that a mirror set for pip serves uv too.
PIP_TO_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
    "trusted-host": "UV_INSECURE_HOST",
    "proxy": "ALL_PROXY",
}


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


def say(text: str) -> None:
    """One line."""
    sys.stdout.write(f"  {text}\n")
    sys.stdout.flush()


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
    pip += ["--retries", "2", "--require-hashes", "-r", str(PINNED_UV)]
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

"""What can go wrong while installing, as one sentence and its cure."""

from __future__ import annotations

import re

NEEDED_MB = 1500
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
        "Linux and macOS on x86-64 or arm64 are supported; a mirror must carry every pin",
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


def explain(output: str) -> SetupError:
    """What an installer said, as one sentence and its cure."""
    for pattern, problem, cure in KNOWN:
        if re.search(pattern, output, re.IGNORECASE):
            return SetupError(problem, cure)
    last = "\n    ".join(line for line in output.strip().splitlines()[-8:])
    return SetupError(f"the installer failed:\n    {last}", "mend that, then: make setup")

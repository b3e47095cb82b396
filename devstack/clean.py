"""`make clean`: the state and the caches, unless a stack runs on them. Standard library only."""

from __future__ import annotations

import fcntl
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATE = ".rein"
CACHES = (".pytest_cache", ".mypy_cache", ".ruff_cache", ".import_linter_cache", ".hypothesis")


def clean(root: Path) -> str:
    """Returns "" or why nothing was removed."""
    lock_file = root / STATE / "lock"
    if lock_file.exists():
        with lock_file.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return f"the stack is running (process {lock.read().strip()}): stop it with Ctrl-C"
    for name in (STATE, *CACHES):
        shutil.rmtree(root / name, ignore_errors=True)
    for cache in root.glob("**/__pycache__"):
        if ".venv" not in cache.parts:
            shutil.rmtree(cache, ignore_errors=True)
    return ""


if __name__ == "__main__":
    sys.exit(clean(ROOT) or None)

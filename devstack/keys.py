"""The stack's API key: of the tenant `local`, in the state folder, for its owner alone."""

import sys
from pathlib import Path

from devstack.processes import Spec, run_to_end


def read_key(state: Path) -> str:
    """The key that was made last; "" when there is none."""
    file = _file(state)
    return file.read_text().strip() if file.exists() else ""


async def ensure_key(state: Path, environment: dict[str, str]) -> str:
    """A key with every scope; an earlier one is kept while it serves. Raises StackError."""
    log = state / "logs" / "keys.log"
    command = [sys.executable, "-m", "api.keys", "create", "--tenant", "local", "--scopes", "all"]
    command += ["--name", "make run", "--days", "30", "--out", str(_file(state)), "--reuse"]
    spec = Spec("keys", command, log, cwd=state, env=environment)
    await run_to_end(spec, "no API key could be made", f"all of it: {log}")
    return read_key(state)


def _file(state: Path) -> Path:
    return state / "key"

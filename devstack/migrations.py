"""Which migration a database is at, which is the newest, and the way from one to the other."""

import re
import sys
from pathlib import Path

import asyncpg

from devstack.errors import StackError
from devstack.processes import Spec, run_to_end

REVISION = re.compile(r"^revision[^=\n]*=\s*[\"'](\w+)[\"']", re.MULTILINE)
BEFORE = re.compile(r"^down_revision[^=\n]*=\s*[\"'](\w+)[\"']", re.MULTILINE)


def head(root: Path) -> str:
    """The newest revision. Raises StackError when the chain has no single end."""
    texts = [path.read_text() for path in (root / "db/migrations/versions").glob("*.py")]
    revisions: set[str] = {found for text in texts for found in REVISION.findall(text)}
    ends = revisions - {found for text in texts for found in BEFORE.findall(text)}
    if len(ends) != 1:
        raise StackError(f"the migrations have {len(ends)} ends: {sorted(ends)}", "join them")
    return ends.pop()


async def current(url: str) -> str:
    """The revision of a database, "" when it is empty."""
    connection = await asyncpg.connect(url, timeout=5)
    try:
        if await connection.fetchval("SELECT to_regclass('alembic_version')::text") is None:
            return ""
        found: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
        return found or ""
    finally:
        await connection.close()


async def check(url: str, root: Path) -> None:
    """Raises StackError unless the person's own database answers and is at the newest migration."""
    try:
        at = await current(url)
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError) as error:
        said = f"the database of DATABASE_URL does not answer: {error or type(error).__name__}"
        raise StackError(said, "check DATABASE_URL and the server") from None
    if at != (newest := head(root)):
        said = f"the database of DATABASE_URL is at {at or 'no'} migration, the newest is {newest}"
        raise StackError(said, "make migrate")


async def ensure_migrated(url: str, root: Path, log: Path, environment: dict[str, str]) -> None:
    """`alembic upgrade head` unless the database is there. Raises StackError."""
    if await current(url) == head(root):
        return
    command = [sys.executable, "-m", "alembic", "upgrade", "head"]
    spec = Spec("migrations", command, log, root, {**environment, "DATABASE_URL": url})
    await run_to_end(spec, "the migrations failed", f"all of it: {log}")

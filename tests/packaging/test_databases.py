"""What Compose does with an empty PostgreSQL, done with a real one."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import yaml

from devstack.ports import Ports
from devstack.postgres import SUPERUSER, Postgres, programs
from devstack.processes import Child

pytestmark = pytest.mark.stack
ROOT = Path(__file__).parents[2]
# A generated password may hold all that has a meaning in an address, in a shell and in SQL.
PASSWORD = "p@ss/w#rd:%41?&'\"$HOME"


class Empty(Postgres):
    """A server as the image of Compose starts it: no role and no database of ours."""

    async def _set_up(self) -> None:
        pass


@pytest.fixture
async def empty(state_folder: Path) -> AsyncIterator[Empty]:
    folder = state_folder / "empty"
    folder.mkdir()
    server, started = Empty(folder, Ports.free().postgres, durable=False), list[Child]()
    await server.start(started.append)
    yield server
    await started[0].stop()


async def _run(*command: str, env: dict[str, str], said: str = "") -> str:
    ended = await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=ROOT,
        env=os.environ | env,
        input=said,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


async def test_the_login_that_the_script_makes_migrates_and_lives_on_in_a_restored_dump(
    empty: Empty,
) -> None:
    admin = {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(empty.port),
        "PGPASSWORD": empty.url(SUPERUSER).split(":")[2].partition("@")[0],
        "PATH": f"{programs()}:{os.environ['PATH']}",
    }
    passwords = {"REIN_DB_PASSWORD": PASSWORD, "TEMPORAL_DB_PASSWORD": PASSWORD}
    script = (ROOT / "docker/create-databases.sh").read_text()
    # The wheel comes without this extension, which is Temporal's alone.
    script = script.replace("CREATE EXTENSION IF NOT EXISTS btree_gin;", "")
    await _run("sh", env=admin | passwords, said=script)

    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    environment = compose["services"]["migrate"]["environment"]
    url = environment["DATABASE_URL"].replace("postgres:5432", f"127.0.0.1:{empty.port}")
    rein = {"DATABASE_URL": url, "PGPASSWORD": PASSWORD}
    await _run(sys.executable, "-m", "alembic", "upgrade", "head", env=rein)
    listed = await _run(sys.executable, "-m", "api.keys", "list", env=rein)
    assert listed.startswith("KEY ID")

    await _run(
        "pg_dump", "--username=postgres", "-Fc", "-f", f"{empty.state}/dump", "rein", env=admin
    )
    await _run("dropdb", "--username=postgres", "rein", env=admin)
    await _run("createdb", "--username=postgres", "--owner=rein", "rein", env=admin)
    restore = ["pg_restore", "--username=postgres", "--dbname=rein", "--exit-on-error"]
    await _run(*restore, f"{empty.state}/dump", env=admin)
    made = ["create", "--tenant", "local", "--name", "after", "--scopes", "all"]
    await _run(sys.executable, "-m", "api.keys", *made, env=rein)

    connection = await asyncpg.connect(url, password=PASSWORD)
    assert not await connection.fetchval(
        "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolbypassrls FROM pg_roles"
        " WHERE rolname = current_user"
    )
    await connection.close()

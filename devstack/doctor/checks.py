"""The checks that only look: programs, packages, ports, settings, services, disk."""

import asyncio
import difflib
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from devstack import migrations, postgres
from devstack.configuration import Configuration
from devstack.doctor.finding import Finding
from devstack.errors import REINSTALL, StackError
from devstack.ports import VARIABLES, holder, is_free
from devstack.processes import PidFile
from devstack.setup.__main__ import OLDEST, TOO_NEW, missing
from devstack.temporal import find_program

# Known besides the product's own: what the development stack and the tests read.
OWN_VARIABLES = frozenset({*VARIABLES.values()})
NEEDED_FREE_MB = 500


def python() -> Finding:
    version = sys.version_info[:2]
    text = f"{version[0]}.{version[1]}.{sys.version_info[2]} at {sys.executable}"
    if OLDEST <= version < TOO_NEW:
        return Finding("ok", "Python", text)
    return Finding("missing", "Python", text, "make setup PYTHON=python3.12")


def packages(root: Path) -> Finding:
    """Whether the environment holds what the requirements say."""
    absent = missing(Path(sys.prefix), root / "requirements-dev.txt")
    if not absent:
        return Finding("ok", "packages", "as requirements-dev.txt says")
    some = ", ".join(absent[:4]) + (f" and {len(absent) - 4} more" if len(absent) > 4 else "")
    return Finding("missing", "packages", f"not there in the locked version: {some}", REINSTALL)


def temporal_program(environment: dict[str, str]) -> Finding:
    try:
        program = find_program(environment)
    except StackError as error:
        return Finding("missing", "Temporal program", str(error), error.cure)
    if program is None:
        return Finding("warn", "Temporal program", "none; it would be downloaded", REINSTALL)
    try:
        version = program.version()
    except (OSError, subprocess.CalledProcessError) as error:
        return Finding("missing", "Temporal program", f"{program.path}: {error}", REINSTALL)
    return Finding("ok", "Temporal program", f"{version}, from {program.source}")


def postgres_program() -> Finding:
    try:
        return Finding("ok", "PostgreSQL program", f"{postgres.version()}, from the wheel")
    except (StackError, OSError, subprocess.CalledProcessError) as error:
        return Finding("missing", "PostgreSQL program", str(error), REINSTALL)


def ports(configuration: Configuration, state: Path) -> list[Finding]:
    """Free, ours, or somebody else's."""
    running = set(PidFile(state / "pids.json").leftovers())
    found = []
    for name in configuration.ports_needed:
        port, variable = getattr(configuration.ports, name), VARIABLES[name]
        service = "temporal" if name == "temporal_ui" else name
        title = f"port {port}"
        if is_free(port):
            found.append(Finding("ok", title, f"free, for {name.replace('_', ' ')}"))
        elif service in running:
            found.append(Finding("ok", title, f"in use by our {name.replace('_', ' ')}"))
        else:
            who = holder(port) or "another process"
            cure = f"stop it, or: {variable}={port + 10_000 if port < 50_000 else 10_080} make run"
            found.append(Finding("missing", title, f"taken by {who}", cure))
    return found


def settings(environment: dict[str, str], root: Path) -> list[Finding]:
    """Variables of ours that nobody reads, each with the name that was probably meant."""
    declared = re.findall(r'"([A-Z][A-Z0-9_]+)"', (root / "settings.py").read_text())
    known = {*declared, *OWN_VARIABLES}
    found = []
    for name in sorted(environment):
        if name.startswith("REIN_") and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)
            cure = f"did you mean {near[0]}?" if near else "unset it"
            found.append(Finding("warn", name, "is set, but no such setting exists", cure))
    if not found:
        found.append(Finding("ok", "settings", "every REIN_… variable is one that is read"))
    return found


async def services(configuration: Configuration, urls: dict[str, str]) -> list[Finding]:
    """Whether what is configured, and not started by the stack, answers."""
    found = []
    for name, title in (("temporal", "Temporal"), ("gemini", "Gemini"), ("opik", "Opik")):
        if name in configuration.services:
            continue
        address = urls.get(name) or "https://generativelanguage.googleapis.com"
        if await _connects(address):
            found.append(Finding("ok", title, f"{address} accepts connections"))
        else:
            cure = "check the address and the network"
            found.append(Finding("missing", title, f"{address} does not answer", cure))
    return found


async def database(configuration: Configuration, url: str, root: Path) -> Finding:
    """Whether the database is there and at the newest migration."""
    head = migrations.head(root)
    try:
        at = await migrations.current(url)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        if "postgres" in configuration.services:
            return Finding("ok", "database", "not running; `make run` starts it and migrates")
        cure = "check DATABASE_URL and the server"
        return Finding("missing", "database", f"does not answer: {error}", cure)
    if at == head:
        return Finding("ok", "database", f"at the newest migration, {head}")
    return Finding(
        "missing", "database", f"at {at or 'no'} migration, newest is {head}", "make migrate"
    )


async def traces(url: str) -> Finding | None:
    """What waits for Opik, for how long, and what was set aside; None without a database."""
    try:
        # Other roles find the table empty: its rows are the tenants'.
        operations = {"role": "rein_operations"}
        conn = await asyncpg.connect(url, timeout=2, server_settings=operations)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return None
    try:
        [(waiting, age, dead)] = await conn.fetch(
            """
            SELECT count(*) FILTER (WHERE state = 'pending'),
                   coalesce(extract(epoch FROM now() - min(event_time)
                                    FILTER (WHERE state = 'pending')), 0)::integer,
                   count(*) FILTER (WHERE state = 'dead')
              FROM trace_outbox
            """
        )
    except asyncpg.UndefinedTableError:
        return None
    finally:
        await conn.close()
    said = f"{waiting} rows wait, the oldest for {age} s; {dead} were set aside"
    if dead:
        return Finding("warn", "traces", said, "python -m tracing.ship --status")
    if age >= 300:
        return Finding("warn", "traces", said, "is Opik there? is the shipper?")
    return Finding("ok", "traces", said)


def disk(root: Path) -> Finding:
    free = shutil.disk_usage(root).free // 1_000_000
    if free > NEEDED_FREE_MB:
        return Finding("ok", "disk", f"{free / 1000:.0f} GB free")
    return Finding("missing", "disk", f"{free} MB free", f"free at least {NEEDED_FREE_MB} MB")


async def _connects(address: str) -> bool:
    parts = urlsplit(address if "//" in address else f"//{address}")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        async with asyncio.timeout(5):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except (OSError, TimeoutError, socket.gaierror):
        return False
    writer.close()
    await writer.wait_closed()
    return True

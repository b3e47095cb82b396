"""Runs the checks, prints a line for each, and ends with an exit code."""

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text
from temporalio.client import Client
from temporalio.envconfig import ClientConfig

from devstack import pages
from devstack.configuration import Configuration, configure, read_environment
from devstack.doctor import checks
from devstack.doctor.finding import Finding
from devstack.doctor.probe import probe
from devstack.errors import StackError
from devstack.ports import is_free
from devstack.stack import ROOT, Stack
from devstack.temporal import TemporalOptions

MARKS = {"ok": ("✓ ok     ", "green"), "warn": ("! warn   ", "yellow")}
MISSING = ("✗ missing", "red")


def examine(state: Path, *, quick: bool) -> int:
    """Prints what was found. Ends the process itself: 0, or 1 when something needed is missing."""
    console = pages.console()
    try:
        found = asyncio.run(_examine(console, state, quick=quick))
    except StackError as error:
        found = [_show(console, Finding("missing", "doctor", str(error), error.cure))]
    bad = [finding for finding in found if finding.level == "missing"]
    console.print(Text("\n  all well" if not bad else f"\n  {len(bad)} to mend", style="bold"))
    sys.stdout.flush()
    # With a temporalio client alive, a usual interpreter exit sometimes aborts (sdk-python #300).
    os._exit(1 if bad else 0)


async def _examine(console: Console, state: Path, *, quick: bool) -> list[Finding]:
    environment = read_environment(ROOT)
    configuration = configure(environment)
    urls = Stack(
        state, ports=configuration.ports, services=configuration.services, env=configuration.env
    ).urls
    found = [checks.python(), checks.packages(ROOT), checks.temporal_program(environment)]
    found += [checks.postgres_program(), *checks.ports(configuration, state)]
    found += checks.settings(environment, ROOT)
    found += await checks.services(configuration, urls)
    found += [await checks.database(configuration, urls["postgres"], ROOT), checks.disk(ROOT)]
    backlog = await checks.traces(urls["postgres"])
    found += [backlog] if backlog else []
    for finding in found:
        _show(console, finding)
    if not quick:
        found += [_show(console, each) for each in await _probe(configuration)]
    return found


def _show(console: Console, finding: Finding) -> Finding:
    mark, style = MARKS.get(finding.level, MISSING)
    table = pages.grid(style, "bold", "")
    table.columns[1].width = 20
    table.add_row(mark, finding.name, Text(finding.what))
    if finding.cure:
        table.add_row("", "", Text(f"→ {finding.cure}", style="cyan"))
    console.print(pages.indent(table))
    return finding


async def _probe(configuration: Configuration) -> list[Finding]:
    """The server in use, if one is; otherwise one of its own, with the stack's flags."""
    if "temporal" not in configuration.services:
        return await probe(await Client.connect(**ClientConfig.load_client_connect_config()))
    port = configuration.ports.temporal
    if not is_free(port):
        return await probe(await Client.connect(f"127.0.0.1:{port}"))
    with tempfile.TemporaryDirectory(prefix="rein-doctor-") as folder:
        options = TemporalOptions(file=False, ui=False)
        env = {k: v for k, v in configuration.env.items() if k == "TEMPORAL_CLI"}
        async with Stack(Path(folder), services={"temporal"}, temporal=options, env=env) as stack:
            return await probe(await Client.connect(stack.urls["temporal"]))

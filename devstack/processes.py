"""One supervised process: tied to its supervisor, its output in a file, stopped for sure."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from devstack.errors import StackError

WRAPPER = Path(__file__).parent / "child.py"
LOG_LIMIT = 20_000_000


@dataclass(frozen=True)
class Spec:
    """How to start one process and how to stop it. `grace` is in seconds."""

    name: str
    command: Sequence[str]
    log: Path
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    user: str = "-"
    grace: float = 10


class ChildDied(StackError):
    """A process ended that should be running."""

    def __init__(self, child: "Child") -> None:
        super().__init__(
            f"{child.spec.name} ended by itself ({describe_exit(child.process.returncode)})",
            f"its whole output: {child.spec.log}",
            details=child.tail(),
        )
        self.name = child.spec.name


class Child:
    """A running process of the stack."""

    def __init__(self, spec: Spec, process: asyncio.subprocess.Process, log_from: int = 0) -> None:
        self.spec = spec
        self.process = process
        self.stopping = False
        self._log_from = log_from

    @classmethod
    async def spawn(cls, spec: Spec) -> "Child":
        """Starts the process. Must run on the main thread: the kernel ties it to that thread."""
        spec.log.parent.mkdir(parents=True, exist_ok=True)
        _roll(spec.log)
        wrapped = [sys.executable, "-I", "-S", str(WRAPPER), str(os.getpid())]
        wrapped += [str(int(spec.orphan_signal)), spec.user, *spec.command]
        with spec.log.open("ab") as log:
            log_from = log.tell()
            process = await asyncio.create_subprocess_exec(
                *wrapped,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=spec.cwd,
                env=dict(spec.env),
                start_new_session=True,  # Ctrl-C belongs to the supervisor, which stops in order
            )
        return cls(spec, process, log_from)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    async def stop(self) -> None:
        """Asks it to end, waits for `grace` seconds, then ends it and what it started."""
        self.stopping = True
        if self.alive:
            self.process.send_signal(self.spec.stop_signal)
            try:
                async with asyncio.timeout(self.spec.grace):
                    await self.process.wait()
            except TimeoutError:
                await self.kill()

    async def kill(self) -> None:
        """kill -9, for the process and its group; returns when it has gone."""
        self.kill_now()
        await self.process.wait()

    def kill_now(self) -> None:
        """kill -9 without waiting."""
        self.stopping = True
        if self.alive:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                self.process.kill()

    def tail(self, lines: int = 15) -> str:
        """The last lines of its output; what an earlier start wrote does not count."""
        try:
            with self.spec.log.open("rb") as log:
                log.seek(max(self._log_from, self.spec.log.stat().st_size - 20_000))
                text = log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


async def run_to_end(spec: Spec, problem: str, cure: str) -> None:
    """Runs a process that ends by itself. Raises StackError with `problem` when it fails."""
    child = await Child.spawn(spec)
    try:
        code = await child.process.wait()
    finally:
        await child.kill()
    if code:
        raise StackError(problem, cure, details=child.tail())


async def ready(
    child: Child, check: Callable[[], Awaitable[str]], *, within: float, pause: float = 0.03
) -> None:
    """Waits until `check` answers "" (otherwise: what is missing).

    Raises: ChildDied at once when the process ends; StackError after `within` seconds.
    """
    missing = ""
    try:
        async with asyncio.timeout(within):
            while child.alive:
                missing = await check()
                if not missing:
                    return
                await asyncio.sleep(pause)
    except TimeoutError:
        raise StackError(
            f"{child.spec.name} did not come up within {within:.0f} s: {missing}",
            f"its whole output: {child.spec.log}",
            details=child.tail(),
        ) from None
    raise ChildDied(child)


def describe_exit(code: int | None) -> str:
    """An exit code in words."""
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def _roll(log: Path) -> None:
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))


class PidFile:
    """Which processes this state folder has running, so that a later start finds leftovers."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, children: Mapping[str, Child]) -> None:
        """Replaces the list; called after every start and stop."""
        rows = {}
        for name, child in children.items():
            try:
                started = psutil.Process(child.pid).create_time()
            except psutil.NoSuchProcess:
                continue
            rows[name] = {"pid": child.pid, "started": started}
        if rows:
            self.path.write_text(json.dumps(rows))
        else:
            self.path.unlink(missing_ok=True)

    def leftovers(self) -> dict[str, psutil.Process]:
        """Processes of an earlier supervisor that still run. A reused pid never matches."""
        try:
            rows = json.loads(self.path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        found = {}
        for name, row in rows.items():
            try:
                process = psutil.Process(row["pid"])
            except psutil.NoSuchProcess:
                continue
            if abs(process.create_time() - row["started"]) < 0.05:
                found[name] = process
        return found

    def stop_leftovers(self, grace: float = 5) -> list[str]:
        """Ends them (postgres by its own fast shutdown); returns their names."""
        found = self.leftovers()
        for name, process in found.items():
            wish = signal.SIGINT if name == "postgres" else signal.SIGTERM
            process.send_signal(wish)
        _, stubborn = psutil.wait_procs(list(found.values()), timeout=grace)
        for process in stubborn:
            process.kill()
        psutil.wait_procs(stubborn, timeout=grace)
        self.path.unlink(missing_ok=True)
        return sorted(found)

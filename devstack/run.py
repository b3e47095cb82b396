"""`make run`: the stack, a goal through it, and then the stack until Ctrl-C."""

import asyncio
import fcntl
import os
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TextIO

import httpx
from rich.console import Console
from rich.text import Text

from devstack import demo, migrations, pages
from devstack.configuration import Configuration, configure, read_environment
from devstack.errors import StackError
from devstack.keys import read_key
from devstack.ports import check
from devstack.postgres import UNPRIVILEGED, closed_folders
from devstack.processes import ChildDied
from devstack.progress import StartProgress
from devstack.stack import ROOT, STAND_IN_NOTICE, Service, Stack

RESTARTED: frozenset[Service] = frozenset({"worker", "shipper", "api"})
RESTARTS, WINDOW = 3, 60.0
# A refusal is an answer too.
GOOD = ("success", "partial", "refused")
DEFAULT_GOAL = "I want to run a 5K by end of Q1"


class AlreadyRuns(StackError):
    """Another process keeps the stack up; `addresses` are its API's own and public one, once up."""

    def __init__(self, pid: str, addresses: list[str]) -> None:
        super().__init__(
            f"the stack runs already, as process {pid}",
            "stop that one first (Ctrl-C, or `kill` and that number), "
            'or send it a goal: make run GOAL="…"',
        )
        self.addresses = addresses


def run(goal: str, *, once: bool, state: Path) -> int:
    """Returns the exit code: 0 when the goal was answered, or the person stopped a healthy stack.

    A goal goes to the stack that runs already, if there is one; without a goal that is an error.
    """
    console = pages.console()
    try:
        return _run(_Session(console, state), goal, once=once)
    except StackError as error:
        show_error(console, error)
        return 1
    except KeyboardInterrupt:  # while another process keeps the stack up
        return 130


def _run(session: "_Session", goal: str, *, once: bool) -> int:
    try:
        with only_one(session.state) as lock:
            return asyncio.run(session.main(lock, goal or DEFAULT_GOAL, once=once))
    except AlreadyRuns as running:
        if not (goal and running.addresses):
            raise
        addresses = running.addresses
    return asyncio.run(session.send(addresses, goal))


def show_error(console: Console, error: StackError) -> None:
    """What is wrong, its cure, and the last lines of whoever failed."""
    if error.details:
        console.print(pages.indent(Text(error.details, style="dim")))
    console.print(Text(f"\n  {error}", style="bold red"), soft_wrap=True)
    if error.cure:
        console.print(Text(f"  cure: {error.cure}"), soft_wrap=True)  # often a command: unbroken


@contextmanager
def only_one(state: Path) -> Iterator[TextIO]:
    """Holds the state folder's lock, which the kernel lets go of when we die.

    The file holds our process id and, behind it, what others are to know. Raises AlreadyRuns.
    """
    path = state / "lock"
    try:
        state.mkdir(parents=True, exist_ok=True)
        opened = path.open("a+")
    except OSError as error:
        said = f"the state folder {state} cannot be written: {error.strerror}"
        raise StackError(said, "check who owns it and its rights, or move it away") from None
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            pid, *addresses = lock.read().split() or ["unknown"]
            raise AlreadyRuns(pid, addresses) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        try:
            yield lock
        finally:
            path.unlink(missing_ok=True)


class _Session:
    """One `make run`."""

    def __init__(self, console: Console, state: Path) -> None:
        self.console = console
        self.state = state

    async def main(self, lock: TextIO, goal: str, *, once: bool) -> int:
        configuration = configure(read_environment(ROOT))
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (asyncio.run made one)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, task.cancel)
        try:
            return await self._started(configuration, lock, goal, once=once)
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        except asyncio.CancelledError:
            self.console.print(Text("\n  stopped; goals, runs and traces are kept", style="dim"))
            return 0 if not once else 130

    async def send(self, addresses: list[str], goal: str) -> int:
        """A goal through the stack that another process keeps up. Raises StackError."""
        url, public_url = addresses
        async with demo.client(url, public_url, read_key(self.state)) as api:
            try:
                return await self._one_goal(api, goal, once=False)
            except httpx.TransportError as error:
                said = f"the API at {url} does not answer: {type(error).__name__}"
                raise StackError(said, "it may be stopping: send the goal again") from None

    async def _started(
        self, configuration: Configuration, lock: TextIO, goal: str, *, once: bool
    ) -> int:
        progress = StartProgress(self.console, configuration.services)
        stack = Stack(
            self.state,
            ports=configuration.ports,
            services=configuration.services,
            env=configuration.env,
            latency="document",
            report=progress.report,
        )
        if left := stack.stop_leftovers():
            self._say(f"stopped what an earlier, killed start had left: {', '.join(left)}")
        check(configuration.ports, configuration.ports_needed)
        if "postgres" not in configuration.services:
            await migrations.check(stack.urls["postgres"], ROOT)
        if "postgres" in configuration.services and (closed := closed_folders(self.state)):
            names = ", ".join(map(str, closed))
            self._say(f"PostgreSQL runs as {UNPRIVILEGED}, not as root, and may now pass: {names}")
        async with AsyncExitStack() as exit_stack:
            exit_stack.push_async_callback(self._stop, stack)
            with progress:
                await stack.__aenter__()
            url, public_url = stack.urls["api"], stack.env["REIN_PUBLIC_URL"]
            lock.write(f" {url} {public_url}")
            lock.flush()
            api = await exit_stack.enter_async_context(demo.client(url, public_url, stack.key))
            return await self._up(stack, api, goal, once=once)

    async def _up(self, stack: Stack, api: httpx.AsyncClient, goal: str, *, once: bool) -> int:
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(self._keep_alive(stack))
            if before := await demo.earlier(api):
                self.console.print(pages.earlier_goals(before))
            if not once:
                self.console.print(pages.heading("Open"), pages.links(addresses(stack)))
            code = await self._one_goal(api, goal, once=once)
            if not once:
                self._say("\n  It stays up for your own goals. Ctrl-C stops it.")
                pages.next_steps(self.console, stack.env["REIN_PUBLIC_URL"], stack.key)
                await asyncio.Event().wait()
            keeper.cancel()
        return code

    async def _one_goal(self, api: httpx.AsyncClient, goal: str, *, once: bool) -> int:
        self.console.print(pages.heading(f"“{goal}”"))
        run = await demo.submit(api, goal)
        started = datetime.fromisoformat(run["created_at"])
        async for event in demo.follow(api, run["trace_id"]):
            if line := pages.event_line(event, started):
                self.console.print(line)
        run = await demo.read(api, run["trace_id"])
        self.console.print(pages.result(run))
        if not once:  # links of a stack that stops now would lead nowhere
            pages.run_links(self.console, run)
        if run["status"] in GOOD:
            return 0
        why = run["error"]["code"] if run["error"] else "no reason was given"
        self.console.print(Text(f"\n  the run ended {run['status']}: {why}", style="bold red"))
        return 1

    async def _keep_alive(self, stack: Stack) -> None:
        """Starts again what crashed. Raises ChildDied when that does not help."""
        crashes: deque[float] = deque(maxlen=RESTARTS + 1)
        while True:
            name = await stack.any_death()
            died = ChildDied(stack.children[name])
            crashes.append(time.monotonic())
            often = len(crashes) > RESTARTS and crashes[-1] - crashes[0] < WINDOW
            if name not in RESTARTED or often:
                raise died
            pause = 0.5 * 2 ** (len(crashes) - 1)
            self.console.print(pages.indent(Text(died.details, style="dim")))
            self._say(f"{died}; starting it again in {pause:g} s")
            await asyncio.sleep(pause)
            try:
                await stack.restart(name)
            except ChildDied:
                continue  # any_death tells of it, and the count goes on
            self._say(f"{name} is up again")

    async def _stop(self, stack: Stack) -> None:
        """Ctrl-C again, while it stops, kills what is left."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stack.kill_now)
        started = time.monotonic()
        await stack.stop_all()
        self._say(f"everything stopped in {time.monotonic() - started:.1f} s")

    def _say(self, text: str) -> None:
        self.console.print(Text(text if text.startswith("\n") else f"  {text}", style="dim"))


def addresses(stack: Stack) -> list[tuple[str, str, str]]:
    """(name, address, what one finds there) of every page a person can open."""
    urls = stack.urls
    rows = []
    if "temporal_ui" in urls:
        rows.append(("Temporal", urls["temporal_ui"], "every run, its stages and retries"))
    if "opik" in urls:
        local = "opik" in stack.services
        rows.append(("Opik", urls["opik"], "traces" + (", in a local receiver" if local else "")))
    if "gemini" in stack.services:
        rows.append(("Model", urls["gemini"], STAND_IN_NOTICE))
    return rows

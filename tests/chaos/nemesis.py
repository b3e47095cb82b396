"""The nemesis kills, freezes and restarts the parts of a stack, and makes the stand-ins fail."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import NoReturn, cast

import httpx
import psutil

from devstack.controls import GeminiControl, OpikControl
from devstack.errors import StackError
from devstack.stack import Service, Stack
from tests.chaos.story import MODEL_FAULTS, OPIK_FAULTS, SERVICES, Step

# A part that does not come up although it is tried again and again is a mistake.
START_S = 120


class Nemesis:
    """One fault at a time for each service; several services may be at fault at once."""

    def __init__(self, stack: Stack, gemini: GeminiControl, opik: OpikControl) -> None:
        self.done: Counter[str] = Counter()
        self.deaths: Counter[str] = Counter()
        self._stack = stack
        self._gemini = gemini
        self._opik = opik
        self._turns = {service: asyncio.Lock() for service in SERVICES}

    async def strike(self, step: Step) -> None:
        """Do what the step says; a killed service is up again when this returns."""
        if step.what == "fault":
            await self._make_fail(*step.on.split())
            return
        service = cast(Service, step.on)
        async with self._turns[service]:
            if step.what == "freeze":
                await self._freeze(service, step.lasts_s)
            elif step.what == "kill":
                await self._kill(service)
                await asyncio.sleep(step.lasts_s)
            else:
                await self._stack.stop(service)
            await self._start(service)
        self.done[f"{step.what} {service}"] += 1

    async def supervise(self) -> NoReturn:
        """Start again what ends by itself, as a process supervisor does."""
        while True:
            service = await self._stack.any_death()
            starting = self._turns[service].locked()
            self.deaths[f"{service}, while it started" if starting else service] += 1
            async with self._turns[service]:
                await self._start(service)

    async def heal(self) -> None:
        """Let the stand-ins behave; call it when every strike is over."""
        await self._gemini.reset()
        await self._opik.reset()

    async def _start(self, service: Service) -> None:
        async with asyncio.timeout(START_S):
            while not self._is_alive(service):
                try:
                    await self._stack.start(service)
                except StackError:  # what it needs is away, too
                    await self._stack.stop(service)

    def _is_alive(self, service: Service) -> bool:
        child = self._stack.children.get(service)
        return child is not None and child.alive

    async def _kill(self, service: Service) -> None:
        # The backends of PostgreSQL outlive it for a while, and keep its successor from starting.
        below = psutil.Process(self._stack.pid(service)).children(recursive=True)
        await self._stack.kill(service)
        for process in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        await asyncio.to_thread(psutil.wait_procs, below, timeout=10)

    async def _freeze(self, service: Service, seconds: float) -> None:
        with _suspended(self._stack.pid(service)):
            await asyncio.sleep(seconds)

    async def _make_fail(self, stand_in: str, fault: str) -> None:
        control, body = (
            (self._gemini, {"fault": fault, **MODEL_FAULTS[fault]})
            if stand_in == "gemini"
            else (self._opik, {"kind": fault, **OPIK_FAULTS[fault]})
        )
        try:
            (await control.http.post("/control/faults", json=body)).raise_for_status()
        except httpx.TransportError:
            self.done[f"{stand_in} {fault} (stand-in was away)"] += 1
        else:
            self.done[f"{stand_in} {fault}"] += 1


@contextlib.contextmanager
def _suspended(pid: int) -> Iterator[None]:
    """SIGSTOP for a process and those below it while the block lasts, then SIGCONT."""
    top = psutil.Process(pid)
    top.suspend()  # first, so that it starts no others meanwhile
    processes = [top, *top.children(recursive=True)]
    try:
        for process in processes[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

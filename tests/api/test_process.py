"""`python -m api`: what it listens on, and how it ends."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from devstack.ports import Ports
from tests.factories import Runs, api_key

ROOT = Path(__file__).parents[2]


@dataclass
class Api:
    """A running process. `lines` are what it has logged so far."""

    process: asyncio.subprocess.Process
    public: str
    operations: str
    lines: list[str]

    async def ended(self) -> int:
        """Its exit code, once it has ended by itself."""
        assert self.process.stderr is not None
        self.lines += (await self.process.stderr.read()).decode().splitlines()
        return await self.process.wait()


async def started(folder: Path, **env: str) -> asyncio.subprocess.Process:
    """The process, in a folder without a `.env`; Temporal is away."""
    fixed = {"TEMPORAL_ADDRESS": "127.0.0.1:1", "PYTHONPATH": str(ROOT)}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "api"),
        cwd=folder,
        env=os.environ | fixed | env,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def running(url: str, tmp_path: Path, **env: str) -> AsyncIterator[Api]:
    """The process on free ports, as soon as it serves both."""
    free = Ports.free()
    ports = {
        "REIN_API_PORT": str(free.api),
        "REIN_API_OPERATIONS_PORT": str(free.api_operations),
    }
    process = await started(tmp_path, DATABASE_URL=url, **ports, **env)
    assert process.stderr is not None
    lines: list[str] = []
    try:
        while sum("running on" in line for line in lines) < 2:
            lines.append((await process.stderr.readline()).decode())
            assert lines[-1], "".join(lines)
        public, operations = free.api, free.api_operations
        yield Api(process, f"http://127.0.0.1:{public}", f"http://127.0.0.1:{operations}", lines)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_open_streams_and_the_process(
    module_postgres_url: str, stored: Runs, tmp_path: Path, number: signal.Signals
) -> None:
    trace_id = await stored.accepted()
    key = {"Authorization": f"Bearer {await api_key(stored.pools)}"}
    async with (
        running(module_postgres_url, tmp_path) as api,
        httpx.AsyncClient(trust_env=False, timeout=30) as client,
        client.stream("GET", f"{api.public}/api/runs/{trace_id}/events", headers=key) as stream,
    ):
        lines = stream.aiter_lines()
        assert "id: 1" in [await anext(lines) for _ in range(3)]
        api.process.send_signal(number)
        assert not [line async for line in lines if line.startswith("id: ")]
        async with asyncio.timeout(20):
            assert await api.ended() == 0
    assert not any("Traceback" in line for line in api.lines)


async def test_operators_have_a_port_of_their_own(module_postgres_url: str, tmp_path: Path) -> None:
    async with (
        running(module_postgres_url, tmp_path, REIN_PUBLIC_URL="https://rein.example") as api,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        assert (await client.get(f"{api.operations}/livez")).status_code == 200
        assert (await client.get(f"{api.operations}/metrics")).status_code == 200
        assert "Temporal" in (await client.get(f"{api.operations}/readyz")).json()["detail"]
        assert (await client.get(f"{api.operations}/api/goals")).status_code == 404
        assert (await client.get(f"{api.public}/livez")).status_code == 421
        public = {"Host": "rein.example"}
        assert (await client.get(f"{api.public}/metrics", headers=public)).status_code == 404


async def test_what_people_search_for_is_not_logged(
    module_postgres_url: str, tmp_path: Path
) -> None:
    async with (
        running(module_postgres_url, tmp_path, REIN_AUTH="off") as api,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
        for headers in ({}, upgrade):
            path = "/api/goals?q=words-of-a-person"
            assert (await client.get(api.public + path, headers=headers)).status_code == 200
        api.process.terminate()
        await api.ended()
    assert "words-of-a-person" not in "".join(api.lines)


async def test_a_taken_port_ends_it_with_a_reason(module_postgres_url: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ports = {"REIN_API_PORT": port, "REIN_API_OPERATIONS_PORT": "0"}
        process = await started(tmp_path, DATABASE_URL=module_postgres_url, **ports)
        _, said = await process.communicate()
    assert process.returncode == 3
    assert b"address already in use" in said


async def test_a_wrong_setting_ends_it_with_a_sentence(tmp_path: Path) -> None:
    process = await started(tmp_path, REIN_PUBLIC_URL="rein.example")
    _, said = await process.communicate()
    assert said.startswith(b"settings: REIN_PUBLIC_URL: ")

"""The shipper as a process: it is started, stopped, killed, and asked for its status."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
import yaml

from db.pool import Pool
from devstack.controls import OpikControl
from tests.tracing.shipping import QUICK, arrived, become, counts, make_trace
from tracing import project_id
from tracing.ship.client import OpikClient
from tracing.ship.housekeeping import read_back, register_project
from tracing.ship.shipper import Shipper

pytestmark = pytest.mark.stack

NOW = datetime.now(UTC)
ROOT = Path(__file__).parents[2]


async def _process(
    runner_url: str, opik_url: str, *words: str, more: Mapping[str, str] | None = None
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tracing.ship",
        *words,
        env={
            "DATABASE_URL": runner_url,
            "OPIK_URL_OVERRIDE": opik_url,
            "PATH": "",
            **(more or {}),
        },
        stdout=asyncio.subprocess.PIPE,
    )


async def test_killed_in_mid_batch_nothing_is_lost(
    pool: Pool, postgres_url: str, opik_receiver: OpikControl, opik_client: OpikClient
) -> None:
    await opik_receiver.fault(kind="hang", path="spans/batch")
    trace_id = await make_trace(pool, 30)
    process = await _process(postgres_url, opik_receiver.api_url)
    await opik_receiver.wait(trace_id=str(trace_id), ended=1)
    await become(pool, "bool_and(next_try_at > now()) FILTER (WHERE kind = 'span')")
    process.kill()
    await process.wait()
    await opik_receiver.reset()
    async with pool.acquire() as conn:
        # The lease runs out; the test does not wait for it.
        await conn.execute("UPDATE trace_outbox SET next_try_at = now() WHERE state = 'pending'")
    await Shipper(pool, opik_client, QUICK).drain()
    await arrived(opik_receiver, trace_id, 30)


async def test_stops_on_sigterm_though_opik_hangs_and_gives_rows_back(
    pool: Pool, postgres_url: str, opik_receiver: OpikControl
) -> None:
    await opik_receiver.fault(kind="hang", path="spans/batch")
    trace_id = await make_trace(pool, 3)
    process = await _process(postgres_url, opik_receiver.api_url)
    await opik_receiver.wait(trace_id=str(trace_id), ended=1)
    process.terminate()
    async with asyncio.timeout(10):
        assert await process.wait() == 0
    async with pool.acquire() as conn:
        due = await conn.fetchval(
            "SELECT count(*) FROM trace_outbox WHERE state = 'pending' AND next_try_at <= now()"
        )
    assert due >= 3


async def test_the_command_line_says_what_waits_and_sends_again(
    pool: Pool, postgres_url: str
) -> None:
    trace_id = await make_trace(pool, 2)
    async with pool.acquire() as conn:
        await conn.execute("UPDATE trace_outbox SET state = 'dead', error = '400 no'")
    process = await _process(postgres_url, "http://127.0.0.1:9", "--status")
    said = (await process.communicate())[0].decode()
    assert process.returncode == 1
    assert "set aside    4" in said
    assert f"trace {trace_id}: 400 no" in said
    process = await _process(postgres_url, "http://127.0.0.1:9", "--resend", str(trace_id))
    assert b"4 rows will be sent again" in (await process.communicate())[0]
    assert await counts(pool) == {"pending": 4}


async def test_the_project_is_registered_once_opik_is_there(
    pool: Pool, opik_receiver: OpikControl, opik_client: OpikClient
) -> None:
    await opik_receiver.fault(kind="500", path="projects", count=1)
    await register_project(pool, opik_client, "a new project")
    async with pool.acquire() as conn:
        assert await project_id(conn, "a new project") is not None
        assert await project_id(conn, "another") is None


async def test_scores_that_the_server_lost_are_noticed_too(
    pool: Pool, opik_receiver: OpikControl, opik_client: OpikClient
) -> None:
    since = datetime.now(UTC) - timedelta(minutes=1)
    until = datetime.now(UTC) + timedelta(minutes=1)
    await opik_receiver.fault(kind="lose", path="feedback")
    trace_id = await make_trace(pool, 2)
    await Shipper(pool, opik_client, QUICK).drain()
    await opik_receiver.reset()
    async with pool.acquire() as conn:
        assert await read_back(conn, opik_client, since, until, sample=20) == 4
    await Shipper(pool, opik_client, QUICK).drain()
    await arrived(opik_receiver, trace_id, 2)
    async with pool.acquire() as conn:
        assert await read_back(conn, opik_client, since, until, sample=20) == 0


async def test_lives_through_a_lost_postgresql(
    pool: Pool, postgres_url: str, opik_receiver: OpikControl
) -> None:
    process = await _process(postgres_url, opik_receiver.api_url)
    superuser = await asyncpg.connect(postgres_url)
    try:
        first = await make_trace(pool, 3)
        await arrived(opik_receiver, first, 3)
        ended = await superuser.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name LIKE 'rein %' AND datname = current_database()"
            " AND pid <> pg_backend_pid()"
        )
        assert ended >= 2  # the shipper's pool, and its connection that listens
        second = await make_trace(pool, 3)
        await arrived(opik_receiver, second, 3)
        async with asyncio.timeout(20):
            while not await superuser.fetchval(  # noqa: ASYNC110 - another process's connection
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'rein listening to trace_outbox'"
            ):
                await asyncio.sleep(0.05)
    finally:
        await superuser.close()
        process.terminate()
        assert await process.wait() == 0


async def test_its_health_check_is_red_when_it_hangs_and_not_for_a_row_that_was_set_aside(
    pool: Pool, postgres_url: str, opik_receiver: OpikControl, tmp_path: Path
) -> None:
    await make_trace(pool, 1)
    async with pool.acquire() as conn:
        await conn.execute("UPDATE trace_outbox SET state = 'dead', error = 'refused'")
    file = tmp_path / "alive"
    process = await _process(
        postgres_url, opik_receiver.api_url, more={"REIN_SHIPPER_ALIVE": str(file)}
    )
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    service = compose["services"]["shipper"]
    command = service["healthcheck"]["test"][1].replace("$$", "$")
    command = command.replace(service["environment"]["REIN_SHIPPER_ALIVE"], str(file))

    async def becomes(code: int) -> None:
        async with asyncio.timeout(20):
            while (await _shell(command)) != code:  # noqa: ASYNC110 - it is asked, as Docker does
                await asyncio.sleep(0.1)

    await becomes(0)
    process.send_signal(signal.SIGSTOP)
    two_minutes_ago = time.time() - 120  # the time that passes while it hangs
    os.utime(file, (two_minutes_ago, two_minutes_ago))
    await becomes(1)
    process.send_signal(signal.SIGCONT)
    await becomes(0)
    process.terminate()
    assert await process.wait() == 0


async def _shell(command: str) -> int:
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", command, stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait()

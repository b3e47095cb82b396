"""Fixtures that start real things: PostgreSQL, Temporal, the stand-ins, the whole stack.

Each server starts once a session, on free ports, when the first test asks for it; all of them stop
at the end, whatever happened, and die with this process if it is killed.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import asyncpg
import pytest

import logs
from devstack.controls import GeminiControl, OpikControl
from devstack.stack import Stack
from devstack.temporal import TemporalOptions

# As in every process of Rein: without it a logged error would print the values of all variables.
logs.configure("text")

_numbers = count(1)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remembers how the session ended."""
    session.config.stash[_STATUS] = exitstatus


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends at once: with a temporalio client alive, a usual interpreter exit sometimes aborts."""
    if "temporalio" in sys.modules and _STATUS in config.stash:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(config.stash[_STATUS]))


_STATUS = pytest.StashKey[int]()


@dataclass(frozen=True)
class PostgresServer:
    """The embedded server: the superuser's URL, and the product's login.

    The database in `login_url` is migrated and empty; nobody connects to it, because the others
    are copies of it.
    """

    admin_url: str
    login_url: str

    def url(self, database: str) -> str:
        """The URL of one of its databases, for the product's login."""
        return _of_database(self.login_url, database)

    def superuser(self, url: str) -> str:
        """The URL of the same database for the superuser."""
        return _of_database(self.admin_url, url.rsplit("/", 1)[1])

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[str]:
        """A migrated, empty database while the block lasts; yields its URL."""
        name = f"rein_{next(_numbers)}"
        admin = await asyncpg.connect(self.admin_url)
        try:
            template = self.login_url.rsplit("/", 1)[1]
            await admin.execute(f"CREATE DATABASE {name} OWNER rein TEMPLATE {template}")
            yield self.url(name)
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        finally:
            await admin.close()


def _of_database(url: str, database: str) -> str:
    return url.rsplit("/", 1)[0] + "/" + database


@dataclass(frozen=True)
class TemporalServer:
    """The development server with the stack's flags, in memory."""

    address: str
    ui_url: str
    http_url: str
    namespace: str = "default"


@pytest.fixture(scope="session")
def state_folder() -> Iterator[Path]:
    """A folder that the unprivileged user of PostgreSQL may pass; pytest's own may not be."""
    folder = Path(tempfile.mkdtemp(prefix="rein-test-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
async def postgres_server(state_folder: Path) -> AsyncIterator[PostgresServer]:
    """The embedded PostgreSQL, once a session."""
    async with Stack(state_folder / "postgres", services={"postgres"}, durable=False) as stack:
        yield PostgresServer(stack.urls["postgres_admin"], stack.urls["postgres"])


@pytest.fixture
async def postgres_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """A migrated, empty database of the test's own."""
    async with postgres_server.fresh() as url:
        yield url


@pytest.fixture(scope="module")
async def module_postgres_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """A migrated database that the tests of one module share."""
    async with postgres_server.fresh() as url:
        yield url


@pytest.fixture(scope="session")
async def temporal(state_folder: Path) -> AsyncIterator[TemporalServer]:
    """The Temporal development server, once a session."""
    options = TemporalOptions(file=False, ui=False)
    folder = state_folder / "temporal"
    async with Stack(folder, services={"temporal"}, temporal=options) as stack:
        urls = stack.urls
        yield TemporalServer(urls["temporal"], urls["temporal_ui"], urls["temporal_http"])


@pytest.fixture(scope="session")
async def _gemini_process(state_folder: Path) -> AsyncIterator[GeminiControl]:
    async with (
        Stack(state_folder / "gemini", services={"gemini"}) as stack,
        GeminiControl(stack.urls["gemini"]) as control,
    ):
        yield control


@pytest.fixture
async def gemini_standin(_gemini_process: GeminiControl) -> AsyncIterator[GeminiControl]:
    """The model stand-in: one process a session, back to fair weather after each test."""
    yield _gemini_process
    await _gemini_process.reset()


@pytest.fixture(scope="session")
async def _opik_process(state_folder: Path) -> AsyncIterator[OpikControl]:
    async with (
        Stack(state_folder / "opik", services={"opik"}) as stack,
        OpikControl(stack.urls["opik"]) as control,
    ):
        yield control


@pytest.fixture
async def opik_receiver(_opik_process: OpikControl) -> AsyncIterator[OpikControl]:
    """The Opik receiver: one process a session, no faults left after each test."""
    yield _opik_process
    await _opik_process.reset()


@pytest.fixture(scope="session")
async def stack(state_folder: Path) -> AsyncIterator[Stack]:
    """Everything, once a session: PostgreSQL, Temporal, stand-ins, worker, shipper, API."""
    async with Stack(state_folder / "stack", durable=False) as running:
        yield running


@pytest.fixture
async def stack_gemini(stack: Stack) -> AsyncIterator[GeminiControl]:
    """The controls of the stack's model stand-in; fair weather again after each test."""
    async with GeminiControl(stack.urls["gemini"]) as control:
        yield control
        await control.reset()


@pytest.fixture
async def stack_opik(stack: Stack) -> AsyncIterator[OpikControl]:
    """The controls of the stack's Opik receiver; no faults left after each test."""
    async with OpikControl(stack.urls["opik"]) as control:
        yield control
        await control.reset()

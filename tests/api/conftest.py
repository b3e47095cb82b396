"""The API as its callers meet it: over HTTP, on real PostgreSQL; and runs in every state."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from api.app import Api, create_app
from api.health import create_operations
from api.server import Server, config
from db.pool import Pool, Pools
from settings import Settings
from tests.factories import PROMPTS, Runs, api_key, register_prompts


def settings(database_url: str, **changed: Any) -> Settings:
    """Nothing listens on the default Temporal address: accepted runs stay accepted."""
    values: dict[str, Any] = {"temporal_address": "127.0.0.1:1", "public_url": "http://rein.test"}
    return Settings(_env_file=None, database_url=database_url, **(values | changed))


@asynccontextmanager
async def serving(app: Api) -> AsyncIterator[httpx.AsyncClient]:
    """The app behind a real server on a free port; the client uses the public host."""
    server = Server(config(app, "127.0.0.1", 0), app.end_streams)
    running = asyncio.create_task(server.serve())
    await server.ready.wait()
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}",
        headers={"Host": "rein.test"},
        timeout=30,
        trust_env=False,
    ) as client:
        yield client
    server.should_exit = True
    await running


@pytest.fixture(scope="module")
async def pools(module_postgres_url: str) -> AsyncIterator[Pools]:
    """A database with prompts, shared by the tests of a module."""
    async with Pools.connected(module_postgres_url, size=4, name="test") as pools:
        await register_prompts(pools)
        yield pools


@pytest.fixture(scope="module")
def pool(pools: Pools) -> Pool:
    """Meets the rows of all tenants."""
    return pools.operations


def operations(app: Api) -> httpx.AsyncClient:
    """A client of what the API serves to operators, without a server in between."""
    behind = create_operations(app.state, {"goal_generation": tuple(PROMPTS)})
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(behind), base_url="http://operations", trust_env=False
    )


@pytest.fixture(scope="module")
def api(module_postgres_url: str) -> Api:
    """The API; Temporal is away."""
    return create_app(settings(module_postgres_url))


@pytest.fixture(scope="module")
async def http(api: Api, pools: Pools) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the running API with a key of the tenant `local` that may do everything."""
    async with serving(api) as client:
        client.headers["Authorization"] = f"Bearer {await api_key(pools)}"
        yield client


@pytest.fixture(scope="module")
def stored(pools: Pools) -> Runs:
    return Runs(pools)

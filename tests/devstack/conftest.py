"""The stand-ins, each served on a free port, and clients pointed at them."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from google import genai
from google.genai import types

from devstack import standin
from devstack.controls import GeminiControl
from devstack.gemini.app import stand_in
from devstack.gemini.state import State
from devstack.opik.serving import running
from tests.devstack.gemini_house import GeminiHouse


@pytest.fixture(scope="session")
async def _gemini_house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GeminiHouse]:
    ledger = tmp_path_factory.mktemp("gemini") / "ledger.jsonl"
    app = stand_in(State(ledger, seed=1))
    async with (
        standin.running("gemini", app) as url,
        httpx.AsyncClient() as http,
        GeminiControl(url) as control,
    ):
        options = types.HttpOptions(
            base_url=url,
            timeout=5000,
            retry_options=types.HttpRetryOptions(attempts=1),
            httpx_async_client=http,
        )
        client = genai.Client(api_key="key-of-the-tests-1234", http_options=options)
        yield GeminiHouse(url, ledger, control, client)
        client.close()


@pytest.fixture
async def gemini_house(_gemini_house: GeminiHouse) -> AsyncIterator[GeminiHouse]:
    yield _gemini_house
    await _gemini_house.control.reset()


@pytest.fixture
async def opik(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an Opik receiver of the test's own, empty at first."""
    async with (
        running(tmp_path / "opik.db") as url,
        httpx.AsyncClient(base_url=url, timeout=20) as client,
    ):
        yield client

"""The real opik client, unmodified, against the receiver; and which routes anybody reaches."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from devstack.opik.app import api_routes, receiver
from devstack.opik.serving import running
from devstack.opik.store import Store
from tests.devstack.test_opik_replay import replay, sessions

SCRIPT = Path(__file__).parent / "opik_sdk_session.py"
V1 = "/v1/private"
# Routes that neither the recorded client nor the session below reaches, and who does.
ELSEWHERE = {
    f"POST {V1}/traces/{{id}}/feedback-scores/delete": "the shipper takes a score back",
    f"GET {V1}/spans": "the analyst of tests/e2e, and benchmarks/tracing",
}
# The recorder of that time did not have it either.
UNKNOWN = {f"GET {V1}/feedback-definitions"}
PAGES = {
    "/",
    "/traces",
    "/traces/{id}",
    "/datasets",
    "/datasets/{id}",
    "/experiments/{id}",
    "/config",
    "/{workspace}/projects/{project}/logs",
    "/{path:path}",
}
CONTROLS = {
    "/control/faults",
    "/control/requests",
    "/control/store",
    "/control/rule-triggers",
    "/control/wait",
}


async def use_sdk(url: str, report: Path) -> dict[str, Any]:
    options = {
        "OPIK_URL_OVERRIDE": f"{url}/api",
        "OPIK_SENTRY_ENABLE": "false",
        "OPIK_ANALYTICS_ENABLE": "false",
        "HOME": str(report.parent),
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OPIK")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(SCRIPT),
        str(report),
        env=inherited | options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[-4000:]
    found: dict[str, Any] = json.loads(await asyncio.to_thread(report.read_text))
    return found


@pytest.fixture(scope="module")
async def session(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the client's session printed, with the receiver's counters as `requests`."""
    folder = tmp_path_factory.mktemp("sdk")
    async with (
        running(folder / "opik.db") as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        report = await use_sdk(url, folder / "report.json")
        return {**report, "requests": (await client.get("/control/requests")).json()}


@pytest.mark.timeout(180)
def test_the_real_client_runs_unmodified(session: dict[str, Any]) -> None:
    traced = session["tracing"]
    identity = traced["id"]
    usage = {"prompt_tokens": 512, "completion_tokens": 456, "total_tokens": 968}
    assert traced == {
        "id": identity,
        "duration": 3200,
        "cost": 0.0001752,
        "usage": usage | {f"original_usage.{name}": count for name, count in usage.items()},
        "scores": {"evaluation_logged.overall": 8.2, "user_feedback.rating": 4.5},
        "spans": ["generation_stage", "llm_call_generation"],
        "by_tag": [identity],
        "by_key": [identity],
        "none": [],
    }
    assert session["prompts"] == {
        "same": True,
        "pinned": "Plan {{goal}}",
        "latest": "A better plan for sleep",
        "history": 2,
        "missing": None,
    }
    assert session["experiments"] == {
        "items": ["read", "run 5k"],
        "name": "generate-v2",
        "scores": [0, 1],
        "average": {"has_plan": 0.5},
        "traces": 2,
        "status": "completed",
        "prompts": ["generate"],
        "found": [True],
    }
    assert session["projects"] == {"name": "rein", "missing": 404}


@pytest.mark.timeout(180)
async def test_a_route_is_there_when_and_only_when_somebody_reaches_it(
    opik: httpx.AsyncClient, session: dict[str, Any]
) -> None:
    for rows in sessions():
        await replay(opik, rows)
    recorded = (await opik.get("/control/requests")).json()
    clients = {*recorded["routes"], *session["requests"]["routes"]} - UNKNOWN
    assert not clients & ELSEWHERE.keys(), "a client reaches these itself: shorten the list"
    registered = {f"{method} {path}" for method, path in api_routes()}
    assert registered - ELSEWHERE.keys() == clients


def test_pages_and_controls_are_those_that_are_listed(tmp_path: Path) -> None:
    store = Store(tmp_path / "opik.db")
    paths = {route.path for route in receiver(store).routes if isinstance(route, Route)}
    store.close()
    assert {path for path in paths if not path.startswith("/api/")} == PAGES | CONTROLS

"""What operators are told: alive, ready, metrics."""

import asyncio
from typing import get_args

import httpx
import pytest

from api import health
from api.app import Api, create_app
from api.deps import Services
from api.health import Kinds
from domain.runs import RunStatus
from tests.factories import Runs

from .conftest import operations, serving, settings


async def test_metrics_count_answers_by_route_and_runs_by_status(
    api: Api, http: httpx.AsyncClient, stored: Runs
) -> None:
    trace_id = await stored.finished("cancelled", drafts=())
    await http.get(f"/api/goals/{trace_id}")
    async with operations(api) as client:
        text = (await client.get("/metrics")).text
    assert 'route="/api/goals/{trace_id}",status="200"' in text
    assert str(trace_id) not in text
    assert 'rein_runs{status="cancelled"} 1.0' in text
    # A series that vanished at zero would leave an alert without anything to compare.
    for status in get_args(RunStatus.__value__):
        assert f'rein_runs{{status="{status}"}}' in text
    assert 'rein_feedback_total{rating="4.5"} 0.0' in text
    for gauge in ("rein_starts_waiting", "rein_runs_accepted_oldest_seconds"):
        assert f"\n{gauge} " in text
    assert "rein_outbox_pending" in text
    assert "rein_postgresql_up 1.0" in text


@pytest.mark.usefixtures("http")
async def test_ready_names_what_is_away(api: Api) -> None:
    async with operations(api) as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "Temporal" in answer.json()["detail"]
    assert "PostgreSQL" not in answer.json()["detail"]


@pytest.mark.usefixtures("http")
async def test_ready_names_what_hangs(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(_: Services, __: Kinds) -> dict[str, str]:
        await asyncio.Event().wait()
        return {}

    monkeypatch.setattr(health, "CHECK_TIMEOUT_S", -1)
    monkeypatch.setattr(health, "_ask_postgresql", hang)
    async with operations(api) as client:
        answer = await client.get("/readyz")
    assert "PostgreSQL did not answer in time" in answer.json()["detail"]


async def test_ready_wants_prompts(postgres_url: str) -> None:
    app = create_app(settings(postgres_url, auth="off"))
    async with serving(app) as client, operations(app) as operator:
        ready = await operator.get("/readyz")
        goal = await client.post("/api/goals", json={"goal": "Run 5K", "user_id": "u"})
    assert "no prompt is registered for preprocess" in ready.json()["detail"]
    assert goal.status_code == 503
    assert "worker" in goal.json()["cure"]


@pytest.mark.usefixtures("http")
async def test_a_kind_without_prompts_does_not_stop_the_others(api: Api) -> None:
    services: Services = api.state.services
    kinds = {"goal_generation": ["preprocess", "plan"], "coaching_session": ["plan", "coach"]}
    found = await health._ask_postgresql(services, kinds)
    assert found == {
        "goal_generation": "preprocess v1, plan v1",
        "coaching_session": "no prompt is registered for coach",
    }


async def test_without_postgresql_metrics_say_so() -> None:
    app = create_app(settings("postgresql://nobody@127.0.0.1:1/none"))
    async with serving(app), operations(app) as client:
        ready, measured = await client.get("/readyz"), await client.get("/metrics")
    assert (ready.status_code, ready.json()["code"]) == (503, "UNAVAILABLE")
    assert "rein_postgresql_up 0.0" in measured.text


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
@pytest.mark.usefixtures("http")
async def test_health_is_asked_by_head_too(api: Api, path: str) -> None:
    async with operations(api) as client:
        head, get = await client.head(path), await client.get(path)
    assert head.status_code == get.status_code
    assert get.status_code in (200, 503)


async def test_callers_are_told_that_it_lives_and_no_more(http: httpx.AsyncClient) -> None:
    assert (await http.get("/livez")).json() == {"status": "ok"}
    assert (await http.head("/livez")).status_code == 200
    assert (await http.get("/readyz")).status_code == 404
    assert (await http.get("/metrics")).status_code == 404

"""Metrics and the lasting trace link."""

import asyncio
from uuid import uuid4

import httpx
import pytest

from api import monitoring
from api.app import create_app
from api.deps import Services
from db.pool import acquire

from .conftest import Runs, serving, settings


async def test_metrics_count_answers_by_route_and_runs_by_status(
    http: httpx.AsyncClient, stored: Runs
) -> None:
    trace_id = await stored.finished("cancelled", drafts=())
    await http.get(f"/api/goals/{trace_id}")
    text = (await http.get("/metrics")).text
    assert 'route="/api/goals/{trace_id}",status="200"' in text
    assert str(trace_id) not in text
    assert 'rein_runs{status="cancelled"}' in text
    assert "rein_outbox_pending" in text
    assert "rein_postgresql_up 1.0" in text


async def test_ready_names_what_is_away(http: httpx.AsyncClient) -> None:
    answer = await http.get("/readyz")
    assert answer.status_code == 503
    assert "Temporal" in answer.json()["detail"]
    assert "PostgreSQL" not in answer.json()["detail"]


async def test_ready_names_what_hangs(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_: Services) -> str:
        await asyncio.Event().wait()
        return ""

    monkeypatch.setattr(monitoring, "CHECK_TIMEOUT_S", -1)
    monkeypatch.setattr(monitoring, "_ask_postgresql", hang)
    assert "PostgreSQL did not answer in time" in (await http.get("/readyz")).json()["detail"]


async def test_ready_wants_prompts(postgres_url: str) -> None:
    async with serving(create_app(settings(postgres_url))) as client:
        ready = await client.get("/readyz")
        goal = await client.post("/api/goals", json={"goal": "Run 5K", "user_id": "u"})
    assert "no prompt is registered for preprocess" in ready.json()["detail"]
    assert goal.status_code == 503
    assert "worker" in goal.json()["cure"]


async def test_the_trace_link_leads_to_opik_once_its_page_is_known(
    http: httpx.AsyncClient, stored: Runs
) -> None:
    trace_id, project = await stored.finished(), uuid4()
    early = await http.get(f"/api/traces/{trace_id}")
    assert (early.status_code, early.headers["retry-after"]) == (503, "2")
    async with acquire(stored.pool) as conn:
        await conn.execute(
            "INSERT INTO trace_projects (name, project_id) VALUES ('rein-ai-coaching', $1)", project
        )
    page = (await http.get(f"/api/traces/{trace_id}")).headers["location"]
    assert page.endswith(f"/projects/{project}/logs?logsType=traces&trace={trace_id}")
    assert (await http.get(f"/api/goals/{trace_id}")).json()["links"]["trace"] == page
    assert (await http.get(f"/api/traces/{uuid4()}")).status_code == 404

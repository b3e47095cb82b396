"""The lasting trace link."""

from uuid import uuid4

import httpx

from db.pool import acquire
from tests.factories import Runs


async def test_the_trace_link_leads_to_opik_once_its_page_is_known(
    http: httpx.AsyncClient, stored: Runs
) -> None:
    trace_id, project = await stored.finished(), uuid4()
    early = await http.get(f"/api/runs/{trace_id}/trace")
    assert (early.status_code, early.headers["retry-after"]) == (503, "2")
    async with acquire(stored.pools.operations) as conn:
        await conn.execute(
            "INSERT INTO trace_projects (name, project_id) VALUES ('rein-ai-coaching', $1)", project
        )
    page = (await http.get(f"/api/runs/{trace_id}/trace")).headers["location"]
    assert page.endswith(f"/projects/{project}/logs?logsType=traces&trace={trace_id}")
    assert (await http.get(f"/api/goals/{trace_id}")).json()["links"]["trace"] == page
    assert (await http.get(f"/api/runs/{uuid4()}/trace")).status_code == 404

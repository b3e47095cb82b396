"""Repeating a run from a stage on."""

from datetime import date
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from db.pool import Pool, acquire
from db.prompts import insert_prompt_version
from domain.goals import GoalContext
from tests.factories import Runs


async def _rerun(http: httpx.AsyncClient, trace_id: UUID, **body: Any) -> httpx.Response:
    return await http.post(f"/api/runs/{trace_id}/rerun", json={"from_stage": "plan"} | body)


async def test_is_a_run_of_its_own(http: httpx.AsyncClient, stored: Runs) -> None:
    source = await stored.finished("partial")
    answer = await _rerun(http, source)
    assert answer.status_code == 202, answer.text
    run = answer.json()
    assert run["trace_id"] != str(source)
    assert run["rerun"] == {"source_trace_id": str(source), "from_stage": "plan"}
    assert run["links"]["result"].endswith(f"/api/goals/{run['trace_id']}")
    old = (await http.get(f"/api/goals/{source}")).json()
    assert old["status"] == "partial"
    assert run["manifest"] == old["manifest"]


async def test_with_another_model_and_prompt(
    http: httpx.AsyncClient, stored: Runs, pool: Pool
) -> None:
    source = await stored.finished()
    async with acquire(pool) as conn:
        await insert_prompt_version(conn, "plan", 7, "7" * 64, "text")
    run = (await _rerun(http, source, model="gemini-2.5-pro", prompts={"plan": 7})).json()
    assert run["manifest"]["model"] == "gemini-2.5-pro"
    assert run["manifest"]["prompts"]["plan"]["version"] == 7
    assert run["manifest"]["prompts"]["generate"]["version"] == 1


async def test_one_key_is_one_rerun(http: httpx.AsyncClient, stored: Runs) -> None:
    source, other = await stored.finished(), await stored.finished()
    headers = {"Idempotency-Key": uuid4().hex}
    answers = [
        await http.post(f"/api/runs/{each}/rerun", json={"from_stage": stage}, headers=headers)
        for each, stage in [
            (source, "plan"),
            (source, "plan"),
            (source, "generate"),
            (other, "plan"),
        ]
    ]
    assert [answer.status_code for answer in answers] == [202, 202, 422, 422]
    assert answers[0].json()["trace_id"] == answers[1].json()["trace_id"]


async def test_only_an_ended_run(http: httpx.AsyncClient, stored: Runs) -> None:
    answer = await _rerun(http, await stored.accepted(), from_stage="preprocess")
    assert (answer.status_code, answer.json()["code"]) == (409, "NOT_READY")


@pytest.mark.parametrize(
    ("stage", "status"), [("preprocess", 202), ("generate", 409), ("evaluate", 409), ("plan", 409)]
)
async def test_a_refused_goal_can_only_be_clarified_again(
    http: httpx.AsyncClient, stored: Runs, stage: str, status: int
) -> None:
    source = await stored.finished("refused", drafts=(), verdict="not_a_goal")
    answer = await _rerun(http, source, from_stage=stage)
    assert answer.status_code == status
    if status == 409:
        assert "preprocess" in answer.json()["cure"]


async def test_without_a_resolution_it_starts_before_it(
    http: httpx.AsyncClient, stored: Runs
) -> None:
    source = await stored.finished("failed", drafts=())
    assert (await _rerun(http, source, from_stage="generate")).status_code == 202
    answer = await _rerun(http, source, from_stage="plan")
    assert (answer.status_code, answer.json()["cure"]) == (409, "rerun from 'generate'")


LONG_AGO = date(2026, 1, 31)


@pytest.mark.parametrize(
    ("stated", "read", "stage", "cure"),
    [
        (LONG_AGO, None, "preprocess", "send the goal again with a later deadline"),
        (LONG_AGO, None, "generate", "send the goal again with a later deadline"),
        (LONG_AGO, None, "plan", "send the goal again with a later deadline"),
        (LONG_AGO, None, "evaluate", None),
        (None, LONG_AGO, "plan", "rerun from 'preprocess'"),
        (None, LONG_AGO, "generate", "rerun from 'preprocess'"),
        (None, LONG_AGO, "preprocess", None),
        (None, LONG_AGO, "evaluate", None),
        (date(2100, 1, 1), LONG_AGO, "plan", None),
    ],
)
async def test_there_is_no_plan_for_a_time_that_has_gone_by(
    http: httpx.AsyncClient,
    stored: Runs,
    stated: date | None,
    read: date | None,
    stage: str,
    cure: str | None,
) -> None:
    source = await stored.finished(
        context=GoalContext(deadline=stated), clarified_fields={"deadline": read}
    )
    answer = await _rerun(http, source, from_stage=stage)
    if cure is None:
        assert answer.status_code == 202, answer.text
    else:
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (409, "DEADLINE_PASSED")
        assert problem["cure"].startswith(cure)


@pytest.mark.parametrize(
    "body",
    [
        {"prompts": {"plan": 99}},
        {"prompts": {"plan": 10**12}},
        {"prompts": {"plan": 0}},
        {"prompts": {"generate": 1}},
        {"prompts": {"repair": 1}},
        {"model": "no such model"},
        {"model": ""},
        {"from_stage": "complete"},
        {"surprise": 1},
    ],
)
async def test_what_is_unknown_is_422(
    http: httpx.AsyncClient, stored: Runs, body: dict[str, Any]
) -> None:
    answer = await _rerun(http, await stored.finished(), **body)
    assert answer.status_code == 422, answer.text


async def test_an_unknown_run_is_404(http: httpx.AsyncClient) -> None:
    assert (await _rerun(http, uuid4())).status_code == 404

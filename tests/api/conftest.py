"""The API as its callers meet it: over HTTP, on real PostgreSQL; and runs in every state."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID, uuid5

import httpx
import pytest

from api.app import Api, create_app
from api.health import create_operations
from api.server import Server, config
from db import pool as database
from db.goals import (
    insert_evaluation,
    insert_goal,
    insert_plan,
    insert_resolution,
    update_clarified_goal,
    update_kept_resolution,
)
from db.pool import Pool, acquire
from db.prompts import insert_prompt_version
from db.runs import append_event, finish_run, insert_run
from domain.goals import (
    ClarifiedGoal,
    DimensionScore,
    Evaluation,
    GoalContext,
    GoalRequest,
    PlanDraft,
    Resolution,
    SmartCriteria,
    dated_plan,
)
from domain.runs import STAGES, Manifest, PromptRef, RunStatus, Stage
from settings import Settings
from tracing.ids import new_trace_id

REFS = {
    stage: PromptRef(stage=stage, version=1, sha256=str(n) * 64) for n, stage in enumerate(STAGES)
}


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


async def register_prompts(url: str) -> None:
    async with await database.connect(url, size=1) as pool, acquire(pool) as conn:
        for ref in REFS.values():
            await insert_prompt_version(conn, ref.stage, ref.version, ref.sha256, "text")


@pytest.fixture(scope="module")
async def url(module_postgres_url: str) -> str:
    """A database with prompts, shared by the tests of a module."""
    await register_prompts(module_postgres_url)
    return module_postgres_url


def operations(app: Api) -> httpx.AsyncClient:
    """A client of what the API serves to operators, without a server in between."""
    behind = create_operations(app.state, {"goal_generation": STAGES})
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(behind), base_url="http://operations", trust_env=False
    )


@pytest.fixture(scope="module")
def api(url: str) -> Api:
    """The API; Temporal is away."""
    return create_app(settings(url))


@pytest.fixture(scope="module")
async def http(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the running API."""
    async with serving(api) as client:
        yield client


@pytest.fixture(scope="module")
async def pool(url: str) -> AsyncIterator[Pool]:
    async with await database.connect(url, size=4) as pool:
        yield pool


class Runs:
    """Stores runs as the workflow would have."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    async def accepted(
        self,
        goal: str = "I want to run a 5K",
        *,
        user_id: str = "user-1",
        trace_id: UUID | None = None,
    ) -> UUID:
        now = datetime.now(UTC)
        trace_id = trace_id or new_trace_id(now)
        manifest = Manifest(model="gemini-2.0-flash", prompts=REFS, quality_threshold=6)
        request = GoalRequest(
            trace_id=trace_id,
            user="u-1",
            goal=goal,
            locale="en",
            context=GoalContext(),
            today=now.date(),
            manifest=manifest,
        )
        async with acquire(self.pool) as conn, conn.transaction():
            await insert_run(
                conn,
                trace_id=trace_id,
                kind="goal_generation",
                user_id=user_id,
                pseudonym="u-1",
                workflow_id=f"goal_generation-{trace_id}",
                idempotency_key=None,
                request_sha256="",
                request=request,
                manifest=manifest,
                source_trace_id=None,
                created_at=now,
            )
            await insert_goal(conn, trace_id, goal, "en", GoalContext())
            await append_event(conn, trace_id, "accepted", "accepted", None, "Accepted")
        return trace_id

    async def event(self, trace_id: UUID, key: str, kind: Any = "stage_started") -> None:
        stage: Stage | None = None if kind == "finished" else "preprocess"
        async with acquire(self.pool) as conn:
            await append_event(conn, trace_id, key, kind, stage, key)

    async def finished(
        self,
        status: RunStatus = "success",
        *,
        drafts: tuple[float, ...] = (8.0,),
        verdict: Any = "goal",
        **fields: Any,
    ) -> UUID:
        """An ended run with one draft for each overall score; the best of them is kept."""
        trace_id = await self.accepted(**fields)
        async with acquire(self.pool) as conn, conn.transaction():
            await update_clarified_goal(conn, _clarified(trace_id, verdict))
            for number, overall in enumerate(drafts, start=1):
                resolution = await insert_resolution(conn, trace_id, _resolution(trace_id, number))
                await insert_evaluation(conn, trace_id, _evaluation(trace_id, resolution, overall))
                await insert_plan(conn, trace_id, _plan(trace_id, resolution))
            outcome: dict[str, Any] = {"trace_id": str(trace_id), "status": status}
            if drafts:
                best = drafts.index(max(drafts)) + 1
                outcome |= {"quality_score": max(drafts), "quality_status": "GOOD QUALITY"}
                await update_kept_resolution(conn, trace_id, uuid5(trace_id, f"resolution/{best}"))
            if status == "refused":
                outcome["refusal_reason"] = "Rein cannot help with this"
            await finish_run(
                conn,
                trace_id=trace_id,
                workflow_run_id="run-1",
                status=status,
                error_code="OUTPUT_TRUNCATED" if status == "failed" else None,
                error_message="The answer was cut" if status == "failed" else None,
                outcome=outcome,
                ended_at=datetime.now(UTC),
            )
            await append_event(conn, trace_id, "run-1:finished", "finished", None, "Done")
        return trace_id


@pytest.fixture(scope="module")
def stored(pool: Pool) -> Runs:
    return Runs(pool)


def _clarified(trace_id: UUID, verdict: Any) -> ClarifiedGoal:
    words = {name: "As said" for name in SmartCriteria.model_fields}
    return ClarifiedGoal(
        verdict=verdict,
        clarified_goal="Run five kilometres without a pause",
        category="fitness",
        smart=SmartCriteria(**words),
        trace_id=trace_id,
    )


def _resolution(trace_id: UUID, draft: int) -> Resolution:
    return Resolution.model_validate(
        {
            "resolution_id": uuid5(trace_id, f"resolution/{draft}"),
            "draft": draft,
            "title": f"Five kilometres, draft {draft}",
            "summary": "Run three times a week",
            "strategy": "Slowly more",
            "phases": [{"name": "Base", "start_week": 1, "end_week": 4, "focus": "Walk and run"}],
            "success_criteria": ["5 km without a pause"],
            "risks": [],
            "habits": ["Shoes at the door"],
        }
    )


def _evaluation(trace_id: UUID, resolution: Resolution, overall: float) -> Evaluation:
    score = DimensionScore(score=overall, why="It is clear")
    return Evaluation(
        evaluation_id=uuid5(trace_id, f"evaluation/{resolution.draft}"),
        resolution_id=resolution.resolution_id,
        clarity=score,
        specificity=score,
        measurability=score,
        actionability=score,
        strengths=["Clear"],
        suggestions=["Name a race"],
        overall=overall,
        status="GOOD QUALITY",
    )


def _plan(trace_id: UUID, resolution: Resolution) -> Any:
    task = {"what": "Run", "day": "Mon", "minutes": 30, "done_when": "30 minutes are over"}
    draft = PlanDraft.model_validate(
        {
            "first_step_today": "Put the shoes at the door",
            "weeks": [{"week": 1, "focus": "Begin", "tasks": [task]}],
            "milestones": [{"title": "First run", "week": 1, "measure": "Done"}],
        }
    )
    return dated_plan(
        draft,
        plan_id=uuid5(trace_id, f"plan/{resolution.draft}"),
        resolution_id=resolution.resolution_id,
        starts_on=date(2027, 1, 4),
    )

"""Stored runs in any state, and API keys: what tests begin with, made by the product itself."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from pydantic import SecretStr

from activities.runs import record_end
from api.keys import mint
from db.callers import insert_api_key, insert_tenant
from db.events import append_event
from db.goals import (
    insert_clarified_goal,
    insert_evaluation,
    insert_goal,
    insert_plan,
    insert_resolution,
)
from db.ledger import reserve_call
from db.pool import Connection, Pools, acquire, transaction
from db.prompts import insert_prompt_version
from db.runs import insert_run
from domain.callers import LOCAL_TENANT, SCOPES
from domain.evaluations import DimensionScore, Evaluation
from domain.goals import ClarifiedGoal, GoalContext, GoalOutcome, GoalRequest, SmartCriteria
from domain.ledger import Reservation
from domain.plans import Plan, PlanDraft, dated_plan
from domain.resolutions import Resolution
from domain.runs import Manifest, PromptRef, RefusalCode, RunEventKind, RunStatus
from settings import PUBLIC_KEY
from tracing import RunEnd, TraceContext, lost_end, new_trace_id, open_trace
from workflows.kinds import KINDS

PROJECT = "rein-ai-coaching"
STAGES = KINDS["goal_generation"].stage_names()
PROMPTS = {
    name: PromptRef(stage=name, version=1, sha256=str(n) * 64)
    for n, name in enumerate(KINDS["goal_generation"].prompt_names())
}
MANIFEST = Manifest(model="gemini-2.0-flash", prompts=PROMPTS, quality_threshold=6)
FINISH = {name: kind.finish for name, kind in KINDS.items()}


async def register_prompts(pools: Pools) -> None:
    """A first version of each stage's prompt, deployed."""
    async with acquire(pools.operations) as conn:
        for ref in PROMPTS.values():
            await insert_prompt_version(conn, ref.stage, ref.version, ref.sha256, "text")


async def api_key(
    pools: Pools,
    tenant: str = LOCAL_TENANT,
    *,
    scopes: tuple[str, ...] = SCOPES,
    pepper: SecretStr = PUBLIC_KEY,
) -> str:
    """A key of a tenant, which is made if there is none of that name."""
    credential = mint("local")
    async with acquire(pools.operations) as conn:
        await insert_tenant(conn, tenant)
        await insert_api_key(
            conn,
            key_id=credential.key_id,
            tenant=tenant,
            name="test",
            secret_mac=credential.mac(pepper),
            scopes=scopes,
            lifetime=timedelta(days=1),
        )
    return credential.reveal()


def goal_request(goal: str = "I want to run a 5K", **fields: Any) -> GoalRequest:
    """The input of a goal's workflow, as the API makes it."""
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "trace_id": new_trace_id(now),
        "user": "u-1",
        "about": goal,
        "locale": "en",
        "context": GoalContext(),
        "today": now.date(),
        "manifest": MANIFEST,
    }
    return GoalRequest(goal=goal, **(values | fields))


async def store_accepted(
    conn: Connection, request: GoalRequest, *, user_id: str = "user-1", at: datetime | None = None
) -> None:
    """The rows of a goal that was accepted and has not started."""
    now, trace_id = at or datetime.now(UTC), request.trace_id
    await insert_run(conn, request, user_id=user_id, goal_id=trace_id, created_at=now)
    await insert_goal(conn, request)
    await append_event(conn, trace_id, "accepted", "accepted", None, "Accepted")
    context = TraceContext(trace_id=trace_id, project=PROJECT)
    await open_trace(conn, context, name="goal_generation_pipeline", started_at=now)


@dataclass(frozen=True)
class Runs:
    """Stores a tenant's runs as their workflows would have."""

    pools: Pools
    tenant: str = LOCAL_TENANT

    async def accepted(
        self, goal: str = "I want to run a 5K", *, user_id: str = "user-1", **fields: Any
    ) -> UUID:
        request = goal_request(goal, tenant=self.tenant, **fields)
        async with transaction(self.pools.application, self.tenant) as conn:
            await store_accepted(conn, request, user_id=user_id)
        return request.trace_id

    async def event(
        self, trace_id: UUID, key: str, kind: RunEventKind = "stage_started", **data: Any
    ) -> None:
        stage = None if kind in ("finished", "start_refused") else "preprocess"
        async with transaction(self.pools.application, self.tenant) as conn:
            await append_event(conn, trace_id, key, kind, stage, key, data)

    async def call(self, trace_id: UUID, *, reserved_usd: Decimal | None) -> Reservation:
        """A model call under way."""
        reservation = Reservation(
            call_id=new_trace_id(datetime.now(UTC)),
            trace_id=trace_id,
            stage="preprocess",
            request_sha256="x",
            attempt=1,
            repair=False,
            model="gemini-2.0-flash",
            prompt=PROMPTS["preprocess"],
            reserved_usd=reserved_usd,
            started_at=datetime.now(UTC),
            lost_after=timedelta(minutes=1),
            worker_id=1,
            workflow_run_id="run-1",
            span="llm_call_preprocess",
            parent_span_id=trace_id,
        )
        async with transaction(self.pools.application, self.tenant) as conn:
            await reserve_call(conn, reservation)
        return reservation

    async def end(self, trace_id: UUID, status: str) -> None:
        """End a run from outside."""
        end = lost_end(trace_id, status, datetime.now(UTC), project=PROJECT)
        async with acquire(self.pools.operations) as conn, conn.transaction():
            await record_end(conn, end, "run-1", FINISH)

    async def finished(
        self,
        status: RunStatus = "success",
        *,
        drafts: tuple[float, ...] = (8.0,),
        verdict: Any = "goal",
        refusal_code: RefusalCode | None = None,
        clarified_fields: dict[str, Any] | None = None,
        **fields: Any,
    ) -> UUID:
        """An ended run with one draft for each overall score; the best of them is kept."""
        trace_id = await self.accepted(**fields)
        async with transaction(self.pools.application, self.tenant) as conn:
            goal = clarified(trace_id, verdict).model_copy(update=clarified_fields)
            await insert_clarified_goal(conn, goal)
            for number, overall in enumerate(drafts, start=1):
                made = await insert_resolution(conn, trace_id, resolution(trace_id, number))
                await insert_evaluation(conn, trace_id, evaluation(trace_id, made, overall))
                await insert_plan(conn, trace_id, plan(trace_id, made))
        outcome = _outcome(trace_id, status, drafts).model_copy(
            update={"refusal_code": refusal_code}
        )
        end = RunEnd(
            trace_id=trace_id,
            project=PROJECT,
            status=status,
            ended_at=datetime.now(UTC),
            error_type="OUTPUT_TRUNCATED" if status == "failed" else None,
            error_message="The answer was cut" if status == "failed" else None,
            result=outcome.model_dump(mode="json"),
        )
        async with acquire(self.pools.operations) as conn, conn.transaction():
            await record_end(conn, end, "run-1", FINISH)
        return trace_id


def _outcome(trace_id: UUID, status: RunStatus, drafts: tuple[float, ...]) -> GoalOutcome:
    refusal = "Rein cannot help with this" if status == "refused" else None
    if not drafts:
        return GoalOutcome(trace_id=trace_id, status=status, refusal_reason=refusal)
    best = drafts.index(max(drafts)) + 1
    return GoalOutcome(
        trace_id=trace_id,
        status=status,
        refusal_reason=refusal,
        title=f"Five kilometres, draft {best}",
        resolution_id=uuid5(trace_id, f"resolution/{best}"),
        evaluation_id=uuid5(trace_id, f"evaluation/{best}"),
        plan_id=uuid5(trace_id, f"plan/{best}"),
        quality_score=max(drafts),
        quality_status="GOOD QUALITY",
    )


def clarified(trace_id: UUID, verdict: Any) -> ClarifiedGoal:
    words = {name: "As said" for name in SmartCriteria.model_fields}
    return ClarifiedGoal(
        verdict=verdict,
        clarified_goal="Run five kilometres without a pause",
        category="fitness",
        smart=SmartCriteria(**words),
        trace_id=trace_id,
    )


def resolution(trace_id: UUID, draft: int) -> Resolution:
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


def evaluation(trace_id: UUID, of: Resolution, overall: float) -> Evaluation:
    score = DimensionScore(score=overall, why="It is clear")
    return Evaluation(
        evaluation_id=uuid5(trace_id, f"evaluation/{of.draft}"),
        resolution_id=of.resolution_id,
        clarity=score,
        specificity=score,
        measurability=score,
        actionability=score,
        strengths=["Clear"],
        suggestions=["Name a race"],
        overall=overall,
        status="GOOD QUALITY",
    )


def plan(trace_id: UUID, of: Resolution) -> Plan:
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
        plan_id=uuid5(trace_id, f"plan/{of.draft}"),
        resolution_id=of.resolution_id,
        starts_on=date(2027, 1, 4),
    )

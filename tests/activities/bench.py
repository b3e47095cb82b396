"""A run's row and its first stage, to be run as any attempt, beside other attempts or cancelled."""

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any

from temporalio.testing import ActivityEnvironment

from activities.goals import GoalActivities
from db.pool import Connection, Pool, acquire
from domain.goals import ClarifiedGoal, GoalContext, PreprocessRequest
from domain.runs import PromptRef
from prompts.library import files
from tests.factories import goal_request, store_accepted
from tracing import TraceContext, attach

GOAL = "I want to run a 5K by end of Q1"
WORKER = 7


@dataclass
class Bench:
    """`environments` are those of the attempts so far, by attempt: to cancel them."""

    pool: Pool
    activities: GoalActivities
    request: PreprocessRequest
    environments: dict[int, ActivityEnvironment] = field(default_factory=dict)

    async def run(self, attempt: int = 1, *, workflow_run_id: str = "run") -> ClarifiedGoal:
        environment = self.environments[attempt] = ActivityEnvironment()
        environment.info = replace(
            environment.info,
            attempt=attempt,
            activity_id="1",
            workflow_id="test",
            workflow_run_id=workflow_run_id,
            scheduled_time=datetime(2026, 11, 24, tzinfo=UTC),
        )
        context = TraceContext(trace_id=self.request.run.trace_id, project="test")
        with attach(context):
            goal: ClarifiedGoal = await environment.run(self.activities.preprocess, self.request)
        return goal

    async def calls(self) -> list[dict[str, Any]]:
        """The ledger, in the order of the calls."""
        return await self.rows("SELECT * FROM llm_calls ORDER BY started_at")

    async def spans(self, name: str = "llm_call_preprocess") -> list[dict[str, Any]]:
        """The stored spans of a name, as Opik takes them, by attempt."""
        rows = await self.rows(
            "SELECT payload FROM trace_outbox WHERE kind = 'span' AND payload ->> 'name' = $1"
            " ORDER BY payload ->> 'start_time'",
            name,
        )
        return [row["payload"] for row in rows]

    async def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        async with acquire(self.pool) as conn:
            return [dict(row) for row in await conn.fetch(query, *values)]


async def stored_run(conn: Connection) -> PreprocessRequest:
    """An accepted run, and the input of its first stage."""
    prompt = next(file for file in files() if file.stage == "preprocess")
    request = goal_request(GOAL)
    await store_accepted(conn, request)
    return PreprocessRequest(
        run=request.run,
        prompt=PromptRef(stage=prompt.stage, version=prompt.version, sha256=prompt.sha256),
        goal=GOAL,
        locale="en",
        context=GoalContext(),
        today=date(2026, 11, 24),
    )

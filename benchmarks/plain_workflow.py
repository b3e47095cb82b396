"""The plainest temporalio pipeline, in the samples' style: four steps in a row, then the rows."""

from datetime import timedelta
from uuid import UUID

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    import asyncpg

    from benchmarks import calls
    from llm.gemini import Gemini


class Activities:
    def __init__(self, gemini: Gemini, pool: "asyncpg.Pool") -> None:
        self.gemini = gemini
        self.pool = pool

    @activity.defn
    async def preprocess(self) -> str:
        return await calls.preprocess(self.gemini)

    @activity.defn
    async def generate(self, goal: str) -> str:
        return await calls.generate(self.gemini, goal)

    @activity.defn
    async def evaluate(self, resolution: str) -> str:
        return await calls.evaluate(self.gemini, resolution)

    @activity.defn
    async def plan(self, goal: str, resolution: str) -> str:
        return await calls.plan(self.gemini, goal, resolution)

    @activity.defn
    async def store(self, results: dict[str, str]) -> None:
        run = UUID(activity.info().workflow_id)
        for stage, body in results.items():
            await calls.store(self.pool, run, stage, body)


@workflow.defn
class PlainWorkflow:
    @workflow.run
    async def run(self) -> None:
        within = timedelta(seconds=60)
        goal = await workflow.execute_activity_method(
            Activities.preprocess, start_to_close_timeout=within
        )
        resolution = await workflow.execute_activity_method(
            Activities.generate, goal, start_to_close_timeout=within
        )
        evaluation = await workflow.execute_activity_method(
            Activities.evaluate, resolution, start_to_close_timeout=within
        )
        plan = await workflow.execute_activity_method(
            Activities.plan, args=[goal, resolution], start_to_close_timeout=within
        )
        await workflow.execute_activity_method(
            Activities.store,
            {"preprocess": goal, "generate": resolution, "evaluate": evaluation, "plan": plan},
            start_to_close_timeout=within,
        )

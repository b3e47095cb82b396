"""The four stages of a goal."""

from datetime import date
from typing import Any

from pydantic import BaseModel
from temporalio import activity

from activities.stage import StageRunner
from activities.task import Task
from db.goals import (
    insert_evaluation,
    insert_plan,
    insert_resolution,
    update_clarified_goal,
)
from db.pool import Connection
from domain.evaluations import Evaluation, EvaluationDraft, overall_score, quality_status
from domain.goals import (
    ClarifiedGoal,
    ClarifiedGoalDraft,
    EvaluateRequest,
    GenerateRequest,
    GoalContext,
    PlanRequest,
    PreprocessRequest,
)
from domain.plans import Plan, PlanDraft, PlanRef, dated_plan, plan_weeks, wrong_weeks
from domain.resolutions import Resolution, ResolutionDraft
from domain.runs import part_id


class GoalActivities:
    """The stages of GoalGenerationWorkflow; each stores its result before it returns it."""

    def __init__(self, stages: StageRunner) -> None:
        self._stages = stages

    @activity.defn
    async def preprocess(self, request: PreprocessRequest) -> ClarifiedGoal:
        """Clarify a raw goal, or refuse it."""
        trace_id = request.run.trace_id

        async def keep(conn: Connection, draft: ClarifiedGoalDraft) -> ClarifiedGoal:
            goal = ClarifiedGoal(**draft.model_dump(), trace_id=trace_id)
            return await update_clarified_goal(conn, goal)

        return await self._stages.run(
            Task(
                stage="preprocess",
                span="preprocessing_stage",
                call="llm_call_preprocess",
                doing="Clarifying the goal",
                schema=ClarifiedGoalDraft,
                run=request.run,
                prompt=request.prompt,
                data={
                    "goal": request.goal,
                    "locale": request.locale,
                    "context": _context(request.context),
                    "today": request.today.isoformat(),
                },
                input=_input(request),
                keep=keep,
                said=_said_of_goal,
            )
        )

    @activity.defn
    async def generate(self, request: GenerateRequest) -> Resolution:
        """Write a resolution, or write it again with the evaluator's suggestions."""
        trace_id = request.run.trace_id
        resolution_id = part_id(trace_id, "resolution", request.draft)

        async def keep(conn: Connection, draft: ResolutionDraft) -> Resolution:
            resolution = Resolution(
                **draft.model_dump(), resolution_id=resolution_id, draft=request.draft
            )
            return await insert_resolution(conn, trace_id, resolution)

        return await self._stages.run(
            Task(
                stage="generate",
                span="generation_stage",
                call="llm_call_generation",
                doing="Writing the resolution" if request.draft == 1 else "Revising the resolution",
                schema=ResolutionDraft,
                run=request.run,
                prompt=request.prompt,
                data={
                    "clarified_goal": _json(request.goal, ClarifiedGoalDraft),
                    "locale": request.locale,
                    "context": _context(request.context),
                    "today": request.today.isoformat(),
                    "weeks": str(_weeks(request.goal, request.context, request.today)),
                    "revision": _revision(request),
                },
                input=_input(request),
                keep=keep,
                said=_said_of_resolution,
            )
        )

    @activity.defn
    async def evaluate(self, request: EvaluateRequest) -> Evaluation:
        """Score a resolution on four dimensions; the overall score is Rein's own arithmetic."""
        trace_id, resolution_id = request.run.trace_id, request.resolution.resolution_id

        async def keep(conn: Connection, draft: EvaluationDraft) -> Evaluation:
            overall = overall_score(draft)
            evaluation = Evaluation(
                **draft.model_dump(),
                evaluation_id=part_id(trace_id, "evaluation", resolution_id),
                resolution_id=resolution_id,
                overall=overall,
                status=quality_status(overall),
            )
            return await insert_evaluation(conn, trace_id, evaluation)

        return await self._stages.run(
            Task(
                stage="evaluate",
                span="evaluation_stage",
                call="llm_call_evaluation",
                doing="Scoring the resolution",
                schema=EvaluationDraft,
                run=request.run,
                prompt=request.prompt,
                data={
                    "resolution": _json(request.resolution, ResolutionDraft),
                    "locale": request.locale,
                },
                input=_input(request),
                keep=keep,
                said=_said_of_evaluation,
            )
        )

    @activity.defn
    async def plan(self, request: PlanRequest) -> PlanRef:
        """Plan the weeks; the dates are Rein's own arithmetic."""
        trace_id, resolution_id = request.run.trace_id, request.resolution.resolution_id
        weeks = _weeks(request.goal, request.context, request.today)

        async def keep(conn: Connection, draft: PlanDraft) -> Plan:
            plan = dated_plan(
                draft,
                plan_id=part_id(trace_id, "plan", resolution_id),
                resolution_id=resolution_id,
                starts_on=request.today,
            )
            return await insert_plan(conn, trace_id, plan)

        plan = await self._stages.run(
            Task(
                stage="plan",
                span="planning_stage",
                call="llm_call_planning",
                doing="Planning the weeks",
                schema=PlanDraft,
                run=request.run,
                prompt=request.prompt,
                data={
                    "clarified_goal": _json(request.goal, ClarifiedGoalDraft),
                    "resolution": _json(request.resolution, ResolutionDraft),
                    "locale": request.locale,
                    "context": _context(request.context),
                    "today": request.today.isoformat(),
                    "weeks": str(weeks),
                },
                input=_input(request),
                keep=keep,
                said=_said_of_plan,
                check=lambda draft: wrong_weeks(draft, weeks),
            )
        )
        return plan.ref()


def _weeks(goal: ClarifiedGoal, context: GoalContext, today: date) -> int:
    return plan_weeks(today, context.deadline or goal.deadline)


def _context(context: GoalContext) -> str:
    given = context.model_dump(mode="json", exclude_none=True)
    return "\n".join(f"{name}: {value}" for name, value in given.items()) or "none given"


def _json(model: BaseModel, as_draft: type[BaseModel]) -> str:
    """The part of one of our models that the model wrote, without our ids."""
    return model.model_dump_json(include=set(as_draft.model_fields))


def _input(request: BaseModel) -> dict[str, Any]:
    return request.model_dump(mode="json", exclude={"run", "prompt"}, exclude_none=True)


def _revision(request: GenerateRequest) -> str:
    if request.rejected is None:
        return ""
    suggestions = "\n".join(f"- {suggestion}" for suggestion in request.suggestions)
    return f"{_json(request.rejected, ResolutionDraft)}\n\nSuggestions:\n{suggestions}"


def _said_of_goal(goal: ClarifiedGoal) -> tuple[str, dict[str, Any]]:
    if goal.verdict != "goal":
        return f"Refused: {goal.refusal_reason}", {"verdict": goal.verdict}
    return goal.clarified_goal, {"category": goal.category}


def _said_of_resolution(resolution: Resolution) -> tuple[str, dict[str, Any]]:
    return resolution.title, {"resolution_id": resolution.resolution_id, "draft": resolution.draft}


def _said_of_evaluation(evaluation: Evaluation) -> tuple[str, dict[str, Any]]:
    scores = {name: dimension.score for name, dimension in evaluation.scores().items()}
    said = f"{evaluation.overall}/10 {evaluation.status}"
    return said, {"overall": evaluation.overall, **scores}


def _said_of_plan(plan: Plan) -> tuple[str, dict[str, Any]]:
    tasks = sum(len(week.tasks) for week in plan.weeks)
    said = f"{len(plan.weeks)} weeks, {tasks} tasks, until {plan.ends_on}"
    return said, {"plan_id": plan.plan_id, "weeks": len(plan.weeks), "tasks": tasks}

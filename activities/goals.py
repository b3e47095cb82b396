"""The four stages of a goal's run, and what is added to the trace when such a run ends."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from pydantic import BaseModel
from temporalio import activity

from activities.runs import Ending
from activities.stage import StageRunner, StageSpec
from db.goals import (
    insert_clarified_goal,
    insert_evaluation,
    insert_plan,
    insert_resolution,
    select_evaluation,
    select_last_evaluation,
    select_plan,
)
from db.pool import Connection
from domain.evaluations import Evaluation, EvaluationDraft, overall_score, quality_status
from domain.goals import (
    ClarifiedGoal,
    ClarifiedGoalDraft,
    EvaluateRequest,
    GenerateRequest,
    GoalContext,
    GoalOutcome,
    PlanRequest,
    PreprocessRequest,
    limits_of,
    mended_goal,
    stated_limits,
    wrong_goal,
)
from domain.plans import (
    Limits,
    Plan,
    PlanDraft,
    PlanRef,
    dated_plan,
    plan_weeks,
    weekday,
    wrong_plan,
)
from domain.resolutions import Resolution, ResolutionDraft, wrong_phases
from domain.runs import part_id
from tracing import RunEnd, Score


async def _store_goal(
    conn: Connection, request: PreprocessRequest, draft: ClarifiedGoalDraft
) -> ClarifiedGoal:
    goal = ClarifiedGoal(**draft.model_dump(), trace_id=request.run.trace_id)
    return await insert_clarified_goal(conn, goal)


async def _store_resolution(
    conn: Connection, request: GenerateRequest, draft: ResolutionDraft
) -> Resolution:
    trace_id = request.run.trace_id
    resolution = Resolution(
        **draft.model_dump(),
        resolution_id=part_id(trace_id, "resolution", request.draft),
        draft=request.draft,
    )
    return await insert_resolution(conn, trace_id, resolution)


async def _store_evaluation(
    conn: Connection, request: EvaluateRequest, draft: EvaluationDraft
) -> Evaluation:
    trace_id, resolution_id = request.run.trace_id, request.resolution.resolution_id
    overall = overall_score(draft)
    evaluation = Evaluation(
        **draft.model_dump(),
        evaluation_id=part_id(trace_id, "evaluation", resolution_id),
        resolution_id=resolution_id,
        overall=overall,
        status=quality_status(overall),
    )
    return await insert_evaluation(conn, trace_id, evaluation)


async def _store_plan(conn: Connection, request: PlanRequest, draft: PlanDraft) -> Plan:
    trace_id, resolution_id = request.run.trace_id, request.resolution.resolution_id
    plan = dated_plan(
        draft,
        plan_id=part_id(trace_id, "plan", resolution_id),
        resolution_id=resolution_id,
        starts_on=request.today,
        limits=limits_of(request.goal, request.context),
    )
    return await insert_plan(conn, trace_id, plan)


def _render_goal(request: PreprocessRequest) -> dict[str, str]:
    return {
        "goal": request.goal,
        "locale": _language(request.locale, "goal"),
        "context": _context(request.context, stated_limits(request.context), request.today),
        "today": request.today.isoformat(),
    }


def _render_resolution(request: GenerateRequest) -> dict[str, str]:
    return {
        "clarified_goal": _json(request.goal, ClarifiedGoalDraft),
        "locale": _language(request.locale, "goal"),
        "context": _context(
            request.context, limits_of(request.goal, request.context), request.today
        ),
        "today": request.today.isoformat(),
        "weeks": str(_weeks(request)),
        "revision": _revision(request),
    }


def _render_evaluation(request: EvaluateRequest) -> dict[str, str]:
    return {
        "resolution": _json(request.resolution, ResolutionDraft),
        "locale": _language(request.locale, "resolution"),
    }


def _render_plan(request: PlanRequest) -> dict[str, str]:
    return {
        "clarified_goal": _json(request.goal, ClarifiedGoalDraft),
        "resolution": _json(request.resolution, ResolutionDraft),
        "locale": _language(request.locale, "resolution"),
        "context": _context(
            request.context, limits_of(request.goal, request.context), request.today
        ),
        "today": request.today.isoformat(),
        "weeks": str(_weeks(request)),
    }


def _describe_goal(goal: ClarifiedGoal) -> tuple[str, dict[str, Any]]:
    if goal.verdict != "goal":
        return f"Refused: {goal.refusal_reason}", {"verdict": goal.verdict}
    return goal.clarified_goal, {"category": goal.category, "also_asked": goal.also_asked}


def _describe_resolution(resolution: Resolution) -> tuple[str, dict[str, Any]]:
    return resolution.title, {"resolution_id": resolution.resolution_id, "draft": resolution.draft}


def _describe_evaluation(evaluation: Evaluation) -> tuple[str, dict[str, Any]]:
    scores = {name: dimension.score for name, dimension in evaluation.scores().items()}
    message = f"{evaluation.overall}/10 {evaluation.status}"
    return message, {"overall": evaluation.overall, **scores}


def _describe_plan(plan: Plan) -> tuple[str, dict[str, Any]]:
    tasks = sum(len(week.tasks) for week in plan.weeks)
    message = f"{len(plan.weeks)} weeks, {tasks} tasks, until {plan.ends_on}"
    return message, {"plan_id": plan.plan_id, "weeks": len(plan.weeks), "tasks": tasks}


def _validate_goal(request: PreprocessRequest, draft: ClarifiedGoalDraft) -> str | None:
    return wrong_goal(draft, request.context, request.today)


def _mend_goal(request: PreprocessRequest, draft: ClarifiedGoalDraft) -> ClarifiedGoalDraft | None:
    return mended_goal(draft, request.goal, request.locale, request.today)


def _validate_resolution(request: GenerateRequest, draft: ResolutionDraft) -> str | None:
    return wrong_phases(draft, _weeks(request))


def _validate_plan(request: PlanRequest, draft: PlanDraft) -> str | None:
    limits = limits_of(request.goal, request.context)
    return wrong_plan(draft, _weeks(request), request.today, limits)


PREPROCESS = StageSpec(
    name="preprocess",
    span="preprocessing_stage",
    call="llm_call_preprocess",
    doing="Clarifying the goal",
    summary="Clarify the goal",
    schema=ClarifiedGoalDraft,
    render=_render_goal,
    store=_store_goal,
    describe=_describe_goal,
    validate=_validate_goal,
    mend=_mend_goal,
)
GENERATE = StageSpec(
    name="generate",
    span="generation_stage",
    call="llm_call_generation",
    doing="Writing the resolution",
    summary="Write the resolution",
    schema=ResolutionDraft,
    render=_render_resolution,
    facts=lambda request: {"draft": request.draft},
    store=_store_resolution,
    describe=_describe_resolution,
    validate=_validate_resolution,
)
REVISE = replace(GENERATE, doing="Revising the resolution", summary="Revise the resolution")
EVALUATE = StageSpec(
    name="evaluate",
    span="evaluation_stage",
    call="llm_call_evaluation",
    doing="Scoring the resolution",
    summary="Score the resolution",
    schema=EvaluationDraft,
    render=_render_evaluation,
    facts=lambda request: {"draft": request.resolution.draft},
    store=_store_evaluation,
    describe=_describe_evaluation,
)
PLAN = StageSpec(
    name="plan",
    span="planning_stage",
    call="llm_call_planning",
    doing="Planning the weeks",
    summary="Plan the weeks",
    schema=PlanDraft,
    render=_render_plan,
    facts=lambda request: {"draft": request.resolution.draft},
    store=_store_plan,
    describe=_describe_plan,
    validate=_validate_plan,
)


class GoalActivities:
    """The stages of GoalGenerationWorkflow as activities. Each stores its result and returns it."""

    def __init__(self, stages: StageRunner) -> None:
        self._stages = stages

    @activity.defn
    async def preprocess(self, request: PreprocessRequest) -> ClarifiedGoal:
        """Clarify a person's goal, or refuse it: the result's `verdict` says which."""
        return await self._stages.run(PREPROCESS, request)

    @activity.defn
    async def generate(self, request: GenerateRequest) -> Resolution:
        """Write a resolution, or revise a rejected one with the suggestions of its evaluation."""
        return await self._stages.run(REVISE if request.rejected else GENERATE, request)

    @activity.defn
    async def evaluate(self, request: EvaluateRequest) -> Evaluation:
        """Let the model score a resolution on four dimensions; Rein computes the overall score."""
        return await self._stages.run(EVALUATE, request)

    @activity.defn
    async def plan(self, request: PlanRequest) -> PlanRef:
        """Let the model plan weeks and weekdays; Rein computes the dates."""
        return (await self._stages.run(PLAN, request)).ref()


async def finish_goal(conn: Connection, end: RunEnd) -> Ending:
    """Return what a goal's run adds to its trace: its scores and plan, or its refusal's code.

    The scores are those of the resolution that is the run's result. A run without a result, for
    example a cancelled one, gets the scores of its newest evaluation, if it has any.
    """
    outcome = GoalOutcome.model_validate(end.result) if end.result else None
    if outcome and outcome.refusal_code:
        return Ending(facts={"refusal_code": outcome.refusal_code})
    if outcome and outcome.evaluation_id:
        evaluation = await select_evaluation(conn, outcome.evaluation_id)
    else:
        evaluation = await select_last_evaluation(conn, end.trace_id)
    plan = await select_plan(conn, outcome.plan_id) if outcome and outcome.plan_id else None
    in_short = {"plan": _in_short(plan)} if plan else {}
    if evaluation is None:
        return Ending(output=in_short)
    return Ending(
        scores=_scores(evaluation),
        facts={"quality_score": evaluation.overall, "quality_status": evaluation.status},
        output={
            "strengths": evaluation.strengths,
            "suggestions": evaluation.suggestions,
            **in_short,
        },
    )


def _in_short(plan: Plan) -> dict[str, Any]:
    """Return what a reader of the trace wants to know of the plan first."""
    return {
        "starts_on": plan.starts_on,
        "ends_on": plan.ends_on,
        "weeks": len(plan.weeks),
        "tasks": sum(len(week.tasks) for week in plan.weeks),
        "first_step_today": plan.first_step_today,
        "milestones": [f"{each.date}: {each.title}" for each in plan.milestones],
    }


def _scores(evaluation: Evaluation) -> list[Score]:
    overall = Score(
        name="evaluation_logged.overall", value=evaluation.overall, reason=evaluation.status
    )
    return [overall] + [
        Score(name=f"evaluation_logged.{name}", value=dimension.score, reason=dimension.why)
        for name, dimension in evaluation.scores().items()
    ]


def _weeks(request: GenerateRequest | PlanRequest) -> int:
    return plan_weeks(request.today, limits_of(request.goal, request.context).deadline)


def _language(locale: str | None, of: str) -> str:
    return locale or f"the language of the {of}"


def _context(context: GoalContext, limits: Limits, today: date) -> str:
    """Render the context for a prompt: the person's remarks, and the limits of the answer.

    Rein checks the model's answer against the same limits.
    """
    deadline, minutes = limits.deadline, limits.minutes_per_week
    days = ", ".join(weekday(day) for day in limits.open_days(today, 1))
    in_a_week = deadline is not None and deadline < today + timedelta(days=6)
    given = {
        "experience": context.experience,
        "constraints": context.constraints,
        "deadline": deadline and f"{deadline} ({weekday(deadline)}), nothing is dated after it",
        "hours_per_week": minutes
        and f"{limits.hours_per_week:g}, at most {minutes} minutes a week",
        "rest_days": limits.rest_days and f"no task on {', '.join(limits.rest_days)}",
        "days": in_a_week and f"tasks can only lie on {days}",
    }
    return "\n".join(f"{name}: {value}" for name, value in given.items() if value) or "none given"


def _json(model: BaseModel, as_draft: type[BaseModel]) -> str:
    """Render a stored result as JSON with only the fields that the language model wrote.

    `as_draft` is the class of the model's answer, which lacks the ids that Rein added.
    """
    return model.model_dump_json(include=set(as_draft.model_fields))


def _revision(request: GenerateRequest) -> str:
    if request.rejected is None:
        return ""
    suggestions = "\n".join(f"- {suggestion}" for suggestion in request.suggestions)
    return f"{_json(request.rejected, ResolutionDraft)}\n\nSuggestions:\n{suggestions}"

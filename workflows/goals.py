"""The workflow of a goal's run: clarify, write the resolution, evaluate and plan, maybe revise."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.goals import EVALUATE, GENERATE, PLAN, PREPROCESS, REVISE, GoalActivities
    from activities.reruns import RerunActivities
    from activities.stage import StageSpec
    from domain.crisis import find_crisis, refusal
    from domain.errors import ReinError
    from domain.evaluations import Evaluation, needs_revision
    from domain.goals import (
        ClarifiedGoal,
        EvaluateRequest,
        GenerateRequest,
        GoalOutcome,
        GoalRequest,
        PlanRequest,
        PreprocessRequest,
        TakenOver,
    )
    from domain.plans import PlanRef
    from domain.resolutions import Resolution
    from domain.runs import REPAIR, RefusalCode, Stage
    from workflows.options import db_call, llm_call
    from workflows.runs import RunCard, failure_code, is_cancellation


class Candidate(NamedTuple):
    """A resolution with its evaluation and its plan.

    If one of these two failed for good, it is None, and `missing` has its stage and error code.
    """

    resolution: Resolution
    evaluation: Evaluation | None
    plan: PlanRef | None
    missing: dict[Stage, str]


@workflow.defn(failure_exception_types=[ReinError])
class GoalGenerationWorkflow:
    """Turn a raw goal into a resolution, its evaluation and a weekly plan."""

    @workflow.init
    def __init__(self, request: GoalRequest) -> None:
        self._request = request
        self._card = RunCard(request)

    @workflow.run
    async def run(self, request: GoalRequest) -> GoalOutcome:
        with self._card as card:
            crisis = find_crisis(request.words, request.locale)
            # `patched` is False for the replay of runs that started before this rule existed, so
            # they continue without it. Runs without a crisis get no patch marker.
            if crisis and workflow.patched("crisis-rule"):
                return card.done(self._refused("CRISIS", crisis.answer))
            try:
                return card.done(await self._coach())
            except ActivityError as error:
                if failure_code(error) != "BLOCKED" or not workflow.patched("blocked-is-refused"):
                    raise
                words = refusal("blocked", request.goal, request.locale)
                return card.done(self._refused("BLOCKED", words))

    async def _coach(self) -> GoalOutcome:
        earlier = await self._take_over()
        goal = earlier.goal or await self._clarify()
        if goal.verdict != "goal":
            code: RefusalCode = "HARMFUL" if goal.verdict == "harmful" else "NOT_A_GOAL"
            return self._refused(code, goal.refusal_reason)
        resolution = earlier.resolution or await self._resolve(goal)
        candidate = await self._assess(goal, resolution, earlier)
        if earlier.resolution is None and self._is_weak(candidate):
            candidate = await self._revise(goal, candidate)
        return _outcome(self._request, candidate)

    async def _take_over(self) -> TakenOver:
        """Return the earlier results that a rerun starts from; all None for a new run."""
        if self._request.rerun is None:
            return TakenOver()
        return await workflow.execute_local_activity_method(
            RerunActivities.take_over,
            self._request,
            **db_call("Take over the earlier results"),
        )

    async def _clarify(self) -> ClarifiedGoal:
        request = self._request
        self._card.at(PREPROCESS)
        return await workflow.execute_activity_method(
            GoalActivities.preprocess,
            PreprocessRequest(
                run=request.run,
                prompt=request.manifest.prompts["preprocess"],
                repair=request.manifest.prompts.get(REPAIR),
                goal=request.goal,
                locale=request.locale,
                context=request.context,
                today=request.today,
            ),
            **llm_call(PREPROCESS.summary),
        )

    async def _resolve(self, goal: ClarifiedGoal, rejected: Candidate | None = None) -> Resolution:
        request, stage = self._request, REVISE if rejected else GENERATE
        self._card.at(stage)
        return await workflow.execute_activity_method(
            GoalActivities.generate,
            GenerateRequest(
                run=request.run,
                prompt=request.manifest.prompts["generate"],
                repair=request.manifest.prompts.get(REPAIR),
                goal=goal,
                locale=request.locale,
                context=request.context,
                today=request.today,
                draft=2 if rejected else 1,
                rejected=rejected.resolution if rejected else None,
                suggestions=rejected.evaluation.suggestions
                if rejected and rejected.evaluation
                else [],
            ),
            **llm_call(stage.summary),
        )

    async def _assess(
        self, goal: ClarifiedGoal, resolution: Resolution, earlier: TakenOver
    ) -> Candidate:
        """Evaluate the resolution and plan its weeks in parallel, since neither needs the other.

        If one of them fails for good, the run continues without its result.
        """
        self._card.at(EVALUATE, PLAN)
        missing: dict[Stage, str] = {}
        async with asyncio.TaskGroup() as side_by_side:
            evaluation = side_by_side.create_task(self._evaluate(resolution, earlier, missing))
            plan = side_by_side.create_task(self._plan(goal, resolution, earlier, missing))
        return Candidate(resolution, evaluation.result(), plan.result(), missing)

    async def _evaluate(
        self, resolution: Resolution, earlier: TakenOver, missing: dict[Stage, str]
    ) -> Evaluation | None:
        if earlier.evaluation:
            return earlier.evaluation
        with _may_fail("evaluate", missing):
            return await workflow.execute_activity_method(
                GoalActivities.evaluate,
                EvaluateRequest(
                    run=self._request.run,
                    prompt=self._request.manifest.prompts["evaluate"],
                    repair=self._request.manifest.prompts.get(REPAIR),
                    resolution=resolution,
                    locale=self._request.locale,
                ),
                **llm_call(_summary(EVALUATE, resolution)),
            )
        return None

    async def _plan(
        self,
        goal: ClarifiedGoal,
        resolution: Resolution,
        earlier: TakenOver,
        missing: dict[Stage, str],
    ) -> PlanRef | None:
        if earlier.plan:
            return earlier.plan
        request = self._request
        with _may_fail("plan", missing):
            return await workflow.execute_activity_method(
                GoalActivities.plan,
                PlanRequest(
                    run=request.run,
                    prompt=request.manifest.prompts["plan"],
                    repair=request.manifest.prompts.get(REPAIR),
                    goal=goal,
                    resolution=resolution,
                    locale=request.locale,
                    context=request.context,
                    today=request.today,
                ),
                **llm_call(_summary(PLAN, resolution)),
            )
        return None

    async def _revise(self, goal: ClarifiedGoal, first: Candidate) -> Candidate:
        """Write and assess a second resolution with the evaluator's suggestions.

        Returns the better candidate, or the first one if the second could not be written.
        """
        with _may_fail("generate", {}):
            resolution = await self._resolve(goal, rejected=first)
            second = await self._assess(goal, resolution, TakenOver())
            return max(first, second, key=_merit)  # on a tie `max` returns the first
        return first

    def _refused(self, code: RefusalCode, words: str | None) -> GoalOutcome:
        return GoalOutcome(
            trace_id=self._request.trace_id,
            status="refused",
            refusal_reason=words,
            refusal_code=code,
        )

    def _is_weak(self, candidate: Candidate) -> bool:
        return needs_revision(candidate.evaluation, self._request.manifest.quality_threshold)


def _summary(stage: StageSpec[Any, Any, Any], resolution: Resolution) -> str:
    """Return a stage's summary that tells the second draft from the first in the Temporal UI."""
    return stage.summary + (f" (draft {resolution.draft})" if resolution.draft > 1 else "")


def _merit(candidate: Candidate) -> tuple[bool, float]:
    """Return the sort key of a candidate: a complete one beats one with a missing part.

    Among equally complete candidates the higher overall score wins.
    """
    return not candidate.missing, candidate.evaluation.overall if candidate.evaluation else -1


@contextmanager
def _may_fail(stage: Stage, missing: dict[Stage, str]) -> Iterator[None]:
    """Let the run continue without the stage of the `with` block if that fails permanently.

    Its error code is then written to `missing`. Raises CancelledError if the stage stopped because
    the run is cancelled.
    """
    try:
        yield
    except ActivityError as error:
        if is_cancellation(error):
            raise asyncio.CancelledError from error
        missing[stage] = failure_code(error)


def _outcome(request: GoalRequest, kept: Candidate) -> GoalOutcome:
    return GoalOutcome(
        trace_id=request.trace_id,
        status="partial" if kept.missing else "success",
        title=kept.resolution.title,
        resolution_id=kept.resolution.resolution_id,
        evaluation_id=kept.evaluation.evaluation_id if kept.evaluation else None,
        plan_id=kept.plan.plan_id if kept.plan else None,
        quality_score=kept.evaluation.overall if kept.evaluation else None,
        quality_status=kept.evaluation.status if kept.evaluation else None,
        missing=kept.missing,
    )

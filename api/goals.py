"""Endpoints that create, read and list goals."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Body, Query, Request, Response
from pydantic import AfterValidator, Field

from api.accepting import (
    Accepted,
    Origin,
    Sent,
    accept,
    current_manifest,
    find_replayed,
    start_unless_ended,
)
from api.answers import answer_goal, run_answers, show_goal
from api.callers import GoalsRead, GoalsWrite
from api.deps import AppServices, IdempotencyKey, JsonOnly, Services, TraceId, Wait
from api.examples import GOAL_EXAMPLES
from api.lists import RunQuery, next_page
from api.models import GoalItem, GoalPage, GoalRun
from api.problems import ALWAYS, OF_BODIES, declared
from db.goals import insert_goal
from db.results import Filters, select_goals
from domain.callers import Caller
from domain.errors import InvalidRequest
from domain.goals import GoalContext, GoalRequest, GoalSubmission, stated_limits
from domain.plans import impossible
from domain.runs import day_of

router = APIRouter(prefix="/api/goals", tags=["goals"], responses=ALWAYS)


def _no_nul(text: str | None) -> str | None:
    if text is not None and "\x00" in text:
        raise ValueError("the text holds a NUL character; remove it")
    return text


class GoalQuery(RunQuery):
    """Query parameters of the list of goals: those of all lists of runs, and a text search."""

    q: Annotated[str | None, AfterValidator(_no_nul)] = Field(
        None, min_length=1, max_length=200, description="Parts of the goal's words, in any order"
    )

    def filters(self, caller: Caller) -> Filters:
        return super().filters(caller)._replace(text=self.q)


@router.post(
    "",
    status_code=202,
    dependencies=[JsonOnly],
    responses=run_answers(GoalRun) | OF_BODIES | declared(429),
)
async def create_goal(
    submission: Annotated[GoalSubmission, Body(openapi_examples=GOAL_EXAMPLES)],
    request: Request,
    response: Response,
    services: AppServices,
    caller: GoalsWrite,
    wait_s: Wait,
    idempotency_key: IdempotencyKey = None,
) -> GoalRun:
    """Turn a goal into a resolution, its scores and a weekly plan.

    The answer is 202 at once; the result is ready within seconds. Follow `links.events`, read
    `links.result`, or send `Prefer: wait=N` to wait for the result. If the same request is sent
    again with the same Idempotency-Key within 24 hours, it finds the same run, even an ended one.
    """
    sent = Sent(request.url.path, submission, idempotency_key)
    accepted = await _accept(services, caller, submission, sent)
    start_unless_ended(services, accepted)
    return await answer_goal(services, caller, accepted, response, wait_s)


@router.get("")
async def list_goals(
    services: AppServices, caller: GoalsRead, query: Annotated[GoalQuery, Query()]
) -> GoalPage:
    """List goals, newest first, in pages. `from` and `to` are days in UTC."""
    after = query.after()
    async with services.transaction(caller) as conn:
        found = await select_goals(conn, query.filters(caller), after, query.limit + 1)
    items = [
        GoalItem(**dict(goal), link=services.addresses.result(goal.kind, goal.trace_id))
        for goal in found[: query.limit]
    ]
    return GoalPage(items=items, next_cursor=next_page(found, query.limit))


@router.get("/{trace_id}", responses=declared(404))
async def read_goal(trace_id: TraceId, services: AppServices, caller: GoalsRead) -> GoalRun:
    """Read a goal with its results so far: its resolution, the scores and the plan."""
    async with services.transaction(caller) as conn:
        return await show_goal(conn, services, caller, trace_id)


async def _accept(
    services: Services, caller: Caller, submission: GoalSubmission, sent: Sent
) -> Accepted:
    origin = Origin.new(services, caller, submission.user_id)
    async with services.transaction(caller) as conn:
        replayed = await find_replayed(conn, origin, sent)
        if replayed:
            return replayed
        today = day_of(origin.at, submission.time_zone)
        context = submission.context or GoalContext()
        # Replayed requests skip this check, because a caller may send its request again after the
        # deadline of the goal has passed.
        _check_limits(context, today)
        request = GoalRequest(
            trace_id=origin.trace_id,
            tenant=caller.tenant,
            user=origin.user,
            about=_about(submission.goal),
            goal=submission.goal,
            locale=submission.locale,
            time_zone=submission.time_zone,
            context=context,
            today=today,
            manifest=await current_manifest(conn, services, "goal_generation"),
        )
        accepted = await accept(
            conn,
            services,
            origin,
            request,
            goal_id=origin.trace_id,
            input=request.model_dump(
                mode="json",
                include={"goal", "context", "locale", "time_zone"},
                exclude_defaults=True,
            ),
        )
        await insert_goal(conn, request)
    return accepted


def _about(goal: str) -> str:
    """Return the goal as one line of at most 120 characters, for lists that operators see."""
    line = " ".join(goal.split())
    return line if len(line) <= 120 else f"{line[:119]}…"


def _check_limits(context: GoalContext, today: date) -> None:
    """Raise InvalidRequest if the deadline is not after today, or no plan can keep the limits."""
    deadline = context.deadline
    if deadline is not None and deadline <= today:
        raise InvalidRequest(
            f"body.context.deadline: expected a day after today ({today}), came {deadline}",
            cure="send a later deadline, or leave it out",
        )
    problem = impossible(stated_limits(context), today)
    if problem:
        raise InvalidRequest(
            f"body.context.{problem}", cure="change one of the limits, or leave it out"
        )

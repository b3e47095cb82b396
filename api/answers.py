"""Builds the answers that show a run, after a wait if the caller sent `Prefer: wait=N`."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

from fastapi import Response

from api.accepting import Accepted, unknown_run
from api.deps import Services
from api.headers import RATE_LIMIT, headers
from api.models import GoalRun, Run
from db.pool import Connection
from db.results import select_goal, select_run
from domain.callers import Caller
from domain.errors import Unavailable
from domain.results import RunReport
from domain.runs import FINAL_STATUSES

R = TypeVar("R", bound=Run | GoalRun)
Show = Callable[[Connection, Services, Caller, UUID], Awaitable[R]]


def run_answers(model: type[Run | GoalRun]) -> dict[int | str, dict[str, Any]]:
    """Describe the answers 200 and 202 of a POST that creates a run, for the OpenAPI document."""
    told = headers("Location", "Idempotent-Replayed", "Preference-Applied", *RATE_LIMIT)
    return {
        200: {"model": model, "headers": told, "description": "The run has ended"},
        202: {"headers": told, "description": "The run is accepted, or under way"},
    }


async def show_run(conn: Connection, services: Services, caller: Caller, trace_id: UUID) -> Run:
    """Return a run of any kind with its links.

    Raises NotFound when the caller's tenant has no run with this trace id.
    """
    report = await select_run(conn, caller.tenant, trace_id)
    if report is None:
        raise unknown_run(trace_id)
    return Run(**await _with_links(conn, services, report))


async def show_goal(
    conn: Connection, services: Services, caller: Caller, trace_id: UUID
) -> GoalRun:
    """Return a goal's run with its results so far and its links.

    Raises NotFound when the caller's tenant has no goal with this trace id.
    """
    report = await select_goal(conn, caller.tenant, trace_id)
    if report is None:
        raise unknown_run(trace_id)
    return GoalRun(**await _with_links(conn, services, report))


async def _with_links(conn: Connection, services: Services, report: RunReport) -> dict[str, Any]:
    """Return the fields of a report with what an answer adds: the notice and the links."""
    page = await services.pages.find(conn, report.trace_id)
    links = services.addresses.links(report.kind, report.trace_id, trace=page)
    return {**dict(report), "notice": services.config.notice or None, "links": links}


async def answer_run(
    services: Services, caller: Caller, accepted: Accepted, response: Response, wait_s: int | None
) -> Run:
    """Answer with the accepted run in the form that all kinds of run share.

    `wait_s` is how many seconds to wait for the run's end; with None there is no wait.
    """
    return await _answer(show_run, services, caller, accepted, response, wait_s)


async def answer_goal(
    services: Services, caller: Caller, accepted: Accepted, response: Response, wait_s: int | None
) -> GoalRun:
    """Answer with the accepted run and the results of its goal so far.

    `wait_s` is how many seconds to wait for the run's end; with None there is no wait.
    """
    return await _answer(show_goal, services, caller, accepted, response, wait_s)


async def _answer(
    show: Show[R],
    services: Services,
    caller: Caller,
    accepted: Accepted,
    response: Response,
    wait_s: int | None,
) -> R:
    """Wait up to `wait_s` seconds for the run's end, fill in `response`, and return the run.

    The status is 200 when the run has ended, and 202 otherwise.
    """
    location = services.addresses.result(accepted.kind, accepted.trace_id)
    response.headers["Location"] = location
    response.headers.update(accepted.headers or {})
    if accepted.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    if wait_s is not None:
        await services.watchers.finished(caller.tenant, accepted.trace_id, wait_s)
        response.headers["Preference-Applied"] = f"wait={wait_s}"
    try:
        async with services.transaction(caller) as conn:
            run = await show(conn, services, caller, accepted.trace_id)
    except Unavailable as error:
        # This error tells the caller that its run exists. A caller without an Idempotency-Key would
        # otherwise retry the request, which would create a second run.
        raise Unavailable(
            f"the run is accepted, but cannot be shown: {error.detail}",
            cure=f"do not send it again: read {location}",
            retry_after=error.retry_after,
            trace_id=accepted.trace_id,
        ) from error
    response.status_code = 200 if run.status in FINAL_STATUSES else 202
    return run

"""Endpoints for runs of every kind: list, read, watch, cancel, repeat, and open the trace."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Header, Query, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BeforeValidator, Field, WithJsonSchema
from starlette.exceptions import HTTPException
from temporalio.service import RPCError, RPCStatusCode

from api.accepting import Sent, request_of, start_unless_ended, unknown_run
from api.answers import answer_run, run_answers, show_run
from api.callers import GoalsRead, GoalsWrite
from api.deps import AppServices, IdempotencyKey, JsonOnly, Services, TraceId, Wait
from api.examples import RERUN_EXAMPLES
from api.headers import headers
from api.lists import RunQuery, next_page
from api.models import Run, RunItem, RunPage
from api.problems import ALWAYS, OF_BODIES, declared
from api.reruns import RerunSubmission, repeat
from api.starting import START_TIMEOUT_S
from db.events import select_is_over
from db.results import Filters, select_runs
from db.runs import select_found_run, select_request
from domain.callers import Caller
from domain.errors import AlreadyFinished, InvalidRequest, Unavailable
from domain.runs import FINAL_STATUSES, RunKind, workflow_id

router = APIRouter(prefix="/api/runs", tags=["runs"], responses=ALWAYS)

LARGEST_SEQ = 2**31 - 1


class KindQuery(RunQuery):
    kind: RunKind | None = Field(None, max_length=40, description="One kind of run")

    def filters(self, caller: Caller) -> Filters:
        return super().filters(caller)._replace(kind=self.kind)


@router.get("")
async def list_runs(
    services: AppServices, caller: GoalsRead, query: Annotated[KindQuery, Query()]
) -> RunPage:
    """List runs of every kind, newest first, in pages. `from` and `to` are days in UTC."""
    after = query.after()
    async with services.transaction(caller) as conn:
        found = await select_runs(conn, query.filters(caller), after, query.limit + 1)
    items = [
        RunItem(**dict(run), link=services.addresses.run(run.trace_id))
        for run in found[: query.limit]
    ]
    return RunPage(items=items, next_cursor=next_page(found, query.limit))


@router.get("/{trace_id}", responses=declared(404))
async def read_run(trace_id: TraceId, services: AppServices, caller: GoalsRead) -> Run:
    """Read a run of any kind: its status, how it ended, and its tokens, cost and duration."""
    async with services.transaction(caller) as conn:
        return await show_run(conn, services, caller, trace_id)


# The OpenAPI document describes this header as a string, because a generated client cannot send an
# integer header. An empty header counts as no header.
LastEventId = Annotated[
    Annotated[int, Field(ge=0, le=LARGEST_SEQ)] | None,
    BeforeValidator(lambda text: text or None),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]*$", "title": "Last-Event-ID"}),
    Header(alias="Last-Event-ID", description="The id of the last event you have"),
]


async def _position(
    trace_id: TraceId,
    services: AppServices,
    caller: GoalsRead,
    last_event_id: LastEventId = None,
) -> int:
    """Return the number of the event after which the stream begins; 0 begins with the first event.

    Raises HTTPException 204 when the run has ended and the caller has all its events: this status
    stops the reconnects of a browser's EventSource. Raises NotFound when the tenant has no such
    run, and InvalidRequest when the run has no event with the id in Last-Event-ID.
    """
    async with services.transaction(caller) as conn:
        over = await select_is_over(conn, trace_id)
        found = await select_found_run(conn, caller.tenant, trace_id)
    if found is None:
        raise unknown_run(trace_id)
    after = last_event_id or 0
    # The run has no event with this id. A stream from here would leave out the run's next events,
    # even `finished`.
    if after > found.last_seq:
        raise InvalidRequest(
            f"header.Last-Event-ID: expected at most {found.last_seq}, the run's last event; "
            f"came {after}",
            cure="send the id of an event of this run, or leave the header out to have them all",
        )
    if over and after == found.last_seq:
        raise HTTPException(204)
    return after


@router.get(
    "/{trace_id}/events",
    response_class=EventSourceResponse,
    responses=declared(404)
    | {204: {"description": "The run has ended and you have all its events"}},
)
async def watch_run(
    trace_id: TraceId,
    services: AppServices,
    caller: GoalsRead,
    after: Annotated[int, Depends(_position)],
) -> AsyncIterator[ServerSentEvent]:
    """Watch a run: its events are sent as they happen (server-sent events).

    The stream begins with the run's first event, or with the one after the header Last-Event-ID,
    so a client can resume after a lost connection. The stream ends after the event `finished`. If
    an operator reset the run, there are several such events and the stream ends after the last.
    """
    async with aclosing(services.watchers.watch(caller.tenant, trace_id, after)) as events:
        async for event in events:
            yield ServerSentEvent(data=event, event=event.kind, id=str(event.seq))


@router.post("/{trace_id}/cancel", status_code=202, responses=declared(404, 409))
async def cancel_run(trace_id: TraceId, services: AppServices, caller: GoalsWrite) -> Run:
    """Cancel a run.

    The answer is 202 at once. The run stops soon afterwards, and its status becomes `cancelled`.
    """
    await _cancel(services, caller, trace_id)
    async with services.transaction(caller) as conn:
        return await show_run(conn, services, caller, trace_id)


@router.post(
    "/{trace_id}/rerun",
    status_code=202,
    dependencies=[JsonOnly],
    responses=run_answers(Run) | OF_BODIES | declared(404, 409, 429),
)
async def rerun_run(
    trace_id: TraceId,
    submission: Annotated[RerunSubmission, Body(openapi_examples=RERUN_EXAMPLES)],
    request: Request,
    response: Response,
    services: AppServices,
    caller: GoalsWrite,
    wait_s: Wait,
    idempotency_key: IdempotencyKey = None,
) -> Run:
    """Repeat an ended run from one of its stages, as a new run. The earlier run is kept.

    The new run has the model and the prompt versions of the earlier run, unless the body changes
    them.
    """
    sent = Sent(request.url.path, submission, idempotency_key)
    accepted = await repeat(services, caller, trace_id, submission, sent)
    start_unless_ended(services, accepted)
    return await answer_run(services, caller, accepted, response, wait_s)


@router.get(
    "/{trace_id}/trace",
    status_code=307,
    response_class=RedirectResponse,
    responses=declared(404) | {307: {"headers": headers("Location")}},
)
async def open_trace_page(
    trace_id: TraceId, services: AppServices, caller: GoalsRead
) -> RedirectResponse:
    """Redirect to the page of the run's trace in Opik.

    The answer is 503 until the first trace of this installation has reached Opik.
    """
    async with services.transaction(caller) as conn:
        if await select_found_run(conn, caller.tenant, trace_id) is None:
            raise unknown_run(trace_id)
        page = await services.pages.find(conn, trace_id)
    if page is None:
        raise Unavailable(
            "the first trace has not reached Opik yet, so its page is not known",
            cure="try again in a moment; if it stays, see whether the shipper and Opik run",
            retry_after=2,
        )
    return RedirectResponse(page, 307)


async def _cancel(services: Services, caller: Caller, trace_id: UUID) -> None:
    """Ask Temporal to cancel the run's workflow.

    A workflow that was not started yet is started first, because the end of a run is recorded by
    its workflow. Raises NotFound when the tenant has no such run, AlreadyFinished when it has
    ended, and Unavailable when Temporal does not answer.
    """
    async with services.transaction(caller) as conn:
        found = await select_found_run(conn, caller.tenant, trace_id)
        stored = await select_request(conn, caller.tenant, trace_id)
    if found is None or stored is None:
        raise unknown_run(trace_id)
    if found.status in FINAL_STATUSES:
        raise AlreadyFinished(f"the run ended as {found.status}", cure="nothing is left to cancel")
    name = workflow_id(found.kind, trace_id)
    if not await _cancel_workflow(services, name):
        if not await services.starter.start(request_of(stored)):
            raise _temporal_away()
        await _cancel_workflow(services, name)


async def _cancel_workflow(services: Services, name: str) -> bool:
    """Ask Temporal to cancel a workflow. Return False when Temporal has none with this id.

    Raises Unavailable when Temporal does not answer in time.
    """
    workflow = services.temporal.get_workflow_handle(name)
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await workflow.cancel(rpc_timeout=timedelta(seconds=START_TIMEOUT_S))
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise _temporal_away() from error
        return False
    except (RuntimeError, TimeoutError) as error:
        raise _temporal_away() from error
    return True


def _temporal_away() -> Unavailable:
    return Unavailable(
        "Temporal did not answer in time", cure="send the same request again", retry_after=3
    )

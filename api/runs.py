"""Runs of every kind: list, read, watch, cancel, repeat; their traces and what people say."""

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
    """Runs of every kind, newest first, in pages. Days are UTC."""
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
    """A run of any kind: where it stands, how it ended, what it took."""
    async with services.transaction(caller) as conn:
        return await show_run(conn, services, caller, trace_id)


# Text in the document: generated clients send no other header, and EventSource sends what came.
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
    """Where the stream begins. Nothing left to tell is 204: it stops a browser's EventSource."""
    async with services.transaction(caller) as conn:
        over = await select_is_over(conn, trace_id)
        found = await select_found_run(conn, caller.tenant, trace_id)
    if found is None:
        raise unknown_run(trace_id)
    after = last_event_id or 0
    if after > found.last_seq:  # nothing would ever come, not even the end
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
    """The run's events as they come, from the first one, or from the one after Last-Event-ID.

    The stream ends after the event `finished`; if an operator reset the run, after the last one.
    Any number may watch; a lost connection resumes.
    """
    async with aclosing(services.watchers.watch(caller.tenant, trace_id, after)) as events:
        async for event in events:
            yield ServerSentEvent(data=event, event=event.kind, id=str(event.seq))


@router.post("/{trace_id}/cancel", status_code=202, responses=declared(404, 409))
async def cancel_run(trace_id: TraceId, services: AppServices, caller: GoalsWrite) -> Run:
    """Ask a run to stop where it stands. Its row and its trace say `cancelled` soon after."""
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
    """Repeat an ended run from a stage on, as a run of its own; the old result stays.

    Model and prompt versions are the old run's, but for what the body changes.
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
    """Leads to the run's trace in Opik."""
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
    """Ask the run's workflow to cancel. Raises NotFound, AlreadyFinished or Unavailable.

    A run that was not started yet is started first: then it ends as any cancelled run does.
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
    """False when Temporal knows no workflow of that id."""
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

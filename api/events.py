"""A run's progress, live: server-sent events made from rows."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Path
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException

from api.deps import Reading, Rein
from api.examples import TRACE_ID
from api.runs import unknown_run
from db.results import select_found_run
from domain.errors import InvalidRequest
from domain.runs import FINAL_STATUSES

router = APIRouter(prefix="/api/goals", tags=["goals"])

LARGEST_SEQ = 2**31 - 1


async def _position(
    trace_id: Annotated[UUID, Path(examples=[TRACE_ID])],
    conn: Reading,
    last_event_id: Annotated[
        int | None,
        Header(ge=0, le=LARGEST_SEQ, description="The id of the last event you have"),
    ] = None,
) -> int:
    """Where the stream begins. Nothing left to tell is 204: it stops a browser's EventSource."""
    found = await select_found_run(conn, trace_id)
    if found is None:
        raise unknown_run(trace_id)
    after = last_event_id or 0
    if after > found.last_seq:  # nothing would ever come, not even the end
        raise InvalidRequest(
            f"header.last-event-id: expected at most {found.last_seq}, the run's last event; "
            f"came {after}",
            cure="send the id of an event of this run, or leave the header out to have them all",
        )
    if found.status in FINAL_STATUSES and after == found.last_seq:
        raise HTTPException(204)
    return after


@router.get(
    "/{trace_id}/events",
    response_class=EventSourceResponse,
    responses={204: {"description": "The run has ended and you have all its events"}},
)
async def watch_goal(
    trace_id: UUID, rein: Rein, after: Annotated[int, Depends(_position)]
) -> AsyncIterator[ServerSentEvent]:
    """The run's events as they come, from the first one, or from the one after Last-Event-ID.

    The stream ends after the event `finished`. Any number may watch; a lost connection resumes.
    """
    async with aclosing(rein.watchers.watch(trace_id, after)) as events:
        async for event in events:
            yield ServerSentEvent(data=event, event=event.kind, id=str(event.seq))

"""The lasting link to a run's trace."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path
from fastapi.responses import RedirectResponse

from api.deps import Reading, Rein
from api.examples import TRACE_ID
from api.runs import unknown_run
from db.results import select_found_run
from domain.errors import Unavailable

router = APIRouter(prefix="/api/traces", tags=["goals"])


@router.get("/{trace_id}", status_code=307, response_class=RedirectResponse)
async def open_trace_page(
    trace_id: Annotated[UUID, Path(examples=[TRACE_ID])], conn: Reading, rein: Rein
) -> RedirectResponse:
    """Leads to the run's trace in Opik."""
    if await select_found_run(conn, trace_id) is None:
        raise unknown_run(trace_id)
    page = await rein.pages.find(conn, trace_id)
    if page is None:
        raise Unavailable(
            "the first trace has not reached Opik yet, so its page is not known",
            cure="try again in a moment; if it stays, see whether the shipper and Opik run",
            retry_after=2,
        )
    return RedirectResponse(page, 307)

"""Goals: start, follow, read, cancel, repeat."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Path, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api import cursors, runs
from api.deps import IdempotencyKey, JsonOnly, Reading, Rein, Wait
from api.examples import GOAL_EXAMPLES, RERUN_EXAMPLES, TRACE_ID
from api.models import GoalItem, GoalPage, GoalRun
from api.reruns import repeat
from db.pool import acquire
from db.prompts import select_current_prompts
from db.results import Filters, Position, select_summaries
from domain.errors import InvalidRequest, Unavailable
from domain.goals import GoalSubmission, RerunSubmission
from domain.runs import STAGES, Manifest, PromptRef, RunStatus

router = APIRouter(prefix="/api/goals", tags=["goals"])

TraceId = Annotated[UUID, Path(description="The run's trace id", examples=[TRACE_ID])]


def _no_nul(text: str | None) -> str | None:
    if text is not None and "\x00" in text:
        raise ValueError("the text holds a NUL character; remove it")
    return text


class GoalQuery(BaseModel):
    """What a list is narrowed to. A misspelt filter is refused, or it would find everything."""

    model_config = ConfigDict(extra="forbid")

    status: list[RunStatus] | None = Field(None, description="One or several")
    min_score: float | None = Field(None, ge=0, le=10)
    max_score: float | None = Field(None, ge=0, le=10)
    since: date | None = Field(None, alias="from", description="Accepted on or after")
    until: date | None = Field(None, alias="to", description="Accepted on or before")
    q: Annotated[str | None, AfterValidator(_no_nul)] = Field(
        None, min_length=1, max_length=200, description="Words of the goal"
    )
    user_id: str | None = Field(None, max_length=200, pattern=r"^[!-~]+$")
    cursor: str | None = Field(None, max_length=200, description="`next_cursor` of the page before")
    limit: int = Field(20, ge=1, le=100)

    def filters(self) -> Filters:
        return Filters(
            self.status,
            self.min_score,
            self.max_score,
            _start(self.since),
            _end(self.until),
            self.q,
            self.user_id,
        )


@router.post("", status_code=202, dependencies=[JsonOnly])
async def create_goal(
    submission: Annotated[GoalSubmission, Body(openapi_examples=GOAL_EXAMPLES)],
    response: Response,
    rein: Rein,
    wait_s: Wait,
    idempotency_key: IdempotencyKey = None,
) -> GoalRun:
    """Turn a goal into a resolution, its scores and a weekly plan.

    Answers 202 at once; the result comes within seconds: follow `links.events`, read `links.self`,
    or send `Prefer: wait=N`. The same Idempotency-Key finds the same run, whatever became of it.
    """
    async with acquire(rein.pool) as conn, conn.transaction():
        new = runs.NewRun(
            **dict(submission),
            manifest=_manifest(rein, await select_current_prompts(conn)),
            idempotency_key=idempotency_key,
            body=submission.model_dump_json(),
        )
        accepted = await runs.accept(conn, rein, new)
        if not accepted.replayed:  # a repeated request may come after its deadline
            _check_deadline(submission)
    runs.start_unless_ended(rein, accepted)
    return await runs.answer(rein, accepted, response, wait_s)


@router.get("")
async def list_goals(conn: Reading, rein: Rein, query: Annotated[GoalQuery, Query()]) -> GoalPage:
    """Goals, newest first, in pages. Days are UTC."""
    after = cursors.decode(query.cursor) if query.cursor else None
    found = await select_summaries(conn, query.filters(), after, query.limit + 1)
    items = [
        GoalItem(**dict(summary), link=rein.addresses.goal(summary.trace_id))
        for summary in found[: query.limit]
    ]
    more = found[query.limit :]
    last = Position(items[-1].created_at, items[-1].trace_id) if more else None
    return GoalPage(items=items, next_cursor=cursors.encode(*last) if last else None)


@router.get("/{trace_id}")
async def read_goal(trace_id: TraceId, conn: Reading, rein: Rein) -> GoalRun:
    """A goal and what became of it so far."""
    return await runs.show(conn, rein, trace_id)


@router.post("/{trace_id}/cancel", status_code=202)
async def cancel_goal(trace_id: TraceId, rein: Rein) -> GoalRun:
    """Ask a run to stop where it stands. Its row and its trace say `cancelled` soon after."""
    await runs.cancel(rein, trace_id)
    async with acquire(rein.pool) as conn:
        return await runs.show(conn, rein, trace_id)


@router.post("/{trace_id}/rerun", status_code=202, dependencies=[JsonOnly])
async def rerun_goal(
    trace_id: TraceId,
    submission: Annotated[RerunSubmission, Body(openapi_examples=RERUN_EXAMPLES)],
    response: Response,
    rein: Rein,
    wait_s: Wait,
    idempotency_key: IdempotencyKey = None,
) -> GoalRun:
    """Repeat an ended run from a stage on, as a run of its own; the old result stays.

    Model and prompt versions are the old run's, but for what the body changes.
    """
    async with acquire(rein.pool) as conn, conn.transaction():
        new = await repeat(conn, trace_id, submission, idempotency_key)
        accepted = await runs.accept(conn, rein, new)
    runs.start_unless_ended(rein, accepted)
    return await runs.answer(rein, accepted, response, wait_s)


def _manifest(rein: Rein, current: dict[str, PromptRef]) -> Manifest:
    prompts = {stage: current[stage] for stage in STAGES if stage in current}
    if len(prompts) < len(STAGES):
        raise Unavailable(
            "no prompts are registered yet", cure="start a worker: it registers them", retry_after=5
        )
    return Manifest(
        model=rein.config.model, prompts=prompts, quality_threshold=rein.config.quality_threshold
    )


def _check_deadline(submission: GoalSubmission) -> None:
    deadline, today = submission.context.deadline, datetime.now(UTC).date()
    if deadline is not None and deadline <= today:
        raise InvalidRequest(
            f"body.context.deadline: expected a day after today ({today}), came {deadline}",
            cure="send a later deadline, or leave it out",
        )


def _start(day: date | None) -> datetime | None:
    return None if day is None else datetime.combine(day, time.min, UTC)


def _end(day: date | None) -> datetime | None:
    """The end of the day; the last day of the calendar has none."""
    return None if day is None or day == date.max else _start(day + timedelta(days=1))

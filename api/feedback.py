"""Endpoints for feedback on the results of runs.

Feedback is stored in the same transaction as the scores that it changes on the run's trace.
"""

from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Body, Response

from api.accepting import unknown_run
from api.callers import FeedbackWrite, GoalsRead
from api.deps import AppServices, JsonOnly, TraceId
from api.examples import FEEDBACK_EXAMPLES
from api.models import StoredFeedback, TraceFeedback
from api.problems import ALWAYS, OF_BODIES, declared
from db.feedback import (
    insert_feedback,
    insert_feedback_history,
    lock_feedback,
    select_feedback,
    select_feedback_totals,
    update_feedback,
)
from db.pool import Connection
from db.runs import lock_found_run, select_found_run
from domain.callers import Caller
from domain.errors import NotReady
from domain.feedback import FEEDBACK_DIMENSIONS, Feedback, FeedbackSubmission, FeedbackTotals
from domain.runs import FINAL_STATUSES, RunStatus
from tracing import Score, put_scores
from workflows.kinds import KINDS

router = APIRouter(prefix="/api", tags=["feedback"], responses=ALWAYS | declared(404))

_SENT = frozenset(("rating", "comment", *FEEDBACK_DIMENSIONS))


@router.post(
    "/feedback",
    status_code=201,
    dependencies=[JsonOnly],
    responses=OF_BODIES
    | declared(409)
    | {200: {"model": StoredFeedback, "description": "It replaced earlier feedback"}},
)
async def send_feedback(
    submission: Annotated[FeedbackSubmission, Body(openapi_examples=FEEDBACK_EXAMPLES)],
    response: Response,
    services: AppServices,
    caller: FeedbackWrite,
) -> StoredFeedback:
    """Rate the result of a run, at once or any time later.

    Each person has one current feedback per run. New feedback of the same person replaces it (the
    answer is 200 instead of 201), and the earlier version is kept. Identical feedback changes
    nothing. The run's trace in Opik shows the mean rating of all people.
    """
    async with services.transaction(caller) as conn:
        await _check_rated(conn, caller, submission.trace_id)
        stored = await insert_feedback(conn, uuid4(), submission)
        old = None
        if stored is None:
            response.status_code = 200
            old = await lock_feedback(conn, submission.trace_id, submission.user_id)
            stored = await _replace(conn, old, submission)
        totals = await select_feedback_totals(conn, stored.trace_id)
        scores = _scores(totals, answered_before=old)
        await put_scores(conn, stored.trace_id, services.config.opik_project, scores)
    services.gauges.count_feedback(float(submission.rating))
    return StoredFeedback(**dict(stored))


@router.get("/runs/{trace_id}/feedback")
async def read_feedback(
    trace_id: TraceId,
    services: AppServices,
    caller: GoalsRead,
) -> TraceFeedback:
    """Read the current feedback on a run: totals over all people, and the newest 100 items."""
    async with services.transaction(caller) as conn:
        if await select_found_run(conn, caller.tenant, trace_id) is None:
            raise unknown_run(trace_id)
        totals = await select_feedback_totals(conn, trace_id)
        items = await select_feedback(conn, trace_id)
    return TraceFeedback(
        trace_id=trace_id,
        count=totals.people,
        average=None if totals.average is None else float(totals.average),
        shares=totals.shares,
        replaced=totals.replaced,
        items=[StoredFeedback(**dict(item)) for item in items],
    )


async def _check_rated(conn: Connection, caller: Caller, trace_id: UUID) -> None:
    """Check that the run has a result to rate, and lock its row until the transaction ends.

    With the lock, concurrent feedback on one run is stored one after the other. Raises NotFound
    when the tenant has no such run, and NotReady when its status allows no rating.
    """
    run = await lock_found_run(conn, caller.tenant, trace_id)
    if run is None:
        raise unknown_run(trace_id)
    if run.status not in KINDS[run.kind].rated:
        raise NotReady(
            f"expected a run with a result, came one that is {run.status}",
            cure=_cure(run.status),
            trace_id=trace_id,
        )


def _cure(status: RunStatus) -> str:
    if status in FINAL_STATUSES:
        return "repeat the run, and rate that run's result"
    return "wait for the run's end, then send the same feedback"


async def _replace(conn: Connection, old: Feedback, sent: FeedbackSubmission) -> Feedback:
    if old.model_dump(include=set(_SENT)) == sent.model_dump(include=set(_SENT)):
        # The feedback is identical, for example because a client lost the answer and sent its
        # request again. Such a retry makes no new revision.
        return old
    await insert_feedback_history(conn, old)
    return await update_feedback(conn, old.feedback_id, sent)


def _scores(totals: FeedbackTotals, answered_before: Feedback | None) -> list[Score]:
    """Build the scores of a trace from the feedback of all people together.

    Opik keeps one value for each score name of a trace, so people cannot have scores of their own.
    `answered_before` is this person's replaced feedback, or None. If it had the only answer to a
    dimension, and the new feedback has none, the dimension's score is deleted (its value is None).
    """
    average = None if totals.average is None else float(totals.average)
    scores = [
        Score(name="user_feedback.rating", value=average, reason=totals.comment),
        Score(name="user_feedback.count", value=totals.people),
    ]
    for name, share in totals.shares.items():
        if share is not None or getattr(answered_before, name, None) is not None:
            scores.append(Score(name=f"user_feedback.{name}", value=share))
    return scores

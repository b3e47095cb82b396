"""Accepting a run, starting its workflow, showing it: what several endpoints share."""

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import structlog
from fastapi import Response
from pydantic import BaseModel
from temporalio.service import RPCError, RPCStatusCode

from api.deps import Services
from api.links import RunLinks
from api.models import GoalRun
from db.goals import insert_goal
from db.pool import Connection, acquire
from db.results import select_found_run, select_report, select_request, select_run_by_key
from db.runs import append_event, insert_run
from domain.errors import AlreadyFinished, IdempotencyMismatch, NotFound, Unavailable
from domain.goals import GoalContext, GoalRequest, Rerun
from domain.results import GoalReport
from domain.runs import FINAL_STATUSES, TRACE_NAMES, Manifest, RunStatus, pseudonym, workflow_id
from tracing import attach, new_trace_id, open_trace
from workflows.starting import start_goal_generation

log = structlog.get_logger()

START_TIMEOUT_S = 3


class NewRun(BaseModel):
    """What a run is made of, before it has an id."""

    user_id: str
    goal: str
    locale: str
    context: GoalContext
    manifest: Manifest
    rerun: Rerun | None = None
    idempotency_key: str | None
    body: str

    @property
    def sha256(self) -> str:
        """Of all that the caller sent: the same key with another body is a mistake."""
        source = self.rerun.source_trace_id if self.rerun else ""
        return hashlib.sha256(f"{source}\n{self.body}".encode()).hexdigest()


class Accepted(NamedTuple):
    """The run that a request found or made. `request` is what its workflow is started with."""

    trace_id: UUID
    request: GoalRequest
    status: RunStatus = "accepted"
    replayed: bool = False


async def accept(conn: Connection, rein: Services, new: NewRun) -> Accepted:
    """Store a run, or find the one under the same Idempotency-Key.

    Raises IdempotencyMismatch when that one was asked for with another body.
    """
    now = datetime.now(UTC)
    request = _request(new, new_trace_id(now), now, rein.config.pseudonym_key.get_secret_value())
    inserted = await insert_run(
        conn,
        trace_id=request.trace_id,
        kind="goal_generation",
        user_id=new.user_id,
        pseudonym=request.user,
        workflow_id=workflow_id("goal_generation", request.trace_id),
        idempotency_key=new.idempotency_key,
        request_sha256=new.sha256,
        request=request,
        manifest=new.manifest,
        source_trace_id=new.rerun.source_trace_id if new.rerun else None,
        created_at=now,
    )
    if not inserted and new.idempotency_key:
        return await _replay(conn, new.idempotency_key, new.sha256)
    await insert_goal(conn, request.trace_id, new.goal, new.locale, new.context)
    await append_event(conn, request.trace_id, "accepted", "accepted", None, _said(request))
    await _open_trace(conn, rein, request, now)
    return Accepted(request.trace_id, request)


async def start(rein: Services, request: GoalRequest) -> bool:
    """Start the run's workflow. False when Temporal is away: the reconciler starts it then."""
    try:
        with attach(rein.context(request.trace_id)):
            async with asyncio.timeout(START_TIMEOUT_S):
                await start_goal_generation(
                    rein.temporal,
                    request,
                    task_queue=rein.config.task_queue,
                    trace_url=rein.addresses.trace(request.trace_id),
                )
    except (RPCError, RuntimeError, TimeoutError) as error:
        # RuntimeError is what the SDK raises when a lazy client cannot connect.
        log.warning(
            "start_left_to_reconciler",
            trace_id=str(request.trace_id),
            error=type(error).__name__,
        )
        return False
    return True


def start_unless_ended(rein: Services, accepted: Accepted) -> None:
    """Start an accepted run's workflow; for a replayed one that may not have happened yet.

    The answer does not wait for it: the run is accepted, and whatever happens to this process,
    the reconciler starts what was not started.
    """
    if not accepted.replayed or accepted.status == "accepted":
        starting = asyncio.create_task(start(rein, accepted.request))
        rein.starting.add(starting)
        starting.add_done_callback(rein.starting.discard)


async def cancel(rein: Services, trace_id: UUID) -> None:
    """Ask the run's workflow to cancel. Raises NotFound, AlreadyFinished or Unavailable.

    A run that was not started yet is started first: then it ends as any cancelled run does.
    """
    async with acquire(rein.pool) as conn:
        found = await select_found_run(conn, trace_id)
        request = await select_request(conn, trace_id)
    if found is None or request is None:
        raise unknown_run(trace_id)
    if found.status in FINAL_STATUSES:
        raise AlreadyFinished(f"the run ended as {found.status}", cure="nothing is left to cancel")
    if not await _cancel_workflow(rein, trace_id):
        if not await start(rein, request):
            raise _temporal_away()
        await _cancel_workflow(rein, trace_id)


async def _cancel_workflow(rein: Services, trace_id: UUID) -> bool:
    """False when Temporal knows no workflow of that run."""
    workflow = rein.temporal.get_workflow_handle(workflow_id("goal_generation", trace_id))
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


async def answer(
    rein: Services, accepted: Accepted, response: Response, wait_s: int | None
) -> GoalRun:
    """The run as it is now, or as it is after the wait; 200 when it has its result, else 202."""
    response.headers["Location"] = rein.addresses.goal(accepted.trace_id)
    if accepted.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    if wait_s is not None:
        await rein.watchers.finished(accepted.trace_id, wait_s)
        response.headers["Preference-Applied"] = f"wait={wait_s}"
    try:
        async with acquire(rein.pool) as conn:
            run = await show(conn, rein, accepted.trace_id)
    except Unavailable as error:
        # Without this a caller that has no key would send it again, and have two runs.
        raise Unavailable(
            f"the run is accepted, but cannot be shown: {error.detail}",
            cure=f"do not send it again: read {rein.addresses.goal(accepted.trace_id)}",
            retry_after=error.retry_after,
            trace_id=accepted.trace_id,
        ) from error
    response.status_code = 200 if run.status in FINAL_STATUSES else 202
    return run


async def show(conn: Connection, rein: Services, trace_id: UUID) -> GoalRun:
    """A run with its links. Raises NotFound."""
    report = await select_report(conn, trace_id)
    if report is None:
        raise unknown_run(trace_id)
    return _with_links(report, rein, await rein.pages.find(conn, trace_id))


def _temporal_away() -> Unavailable:
    return Unavailable(
        "Temporal did not answer in time", cure="send the same request again", retry_after=3
    )


def unknown_run(trace_id: UUID) -> NotFound:
    return NotFound(
        f"no run has the trace id {trace_id}",
        cure="use the trace_id of an answer to POST /api/goals; GET /api/goals lists them",
        trace_id=trace_id,
    )


def _request(new: NewRun, trace_id: UUID, now: datetime, key: str) -> GoalRequest:
    return GoalRequest(
        trace_id=trace_id,
        user=pseudonym(new.user_id, key),
        goal=new.goal,
        locale=new.locale,
        context=new.context,
        today=now.date(),
        manifest=new.manifest,
        rerun=new.rerun,
    )


async def _replay(conn: Connection, key: str, sha256: str) -> Accepted:
    found = await select_run_by_key(conn, key)
    if found is None or found.request_sha256 != sha256:
        raise IdempotencyMismatch(
            "the Idempotency-Key came before, with another body or address",
            cure="send a new key with a new request; repeat a request without changing it",
            trace_id=found.trace_id if found else None,
        )
    request = await select_request(conn, found.trace_id)
    if request is None:
        raise unknown_run(found.trace_id)
    return Accepted(found.trace_id, request, found.status, replayed=True)


async def _open_trace(
    conn: Connection, rein: Services, request: GoalRequest, now: datetime
) -> None:
    addresses, trace_id = rein.addresses, request.trace_id
    prompts = {stage: f"v{ref.version}" for stage, ref in request.manifest.prompts.items()}
    metadata = {
        "user_id": request.user,
        "workflow_id": workflow_id("goal_generation", trace_id),
        "workflow_url": addresses.workflow(trace_id),
        "run_url": addresses.goal(trace_id),
        "manifest": request.manifest.model_dump(mode="json"),
        "locale": request.locale,
        "accepted_at": now.isoformat(),
    }
    if rein.config.notice:
        metadata["notice"] = rein.config.notice
    if request.rerun:
        metadata["rerun"] = request.rerun.model_dump(mode="json")
    await open_trace(
        conn,
        rein.context(trace_id),
        name=TRACE_NAMES["goal_generation"],
        started_at=now,
        input={
            "goal": request.goal,
            "context": request.context.model_dump(mode="json", exclude_none=True),
        },
        metadata=metadata,
        tags=[
            request.manifest.model,
            *(f"{stage}:{version}" for stage, version in prompts.items()),
            *(["rerun"] if request.rerun else []),
        ],
    )


def _said(request: GoalRequest) -> str:
    if request.rerun:
        return f"Accepted: again from {request.rerun.from_stage}"
    return "Accepted"


def _with_links(report: GoalReport, rein: Services, page: str | None) -> GoalRun:
    links: RunLinks = rein.addresses.run(report.trace_id, trace=page)
    return GoalRun(**dict(report), notice=rein.config.notice or None, links=links)

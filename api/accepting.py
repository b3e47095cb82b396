"""What "accepted" means: a row, an event and an open trace in one transaction, then a workflow."""

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog
from pydantic import BaseModel
from temporalio.service import RPCError

from api.deps import Services
from api.limits import admit, check_model
from client import start_run
from db.events import append_event
from db.idempotency import claim_key
from db.pool import Connection
from db.prompts import select_current_prompts
from db.runs import StoredRequest, insert_run, select_found_run, select_request
from domain.callers import Caller
from domain.errors import IdempotencyMismatch, NotFound, Unavailable
from domain.runs import (
    Manifest,
    RunKind,
    RunRequest,
    RunStatus,
    pseudonym,
    workflow_id,
)
from tracing import TraceContext, new_trace_id, open_trace
from workflows.kinds import KINDS

log = structlog.get_logger()

START_TIMEOUT_S = 3


@dataclass(frozen=True)
class Sent:
    """What came with a request that makes a run: its key, and what makes it the same request."""

    path: str
    body: BaseModel
    idempotency_key: str | None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what was sent; defaults are left out, because a release may add some."""
        sent = self.body.model_dump(mode="json", exclude_unset=True)
        return hashlib.sha256(
            f"{self.path}\n{json.dumps(sent, sort_keys=True)}".encode()
        ).hexdigest()


@dataclass(frozen=True)
class Origin:
    """When a new run begins, under which id, and for whom."""

    trace_id: UUID
    at: datetime
    caller: Caller
    user_id: str
    user: str

    @classmethod
    def new(cls, services: Services, caller: Caller, user_id: str) -> "Origin":
        now = datetime.now(UTC)
        key = services.config.pseudonym_key.get_secret_value()
        return cls(
            trace_id=new_trace_id(now),
            at=now,
            caller=caller,
            user_id=user_id,
            user=pseudonym(f"{caller.tenant}/{user_id}", key),
        )


@dataclass(frozen=True)
class Accepted:
    """The run that a request found or made. `request` is what its workflow is started with."""

    trace_id: UUID
    kind: RunKind
    request: RunRequest | None
    status: RunStatus = "accepted"
    replayed: bool = False
    headers: Mapping[str, str] | None = None


async def find_replayed(conn: Connection, origin: Origin, sent: Sent) -> Accepted | None:
    """The run that this very request made before; None when it is new, and its key is taken then.

    Raises IdempotencyMismatch when the key came before with another request.
    """
    if sent.idempotency_key is None:
        return None
    claim = await claim_key(conn, sent.idempotency_key, sent.fingerprint, origin.trace_id)
    if claim is None:
        return None
    if claim.fingerprint != sent.fingerprint:
        raise IdempotencyMismatch(
            "the Idempotency-Key came before, with another body or address",
            cure="send a new key with a new request; repeat a request without changing it",
            trace_id=claim.trace_id,
        )
    tenant = origin.caller.tenant
    found = await select_found_run(conn, tenant, claim.trace_id)
    stored = await select_request(conn, tenant, claim.trace_id)
    if found is None or stored is None:
        raise unknown_run(claim.trace_id)
    request = request_of(stored)
    return Accepted(claim.trace_id, found.kind, request, found.status, replayed=True)


async def accept(
    conn: Connection,
    services: Services,
    origin: Origin,
    request: RunRequest,
    *,
    goal_id: UUID,
    input: Mapping[str, Any],
) -> Accepted:
    """Store a run of any kind with its first event and its open trace.

    `goal_id` is the trace id of the run that holds the person's words, `input` what the trace shows
    as its input. Raises TooManyRequests and ModelNotAllowed.
    """
    caller = origin.caller
    check_model(caller.limits, request.manifest.model)
    await insert_run(conn, request, user_id=origin.user_id, goal_id=goal_id, created_at=origin.at)
    again = f": again from {request.rerun.from_stage}" if request.rerun else ""
    await append_event(conn, request.trace_id, "accepted", "accepted", None, f"Accepted{again}")
    await _open_trace(conn, services, request, origin.at, input)
    # Last, because it lets the tenant's other requests wait until the transaction ends.
    headers = await admit(conn, caller)
    return Accepted(request.trace_id, request.kind, request, headers=headers)


async def current_manifest(conn: Connection, services: Services, kind: RunKind) -> Manifest:
    """The prompts that are current, the model and the threshold that new runs are made with.

    Raises Unavailable until a worker has registered the prompts.
    """
    current, names = await select_current_prompts(conn), KINDS[kind].prompt_names()
    missing = [name for name in names if name not in current]
    if missing:
        raise Unavailable(
            f"no prompt is registered for {', '.join(missing)}",
            cure="start a worker: it registers them",
            retry_after=5,
        )
    return Manifest(
        model=services.config.model,
        prompts={name: current[name] for name in names},
        quality_threshold=services.config.quality_threshold,
    )


async def start(services: Services, request: RunRequest) -> bool:
    """Start the run's workflow. False when Temporal is away: the reconciler starts it then."""
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await start_run(services.temporal, request, services.start_options)
    except (RPCError, RuntimeError, TimeoutError) as error:
        # RuntimeError is what the SDK raises when a lazy client cannot connect.
        log.warning(
            "start_left_to_reconciler",
            trace_id=str(request.trace_id),
            error=type(error).__name__,
        )
        return False
    return True


def start_unless_ended(services: Services, accepted: Accepted) -> None:
    """Start an accepted run's workflow; for a replayed one that may not have happened yet.

    The answer does not wait for it: the run is accepted, and whatever happens to this process,
    the reconciler starts what was not started.
    """
    if accepted.request and (not accepted.replayed or accepted.status == "accepted"):
        starting = asyncio.create_task(start(services, accepted.request))
        services.starting.add(starting)
        starting.add_done_callback(services.starting.discard)


def request_of(stored: StoredRequest) -> RunRequest:
    """A stored input, read as its kind does."""
    return KINDS[stored.kind].request.model_validate(stored.body)


def unknown_run(trace_id: UUID) -> NotFound:
    return NotFound(
        f"no run has the trace id {trace_id}",
        cure="use the trace_id of an answer to a POST that made a run; GET /api/runs lists them",
        trace_id=trace_id,
    )


async def _open_trace(
    conn: Connection,
    services: Services,
    request: RunRequest,
    now: datetime,
    input: Mapping[str, Any],
) -> None:
    addresses, trace_id = services.addresses, request.trace_id
    prompts = [f"{stage}:v{ref.version}" for stage, ref in request.manifest.prompts.items()]
    metadata = {
        "user_id": request.user,
        "tenant": request.tenant,
        "workflow_id": workflow_id(request.kind, trace_id),
        "workflow_url": addresses.workflow(request.kind, trace_id),
        "run_url": addresses.run(trace_id),
        "manifest": request.manifest.model_dump(mode="json"),
        "accepted_at": now.isoformat(),
    }
    if services.config.notice:
        metadata["notice"] = services.config.notice
    if request.rerun:
        metadata["rerun"] = request.rerun.model_dump(mode="json", exclude_none=True)
    await open_trace(
        conn,
        TraceContext(
            trace_id=trace_id,
            project=services.config.opik_project,
            environment=services.config.environment,
        ),
        name=KINDS[request.kind].trace,
        started_at=now,
        input=dict(input),
        metadata=metadata,
        tags=[request.manifest.model, *prompts, *(["rerun"] if request.rerun else [])],
    )

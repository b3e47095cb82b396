"""Accepts runs: stores a run's row, first event and open trace in one transaction.

The run's workflow is started afterwards, in the background.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from api.deps import Services
from api.limits import admit, check_model
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


@dataclass(frozen=True)
class Sent:
    """A request to create a run.

    Its fingerprint tells whether a repeated Idempotency-Key came with the same request.
    """

    path: str
    body: BaseModel
    idempotency_key: str | None

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of the path and the body, in hex.

        Fields that the caller did not send are left out. Otherwise a release that adds a field with
        a default would change the fingerprint of a repeated request.
        """
        sent = self.body.model_dump(mode="json", exclude_unset=True)
        return hashlib.sha256(
            f"{self.path}\n{json.dumps(sent, sort_keys=True)}".encode()
        ).hexdigest()


@dataclass(frozen=True)
class Origin:
    """The trace id, the start time, the caller and the person of a new run.

    `user` is the person's pseudonym, which Temporal and Opik see instead of `user_id`.
    """

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
    """The run that a request created, or found again by its Idempotency-Key (`replayed`).

    `request` is the input of the run's workflow. `headers` are the rate-limit headers of the
    answer.
    """

    trace_id: UUID
    kind: RunKind
    request: RunRequest | None
    status: RunStatus = "accepted"
    replayed: bool = False
    headers: Mapping[str, str] | None = None


async def find_replayed(conn: Connection, origin: Origin, sent: Sent) -> Accepted | None:
    """Return the run that the same request created earlier, or claim its key for a new run.

    None means that the caller must accept a new run: the key is new, or the request has no key.
    Raises IdempotencyMismatch when the key was used with another path or body before, and NotFound
    when the run that the key belongs to is gone.
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

    `goal_id` is the trace id of the run that the person's goal was sent with; `input` is shown as
    the input of the trace in Opik. Raises ModelNotAllowed when the tenant may not use the model,
    and TooManyRequests when a limit of the tenant is reached.
    """
    caller = origin.caller
    check_model(caller.limits, request.manifest.model)
    await insert_run(conn, request, user_id=origin.user_id, goal_id=goal_id, created_at=origin.at)
    again = f": again from {request.rerun.from_stage}" if request.rerun else ""
    await append_event(conn, request.trace_id, "accepted", "accepted", None, f"Accepted{again}")
    await _open_trace(conn, services, request, origin.at, input)
    # This call comes last, because it locks the tenant's row: the tenant's other requests wait for
    # that lock until this transaction ends.
    headers = await admit(conn, caller)
    return Accepted(request.trace_id, request.kind, request, headers=headers)


async def current_manifest(conn: Connection, services: Services, kind: RunKind) -> Manifest:
    """Return the manifest of a new run: the current prompts, the model and the quality threshold.

    Raises Unavailable until a worker has registered the prompts of this kind.
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


def start_unless_ended(services: Services, accepted: Accepted) -> None:
    """Start the workflow of an accepted run in the background, unless the run was started before.

    A replayed run with the status `accepted` is started again, because its first start may have
    failed. If this process dies, the reconciler starts the workflow.
    """
    if accepted.request and (not accepted.replayed or accepted.status == "accepted"):
        services.starter.start_soon(accepted.request)


def request_of(stored: StoredRequest) -> RunRequest:
    """Parse a stored workflow input with the request model of its kind of run."""
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

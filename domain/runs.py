"""A run: one workflow, one trace, one row. What every kind of run has in common."""

import hashlib
import hmac
from datetime import date, datetime
from typing import Literal
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field

from domain.callers import LOCAL_TENANT

# Kinds and stages are open words here: workflows/kinds.py says which there are.
RunKind = str
Stage = str

RunStatus = Literal[
    "accepted",
    "running",
    "success",
    "partial",
    "refused",
    "failed",
    "cancelled",
    "terminated",
    "timed_out",
]
FINAL_STATUSES: frozenset[RunStatus] = frozenset(
    ("success", "partial", "refused", "failed", "cancelled", "terminated", "timed_out")
)


class Message(BaseModel):
    """Base of what crosses a process boundary: additive, unknown fields are ignored on read."""

    # An error about a message names its fields; the values may be what people wrote.
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


class PromptRef(Message):
    """Names the exact words used: a prompt's stage, its version and the hash of its text."""

    stage: str
    version: int = Field(ge=1)
    sha256: str


class Manifest(Message):
    """What a run is made with; fixed when the run is accepted and never changed afterwards."""

    model: str
    prompts: dict[Stage, PromptRef]
    quality_threshold: float = Field(ge=0, le=10)


class RunRef(Message):
    """What every stage needs to know about the run it works for."""

    trace_id: UUID
    tenant: str = LOCAL_TENANT
    model: str


class StageRequest(Message):
    """Input of every stage that asks a model; a stage adds what it works on."""

    run: RunRef
    prompt: PromptRef


class Rerun(Message):
    """What a run that repeats another one starts from."""

    source_trace_id: UUID
    from_stage: Stage


class RunRequest(Message):
    """Input of every workflow that is a run. Made once, when the run's row is stored."""

    kind: RunKind
    trace_id: UUID
    tenant: str = Field(default=LOCAL_TENANT, description="Who owns the run and all it makes")
    user: str = Field(description="The person's pseudonym")
    about: str = Field(default="", description="What the run is about, in one line for operators")
    today: date = Field(description="The day the run was accepted (UTC)")
    manifest: Manifest
    rerun: Rerun | None = None

    @property
    def run(self) -> RunRef:
        return RunRef(trace_id=self.trace_id, tenant=self.tenant, model=self.manifest.model)


class RunOutcome(Message):
    """What every workflow that is a run returns; a kind adds the ids of what it made."""

    trace_id: UUID
    status: RunStatus
    title: str | None = None
    quality_score: float | None = None
    refusal_reason: str | None = None
    missing: dict[Stage, str] = Field(
        default={}, description="Stages that failed for good, with their error codes"
    )


class Usage(Message):
    """Tokens of one model call. Thinking tokens are billed as output; cached ones are input."""

    input_tokens: int = Field(default=0, ge=0)
    output_tokens: int = Field(default=0, ge=0)
    thought_tokens: int = Field(default=0, ge=0)
    cached_tokens: int = Field(default=0, ge=0)

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens + self.thought_tokens


RunEventKind = Literal[
    "accepted", "stage_started", "stage_retrying", "stage_finished", "stage_failed", "finished"
]


class RunEvent(Message):
    """One line of a run's progress. `seq` counts from 1 without gaps within a run."""

    trace_id: UUID
    seq: int
    kind: RunEventKind
    stage: Stage | None
    message: str
    data: dict[str, object]
    at: datetime


def workflow_id(kind: RunKind, trace_id: UUID) -> str:
    """`<kind>-<trace_id>`: copy either id from any screen into any other."""
    return f"{kind}-{trace_id}"


def run_path(trace_id: UUID) -> str:
    """Where the API shows a run, whatever its kind."""
    return f"/api/runs/{trace_id}"


def part_id(trace_id: UUID, part: str, of: object) -> UUID:
    """The id of what a run makes: `evaluation` of a resolution, say. The same on every attempt."""
    return uuid5(trace_id, f"{part}/{of}")


def pseudonym(user_id: str, key: str) -> str:
    """A stable name for a user that says nothing about the person (HMAC-SHA-256, 16 hex digits)."""
    return "u-" + hmac.new(key.encode(), user_id.encode(), hashlib.sha256).hexdigest()[:16]


def trace_id_of(workflow_id: str) -> UUID | None:
    """The trace id at the end of a run's workflow id; None for workflows that are no runs."""
    try:
        return UUID(workflow_id[-36:])
    except ValueError:
        return None

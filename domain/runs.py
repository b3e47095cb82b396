"""A run: one workflow, one trace, one row. What every kind of run has in common."""

import hashlib
import hmac
from datetime import UTC, date, datetime
from typing import Annotated, Literal
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, computed_field
from typing_extensions import TypeAliasType

from domain.callers import LOCAL_TENANT
from domain.run_errors import RunErrorCode

# The prompt that asks for a broken answer again; it belongs to every kind of run.
REPAIR = "repair"

# Kinds and stages are open words here: workflows/kinds.py says which there are.
RunKind = str
Stage = str

# Aliases that have a name have it in the OpenAPI document too, so generated clients share one type.
RunStatus = TypeAliasType(
    "RunStatus",
    Literal[
        "accepted",
        "running",
        "success",
        "partial",
        "refused",
        "failed",
        "cancelled",
        "terminated",
        "timed_out",
    ],
)
FINAL_STATUSES: frozenset[RunStatus] = frozenset(
    ("success", "partial", "refused", "failed", "cancelled", "terminated", "timed_out")
)


# Who refused to work on a person's words: Rein's own rule, the model's verdict, or the provider.
RefusalCode = TypeAliasType("RefusalCode", Literal["CRISIS", "HARMFUL", "NOT_A_GOAL", "BLOCKED"])


def _known(time_zone: str) -> str:
    if time_zone not in available_timezones():
        raise ValueError("expected an IANA time zone, such as Europe/Berlin")
    return time_zone


TimeZone = Annotated[
    str,
    AfterValidator(_known),
    Field(
        max_length=64,
        description="IANA name of where the person is: it decides which day is today",
        examples=["Europe/Berlin"],
    ),
]


class Message(BaseModel):
    """Base of what crosses a process boundary: additive, unknown fields are ignored on read."""

    # What is read back always has all its fields, so a client need not ask whether one is there.
    # An error about a message names its fields; the values may be what people wrote.
    model_config = ConfigDict(
        frozen=True, hide_input_in_errors=True, json_schema_serialization_defaults_required=True
    )


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
    repair: PromptRef | None = Field(
        default=None, description="The prompt that mends a broken answer; none in older runs"
    )


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
    time_zone: str | None = Field(default=None, description="IANA name; UTC when not known")
    today: date = Field(description="The day the run was accepted, where the person is")
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
    refusal_code: RefusalCode | None = None
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


RunEventKind = TypeAliasType(
    "RunEventKind",
    Literal[
        "accepted",
        "start_refused",
        "stage_started",
        "stage_retrying",
        "stage_finished",
        "stage_failed",
        "finished",
    ],
)


class Waiting(Message):
    """Why a run does not go on just now, and until when."""

    code: RunErrorCode = "UNKNOWN"
    since: datetime
    next_try_at: datetime | None = Field(
        default=None, description="Null for a start that was refused: it is tried every minute"
    )
    attempt: int | None = Field(default=None, description="How many attempts of the stage failed")


class RunEvent(Message):
    """One line of a run's progress. `seq` counts from 1 without gaps within a run."""

    trace_id: UUID
    seq: int
    kind: RunEventKind
    stage: Stage | None
    message: str
    data: dict[str, object]
    at: datetime

    @computed_field  # type: ignore[prop-decorator]
    @property
    def waiting(self) -> Waiting | None:
        """What the run waits for from this event on."""
        if self.kind not in ("start_refused", "stage_retrying"):
            return None
        return Waiting.model_validate(self.data | {"since": self.at})


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


def day_of(at: datetime, time_zone: str | None) -> date:
    """Which day it is where the person is; UTC's, when nobody knows where that is."""
    return at.astimezone(ZoneInfo(time_zone) if time_zone else UTC).date()


def trace_id_of(workflow_id: str) -> UUID | None:
    """The trace id at the end of a run's workflow id; None for workflows that are no runs."""
    try:
        return UUID(workflow_id[-36:])
    except ValueError:
        return None

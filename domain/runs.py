"""What all kinds of runs have in common. A run is one Temporal workflow, one trace and one row."""

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

# The name of the prompt that asks the model to correct an unusable answer, in all kinds of runs.
REPAIR = "repair"

# Kinds and stages are plain strings here; workflows/kinds.py lists the existing ones.
RunKind = str
Stage = str

# A TypeAliasType becomes a named schema in the OpenAPI document, so generated clients have one type
# for it instead of a copy per field.
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


# Why a person's text was refused. CRISIS comes from Rein's crisis rule, HARMFUL and NOT_A_GOAL are
# verdicts of the model, and BLOCKED comes from the provider's safety filter.
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
    """Base class of models that are stored or sent to another process.

    Releases only add fields, and unknown fields are ignored, so that older and newer processes
    can read each other's data.
    """

    # In the OpenAPI document all fields of answers are required, because answers contain them all.
    # A validation error names the invalid fields but not their values, which may be people's texts.
    model_config = ConfigDict(
        frozen=True, hide_input_in_errors=True, json_schema_serialization_defaults_required=True
    )


class PromptRef(Message):
    """The identity of a prompt's text: its stage, its version and the SHA-256 hash of its file."""

    stage: str
    version: int = Field(ge=1)
    sha256: str


class Manifest(Message):
    """The model, the prompts and the settings of a run, fixed when the run is accepted."""

    model: str
    prompts: dict[Stage, PromptRef]
    quality_threshold: float = Field(ge=0, le=10)


class RunRef(Message):
    """The part of a run's request that every stage needs."""

    trace_id: UUID
    tenant: str = LOCAL_TENANT
    model: str


class StageRequest(Message):
    """Base class of the inputs of all stages that ask a model."""

    run: RunRef
    prompt: PromptRef
    repair: PromptRef | None = Field(
        default=None, description="The prompt that mends a broken answer; none in older runs"
    )


class Rerun(Message):
    """Which run a rerun repeats, and the first stage that it runs again."""

    source_trace_id: UUID
    from_stage: Stage


class RunRequest(Message):
    """Base class of the inputs of all workflows that are runs.

    The request is built once, when the run is accepted, and stored in the run's row.
    """

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
    """Base class of the results of all workflows that are runs.

    Each kind of run adds the ids of what it made.
    """

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
    """The token counts of one model call.

    Thinking tokens are billed as output. Cached tokens are included in the input tokens.
    """

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
    """Why a run waits at the moment, since when, and when the next attempt is due."""

    code: RunErrorCode = "UNKNOWN"
    since: datetime
    next_try_at: datetime | None = Field(
        default=None, description="Null for a start that was refused: it is tried every minute"
    )
    attempt: int | None = Field(default=None, description="How many attempts of the stage failed")


class RunEvent(Message):
    """One event in a run's progress. `seq` counts the run's events from 1 without gaps."""

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
        """Why the run waits after this event; None if the event does not make it wait."""
        if self.kind not in ("start_refused", "stage_retrying"):
            return None
        return Waiting.model_validate(self.data | {"since": self.at})


def workflow_id(kind: RunKind, trace_id: UUID) -> str:
    """Return the id of a run's workflow, which contains its trace id: `<kind>-<trace_id>`."""
    return f"{kind}-{trace_id}"


def run_path(trace_id: UUID) -> str:
    """Return the path of a run in the API; runs of all kinds have the same form of path."""
    return f"/api/runs/{trace_id}"


def part_id(trace_id: UUID, part: str, of: object) -> UUID:
    """Build a deterministic id for something that a run creates.

    For an evaluation, `part` is "evaluation" and `of` is the id of its resolution. A retried
    attempt gets the same id, so it creates no duplicate.
    """
    return uuid5(trace_id, f"{part}/{of}")


def pseudonym(user_id: str, key: str) -> str:
    """Return a stable pseudonym of a user: "u-" and 16 hex digits of an HMAC-SHA-256.

    Without `key` nobody can find out which user it stands for.
    """
    return "u-" + hmac.new(key.encode(), user_id.encode(), hashlib.sha256).hexdigest()[:16]


def day_of(at: datetime, time_zone: str | None) -> date:
    """Return the date of an instant in the person's time zone; in UTC if the zone is not known."""
    return at.astimezone(ZoneInfo(time_zone) if time_zone else UTC).date()


def trace_id_of(workflow_id: str) -> UUID | None:
    """Return the trace id in a run's workflow id; None for a workflow that is not a run."""
    try:
        return UUID(workflow_id[-36:])
    except ValueError:
        return None

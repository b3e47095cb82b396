"""The spend ledger: one row per model call, so that no answer is paid for twice."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal
from uuid import UUID

from domain.runs import Message, PromptRef, Stage, Usage

# One request of a stage is not bought again after so many calls that may have been billed for
# nothing.
MAYBE_BILLED_CALLS = 3


class Reservation(Message):
    """A model call about to be made. `request_sha256` covers model, prompt, parameters and text.

    Another attempt's call of the same request is lost when it was reserved longer than `lost_after`
    ago, because no call takes so long, or when its worker is gone. `worker_id` is that of the
    process that makes the call, `workflow_run_id` Temporal's id of the execution it is made for.
    `span` and `parent_span_id` are the name and the parent of the call's span.
    """

    call_id: UUID
    trace_id: UUID
    stage: Stage
    request_sha256: str
    attempt: int
    repair: bool
    model: str
    prompt: PromptRef
    reserved_usd: Decimal | None
    started_at: datetime
    lost_after: timedelta
    worker_id: int
    workflow_run_id: str
    span: str
    parent_span_id: UUID


CallState = Literal["answered", "failed", "unknown"]


class Settlement(Message):
    """What came of a call. `answer` is the raw answer as it came; None when there was none.

    `unknown` means that nobody can say whether the provider answered and billed: the call was cut.
    `cost_at_most` means that what the provider billed is not known: the reserve counts as the cost.
    """

    call_id: UUID
    state: CallState
    finished_at: datetime
    usage: Usage = Usage()
    cost_usd: Decimal | None = Decimal(0)
    cost_at_most: bool = False
    model_version: str | None = None
    finish_reason: str | None = None
    answer: str | None = None
    error_code: str | None = None


class SettledCall(Message):
    """A call that is over, as its span tells of it."""

    call_id: UUID
    attempt: int
    model: str
    state: CallState
    span: str
    parent_span_id: UUID
    started_at: datetime
    finished_at: datetime
    usage: Usage
    cost_usd: Decimal | None
    cost_at_most: bool
    error_code: str | None


class PaidCall(SettledCall):
    """An earlier call of the same run whose answer is stored."""

    answer: str


class Standing(Message):
    """How a request of a stage stands in the ledger, after a call of it was to be reserved.

    Attributes:
        reserved: The call was reserved; otherwise one of the following is why not.
        paid: The stored answer to exactly this request.
        under_way: Another attempt's call of it has not been settled yet.
        run_ended: The execution that asks has ended.
        unknown: Calls of it that may have been billed for nothing.
    """

    reserved: bool
    paid: PaidCall | None
    under_way: bool
    run_ended: bool
    unknown: list[SettledCall]

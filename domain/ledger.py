"""The spend ledger has one row per model call, so that a retry does not pay for an answer again."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal
from uuid import UUID

from domain.runs import Message, PromptRef, Stage, Usage

# After this many calls for the same request that may have been billed without an answer, the stage
# fails instead of calling the model again.
MAYBE_BILLED_CALLS = 3


class Reservation(Message):
    """A model call that is about to be made, as it is recorded before the call.

    Attributes:
        request_sha256: Hash of the model, the prompt, the parameters and the text. Calls with the
            same hash ask for the same thing, so one answer serves all of them.
        reserved_usd: The most that the call can cost; None when the model's price is not known.
        lost_after: A call of another attempt that was reserved longer ago than this counts as
            lost, because no call takes that long. It also counts as lost when its worker is dead.
        worker_id: The worker process that makes the call.
        workflow_run_id: Temporal's id of the workflow execution that the call is made for.
        span: The name of the call's span in the trace.
        parent_span_id: The parent of that span.
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
    """The result of a model call, as it is recorded after the call.

    Attributes:
        state: `unknown` means that the provider may have billed the call, although no answer of
            the model arrived.
        cost_at_most: The billed amount is not known, so the reserved amount counts as the cost.
        answer: The unparsed body of the provider's answer; None when there was none.
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
    """A model call that has ended, with the facts that its span in the trace shows."""

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
    """An earlier call for the same request whose answer is stored, so it need not be paid again."""

    answer: str


class Standing(Message):
    """The ledger's answer to an attempt to reserve a model call.

    Attributes:
        reserved: Whether the call was reserved. If it was not, one of the other fields says why.
        paid: The earlier call whose stored answer is to be used; None when there is none.
        under_way: Whether a call of another attempt for the same request has not ended yet.
        run_ended: Whether the workflow execution that asks has ended already.
        unknown: Calls for the same request that may have been billed without an answer.
    """

    reserved: bool
    paid: PaidCall | None
    under_way: bool
    run_ended: bool
    unknown: list[SettledCall]

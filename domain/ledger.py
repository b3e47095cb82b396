"""The spend ledger: one row per model call, so that no answer is paid for twice."""

from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from domain.runs import Message, PromptRef, Stage, Usage


class Reservation(Message):
    """A model call about to be made. `request_sha256` covers model, prompt, parameters and text."""

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


CallState = Literal["answered", "failed", "unknown"]


class Settlement(Message):
    """What came of a call. `answer` is the raw answer as JSON; None when there was none.

    `unknown` means that nobody can say whether the provider answered and billed: the call was cut.
    """

    call_id: UUID
    state: CallState
    finished_at: datetime
    usage: Usage = Usage()
    cost_usd: Decimal | None = Decimal(0)
    model_version: str | None = None
    finish_reason: str | None = None
    answer: str | None = None
    error_code: str | None = None


class PaidCall(Message):
    """An earlier call of the same run whose answer is stored."""

    call_id: UUID
    attempt: int
    started_at: datetime
    finished_at: datetime
    usage: Usage
    cost_usd: Decimal | None
    answer: str

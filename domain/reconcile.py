"""What the housekeeping reports."""

from datetime import datetime
from uuid import UUID

from pydantic import Field

from domain.runs import Message


class Position(Message):
    """A place in the list of unfinished runs, oldest first."""

    created_at: datetime
    trace_id: UUID


class Reconciled(Message):
    """What one round of the reconciler mended; `failed` counts runs that it could not mend."""

    started: int = 0
    closed: int = 0
    failed: int = 0
    reached: Position | None = Field(
        default=None, description="The last run that was looked at; None at the end of the list"
    )

"""What the housekeeping reports."""

from datetime import datetime
from uuid import UUID

from pydantic import Field

from domain.runs import Message


class Cursor(Message):
    """A place in the list of unfinished runs, oldest first."""

    created_at: datetime
    trace_id: UUID


class Reconciled(Message):
    """What one round of the reconciler mended; `failed` counts runs that it could not mend."""

    started: int = 0
    closed: int = 0
    failed: int = 0
    reached: Cursor | None = Field(
        default=None, description="The last run that was looked at; None at the end of the list"
    )

    def plus(self, later: "Reconciled") -> "Reconciled":
        """Both together; the later one says how far it came."""
        return Reconciled(
            started=self.started + later.started,
            closed=self.closed + later.closed,
            failed=self.failed + later.failed,
            reached=later.reached,
        )

"""The progress and the report of the reconciler (activities/reconcile.py)."""

from datetime import datetime
from uuid import UUID

from pydantic import Field

from domain.runs import Message


class Cursor(Message):
    """A position in the list of unfinished runs, which is sorted by age, the oldest first.

    A round of the reconciler that did not reach the list's end continues after this run.
    """

    created_at: datetime
    trace_id: UUID


class Reconciled(Message):
    """How many runs the reconciler repaired, in one round or in several.

    `started` counts workflows that it started for accepted runs, `closed` runs whose end it
    recorded, and `failed` runs that it could not repair.
    """

    started: int = 0
    closed: int = 0
    failed: int = 0
    reached: Cursor | None = Field(
        default=None, description="The last run that was looked at; None at the end of the list"
    )

    def plus(self, later: "Reconciled") -> "Reconciled":
        """Return the sum of both counts; `reached` is taken from the later round."""
        return Reconciled(
            started=self.started + later.started,
            closed=self.closed + later.closed,
            failed=self.failed + later.failed,
            reached=later.reached,
        )

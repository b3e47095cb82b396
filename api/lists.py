"""Filters and cursors of all lists of runs. A cursor names the last run of a page."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from db.results import Filters, Position
from domain.callers import Caller
from domain.errors import InvalidRequest
from domain.results import RunSummary
from domain.runs import RefusalCode, RunStatus


class RunQuery(BaseModel):
    """Query parameters of every list of runs.

    Unknown parameters are rejected, because a list with an ignored, misspelt filter would contain
    runs that the caller did not ask for.
    """

    model_config = ConfigDict(extra="forbid")

    status: list[RunStatus] | None = Field(None, description="One or several")
    min_score: float | None = Field(None, ge=0, le=10)
    max_score: float | None = Field(None, ge=0, le=10)
    since: date | None = Field(None, alias="from", description="Accepted on or after")
    until: date | None = Field(None, alias="to", description="Accepted on or before")
    refusal_code: RefusalCode | None = Field(None, description="Refused by whom, e.g. CRISIS")
    user_id: str | None = Field(None, max_length=200, pattern=r"^[!-~]+$")
    cursor: str | None = Field(None, max_length=200, description="`next_cursor` of the page before")
    limit: int = Field(20, ge=1, le=100)

    def filters(self, caller: Caller) -> Filters:
        return Filters(
            tenant=caller.tenant,
            status=self.status,
            min_score=self.min_score,
            max_score=self.max_score,
            since=_start(self.since),
            before=_end(self.until),
            user_id=self.user_id,
            refusal_code=self.refusal_code,
        )

    def after(self) -> Position | None:
        """Return the position after which the page begins; None for the first page.

        Raises InvalidRequest when the cursor is malformed.
        """
        return decode(self.cursor) if self.cursor else None


def encode(created_at: datetime, trace_id: UUID) -> str:
    return urlsafe_b64encode(f"{created_at.isoformat()}|{trace_id}".encode()).decode()


def next_page(found: Sequence[RunSummary], limit: int) -> str | None:
    """Return the cursor of the next page, or None when there is no next page.

    `found` must have been selected with a limit of one run more than the page's `limit`.
    """
    if len(found) <= limit:
        return None
    last = found[limit - 1]
    return encode(last.created_at, last.trace_id)


def decode(cursor: str) -> Position:
    """Return the position that `encode` wrote. Raises InvalidRequest for any other text."""
    try:
        created_at, trace_id = urlsafe_b64decode(cursor).decode("ascii").split("|")
        at = datetime.fromisoformat(created_at)
        if at.tzinfo is None:
            raise ValueError("no time zone")
        # A time near the first or last day of the calendar may have no equivalent in UTC. The
        # conversion happens here, so that its OverflowError becomes InvalidRequest.
        return Position(at.astimezone(UTC), UUID(trace_id))
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(
            "query.cursor: expected the next_cursor of an earlier page, came something else",
            cure="send next_cursor unchanged, or leave it out for the first page",
        ) from error


def _start(day: date | None) -> datetime | None:
    return None if day is None else datetime.combine(day, time.min, UTC)


def _end(day: date | None) -> datetime | None:
    """Return the start of the following day in UTC.

    None means no end: `day` is None, or the last day of the calendar, which no day follows.
    """
    return None if day is None or day == date.max else _start(day + timedelta(days=1))

"""Opaque positions in a list: where a page ended."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from db.results import Position
from domain.errors import InvalidRequest
from domain.results import RunSummary


def encode(created_at: datetime, trace_id: UUID) -> str:
    return urlsafe_b64encode(f"{created_at.isoformat()}|{trace_id}".encode()).decode()


def next_page(found: Sequence[RunSummary], limit: int) -> str | None:
    """The position after a page of `limit` runs; None when `found` holds no more than them."""
    if len(found) <= limit:
        return None
    last = found[limit - 1]
    return encode(last.created_at, last.trace_id)


def decode(cursor: str) -> Position:
    """Raises InvalidRequest for anything that `encode` did not make."""
    try:
        created_at, trace_id = urlsafe_b64decode(cursor).decode("ascii").split("|")
        at = datetime.fromisoformat(created_at)
        if at.tzinfo is None:
            raise ValueError("no time zone")
        # In UTC here already: some times at the ends of the calendar have none.
        return Position(at.astimezone(UTC), UUID(trace_id))
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(
            "query.cursor: expected the next_cursor of an earlier page, came something else",
            cure="send next_cursor unchanged, or leave it out for the first page",
        ) from error

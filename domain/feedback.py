"""Feedback: a person's rating of a run's result, which may arrive days after the run."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator

from domain.runs import Message

FEEDBACK_DIMENSIONS = ("usefulness", "clarity", "motivation", "personalization")

Rating = Annotated[
    Decimal,
    Field(
        ge=1,
        le=5,
        multiple_of=Decimal("0.5"),
        description="1 to 5 stars in half stars",
        examples=[4.5],
    ),
]


class FeedbackSubmission(BaseModel):
    """The body of `POST /api/feedback`."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    trace_id: UUID = Field(description="The run's trace id, from its result")
    user_id: str = Field(min_length=1, max_length=200, pattern=r"^[!-~]+$")
    rating: Rating
    usefulness: bool | None = None
    clarity: bool | None = None
    motivation: bool | None = None
    personalization: bool | None = None
    comment: str | None = Field(default=None, max_length=2000)

    @field_validator("comment")
    @classmethod
    def _no_nul(cls, text: str | None) -> str | None:
        if text is not None and "\x00" in text:
            raise ValueError("the comment holds a NUL character; remove it")
        return text or None


class Feedback(Message):
    """One person's current feedback on one trace.

    `revision` counts how often the person has sent feedback on it, starting with 1.
    """

    feedback_id: UUID
    trace_id: UUID
    user_id: str
    rating: Decimal
    usefulness: bool | None
    clarity: bool | None
    motivation: bool | None
    personalization: bool | None
    comment: str | None
    revision: int
    created_at: datetime
    updated_at: datetime


class FeedbackTotals(Message):
    """The feedback of all people on one trace. Only the current feedback of each person counts."""

    people: int = 0
    average: Decimal | None = None
    """The mean of the ratings with two decimals; None when nobody has rated the trace."""
    shares: dict[str, float | None] = Field(default={})
    """For each dimension, the share of "yes" among those who answered it; None when nobody did."""
    comment: str | None = None
    """The newest comment; None when nobody has written one."""
    replaced: int = 0
    """How many times people replaced their earlier feedback on this trace."""

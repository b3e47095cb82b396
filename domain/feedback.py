"""Feedback: what a person says about a result, hours or days later as well as at once."""

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
    """One person's current feedback on one trace. `revision` counts how often it was sent."""

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
    """What all people say of one trace, each by their current feedback."""

    people: int = 0
    average: Decimal | None = None
    """The mean of the ratings, two decimals; None when nobody rated it."""
    shares: dict[str, float | None] = Field(default={})
    """By dimension the share of yes among those who answered; None when nobody did."""
    comment: str | None = None
    """The newest one."""
    replaced: int = 0
    """How much feedback was replaced."""

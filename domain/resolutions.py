"""A resolution: the commitment and its strategy."""

from uuid import UUID

from pydantic import Field

from domain.plans import MAX_PLAN_WEEKS
from domain.runs import Message
from domain.text import Line, Sentence


class Phase(Message):
    name: Line
    start_week: int = Field(ge=1, le=MAX_PLAN_WEEKS)
    end_week: int = Field(ge=1, le=MAX_PLAN_WEEKS)
    focus: Sentence


class Risk(Message):
    risk: Line
    response: Sentence


class ResolutionDraft(Message):
    """The generate stage's answer."""

    title: Line
    summary: Sentence
    strategy: Sentence
    phases: list[Phase] = Field(min_length=1, max_length=8)
    success_criteria: list[Line] = Field(min_length=1, max_length=10)
    risks: list[Risk] = Field(max_length=8)
    habits: list[Line] = Field(max_length=10)


class Resolution(ResolutionDraft):
    """A stored resolution. `draft` is 1, or 2 for the automatic revision."""

    resolution_id: UUID
    draft: int

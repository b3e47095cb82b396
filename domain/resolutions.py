"""A resolution: what a person commits to, and the strategy to reach it."""

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
    """The model's answer in the generate stage."""

    title: Line
    summary: Sentence
    strategy: Sentence
    phases: list[Phase] = Field(min_length=1, max_length=8)
    success_criteria: list[Line] = Field(min_length=1, max_length=10)
    risks: list[Risk] = Field(max_length=8)
    habits: list[Line] = Field(max_length=10)


class Resolution(ResolutionDraft):
    """A stored resolution. `draft` is 1 for the first version and 2 for its automatic revision."""

    resolution_id: UUID
    draft: int


def wrong_phases(draft: ResolutionDraft, weeks: int) -> str | None:
    """Return what is wrong with the phases of a resolution; None if nothing is.

    The phases have to cover week 1 to week `weeks` in order, without gaps or overlaps. Two phases
    may share a week only if there are fewer weeks than phases.
    """
    before, may_share = 0, weeks < len(draft.phases)
    for number, phase in enumerate(draft.phases, start=1):
        shared = may_share and 0 < phase.start_week == before
        if phase.start_week != before + 1 and not shared:
            return (
                f"phases.{number}: expected start_week {before + 1}, found {phase.start_week}; "
                f"phases lead from week 1 to week {weeks} without gaps or overlaps"
            )
        if phase.end_week < phase.start_week:
            return f"phases.{number}: it ends in week {phase.end_week}, before it starts"
        before = phase.end_week
    return None if before == weeks else f"phases: expected the last week {weeks}, found {before}"

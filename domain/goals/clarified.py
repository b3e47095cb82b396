"""A clarified goal."""

from datetime import date
from typing import Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from domain.goals.words import Line, Sentence
from domain.runs import Message

GoalCategory = Literal[
    "fitness",
    "health",
    "learning",
    "career",
    "finance",
    "habits",
    "creative",
    "relationships",
    "other",
]


class SmartCriteria(Message):
    """The goal taken apart by the SMART criteria (Doran, 1981), one sentence each."""

    specific: Sentence
    measurable: Sentence
    achievable: Sentence
    relevant: Sentence
    time_bound: Sentence


class ClarifiedGoalDraft(Message):
    """The preprocess stage's answer."""

    verdict: Literal["goal", "not_a_goal", "harmful"] = Field(
        description="'harmful' when helping would endanger someone; 'not_a_goal' when there is "
        "nothing to work towards"
    )
    refusal_reason: str | None = Field(
        default=None, description="One kind sentence for the person, unless 'goal'"
    )
    clarified_goal: str = Field(
        default="", description="The goal in one precise sentence; empty unless 'goal'"
    )
    category: GoalCategory = "other"
    smart: SmartCriteria | None = Field(default=None, description="Required when verdict is 'goal'")
    deadline: date | None = Field(
        default=None, description="The day the goal is due, if the goal implies one"
    )
    assumptions: list[Line] = Field(default=[], max_length=8)
    open_questions: list[Line] = Field(default=[], max_length=8)

    @model_validator(mode="after")
    def _a_goal_is_clarified(self) -> Self:
        if self.verdict == "goal" and (not self.clarified_goal.strip() or self.smart is None):
            raise ValueError("verdict 'goal' needs clarified_goal and smart")
        return self


class ClarifiedGoal(ClarifiedGoalDraft):
    """The goal as Rein works with it from here on."""

    trace_id: UUID

"""The evaluation of a resolution: the model scores four dimensions, Rein computes the overall."""

from decimal import ROUND_HALF_UP, Decimal
from typing import Literal
from uuid import UUID

from pydantic import Field
from typing_extensions import TypeAliasType

from domain.runs import Message
from domain.text import Line, Sentence

QualityStatus = TypeAliasType(
    "QualityStatus", Literal["EXCELLENT", "GOOD QUALITY", "FAIR", "NEEDS WORK"]
)


class DimensionScore(Message):
    score: float = Field(ge=0, le=10)
    why: Sentence = Field(description="One sentence of why")


DIMENSIONS = ("clarity", "specificity", "measurability", "actionability")


class EvaluationDraft(Message):
    """The model's answer in the evaluate stage. It has no overall score: Rein computes that."""

    clarity: DimensionScore
    specificity: DimensionScore
    measurability: DimensionScore
    actionability: DimensionScore
    strengths: list[Line] = Field(max_length=8)
    suggestions: list[Line] = Field(max_length=8)

    def scores(self) -> dict[str, DimensionScore]:
        return {name: getattr(self, name) for name in DIMENSIONS}


class Evaluation(EvaluationDraft):
    """A stored evaluation. `overall` is the mean of the four scores, rounded to one decimal."""

    evaluation_id: UUID
    resolution_id: UUID
    overall: float
    status: QualityStatus


def overall_score(evaluation: EvaluationDraft) -> float:
    """Return the mean of the four dimensions' scores, rounded half up to one decimal."""
    scores = [Decimal(str(dimension.score)) for dimension in evaluation.scores().values()]
    mean = sum(scores, Decimal(0)) / len(scores)
    return float(mean.quantize(Decimal("0.1"), ROUND_HALF_UP))


def quality_status(overall: float) -> QualityStatus:
    """Return the status word for an overall score (0 to 10)."""
    if overall >= 9:
        return "EXCELLENT"
    if overall >= 7.5:
        return "GOOD QUALITY"
    return "FAIR" if overall >= 6 else "NEEDS WORK"


def needs_revision(evaluation: Evaluation | None, threshold: float) -> bool:
    """Tell whether the overall score is below the threshold, so that the resolution is revised.

    A resolution without an evaluation is not revised.
    """
    return evaluation is not None and evaluation.overall < threshold

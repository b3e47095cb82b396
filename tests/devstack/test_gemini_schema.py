"""The model stand-in's answers are valid for any response schema."""

import random
from datetime import date
from enum import Enum
from typing import Any, Literal

import jsonschema
import pytest
from pydantic import BaseModel, Field

from devstack.gemini.schema import compiled, conform, generate, stage_of
from domain.evaluations import EvaluationDraft
from domain.goals import ClarifiedGoalDraft
from domain.plans import PlanDraft
from domain.resolutions import ResolutionDraft


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Tree(BaseModel):
    name: str = Field(min_length=3, max_length=5)
    children: list["Tree"]
    parent: "Tree | None" = None


class Mixed(BaseModel):
    kind: Literal["a", "b"]
    colour: Colour
    when: date
    count: int = Field(ge=3, le=7)
    share: float = Field(gt=0, lt=1)
    tags: list[str] = Field(min_length=2, max_length=3)
    either: int | str
    maybe: str | None
    yes: bool
    table: dict[str, int]
    tree: Tree


def _dice(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311


SCHEMAS: list[dict[str, Any]] = [
    Mixed.model_json_schema(),
    Tree.model_json_schema(),
    *(
        model.model_json_schema()
        for model in (ClarifiedGoalDraft, ResolutionDraft, EvaluationDraft, PlanDraft)
    ),
    {"type": "array", "items": {"type": ["string", "null"], "enum": ["x", None]}, "minItems": 5},
    {"const": 3},
    {"type": "object", "properties": {"n": {"type": "integer", "exclusiveMinimum": 4}}},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: str(schema.get("title", "")))
@pytest.mark.parametrize("seed", range(20))
def test_a_made_up_value_is_valid(schema: dict[str, Any], seed: int) -> None:
    value = generate(compiled(schema), ["paint", "the", "old", "fence"], _dice(seed))
    jsonschema.validate(value, schema)


def test_geminis_spelling_means_the_same() -> None:
    schema = {
        "type": "OBJECT",
        "required": ["size", "names"],
        "properties": {
            "size": {"type": "STRING", "format": "enum", "enum": ["S", "L"]},
            "names": {
                "type": "ARRAY",
                "min_items": 2,
                "maxItems": "2",
                "items": {"type": "STRING"},
            },
            "note": {"type": "STRING", "nullable": True},
        },
    }
    value = generate(compiled(schema), ["word"], _dice(1))
    assert value["size"] in ("S", "L")
    assert len(value["names"]) == 2


def test_a_written_answer_is_fitted_to_the_schema() -> None:
    schema = {
        "type": "object",
        "required": ["title", "score", "extra"],
        "properties": {
            "title": {"type": "string", "maxLength": 5},
            "score": {"type": "number", "maximum": 10},
            "extra": {"enum": ["yes"]},
            "list": {"type": "array", "maxItems": 1, "items": {"type": "integer"}},
        },
    }
    written = {"title": "Too long a title", "score": 12, "list": [1, 2], "unknown": 1}
    fitted = conform(written, compiled(schema), ["word"], _dice(1))
    assert fitted == {"title": "Too l", "score": 10, "extra": "yes", "list": [1]}


@pytest.mark.parametrize(
    ("model", "stage"),
    [
        (ClarifiedGoalDraft, "preprocess"),
        (ResolutionDraft, "generate"),
        (EvaluationDraft, "evaluate"),
        (PlanDraft, "plan"),
        (Tree, "other"),
    ],
)
def test_the_stage_is_told_by_the_schema(model: type[BaseModel], stage: str) -> None:
    assert stage_of(model.model_json_schema()) == stage

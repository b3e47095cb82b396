"""Reading answers: whatever the model writes, it is a model of ours or a ModelError."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.evaluations import EvaluationDraft
from domain.plans import PlanDraft
from domain.runs import Usage
from llm.errors import ModelError
from llm.gemini import Answer
from llm.parsing import read


def said(text: str, finish_reason: str | None = "STOP") -> Answer:
    return Answer(
        text=text,
        finish_reason=finish_reason,
        block_reason=None,
        usage=Usage(),
        model_version=None,
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(ModelError):
        read(said(text), PlanDraft)


@given(JSON)
def test_any_json_is_read_or_refused(value: object) -> None:

    with pytest.raises(ModelError):
        read(said(json.dumps(value)), EvaluationDraft)


def test_the_problem_names_the_field_and_not_the_text() -> None:
    text = '{"first_step_today": "secret words", "weeks": [], "milestones": []}'
    with pytest.raises(ModelError) as caught:
        read(said(text), PlanDraft)
    assert "weeks" in caught.value.message
    assert "secret" not in caught.value.message


def test_the_finish_reason_is_read_before_the_text() -> None:
    with pytest.raises(ModelError) as caught:
        read(said("{", "MAX_TOKENS"), PlanDraft)
    assert caught.value.code == "OUTPUT_TRUNCATED"
    assert caught.value.repairable
    assert caught.value.more_tokens

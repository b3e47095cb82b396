"""Reading answers: whatever the model writes, it is a model of ours or a ModelError."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.evaluations import EvaluationDraft
from domain.goals import ClarifiedGoalDraft
from domain.plans import PlanDraft
from llm.answers import Answer
from llm.errors import MESSAGE_CHARS, ModelError
from llm.parsing import read


def said(text: str, finish_reason: str | None = "STOP") -> Answer:
    return Answer(text=text, finish_reason=finish_reason)


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


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"clarity": {"score": ' + "9" * 4300 + '1, "why": "x"}}', id="many digits"),
        pytest.param('{"clarity": {"score": ' + "9" * 4200 + ', "why": "x"}}', id="huge number"),
        pytest.param("[" * 30_000 + "]" * 30_000, id="too deep to parse"),
        pytest.param('{"a":' * 900 + "1" + "}" * 900, id="too deep to walk"),
        pytest.param('{"clarity": 1e999}', id="infinity"),
    ],
)
def test_what_python_cannot_parse_is_repaired(text: str) -> None:
    with pytest.raises(ModelError) as caught:
        read(said(text), EvaluationDraft)
    assert caught.value.code == "OUTPUT_INVALID"
    assert caught.value.repairable


def test_a_key_is_cleaned_and_named_shortly() -> None:
    key = "k\\u0000" + "x" * 60_000
    with pytest.raises(ModelError) as caught:
        read(said(f'{{"{key}": 1}}'), ClarifiedGoalDraft)
    assert "kxxx" in caught.value.message
    assert "\x00" not in caught.value.message
    assert len(caught.value.message) < 500


def test_a_message_has_an_end() -> None:
    assert len(ModelError("UNKNOWN", "x" * 60_000).message) <= MESSAGE_CHARS + 1

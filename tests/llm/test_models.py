"""What is asked of each generation of models: thinking, temperature, room for the answer."""

import pytest

from llm.models import output_limit, takes_temperature, thinking, with_room_to_think


@pytest.mark.parametrize(
    ("model", "budget", "expected"),
    [
        ("gemini-2.0-flash", 0, None),
        ("gemini-2.5-flash", 0, {"thinking_budget": 0}),
        ("gemini-2.5-flash", -1, {"thinking_budget": -1}),
        ("gemini-2.5-flash", None, None),
        ("gemini-3.5-flash-lite", 0, {"thinking_level": "MINIMAL"}),
        ("gemini-3.5-flash-lite", 512, {"thinking_level": "LOW"}),
        ("gemini-3.5-flash-lite", -1, None),
        ("gemini-3.8-flash", 0, {"thinking_level": "LOW"}),
        ("gemini-3.1-pro-preview", 0, {"thinking_level": "LOW"}),
        ("gemini-flash-latest", 0, {"thinking_level": "LOW"}),
    ],
)
def test_thinking_is_bounded_in_the_models_own_terms(
    model: str, budget: int | None, expected: dict[str, object] | None
) -> None:
    assert thinking(model, budget) == expected


@pytest.mark.parametrize(
    ("model", "expected"),
    [("gemini-2.0-flash", True), ("gemini-2.5-pro", True), ("gemini-3.5-flash-lite", False)],
)
def test_models_from_3_on_keep_their_own_temperature(model: str, expected: bool) -> None:
    assert takes_temperature(model) is expected


def test_thoughts_do_not_eat_the_answer() -> None:
    assert with_room_to_think("gemini-2.0-flash", 2048, 0) == 2048
    assert with_room_to_think("gemini-2.5-flash", 2048, 0) == 2048
    assert with_room_to_think("gemini-2.5-flash", 2048, 512) == 2560
    assert with_room_to_think("gemini-3.8-flash", 2048, 0) > 2048
    assert with_room_to_think("gemini-3.8-flash", 65_000, 0) == output_limit("gemini-3.8-flash")

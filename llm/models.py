"""The parameters that each Gemini model accepts: thinking, temperature, length of an answer.

Source: Google's model pages and its guide to thinking, November 2026. Models up to 2.5 accept a
temperature and a thinking budget in tokens. Models from 3 on have thinking levels instead of
budgets and always think. Google advises to leave their temperature at its default, and models from
3.6 on ignore any other value.
"""

import re

from google.genai import types

_GENERATION = re.compile(r"gemini-(\d+)(?:\.(\d+))?")
# The models from 3 on that have the thinking level MINIMAL. The lowest level of all others is LOW.
_THINK_MINIMALLY = ("gemini-3.1-flash-lite", "gemini-3.5-flash", "gemini-3.6-flash")
# Thinking tokens count towards the limit of output tokens, so the limit is raised by this many
# tokens for a model that thinks without a budget.
THINKING_ROOM = 4096

_OUTPUT_LIMITS = {"gemini-2.0-flash": 8192, "gemini-2.0-flash-lite": 8192}


def output_limit(model: str) -> int:
    """Return the maximum number of tokens that a model can write in one answer."""
    return _OUTPUT_LIMITS.get(model, 65_536)


def takes_temperature(model: str) -> bool:
    """Tell whether the model may be called with a temperature other than its default."""
    return _generation(model) < (3, 0)


def thinking(model: str, budget: int | None) -> types.ThinkingConfigDict | None:
    """Return the thinking configuration of a call; None leaves the model at its default.

    `budget` is in tokens: 0 means as little thinking as possible, -1 lets the model decide, and
    None stands for the default. A model with thinking levels gets the level that fits the budget.
    """
    generation = _generation(model)
    if budget is None or generation < (2, 5):
        return None
    if generation < (3, 0):
        return {"thinking_budget": budget}
    if budget < 0:
        return None
    if budget == 0 and model.startswith(_THINK_MINIMALLY):
        return {"thinking_level": types.ThinkingLevel.MINIMAL}
    return {"thinking_level": types.ThinkingLevel.LOW}


def with_room_to_think(model: str, answer_tokens: int, budget: int | None) -> int:
    """Return the limit of output tokens that leaves `answer_tokens` after the model's thinking."""
    generation = _generation(model)
    if generation < (2, 5) or (budget == 0 and generation < (3, 0)):
        return answer_tokens
    room = budget if budget and budget > 0 else THINKING_ROOM
    return min(answer_tokens + room, output_limit(model))


def _generation(model: str) -> tuple[int, int]:
    """Return the version of a model: (3, 5) for `gemini-3.5-flash`.

    A name without a version counts as newer than all others: (99, 0).
    """
    match = _GENERATION.match(model)
    return (int(match[1]), int(match[2] or 0)) if match else (99, 0)

"""What the Gemini models take: how their thinking is bounded, temperature, length of an answer.

Source: Google's model pages and its guide to thinking, November 2026. Up to 2.5 a model obeys a
temperature and a thinking budget in tokens; from 3 on it has thinking levels, cannot be kept from
thinking, and is to be left at its own temperature (from 3.6 on it ignores another one).
"""

import re

from google.genai import types

_GENERATION = re.compile(r"gemini-(\d+)(?:\.(\d+))?")
# From 3 on; the later ones, and Pro, know no less than LOW.
_THINK_MINIMALLY = ("gemini-3.1-flash-lite", "gemini-3.5-flash", "gemini-3.6-flash")
# Thoughts share the limit of the answer, so a model that thinks anyway is given room for it.
THINKING_ROOM = 4096

_OUTPUT_LIMITS = {"gemini-2.0-flash": 8192, "gemini-2.0-flash-lite": 8192}


def output_limit(model: str) -> int:
    """The most tokens that a model writes in one answer."""
    return _OUTPUT_LIMITS.get(model, 65_536)


def takes_temperature(model: str) -> bool:
    """Whether another temperature than the model's own is of use."""
    return _generation(model) < (3, 0)


def thinking(model: str, budget: int | None) -> types.ThinkingConfigDict | None:
    """The budget in the model's own terms; None where there is nothing to say.

    `budget` is in tokens: 0 as little as possible, -1 as the model likes, None its default.
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
    """The output limit that leaves `answer_tokens` to the answer itself."""
    generation = _generation(model)
    if generation < (2, 5) or (budget == 0 and generation < (3, 0)):
        return answer_tokens
    room = budget if budget and budget > 0 else THINKING_ROOM
    return min(answer_tokens + room, output_limit(model))


def _generation(model: str) -> tuple[int, int]:
    """(3, 5) of `gemini-3.5-flash`. What is not numbered is taken for a new model."""
    match = _GENERATION.match(model)
    return (int(match[1]), int(match[2] or 0)) if match else (99, 0)

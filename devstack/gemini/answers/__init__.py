"""What the stand-in says: coaching answers for the four stages, any valid value for other schemas."""

import random
from collections.abc import Callable
from typing import Any

from devstack.gemini.answers import evaluate, generate, plan, preprocess
from devstack.gemini.protocol import Ask, Json, thought_tokens
from devstack.gemini.schema import compiled, conform
from devstack.gemini.schema import generate as any_value
from devstack.gemini.text import Request, words_of

WRITERS: dict[str, Callable[[Request, random.Random], Json]] = {
    "preprocess": preprocess.write,
    "generate": generate.write,
    "evaluate": evaluate.write,
    "plan": plan.write,
}


def write(stage: str, ask: Ask, rng: random.Random) -> Any:
    """The answer to a request: a JSON value when a schema asks for one, else text."""
    words = words_of(ask.user)
    if ask.schema is None:
        said = " ".join(words[:24])
        text = f"This is a local stand-in for Gemini. You said: {said}"
        return {"answer": text} if ask.wants_json else text
    node = compiled(ask.schema)
    writer = WRITERS.get(stage)
    if writer is None:
        return any_value(node, words, rng)
    answer = writer(Request.read(ask.user), rng)
    if stage == "plan":
        answer = plan.within(answer, ask.max_tokens - thought_tokens(ask))
    return conform(answer, node, words, rng)

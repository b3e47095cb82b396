"""The answers of Gemini. The raw body of an answer is stored before a stage uses its content."""

import json
from dataclasses import dataclass, replace
from typing import Any

from domain.run_errors import ModelErrorCode as Code
from domain.runs import Usage

# The ledger stores at most this many characters of an answer's body.
STORED_CHARS = 262_144
# Finish reasons and model names are cut to this many characters, because they go into messages and
# columns of limited length.
WORD_CHARS = 100
LARGEST_COUNT = 2**31 - 1

_ENVELOPE = frozenset(("candidates", "promptFeedback", "usageMetadata"))


@dataclass(frozen=True)
class Answer:
    """The parts of an answer of Gemini.

    `usage` is None if the provider sent no valid token counts. `problem` is the error code of a
    body that is not an answer of Gemini, cannot be parsed or is too large to store; else None.
    """

    text: str = ""
    finish_reason: str | None = None
    block_reason: str | None = None
    usage: Usage | None = None
    model_version: str | None = None
    problem: Code | None = None


def stored(body: str) -> str:
    """Return the part of a body that is stored: its first STORED_CHARS characters, without NUL.

    PostgreSQL cannot store NUL characters.
    """
    return body.replace("\x00", "")[:STORED_CHARS]


def take_apart(body: str) -> Answer:
    """Parse the body of an HTTP answer with status 200.

    Never raises; `problem` of the result says what is wrong with the body.
    """
    try:
        envelope = json.loads(body)
    except (ValueError, RecursionError):
        # A body that begins like JSON is a damaged answer of Gemini. Any other body comes from
        # somewhere else, for example the error page of a proxy.
        spoiled = body.lstrip()[:1] in ("{", "[")
        return Answer(problem="OUTPUT_INVALID" if spoiled else "NO_GEMINI_ANSWER")
    if not isinstance(envelope, dict) or not envelope.keys() & _ENVELOPE:
        return Answer(problem="NO_GEMINI_ANSWER")
    candidates = envelope.get("candidates")
    candidate = _object(candidates[0] if isinstance(candidates, list) and candidates else None)
    answer = Answer(
        text=_text(_object(candidate.get("content")).get("parts")),
        finish_reason=_word(candidate.get("finishReason")),
        block_reason=_word(_object(envelope.get("promptFeedback")).get("blockReason")),
        usage=_usage(envelope.get("usageMetadata")),
        model_version=_word(envelope.get("modelVersion")),
    )
    return replace(answer, problem="OUTPUT_TOO_LARGE") if len(body) > STORED_CHARS else answer


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(parts: Any) -> str:
    """Join the text parts of the answer, leaving out those that hold the model's thoughts."""
    found = parts if isinstance(parts, list) else []
    said = (
        part["text"]
        for part in found
        if isinstance(part, dict) and not part.get("thought") and isinstance(part.get("text"), str)
    )
    return "".join(said)


def _word(value: Any) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    return value.encode("utf-8", "replace").decode().replace("\x00", "")[:WORD_CHARS]


def _usage(metadata: Any) -> Usage | None:
    """Return the token counts; a count that is absent is 0.

    None means that the metadata is missing or that one of its counts is not a valid number.
    """
    if not isinstance(metadata, dict):
        return None
    counts = {
        "input_tokens": metadata.get("promptTokenCount", 0),
        "output_tokens": metadata.get("candidatesTokenCount", 0),
        "thought_tokens": metadata.get("thoughtsTokenCount", 0),
        "cached_tokens": metadata.get("cachedContentTokenCount", 0),
    }
    known = all(type(each) is int and 0 <= each <= LARGEST_COUNT for each in counts.values())
    return Usage(**counts) if known else None

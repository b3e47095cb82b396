"""What came from Gemini. Its body is stored as it came, before anything is read from it."""

import json
from dataclasses import dataclass, replace
from typing import Any

from domain.run_errors import ModelErrorCode as Code
from domain.runs import Usage

# What the ledger has room for, in characters.
STORED_CHARS = 262_144
# A finish reason or the name of a model stands in messages and columns.
WORD_CHARS = 100
LARGEST_COUNT = 2**31 - 1

_ENVELOPE = frozenset(("candidates", "promptFeedback", "usageMetadata"))


@dataclass(frozen=True)
class Answer:
    """An answer taken apart. `usage` is None when the provider did not tell what it counted.

    `problem` is the code of an answer that cannot be taken apart, or that is too large to be kept.
    """

    text: str = ""
    finish_reason: str | None = None
    block_reason: str | None = None
    usage: Usage | None = None
    model_version: str | None = None
    problem: Code | None = None


def stored(body: str) -> str:
    """What is kept of a body: as much as there is room for, without NUL."""
    return body.replace("\x00", "")[:STORED_CHARS]


def take_apart(body: str) -> Answer:
    """The answer in a body that came with status 200. Never raises, whatever the body is."""
    try:
        envelope = json.loads(body)
    except (ValueError, RecursionError):
        # What begins like JSON is a spoiled answer; anything else is a page of some proxy.
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
    """The answer's text, without the model's thoughts."""
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
    """The tokens, of which an absent one is 0; None when any of them is no count."""
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

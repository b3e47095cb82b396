"""Parse an answer into a pydantic model: check the finish reason, then the JSON, then the rules."""

import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from llm.answers import Answer
from llm.errors import ModelError

T = TypeVar("T", bound=BaseModel)

LARGEST_ANSWER = 64 * 1024
BLOCKING = frozenset(("SAFETY", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR"))
NAMED_PROBLEMS = 5
# A place in an answer is described by the answer's own keys, which can be long. The description is
# cut to this many characters.
PLACE_CHARS = 80

_PROBLEMS = {
    "NO_GEMINI_ANSWER": "What came with status 200 was no answer of Gemini",
    "OUTPUT_TOO_LARGE": "The answer is too large to be kept",
}
_FENCED = re.compile(r"\A\s*```(?:json)?\s*(.*?)\s*```\s*\Z", re.DOTALL)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def read(answer: Answer, schema: type[T]) -> T:
    """Parse the answer's text as `schema`. Raises ModelError for every answer that does not fit."""
    _refuse_spoiled(answer)
    text = answer.text
    if len(text.encode("utf-8", "surrogatepass")) > LARGEST_ANSWER:
        raise ModelError("OUTPUT_TOO_LARGE", "The answer is larger than 64 KB")
    if not text.strip():
        raise ModelError("OUTPUT_EMPTY", "The answer is empty")
    fenced = _FENCED.match(text)
    try:
        value = _cleaned(json.loads(fenced[1] if fenced else text))
    except (ValueError, RecursionError):
        raise ModelError("OUTPUT_INVALID", "The answer is no valid JSON") from None
    try:
        return schema.model_validate(value, extra="forbid")
    except ValidationError as error:
        raise ModelError.invalid(_problems(error)) from None


def _refuse_spoiled(answer: Answer) -> None:
    if answer.problem:
        raise ModelError(answer.problem, _PROBLEMS.get(answer.problem, "The answer is unreadable"))
    if answer.block_reason or answer.finish_reason in BLOCKING:
        reason = answer.block_reason or answer.finish_reason
        raise ModelError("BLOCKED", f"Gemini's safety rules blocked this goal ({reason})")
    if answer.finish_reason == "RECITATION":
        raise ModelError("RECITATION", "Gemini stopped: its answer was too like a known text")
    if answer.finish_reason == "MAX_TOKENS":
        raise ModelError("OUTPUT_TRUNCATED", "The answer was cut at its token limit; be shorter")
    if answer.finish_reason not in ("STOP", "FINISH_REASON_UNSPECIFIED", None):
        raise ModelError("OUTPUT_UNFINISHED", f"Gemini stopped early ({answer.finish_reason})")


def _cleaned(value: Any) -> Any:
    """Return JSON data without NUL characters and lone surrogates.

    PostgreSQL can store neither of them.
    """
    if isinstance(value, str):
        return _LONE_SURROGATE.sub("\ufffd", value.replace("\x00", ""))
    if isinstance(value, list):
        return [_cleaned(each) for each in value]
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(each) for key, each in value.items()}
    return value


def _problems(error: ValidationError) -> str:
    """Describe where an answer breaks which rules, without quoting the values that break them."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    named = [f"{_place(each['loc'])}: {each['msg']}" for each in found[:NAMED_PROBLEMS]]
    more = f" and {len(found) - NAMED_PROBLEMS} more" if len(found) > NAMED_PROBLEMS else ""
    return "; ".join(named) + more


def _place(loc: tuple[int | str, ...]) -> str:
    """Return the place of a problem in the answer, for example `weeks.3.focus`."""
    place = ".".join(map(str, loc)) or "answer"
    return place if len(place) <= PLACE_CHARS else place[:PLACE_CHARS] + "…"

"""Gemini's wire format: requests taken apart, answers and errors put together."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from starlette.exceptions import HTTPException

Json = dict[str, Any]

JSON_TYPE = "application/json; charset=UTF-8"


@dataclass(frozen=True)
class Model:
    """What a model can do. `dynamic` means that it thinks unless told not to.

    From Gemini 3 on there are `levels` of thinking instead of budgets, the first one by default.
    """

    name: str
    output_limit: int
    thinks: bool = False
    dynamic: bool = False
    levels: tuple[str, ...] = ()


# How much is thought at each level, in parts of what a free thinker of 2.5 would.
LEVELS = {"MINIMAL": 0.0, "LOW": 0.5, "MEDIUM": 2.0, "HIGH": 4.0}

MODELS = {
    model.name: model
    for model in (
        Model("gemini-2.0-flash", 8192),
        Model("gemini-2.0-flash-lite", 8192),
        Model("gemini-2.5-flash", 65536, thinks=True, dynamic=True),
        Model("gemini-2.5-flash-lite", 65536, thinks=True),
        Model("gemini-2.5-pro", 65536, thinks=True, dynamic=True),
        Model("gemini-3.5-flash-lite", 65536, True, levels=(*LEVELS,)),
        Model("gemini-3.8-flash", 65536, True, levels=("MEDIUM", "LOW", "HIGH")),
    )
}

STATUS_WORDS = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    413: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 502: "UNAVAILABLE",
    503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip


class BadRequest(HTTPException):
    """The request is one that Gemini refuses, with the details of its error."""

    def __init__(self, code: int, message: str, details: list[Json] | None = None) -> None:
        super().__init__(code, message)
        self.details = details


@dataclass(frozen=True)
class Ask:
    """One request for content, in Python's words."""

    model: Model
    user: str
    schema: Json | None = field(compare=False)  # told by the hash of the whole body
    wants_json: bool
    max_tokens: int
    thinking: int | None
    level: str | None
    prompt_tokens: int
    sha256: str


def count_tokens(text: str) -> int:
    """About four characters a token, which is what Gemini's own documentation says of English."""
    return (len(text) + 3) // 4


def error_body(code: int, message: str, details: list[Json] | None = None) -> bytes:
    error: Json = {"code": code, "message": message, "status": STATUS_WORDS.get(code, "UNKNOWN")}
    if details:
        error["details"] = details
    return json.dumps({"error": error}, indent=2).encode()


def error_info(reason: str) -> Json:
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": {"service": "generativelanguage.googleapis.com"},
    }


def find_model(name: str) -> Model:
    if name not in MODELS:
        raise BadRequest(
            404,
            f"models/{name} is not found for API version v1, or is not supported for "
            "generateContent. Call ListModels to see the list of available models and their "
            "supported methods.",
        )
    return MODELS[name]


def either(data: Json, camel: str, snake: str) -> Any:
    """Gemini takes both spellings, and google-genai sends a mixture of them."""
    value = data.get(camel)
    return data.get(snake) if value is None else value


def _texts(content: object) -> list[str]:
    parts = content.get("parts") if isinstance(content, dict) else None
    found = parts if isinstance(parts, list) else []
    return [str(part["text"]) for part in found if isinstance(part, dict) and "text" in part]


def parse_contents(data: Json) -> tuple[str, str]:
    """(system text, user text). Raises BadRequest (400) when there are no contents."""
    contents = data.get("contents")
    if not isinstance(contents, list) or not contents:
        raise BadRequest(400, "* GenerateContentRequest.contents: contents is not specified")
    asked = [c for c in contents if not isinstance(c, dict) or c.get("role") != "model"]
    user = [text for content in asked for text in _texts(content)]
    if not user:
        said = "* GenerateContentRequest.contents[0].parts: contents.parts must not be empty."
        raise BadRequest(400, said)
    system = _texts(either(data, "systemInstruction", "system_instruction"))
    return "\n".join(system), "\n".join(user)


def parse_json(body: bytes) -> Json:
    """The body as an object. Raises BadRequest (400) as Gemini words it."""
    try:
        data = json.loads(body)
    except ValueError as error:
        raise BadRequest(400, "Invalid JSON payload received. Unexpected token.") from error
    if not isinstance(data, dict):
        raise BadRequest(400, "Invalid JSON payload received. Root element must be a message.")
    return data


def parse_ask(model: Model, body: bytes) -> Ask:
    """Take a generateContent body apart. Raises BadRequest for what Gemini refuses too."""
    data = parse_json(body)
    system, user = parse_contents(data)
    config = either(data, "generationConfig", "generation_config") or {}
    schema = either(config, "responseJsonSchema", "response_json_schema") or either(
        config, "responseSchema", "response_schema"
    )
    thinking = either(config, "thinkingConfig", "thinking_config") or {}
    budget = either(thinking, "thinkingBudget", "thinking_budget")
    level = either(thinking, "thinkingLevel", "thinking_level")
    _refuse_wrong_thinking(model, budget, level)
    max_tokens = either(config, "maxOutputTokens", "max_output_tokens") or model.output_limit
    mime = either(config, "responseMimeType", "response_mime_type")
    return Ask(
        model=model,
        user=user,
        schema=schema if isinstance(schema, dict) else None,
        wants_json=mime == "application/json",
        max_tokens=min(int(max_tokens), model.output_limit),
        thinking=budget,
        level=level,
        prompt_tokens=count_tokens(system) + count_tokens(user),
        sha256=hashlib.sha256(body).hexdigest(),
    )


def _refuse_wrong_thinking(model: Model, budget: object, level: object) -> None:
    if budget == 0 and model.name == "gemini-2.5-pro":
        raise BadRequest(400, "Budget 0 is invalid. This model only works in thinking mode.")
    if level is None:
        return
    if budget is not None:
        raise BadRequest(400, "You can only set one of thinking budget and thinking level.")
    if not model.levels:
        raise BadRequest(400, "Thinking level is not supported for this model.")
    if level not in model.levels:
        allowed = ", ".join(name.lower() for name in model.levels)
        raise BadRequest(
            400,
            f"'{str(level).lower()}' is not a supported thinking level for this model. "
            f"Allowed values are: {allowed}.",
        )


def thought_tokens(ask: Ask) -> int:
    """How much it 'thinks', within the budget; it counts against the output limit."""
    wish = 64 + ask.prompt_tokens // 4
    if ask.model.levels:  # a budget of 0 does not keep these from thinking
        return int(wish * LEVELS[ask.level or ask.model.levels[0]])
    if not ask.model.thinks or ask.thinking == 0:
        return 0
    if ask.thinking is None and not ask.model.dynamic:
        return 0
    return min(wish, ask.thinking) if ask.thinking and ask.thinking > 0 else wish


@dataclass(frozen=True)
class Usage:
    prompt: int
    candidates: int = 0
    thoughts: int = 0

    def wire(self) -> Json:
        usage: Json = {"promptTokenCount": self.prompt}
        if self.candidates:
            usage["candidatesTokenCount"] = self.candidates
        usage["totalTokenCount"] = self.prompt + self.candidates + self.thoughts
        usage["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": self.prompt}]
        if self.thoughts:
            usage["thoughtsTokenCount"] = self.thoughts
        return usage


def answer_body(ask: Ask, candidate: Json | None, usage: Usage, **more: object) -> Json:
    """A GenerateContentResponse. `candidate` is None when the prompt itself was blocked."""
    body: Json = {} if candidate is None else {"candidates": [{**candidate, "index": 0}]}
    body.update(more)
    body["usageMetadata"] = usage.wire()
    body["modelVersion"] = ask.model.name + "-local-stand-in"
    body["responseId"] = ask.sha256[:22]
    return body


def text_candidate(text: str, finish: str = "STOP") -> Json:
    return {"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": finish}

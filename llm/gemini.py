"""One structured answer from Gemini. The SDK's own retries are off: Temporal owns retries."""

import asyncio
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx2
from google import genai
from google.genai import types
from pydantic import BaseModel

from domain.runs import Usage
from llm.errors import classify
from llm.models import thinking

PROVIDER = "google_ai"

# JSON-schema keywords that Gemini's structured output takes; the rest Rein checks by itself.
KEYWORDS = frozenset(
    [
        "$defs",
        "$ref",
        "type",
        "format",
        "description",
        "enum",
        "items",
        "prefixItems",
        "minItems",
        "maxItems",
        "minimum",
        "maximum",
        "anyOf",
        "oneOf",
        "properties",
        "additionalProperties",
        "required",
    ]
)


@dataclass(frozen=True)
class ModelCall:
    """What is asked. `schema` becomes the response schema; `timeout_s` bounds the whole call.

    A `temperature` or `thinking_budget` of None leaves the model its own.
    """

    model: str
    system: str
    user: str
    schema: type[BaseModel]
    temperature: float | None
    max_output_tokens: int
    thinking_budget: int | None
    timeout_s: float


class Answer(BaseModel):
    """The raw answer, before anything is read into it; stored as it is."""

    text: str
    finish_reason: str | None
    block_reason: str | None
    usage: Usage
    model_version: str | None


class Gemini:
    """A client for many calls at once. Close it with `aclose`."""

    def __init__(
        self, *, api_key: str, base_url: str | None = None, max_connections: int = 200
    ) -> None:
        # Named, because with aiohttp installed the SDK would use that, and repeat dropped calls.
        self._http = httpx2.AsyncClient(
            limits=httpx2.Limits(
                max_connections=max_connections, max_keepalive_connections=max_connections
            ),
            timeout=httpx2.Timeout(None, connect=10),
        )
        self._client = genai.Client(
            api_key=api_key or "missing",
            http_options=types.HttpOptions(
                base_url=base_url,
                retry_options=types.HttpRetryOptions(attempts=1),
                httpx_async_client=self._http,
            ),
        )

    async def ask(self, call: ModelCall) -> Answer:
        """One HTTP request, one answer. Raises ModelError when there was none."""
        try:
            async with asyncio.timeout(call.timeout_s):
                response = await self._client.aio.models.generate_content(
                    model=call.model, contents=call.user, config=_config(call)
                )
        except Exception as error:
            # Not chained: the SDK's error holds the server's whole answer, which may hold the key.
            raise classify(error) from None
        return _answer(response)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aio.aclose()
        await self._http.aclose()


def _config(call: ModelCall) -> types.GenerateContentConfigDict:
    config: types.GenerateContentConfigDict = {
        "system_instruction": call.system,
        "max_output_tokens": call.max_output_tokens,
        "response_mime_type": "application/json",
        "response_json_schema": response_schema(call.schema),
    }
    if call.temperature is not None:
        config["temperature"] = call.temperature
    bound = thinking(call.model, call.thinking_budget)
    if bound is not None:
        config["thinking_config"] = bound
    return config


@cache
def response_schema(schema: type[BaseModel]) -> dict[str, Any]:
    """The model's JSON schema in the words that Gemini takes, properties in their order."""
    reduced: dict[str, Any] = _reduced(schema.model_json_schema())
    return reduced


def _reduced(node: Any) -> Any:
    if isinstance(node, list):
        return [_reduced(each) for each in node]
    if not isinstance(node, dict):
        return node
    kept = {
        key: {name: _reduced(each) for name, each in value.items()}
        if key in ("properties", "$defs")
        else _reduced(value)
        for key, value in node.items()
        if key in KEYWORDS
    }
    if "properties" in kept:
        kept["propertyOrdering"] = list(kept["properties"])
    return kept


def _answer(response: types.GenerateContentResponse) -> Answer:
    candidate = response.candidates[0] if response.candidates else None
    parts = (candidate.content.parts if candidate and candidate.content else None) or []
    feedback = response.prompt_feedback
    reason = candidate.finish_reason if candidate else None
    blocked = feedback.block_reason if feedback else None
    return Answer(
        text="".join(part.text for part in parts if part.text and not part.thought),
        finish_reason=reason.value if reason else None,
        block_reason=blocked.value if blocked else None,
        usage=_usage(response.usage_metadata),
        model_version=response.model_version,
    )


def _usage(metadata: types.GenerateContentResponseUsageMetadata | None) -> Usage:
    if metadata is None:
        return Usage()
    return Usage(
        input_tokens=metadata.prompt_token_count or 0,
        output_tokens=metadata.candidates_token_count or 0,
        thought_tokens=metadata.thoughts_token_count or 0,
        cached_tokens=metadata.cached_content_token_count or 0,
    )

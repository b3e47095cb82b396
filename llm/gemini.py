"""One request to Gemini, one raw answer. Temporal owns retries, so the SDK's own are off."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx2
from google import genai
from google.genai import types
from pydantic import BaseModel

from llm.errors import ModelError, classify
from llm.models import thinking

PROVIDER = "google_ai"
# Said, because the SDK would take another address from the environment.
BASE_URL = "https://generativelanguage.googleapis.com"
# The longest answer of any model is far below it.
LARGEST_BODY = 16 * 1024 * 1024

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
            event_hooks={"response": [_bound]},
        )
        self._client = genai.Client(
            # Said, because GOOGLE_GENAI_USE_VERTEXAI in the environment would change the service.
            vertexai=False,
            api_key=api_key or "missing",
            http_options=types.HttpOptions(
                base_url=base_url or BASE_URL,
                retry_options=types.HttpRetryOptions(attempts=1),
                httpx_async_client=self._http,
            ),
        )

    async def ask(self, call: ModelCall) -> str:
        """One HTTP request; the body of its answer, unread.

        Raises ModelError when there was no answer.
        """
        try:
            async with asyncio.timeout(call.timeout_s):
                response = await self._client.aio.models.generate_content(
                    model=call.model, contents=call.user, config=_config(call)
                )
        except Exception as error:
            # Not chained: the SDK's error holds the server's whole answer, which may hold the key.
            raise classify(error) from None
        return (response.sdk_http_response and response.sdk_http_response.body) or ""

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aio.aclose()
        await self._http.aclose()


async def _bound(response: httpx2.Response) -> None:
    """Let the body of an answer end with an error where it becomes too large to be held."""
    if isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _BoundedStream(response.stream)


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > LARGEST_BODY:
                raise ModelError("OUTPUT_TOO_LARGE", "The answer is larger than 16 MB")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


def _config(call: ModelCall) -> types.GenerateContentConfigDict:
    config: types.GenerateContentConfigDict = {
        # The SDK would read the answer before it is stored, and fail on what it cannot read.
        "should_return_http_response": True,
        # Either could send further requests within this one, which the ledger would not know.
        "automatic_function_calling": {"disable": True},
        "automatic_continuation": False,
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
    """The model's JSON schema in the words that Gemini takes, properties in their order.

    Every property is required, because Gemini leaves out what is not; what may be null says so.
    """
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
        kept["required"] = kept["propertyOrdering"] = list(kept["properties"])
    return kept

"""The client for Gemini: one HTTP request per call. Temporal retries, so the SDK must not."""

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
# The address is always set, because the SDK would otherwise take one from the environment.
BASE_URL = "https://generativelanguage.googleapis.com"
# The largest body in bytes that is read. The longest answer of any model is much shorter.
LARGEST_BODY = 16 * 1024 * 1024

# The JSON-schema keywords that Gemini's structured output accepts. Rein sends no others, and checks
# their rules itself when it parses the answer.
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
    """The parameters of one model call.

    `schema` becomes the response schema. If `temperature` or `thinking_budget` is None, the model
    uses its default. `timeout_s` limits the whole call, in seconds.
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
    """A client for Gemini that can make many calls at once. Close it with `aclose`."""

    def __init__(
        self, *, api_key: str, base_url: str | None = None, max_connections: int = 200
    ) -> None:
        # Without a client of our own the SDK uses aiohttp if that is installed, and then it repeats
        # requests whose connection was lost.
        self._http = httpx2.AsyncClient(
            limits=httpx2.Limits(
                max_connections=max_connections, max_keepalive_connections=max_connections
            ),
            timeout=httpx2.Timeout(None, connect=10),
            event_hooks={"response": [_bound]},
        )
        self._client = genai.Client(
            # Without this, GOOGLE_GENAI_USE_VERTEXAI in the environment selects another service.
            vertexai=False,
            api_key=api_key or "missing",
            http_options=types.HttpOptions(
                base_url=base_url or BASE_URL,
                retry_options=types.HttpRetryOptions(attempts=1),
                httpx_async_client=self._http,
            ),
        )

    async def ask(self, call: ModelCall) -> str:
        """Send one HTTP request, and return the raw body of its answer.

        Raises ModelError if the request fails, times out or is answered with an error status.
        """
        try:
            async with asyncio.timeout(call.timeout_s):
                response = await self._client.aio.models.generate_content(
                    model=call.model, contents=call.user, config=_config(call)
                )
        except Exception as error:
            # Without the SDK's error as the cause: its text may contain the API key.
            raise classify(error) from None
        return (response.sdk_http_response and response.sdk_http_response.body) or ""

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aio.aclose()
        await self._http.aclose()


async def _bound(response: httpx2.Response) -> None:
    """Let reading an answer's body raise ModelError after LARGEST_BODY bytes, to save memory."""
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
        # Otherwise the SDK parses the answer before it is stored, and raises if it cannot.
        "should_return_http_response": True,
        # Both features could send further requests, which the ledger would not know of.
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
    """Return the schema as JSON schema, reduced to the keywords that Gemini accepts.

    All properties are required and keep their order, because Gemini tends to leave out optional
    ones. A value that may be missing has to be null or empty instead.
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
        # A model's docstring is written for programmers; only the fields' descriptions are sent.
        kept.pop("description", None)
        kept["required"] = kept["propertyOrdering"] = list(kept["properties"])
    return kept

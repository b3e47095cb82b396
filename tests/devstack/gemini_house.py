"""The model stand-in as the tests meet it: by the real client, its controls and its ledger."""

from dataclasses import dataclass
from pathlib import Path

from google import genai
from google.genai import types
from pydantic import BaseModel

from devstack.controls import GeminiControl


@dataclass
class GeminiHouse:
    """The stand-in's address, controls and ledger file, and google-genai as the product uses it."""

    url: str
    ledger: Path
    control: GeminiControl
    client: genai.Client

    async def ask(
        self,
        schema: type[BaseModel] | None,
        user: str,
        *,
        model: str = "gemini-2.0-flash",
        **config: object,
    ) -> types.GenerateContentResponse:
        """One call. With a schema it goes the JSON-schema way."""
        given: dict[str, object] = {"max_output_tokens": 8192, **config}
        if schema is not None:
            given |= {
                "response_mime_type": "application/json",
                "response_json_schema": schema.model_json_schema(),
            }
        return await self.client.aio.models.generate_content(
            model=model, contents=user, config=types.GenerateContentConfig.model_validate(given)
        )

"""The requests of a stage to the model: a filled-in prompt, with the model's own parameters."""

import hashlib
import json
from dataclasses import asdict, replace
from typing import NamedTuple

from pydantic import BaseModel

from domain.runs import PromptRef
from llm.errors import ModelError
from llm.gemini import ModelCall, response_schema
from llm.models import output_limit, takes_temperature, with_room_to_think
from prompts.library import Prompt, render


class Request(NamedTuple):
    """A model call, and the prompt that it was built from.

    `repair` marks the second call of a stage, which asks the model to correct its first answer.
    """

    call: ModelCall
    prompt: PromptRef
    repair: bool = False

    @property
    def sha256(self) -> str:
        """The hash of all that the model is asked.

        Requests with the same hash can share one answer.
        """
        asked = asdict(self.call) | {"schema": self.call.schema.__name__}
        del asked["timeout_s"]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    @property
    def bytes(self) -> int:
        """The size in bytes of all that the provider counts as input: the texts and the schema."""
        call = self.call
        schema = json.dumps(response_schema(call.schema))
        return sum(len(text.encode()) for text in (call.system, call.user, schema))


def first_request(
    prompt: Prompt, data: dict[str, str], schema: type[BaseModel], *, model: str, timeout_s: float
) -> Request:
    """Build the first request of a stage: fill `data` into the prompt, and adapt it to `model`.

    Not every model accepts a temperature, and some models need additional tokens for thinking.
    """
    rendered = render(prompt, data)
    call = ModelCall(
        model=model,
        system=rendered.system,
        user=rendered.user,
        schema=schema,
        temperature=prompt.temperature if takes_temperature(model) else None,
        max_output_tokens=with_room_to_think(
            model, prompt.max_output_tokens, prompt.thinking_budget
        ),
        thinking_budget=prompt.thinking_budget,
        timeout_s=timeout_s,
    )
    return Request(call, prompt.ref)


def repair_request(first: Request, repair: Prompt, error: ModelError) -> Request:
    """Build the second request of a stage: the first one, with a description of what was wrong.

    The wrong answer itself is not sent. If it was cut off, the second answer may be twice as long.
    """
    call = first.call
    schema = json.dumps(call.schema.model_json_schema())
    rendered = render(repair, {"error": error.message, "schema": schema})
    room = call.max_output_tokens * (2 if error.more_tokens else 1)
    again = replace(
        call,
        user=f"{call.user}\n\n{rendered.user}",
        max_output_tokens=min(room, output_limit(call.model)),
    )
    return Request(again, repair.ref, repair=True)


def prompt_name(prompt: PromptRef) -> str:
    """Return the name of a prompt version in spans, for example `plan:v2`."""
    return f"{prompt.stage}:v{prompt.version}"

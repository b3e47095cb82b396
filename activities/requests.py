"""What a stage asks of the model: its prompt filled in, in the terms of the model that is asked."""

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
    """A call and the prompt that it was made from; `repair` marks the second call of a stage."""

    call: ModelCall
    prompt: PromptRef
    repair: bool = False

    @property
    def sha256(self) -> str:
        """Two requests with the same hash ask the model for the same thing."""
        asked = asdict(self.call) | {"schema": self.call.schema.__name__}
        del asked["timeout_s"]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    @property
    def bytes(self) -> int:
        """The size of all that the provider counts as input: the texts and the schema."""
        call = self.call
        schema = json.dumps(response_schema(call.schema))
        return sum(len(text.encode()) for text in (call.system, call.user, schema))


def first_request(
    prompt: Prompt, data: dict[str, str], schema: type[BaseModel], *, model: str, timeout_s: float
) -> Request:
    """The prompt with `data` filled in, in the terms of `model`."""
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
    """The request again with what was wrong, never the broken answer; more room if it was cut."""
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
    """How spans name a prompt, e.g. `plan:v2`."""
    return f"{prompt.stage}:v{prompt.version}"

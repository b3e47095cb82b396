"""What a stage asks of the model, and what becomes of the answer."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from db.pool import Connection
from domain.runs import PromptRef, RunRef, Stage

D = TypeVar("D", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)


@dataclass(frozen=True)
class Task(Generic[D, R]):
    """What one stage asks of the model and what becomes of the answer.

    `check` names what is wrong with a well-formed answer; `keep` stores the result in the open
    transaction and returns what is stored; `said` is the sentence and facts of the last event.
    """

    stage: Stage
    span: str
    call: str
    doing: str
    schema: type[D]
    run: RunRef
    prompt: PromptRef
    data: dict[str, str]
    input: dict[str, Any]
    keep: Callable[[Connection, D], Awaitable[R]]
    said: Callable[[R], tuple[str, dict[str, Any]]]
    check: Callable[[D], str | None] = lambda draft: None

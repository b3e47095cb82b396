"""One LLM stage: render, ask, parse, record. The single meeting point of prompts, llm, tracing, db.

The order is what makes it safe to be killed at any line: the calls are in the ledger before their
answers are read (activities/calls.py), and the result, its event and its spans are stored in one
transaction.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog
from pydantic import BaseModel
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.calls import ModelCalls, Request, first_request, prompt_name, repair_request
from db.events import append_event
from db.pool import Connection, Pool, acquire, transaction
from db.prompts import select_prompt_body
from domain.errors import NotFound, Unavailable
from domain.runs import PromptRef, RunEventKind, Stage, StageRequest
from llm.errors import ModelError
from llm.gemini import Answer, Gemini
from llm.parsing import read
from prompts.library import Prompt, parse
from tracing import StageTrace

log = structlog.get_logger()

Q = TypeVar("Q", bound=StageRequest)
D = TypeVar("D", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)

# An error that nobody has classified is worth this many attempts, not more.
UNCLASSIFIED_ATTEMPTS = 5
HEARTBEAT_INTERVAL_S = 0.5


def _is_fine(request: StageRequest, draft: BaseModel) -> str | None:
    return None


@dataclass(frozen=True)
class StageSpec(Generic[Q, D, R]):
    """A stage as data: what it asks of the model, and what becomes of the answer.

    Its request is a `Q`, the model's answer a `D`, its result an `R`. Workflow, activity, run card,
    events and readiness all read it here.
    """

    name: Stage
    """The word for it in rows, events, manifests and prompts."""
    span: str
    """The name of its span; `call` is the name of its model calls' spans."""
    call: str
    doing: str
    """What the run does now, for watchers and the run card: "Planning the weeks"."""
    summary: str
    """What is to be done, for the Temporal UI: "Plan the weeks"."""
    schema: type[D]
    render: Callable[[Q], dict[str, str]]
    """What the prompt's names are filled with."""
    store: Callable[[Connection, Q, D], Awaitable[R]]
    """Stores the result in the open transaction and returns what is stored."""
    describe: Callable[[R], tuple[str, dict[str, Any]]]
    """The sentence and the facts of the event that tells the result."""
    validate: Callable[[Q, D], str | None] = _is_fine
    """Names what is wrong with a well-formed answer."""


class StageRunner:
    """Runs stages; holds what they need from the world."""

    def __init__(self, pool: Pool, gemini: Gemini, *, repair: Prompt, timeout_s: float) -> None:
        self.pool = pool
        self.gemini = gemini
        self.repair = repair
        self.timeout_s = timeout_s
        self._prompts: dict[PromptRef, Prompt] = {}

    async def run(self, spec: StageSpec[Q, D, R], request: Q) -> R:
        """One attempt of one stage.

        Raises ApplicationError with the error's code as its type: retryable, with the wait that
        the provider asked for, or not.
        """
        attempt = _Attempt(self, spec, request)
        prompt = await self._prompt(request.prompt)
        try:
            async with heartbeating():
                return await attempt.record(await attempt.obtain(prompt))
        except asyncio.CancelledError:
            await asyncio.shield(attempt.cancelled())
            raise
        except Exception as error:
            # Temporal keeps the whole chain of an error, and shows it to operators.
            raise await attempt.fail(error) from None

    async def _prompt(self, ref: PromptRef) -> Prompt:
        if ref not in self._prompts:
            async with acquire(self.pool) as conn:
                body = await select_prompt_body(conn, ref)
            if body is None:
                raise ApplicationError(
                    f"Prompt {ref.stage} v{ref.version} ({ref.sha256[:12]}…) is not registered; "
                    "start a worker that has it, then rerun",
                    type="PROMPT_MISSING",
                    non_retryable=True,
                )
            self._prompts[ref] = parse(ref.stage, ref.version, body)
        return self._prompts[ref]


class _Attempt(Generic[Q, D, R]):
    """One attempt of a stage: obtain an answer, then record it; or record why there is none.

    Each transaction writes its event, which locks the run's row, before its spans. The end of a run
    locks them in the same order, so the two never wait for each other.
    """

    def __init__(self, runner: StageRunner, spec: StageSpec[Q, D, R], request: Q) -> None:
        self._runner = runner
        self._spec = spec
        self._request = request
        self._trace = StageTrace.start(
            spec.span,
            input=request.model_dump(mode="json", exclude={"run", "prompt"}, exclude_none=True),
            metadata={"prompt": prompt_name(request.prompt)},
        )
        self._calls = ModelCalls(
            runner.pool,
            runner.gemini,
            self._trace,
            run=request.run,
            stage=spec.name,
            span_name=spec.call,
        )

    async def obtain(self, prompt: Prompt) -> D:
        """The stage's answer as its draft model, with one repair when the first one is broken.

        Raises ModelError.
        """
        first = first_request(
            prompt,
            self._spec.render(self._request),
            self._spec.schema,
            model=self._request.run.model,
            timeout_s=self._runner.timeout_s,
        )
        try:
            return await self._ask(first)
        except ModelError as error:
            if not (error.repairable or error.more_tokens):
                raise
            repair = repair_request(first, self._runner.repair, error)
        return await self._ask(repair)

    async def record(self, draft: D) -> R:
        """Store the result, its event and its spans together."""
        async with self._transaction() as conn:
            result = await self._spec.store(conn, self._request, draft)
            message, facts = self._spec.describe(result)
            await self._event(conn, "finished", "stage_finished", message, facts)
            await self._trace.finish(conn, output=result.model_dump(mode="json"))
        return result

    async def fail(self, error: Exception) -> ApplicationError:
        """Record a failed attempt and say what Temporal is to do about it.

        When PostgreSQL is what is away, recording raises too, and the next attempt notes this one
        as lost.
        """
        failure = error if isinstance(error, ModelError) else _unclassified(error)
        if failure.code == "UNKNOWN":
            log.error("stage_error", stage=self._spec.name, exc_info=error)
        retrying = failure.retryable and not (
            failure.code == "UNKNOWN" and self._trace.attempt >= UNCLASSIFIED_ATTEMPTS
        )
        async with self._transaction() as conn:
            key = f"attempt-{self._trace.attempt}" if retrying else "failed"
            kind: RunEventKind = "stage_retrying" if retrying else "stage_failed"
            wait = failure.retry_after.total_seconds() if failure.retry_after else None
            facts = {"code": failure.code, "retry_after_s": wait}
            await self._event(conn, key, kind, failure.message, facts)
            await self._trace.fail(conn, failure.code, failure.message, retrying=retrying)
        return ApplicationError(
            failure.message,
            type=failure.code,
            non_retryable=not retrying,
            next_retry_delay=failure.retry_after,
        )

    async def cancelled(self) -> None:
        """Record that the attempt was stopped from outside, perhaps in the middle of a call."""
        details = activity.cancellation_details()
        stopping = details is not None and details.worker_shutdown
        code = "WORKER_STOPPED" if stopping else "CANCELLED"
        async with self._transaction() as conn:
            await self._calls.cancelled(conn, code)
            await self._trace.fail(conn, code, "The stage was stopped", retrying=stopping)

    async def _ask(self, request: Request) -> D:
        return self._read(await self._calls.answer(request, self._begin))

    async def _begin(self, conn: Connection) -> None:
        await self._event(conn, "started", "stage_started", self._spec.doing, {})
        await self._trace.open(conn)

    def _read(self, answer: Answer) -> D:
        span = self._trace.child("json_parsing", input={"schema": self._spec.schema.__name__})
        try:
            draft = read(answer, self._spec.schema)
            wrong = self._spec.validate(self._request, draft)
            if wrong:
                raise ModelError.invalid(wrong)
        except ModelError as error:
            span.fail(error.code, error.message)
            raise
        span.finish()
        return draft

    async def _event(
        self, conn: Connection, what: str, kind: RunEventKind, message: str, facts: dict[str, Any]
    ) -> None:
        info = activity.info()
        key = f"{info.workflow_run_id}:{info.activity_id}:{what}"
        data = {"attempt": info.attempt, **facts}
        trace_id = self._request.run.trace_id
        await append_event(conn, trace_id, key, kind, self._spec.name, message, data)

    def _transaction(self) -> AbstractAsyncContextManager[Connection]:
        return transaction(self._runner.pool, self._request.run.tenant)


@asynccontextmanager
async def heartbeating() -> AsyncIterator[None]:
    """Beat until the block is left: a dead worker is noticed, a cancelled activity hears of it."""
    task = asyncio.create_task(_heartbeat())
    try:
        yield
    finally:
        task.cancel()


async def _heartbeat() -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_INTERVAL_S)
        activity.heartbeat()


def _unclassified(error: Exception) -> ModelError:
    """An error that is no answer of the model: PostgreSQL away, or a mistake of ours."""
    if isinstance(error, Unavailable):
        return ModelError("DATABASE_UNAVAILABLE", "PostgreSQL did not answer")
    if isinstance(error, NotFound):
        return ModelError("RUN_UNKNOWN", f"{error.detail}; start runs with POST /api/goals")
    return ModelError("UNKNOWN", f"Unexpected {type(error).__name__} in this stage")

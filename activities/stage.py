"""A stage of a run: fill in the prompt, call the model, parse the answer, record the result.

A worker may die at any line without damage, because of the order of the steps: an answer is in the
ledger before it is parsed (activities/calls.py), and the result, its event and its spans are stored
in one transaction.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

import structlog
from pydantic import BaseModel
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.calls import ModelCalls, Superseded
from activities.cancellation import stop_code
from activities.metrics import Metrics
from activities.requests import Request, first_request, prompt_name, repair_request
from db.events import append_event
from db.pool import Connection, Pool, acquire, transaction
from db.prompts import select_prompt_body
from domain.errors import NotFound, Unavailable
from domain.runs import PromptRef, RunEventKind, Stage, StageRequest
from llm.answers import Answer
from llm.errors import ModelError
from llm.gemini import Gemini
from llm.parsing import read
from prompts.library import Prompt, parse
from tracing import StageTrace

log = structlog.get_logger()

Q = TypeVar("Q", bound=StageRequest)
D = TypeVar("D", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)

# An error without a class (code UNKNOWN) is probably a bug, so it is retried only until this many
# attempts have failed.
UNCLASSIFIED_ATTEMPTS = 5
# The seconds between two heartbeats, each of which costs 3 ms of CPU. An activity learns of its
# cancellation from the answer to a heartbeat. The death of a worker is detected without heartbeats
# (activities/workers.py), so they need not be frequent.
HEARTBEAT_INTERVAL_S = 3


def _no_facts(request: StageRequest) -> dict[str, Any]:
    return {}


def _is_fine(request: StageRequest, draft: BaseModel) -> str | None:
    return None


def _stays_wrong(request: StageRequest, draft: BaseModel) -> None:
    return None


@dataclass(frozen=True)
class StageSpec(Generic[Q, D, R]):
    """The description of a stage: what it asks the model, and what is done with the answer.

    `Q` is the type of the stage's request, `D` that of the model's answer and `R` that of the
    stored result.
    """

    name: Stage
    """The stage's name in rows, events, manifests and prompts."""
    span: str
    """The name of the stage's span in the trace."""
    call: str
    """The name of the spans of the stage's model calls."""
    doing: str
    """What the run does during the stage, for events and the Temporal UI: "Planning the weeks"."""
    summary: str
    """The activity's summary in the Temporal UI: "Plan the weeks"."""
    schema: type[D]
    render: Callable[[Q], dict[str, str]]
    """Returns the values for the placeholders of the prompt, by their names."""
    store: Callable[[Connection, Q, D], Awaitable[R]]
    """Stores the result in the open transaction and returns it as it is stored."""
    describe: Callable[[R], tuple[str, dict[str, Any]]]
    """Returns the message and the data of the event that reports the result."""
    facts: Callable[[Q], dict[str, Any]] = _no_facts
    """Returns what the metadata of the stage's span says of the request, beside the prompt."""
    validate: Callable[[Q, D], str | None] = _is_fine
    """Returns what is wrong with a well-formed answer, or None if nothing is."""
    mend: Callable[[Q, D], D | None] = _stays_wrong
    """Corrects an answer that is wrong even after its repair; None lets the stage fail."""


class StageRunner:
    """Runs attempts of stages. It holds their dependencies and a cache of the prompts."""

    def __init__(
        self,
        pool: Pool,
        gemini: Gemini,
        *,
        repair: Prompt,
        timeout_s: float,
        worker_id: int,
        metrics: Metrics | None = None,
    ) -> None:
        self.pool = pool
        self.gemini = gemini
        self.timeout_s = timeout_s
        self.worker_id = worker_id
        self.metrics = metrics or Metrics()
        self._repair = repair
        self._prompts: dict[PromptRef, Prompt] = {}

    async def run(self, spec: StageSpec[Q, D, R], request: Q) -> R:
        """Run one attempt of a stage and return its stored result.

        Raises ApplicationError, whose type is the error's code. It tells Temporal whether to retry
        the stage, and after which time if the provider asked for one.
        """
        async with heartbeating():
            attempt = _Attempt(self, spec, request)
            prompts = await self._prompts_of(request)
            try:
                return await attempt.record(await attempt.obtain(*prompts))
            except asyncio.CancelledError:
                await asyncio.shield(attempt.cancelled())
                raise
            except Superseded as error:
                raise ApplicationError(f"Given up: {error}", type="SUPERSEDED") from error
            except Exception as error:
                # Without the cause: Temporal stores the causes of an error and shows them to
                # operators, and their messages may contain a person's text.
                raise await attempt.fail(error) from None

    async def _prompts_of(self, request: StageRequest) -> tuple[Prompt, Prompt]:
        """Return the stage's own prompt, and the prompt that asks for a corrected answer."""
        repair = await self._prompt(request.repair) if request.repair else self._repair
        return await self._prompt(request.prompt), repair

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
    """One attempt of a stage: it obtains an answer and records it, or records why there is none.

    Each transaction writes its event, which locks the run's row, before it writes spans. The
    transaction that ends a run takes these locks in the same order, so the two cannot deadlock.
    """

    def __init__(self, runner: StageRunner, spec: StageSpec[Q, D, R], request: Q) -> None:
        self._runner = runner
        self._spec = spec
        self._request = request
        self._trace = StageTrace.start(
            spec.span,
            input=request.model_dump(
                mode="json", exclude={"run", "prompt", "repair"}, exclude_none=True
            ),
            metadata={"prompt": prompt_name(request.prompt), **spec.facts(request)},
        )
        self._calls = ModelCalls(
            runner.pool,
            runner.gemini,
            self._trace,
            run=request.run,
            stage=spec.name,
            span_name=spec.call,
            worker_id=runner.worker_id,
            metrics=runner.metrics,
        )

    async def obtain(self, prompt: Prompt, repairing: Prompt) -> D:
        """Return the model's parsed answer; ask for one correction if the first answer is wrong.

        Raises ModelError if there is no usable answer, and Superseded if the attempt's result is
        no longer wanted.
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
            repair = repair_request(first, repairing, error)
        return await self._ask(repair)

    async def record(self, draft: D) -> R:
        """Store the result, its event and its spans in one transaction, and return the result."""
        async with self._transaction() as conn:
            result = await self._spec.store(conn, self._request, draft)
            message, facts = self._spec.describe(result)
            await self._event(conn, "finished", "stage_finished", message, facts)
            await self._trace.finish(conn, output=result.model_dump(mode="json"))
        self._runner.metrics.attempt(self._spec.name, "finished")
        return result

    async def fail(self, error: Exception) -> ApplicationError:
        """Record a failed attempt, and return the error that tells Temporal whether to retry.

        Raises Unavailable if PostgreSQL is unreachable; the next attempt then records this one
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
            facts: dict[str, Any] = {"code": failure.code, "retry_after_s": wait}
            if retrying:
                facts["next_try_at"] = datetime.now(UTC) + (failure.retry_after or _backoff())
            await self._event(conn, key, kind, failure.message, facts)
            await self._trace.fail(conn, failure.code, failure.message, retrying=retrying)
        self._runner.metrics.attempt(self._spec.name, "retrying" if retrying else "failed")
        return ApplicationError(
            failure.message,
            type=failure.code,
            non_retryable=not retrying,
            next_retry_delay=failure.retry_after,
        )

    async def cancelled(self) -> None:
        """Record that the attempt was cancelled. The ledger has the outcome of its call already."""
        code = stop_code()
        async with self._transaction() as conn:
            await self._trace.fail(
                conn, code, "The stage was stopped", retrying=code != "CANCELLED"
            )
        self._runner.metrics.attempt(self._spec.name, "stopped")

    async def _ask(self, request: Request) -> D:
        answer = await self._calls.answer(request, self._begin)
        span = self._trace.child("json_parsing", input={"schema": self._spec.schema.__name__})
        try:
            draft = self._read(answer, request)
        except ModelError as error:
            span.fail(error.code, error.message)
            raise
        span.finish()
        return draft

    async def _begin(self, conn: Connection) -> None:
        await self._event(conn, "started", "stage_started", self._spec.doing, {})
        await self._trace.open(conn)

    def _read(self, answer: Answer, request: Request) -> D:
        draft = read(answer, self._spec.schema)
        wrong = self._spec.validate(self._request, draft)
        mended = self._spec.mend(self._request, draft) if wrong and request.repair else None
        if wrong and mended is None:
            raise ModelError.invalid(wrong)
        return mended or draft

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
    """Send heartbeats to Temporal until the block is left, the first one at once.

    An activity learns of its cancellation only from the answers to its heartbeats.
    """
    activity.heartbeat()
    task = asyncio.create_task(_heartbeat())
    try:
        yield
    finally:
        task.cancel()


async def _heartbeat() -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_INTERVAL_S)
        activity.heartbeat()


def _backoff() -> timedelta:
    """Return how long Temporal waits before the next attempt if the error names no time."""
    info = activity.info()
    policy = info.retry_policy
    if policy is None:
        return timedelta()
    longest = policy.maximum_interval or 100 * policy.initial_interval
    # The exponent is limited, because a timedelta overflows.
    return min(
        policy.initial_interval * policy.backoff_coefficient ** min(info.attempt - 1, 30), longest
    )


def _unclassified(error: Exception) -> ModelError:
    """Return the ModelError for an error that has nothing to do with the model.

    PostgreSQL is unreachable, the run has no row, or there is a bug (code UNKNOWN).
    """
    if isinstance(error, Unavailable):
        return ModelError("DATABASE_UNAVAILABLE", "PostgreSQL did not answer")
    if isinstance(error, NotFound):
        return ModelError("RUN_UNKNOWN", f"{error.detail}; start runs with POST /api/goals")
    return ModelError("UNKNOWN", f"Unexpected {type(error).__name__} in this stage")

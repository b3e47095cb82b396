"""One attempt of a stage: its calls in the ledger, its spans, its events."""

import hashlib
import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, Generic

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.task import D, R, Task
from db.ledger import reserve_call, settle_call
from db.pool import Connection, Pool, acquire
from db.runs import append_event
from domain.errors import NotFound, Unavailable
from domain.runs import PromptRef, RunEventKind
from domain.spend import PaidCall, Reservation, Settlement
from llm.errors import ModelError
from llm.gemini import PROVIDER, Answer, Gemini, ModelCall
from llm.models import output_limit, takes_temperature, with_room_to_think
from llm.parsing import read
from llm.prices import cost_usd, reserve_usd
from prompts.library import Prompt, render
from tracing import ChildSpan, StageTrace

# An error that nobody has classified is worth this many attempts, not more.
UNKNOWN_ATTEMPTS = 5


class Attempt(Generic[D, R]):
    """Obtain an answer, then record it; or record why there is none."""

    def __init__(
        self,
        task: Task[D, R],
        prompt: Prompt,
        repair: Prompt,
        pool: Pool,
        gemini: Gemini,
        timeout_s: float,
    ) -> None:
        self._task = task
        self._prompt = prompt
        self._repair = repair
        self._pool = pool
        self._gemini = gemini
        self._timeout_s = timeout_s
        self._trace = StageTrace.start(
            task.span, input=task.input, metadata={"prompt": _name(task.prompt)}
        )
        self._unsettled: ChildSpan | None = None

    async def obtain(self) -> D:
        """The stage's answer as its draft model, with one repair when the first one is broken.

        Raises ModelError.
        """
        call = self._first_call()
        try:
            return self._read(await self._answer(call, self._task.prompt, repair=False))
        except ModelError as error:
            if not (error.repairable or error.more_tokens):
                raise
            second = self._repair_call(call, error)
        return self._read(await self._answer(second, self._repair.ref, repair=True))

    async def record(self, draft: D) -> R:
        """Store the result, its event and its spans together."""
        task = self._task
        async with acquire(self._pool) as conn, conn.transaction():
            result = await task.keep(conn, draft)
            await self._trace.finish(conn, output=result.model_dump(mode="json"))
            message, facts = task.said(result)
            await self._event(conn, "finished", "stage_finished", message, facts)
        return result

    async def fail(self, error: Exception) -> ApplicationError:
        """Record a failed attempt and say what Temporal is to do about it.

        When PostgreSQL is what is away, recording raises too, and the next attempt notes this one
        as lost.
        """
        failure = error if isinstance(error, ModelError) else _unclassified(error)
        retrying = failure.retryable and not (
            failure.code == "UNKNOWN" and self._trace.attempt >= UNKNOWN_ATTEMPTS
        )
        async with acquire(self._pool) as conn, conn.transaction():
            await self._trace.fail(conn, failure.code, failure.message, retrying=retrying)
            key = f"attempt-{self._trace.attempt}" if retrying else "failed"
            kind: RunEventKind = "stage_retrying" if retrying else "stage_failed"
            wait = failure.retry_after.total_seconds() if failure.retry_after else None
            facts = {"code": failure.code, "retry_after_s": wait}
            await self._event(conn, key, kind, failure.message, facts)
        return ApplicationError(
            failure.message,
            type=failure.code,
            non_retryable=not retrying,
            next_retry_delay=failure.retry_after,
        )

    async def cut(self) -> None:
        """Record that the attempt was stopped from outside, perhaps in the middle of a call."""
        details = activity.cancellation_details()
        stopping = details is not None and details.worker_shutdown
        code = "WORKER_STOPPED" if stopping else "CANCELLED"
        async with acquire(self._pool) as conn, conn.transaction():
            if self._unsettled:
                self._unsettled.fail(code, "Stopped before the answer came")
                await settle_call(
                    conn,
                    Settlement(
                        call_id=self._unsettled.id,
                        state="unknown",
                        finished_at=datetime.now(UTC),
                        error_code=code,
                    ),
                )
            await self._trace.fail(conn, code, "The stage was stopped", retrying=stopping)

    async def _answer(self, call: ModelCall, prompt: PromptRef, *, repair: bool) -> Answer:
        """The stored answer to exactly this request, or a newly bought one."""
        sha256 = _request_sha256(call)
        span = self._call_span(call, prompt)
        async with acquire(self._pool) as conn, conn.transaction():
            await self._trace.open(conn)
            await self._event(conn, "started", "stage_started", self._task.doing, {})
            reservation = self._reservation(call, prompt, sha256, span, repair)
            paid = await reserve_call(conn, reservation)
        if paid:
            self._trace.drop(span)
            return self._read_back(paid, call, prompt)
        return await self._buy(call, span)

    async def _buy(self, call: ModelCall, span: ChildSpan) -> Answer:
        """Make the call and store the raw answer, or why there is none, before anything else."""
        self._unsettled = span
        try:
            answer = await self._gemini.ask(call)
        except ModelError as error:
            span.fail(error.code, error.message)
            await self._settle(
                Settlement(
                    call_id=span.id,
                    state="unknown" if error.maybe_billed else "failed",
                    finished_at=datetime.now(UTC),
                    error_code=error.code,
                )
            )
            raise
        cost = cost_usd(call.model, answer.usage, datetime.now(UTC).date())
        span.finish(
            output={"answer": answer.text, "finish_reason": answer.finish_reason},
            usage=answer.usage,
            cost_usd=cost,
            metadata={"model_version": answer.model_version},
        )
        await self._settle(
            Settlement(
                call_id=span.id,
                state="answered",
                finished_at=datetime.now(UTC),
                usage=answer.usage,
                cost_usd=cost,
                model_version=answer.model_version,
                finish_reason=answer.finish_reason,
                answer=answer.model_dump_json(),
            )
        )
        return answer

    async def _settle(self, settlement: Settlement) -> None:
        async with acquire(self._pool) as conn:
            await settle_call(conn, settlement)
        self._unsettled = None

    def _read_back(self, paid: PaidCall, call: ModelCall, prompt: PromptRef) -> Answer:
        """An answer that an earlier attempt paid for: tokens and cost belong to that one's span."""
        answer = Answer.model_validate_json(paid.answer)
        span = self._trace.child(
            self._task.call,
            id=paid.call_id,
            of_attempt=paid.attempt,
            started_at=paid.started_at,
            type="llm",
            model=call.model,
            provider=PROVIDER,
            input={"user": call.user},
            metadata={"prompt": _name(prompt), "read_back_by_attempt": self._trace.attempt},
        )
        span.finish(
            output={"answer": answer.text, "finish_reason": answer.finish_reason},
            usage=paid.usage,
            cost_usd=paid.cost_usd,
            ended_at=paid.finished_at,
        )
        return answer

    def _read(self, answer: Answer) -> D:
        span = self._trace.child("json_parsing", input={"schema": self._task.schema.__name__})
        try:
            draft = read(answer, self._task.schema)
            wrong = self._task.check(draft)
            if wrong:
                raise ModelError.invalid(wrong)
        except ModelError as error:
            span.fail(error.code, error.message)
            raise
        span.finish()
        return draft

    def _first_call(self) -> ModelCall:
        prompt, model = self._prompt, self._task.run.model
        rendered = render(prompt, self._task.data)
        return ModelCall(
            model=model,
            system=rendered.system,
            user=rendered.user,
            schema=self._task.schema,
            temperature=prompt.temperature if takes_temperature(model) else None,
            max_output_tokens=with_room_to_think(
                model, prompt.max_output_tokens, prompt.thinking_budget
            ),
            thinking_budget=prompt.thinking_budget,
            timeout_s=self._timeout_s,
        )

    def _repair_call(self, call: ModelCall, error: ModelError) -> ModelCall:
        """The request again with what was wrong, never the broken answer; more room if cut."""
        schema = json.dumps(self._task.schema.model_json_schema())
        rendered = render(self._repair, {"error": error.message, "schema": schema})
        room = call.max_output_tokens * (2 if error.more_tokens else 1)
        return replace(
            call,
            user=f"{call.user}\n\n{rendered.user}",
            max_output_tokens=min(room, output_limit(call.model)),
        )

    def _call_span(self, call: ModelCall, prompt: PromptRef) -> ChildSpan:
        return self._trace.child(
            self._task.call,
            type="llm",
            model=call.model,
            provider=PROVIDER,
            input={"user": call.user},
            metadata={
                "prompt": _name(prompt),
                "prompt_sha256": prompt.sha256,
                "temperature": call.temperature,
                "max_output_tokens": call.max_output_tokens,
            },
        )

    def _reservation(
        self, call: ModelCall, prompt: PromptRef, sha256: str, span: ChildSpan, repair: bool
    ) -> Reservation:
        now = datetime.now(UTC)
        chars = len(call.system) + len(call.user)
        return Reservation(
            call_id=span.id,
            trace_id=self._task.run.trace_id,
            stage=self._task.stage,
            request_sha256=sha256,
            attempt=self._trace.attempt,
            repair=repair,
            model=call.model,
            prompt=prompt,
            reserved_usd=reserve_usd(call.model, chars, call.max_output_tokens, now.date()),
            started_at=now,
        )

    async def _event(
        self, conn: Connection, what: str, kind: RunEventKind, message: str, facts: dict[str, Any]
    ) -> None:
        info = activity.info()
        key = f"{info.workflow_run_id}:{info.activity_id}:{what}"
        data = {"attempt": info.attempt, **facts}
        run = self._task.run
        await append_event(conn, run.trace_id, key, kind, self._task.stage, message, data)


def _name(prompt: PromptRef) -> str:
    return f"{prompt.stage}:v{prompt.version}"


def _request_sha256(call: ModelCall) -> str:
    """Two calls with the same hash ask the model for the same thing."""
    asked = asdict(call) | {"schema": call.schema.__name__}
    del asked["timeout_s"]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _unclassified(error: Exception) -> ModelError:
    """An error that is no answer of the model: PostgreSQL away, or a mistake of ours."""
    if isinstance(error, Unavailable):
        return ModelError("DATABASE_UNAVAILABLE", "PostgreSQL did not answer")
    if isinstance(error, NotFound):
        return ModelError("RUN_UNKNOWN", f"{error.detail}; start runs with POST /api/goals")
    return ModelError("UNKNOWN", f"Unexpected {type(error).__name__} in this stage")

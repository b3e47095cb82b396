"""One model call: its request, its row in the spend ledger, its span.

A call is reserved in the ledger before it is made and its raw answer is stored before it is read,
so that whoever is killed in between leaves a trace of the money, and a retry that finds the stored
answer does not buy it again.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import NamedTuple

from pydantic import BaseModel

from db.ledger import reserve_call, settle_call
from db.pool import Connection, Pool, transaction
from domain.ledger import CallState, PaidCall, Reservation, Settlement
from domain.runs import PromptRef, RunRef, Stage
from llm.errors import ModelError
from llm.gemini import PROVIDER, Answer, Gemini, ModelCall
from llm.models import output_limit, takes_temperature, with_room_to_think
from llm.prices import cost_usd, reserve_usd
from prompts.library import Prompt, render
from tracing import ChildSpan, StageTrace


class Request(NamedTuple):
    """A call and the prompt that it was made from; `repair` marks the second call of a stage."""

    call: ModelCall
    prompt: PromptRef
    repair: bool = False


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


class ModelCalls:
    """The calls of one attempt of a stage, each a child span of `trace` named `span_name`."""

    def __init__(
        self,
        pool: Pool,
        gemini: Gemini,
        trace: StageTrace,
        *,
        run: RunRef,
        stage: Stage,
        span_name: str,
    ) -> None:
        self._pool = pool
        self._gemini = gemini
        self._trace = trace
        self._run = run
        self._stage = stage
        self._span_name = span_name
        self._in_flight: ChildSpan | None = None

    async def answer(
        self, request: Request, begin: Callable[[Connection], Awaitable[None]]
    ) -> Answer:
        """The stored answer to exactly this request, or a newly bought one.

        `begin` writes that the stage is under way, in the transaction that reserves the call.
        Raises ModelError when there is no answer.
        """
        span = self._span(request)
        reservation = self._reservation(request, span)
        async with transaction(self._pool, self._run.tenant) as conn:
            await begin(conn)
            paid = await reserve_call(conn, reservation)
        if paid:
            self._trace.drop(span)
            return self._read_back(paid, request)
        return await self._buy(request.call, span)

    async def cancelled(self, conn: Connection, code: str) -> None:
        """Note that nobody can say whether the call under way was answered and billed."""
        if self._in_flight:
            self._in_flight.fail(code, "Stopped before the answer came")
            await settle_call(conn, _unanswered(self._in_flight, "unknown", code))

    async def _buy(self, call: ModelCall, span: ChildSpan) -> Answer:
        """Make the call and store the raw answer, or why there is none, before anything else."""
        self._in_flight = span
        try:
            answer = await self._gemini.ask(call)
        except ModelError as error:
            span.fail(error.code, error.message)
            state: CallState = "unknown" if error.maybe_billed else "failed"
            await self._settle(_unanswered(span, state, error.code))
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
        async with transaction(self._pool, self._run.tenant) as conn:
            await settle_call(conn, settlement)
        self._in_flight = None

    def _read_back(self, paid: PaidCall, request: Request) -> Answer:
        """An answer that an earlier attempt paid for: tokens and cost belong to that one's span."""
        answer = Answer.model_validate_json(paid.answer)
        span = self._trace.child(
            self._span_name,
            id=paid.call_id,
            of_attempt=paid.attempt,
            started_at=paid.started_at,
            type="llm",
            model=request.call.model,
            provider=PROVIDER,
            input={"user": request.call.user},
            metadata={
                "prompt": prompt_name(request.prompt),
                "read_back_by_attempt": self._trace.attempt,
            },
        )
        span.finish(
            output={"answer": answer.text, "finish_reason": answer.finish_reason},
            usage=paid.usage,
            cost_usd=paid.cost_usd,
            ended_at=paid.finished_at,
        )
        return answer

    def _span(self, request: Request) -> ChildSpan:
        call = request.call
        return self._trace.child(
            self._span_name,
            type="llm",
            model=call.model,
            provider=PROVIDER,
            input={"user": call.user},
            metadata={
                "prompt": prompt_name(request.prompt),
                "prompt_sha256": request.prompt.sha256,
                "temperature": call.temperature,
                "max_output_tokens": call.max_output_tokens,
            },
        )

    def _reservation(self, request: Request, span: ChildSpan) -> Reservation:
        call, now = request.call, datetime.now(UTC)
        chars = len(call.system) + len(call.user)
        return Reservation(
            call_id=span.id,
            trace_id=self._run.trace_id,
            stage=self._stage,
            request_sha256=_sha256(call),
            attempt=self._trace.attempt,
            repair=request.repair,
            model=call.model,
            prompt=request.prompt,
            reserved_usd=reserve_usd(call.model, chars, call.max_output_tokens, now.date()),
            started_at=now,
        )


def prompt_name(prompt: PromptRef) -> str:
    """How spans name a prompt, e.g. `plan:v2`."""
    return f"{prompt.stage}:v{prompt.version}"


def _unanswered(span: ChildSpan, state: CallState, code: str) -> Settlement:
    return Settlement(call_id=span.id, state=state, finished_at=datetime.now(UTC), error_code=code)


def _sha256(call: ModelCall) -> str:
    """Two calls with the same hash ask the model for the same thing."""
    asked = asdict(call) | {"schema": call.schema.__name__}
    del asked["timeout_s"]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

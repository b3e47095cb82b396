"""The model calls of a stage: their rows in the spend ledger, their answers, their spans.

A call is reserved in the ledger before it is made, and its raw answer is stored before it is
parsed. So the ledger knows the call even if the worker dies during it, and a retry that finds a
stored answer does not pay for it again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import structlog
from temporalio import activity

from activities.cancellation import stop_code, was_given_up
from activities.metrics import Metrics
from activities.requests import Request, prompt_name
from db.ledger import reserve_call, settle_call
from db.pool import Connection, Pool, transaction
from domain.errors import Unavailable
from domain.ledger import (
    MAYBE_BILLED_CALLS,
    PaidCall,
    Reservation,
    SettledCall,
    Settlement,
    Standing,
)
from domain.runs import RunRef, Stage, Usage
from llm.answers import Answer, stored, take_apart
from llm.errors import ModelError
from llm.gemini import PROVIDER, Gemini, ModelCall
from llm.prices import cost_usd, reserve_usd
from tracing import ChildSpan, StageTrace

log = structlog.get_logger()

# The seconds between two checks of another attempt's call for the same request, and between two
# attempts to store an answer while PostgreSQL is unreachable.
POLL_S, STORE_RETRY_S = 0.3, 0.5
# A reserved call counts as lost this many seconds after its model timeout. A live process has
# settled it long before that.
LOST_MARGIN_S = 30
# A cancelled attempt has this many seconds to store the outcome of its call.
LAST_WORDS_S = 5


class Superseded(Exception):
    """The attempt's result is no longer wanted: its run has ended, or its call counts as lost.

    The attempt must not record anything more, because a different outcome is recorded already.
    """


class ModelCalls:
    """The model calls of one attempt of a stage.

    Each call gets a span with the name `span_name` below the span of `trace`.
    """

    def __init__(
        self,
        pool: Pool,
        gemini: Gemini,
        trace: StageTrace,
        *,
        run: RunRef,
        stage: Stage,
        span_name: str,
        worker_id: int,
        metrics: Metrics,
    ) -> None:
        self._pool = pool
        self._gemini = gemini
        self._trace = trace
        self._run = run
        self._stage = stage
        self._span_name = span_name
        self._worker_id = worker_id
        self._metrics = metrics

    async def answer(
        self, request: Request, begin: Callable[[Connection], Awaitable[None]]
    ) -> Answer:
        """Return the stored answer to exactly this request, or call the model for a new one.

        `begin` records that the stage has started, in the transaction that reserves the call.
        While another attempt makes the same call, this attempt waits for that call's answer.
        Raises ModelError when there is no answer, and Superseded when nobody wants one any more.
        """
        span = self._span(request)
        reservation = self._reservation(request, span)
        async with self._transaction() as conn:
            await begin(conn)
            standing = await _reserve(conn, reservation)
        while standing.under_way:
            await asyncio.sleep(POLL_S)
            span.started_at = datetime.now(UTC)
            reservation = reservation.model_copy(update={"started_at": span.started_at})
            async with self._transaction() as conn:
                standing = await _reserve(conn, reservation)
        for call in standing.unknown:
            self._trace.adopt(lost_span(call))
        if standing.reserved:
            return await self._buy(request.call, span, reservation.reserved_usd)
        self._trace.drop(span)
        if standing.paid:
            return self._read_back(standing.paid, request)
        raise ModelError(
            "SPEND_UNKNOWN_LIMIT",
            f"{MAYBE_BILLED_CALLS} calls for the same request brought no answer and may have been "
            "billed, so Rein makes no further one; see to the model and REIN_MODEL_TIMEOUT_S, then "
            "rerun from this stage",
        )

    async def _buy(self, call: ModelCall, span: ChildSpan, reserve: Decimal | None) -> Answer:
        """Make the call and store its outcome, even if the attempt is cancelled during the call.

        If Temporal gave up the attempt (after missed heartbeats, for example), the attempt still
        waits for the answer, because it is paid for and the next attempt can use it.
        """
        asking = asyncio.create_task(self._gemini.ask(call))
        settling = asyncio.create_task(self._settle(call, span, reserve, asking))
        try:
            return await asyncio.shield(settling)
        except asyncio.CancelledError:
            given_up = was_given_up()
            if not given_up:
                asking.cancel()
            # These errors are recorded already, except for a timeout: it leaves the call reserved,
            # so that the call counts as lost later.
            with suppress(ModelError, Superseded, TimeoutError):
                async with asyncio.timeout(LAST_WORDS_S + (call.timeout_s if given_up else 0)):
                    await settling
            raise

    async def _settle(
        self,
        call: ModelCall,
        span: ChildSpan,
        reserve: Decimal | None,
        asking: asyncio.Task[str],
    ) -> Answer:
        """Wait for the call, then store its raw answer, or the reason why there is none.

        Raises ModelError when there is no answer, and Superseded when the call counts as lost.
        """
        try:
            body = await asking
        except ModelError as error:
            await self._store_failure(span, error, reserve)
            raise
        except asyncio.CancelledError:
            await self._store_failure(span, _cut(), reserve)
            raise
        answer, now = take_apart(body), datetime.now(UTC)
        at_most, cost = answer.usage is None, reserve
        if answer.usage is not None:
            cost = cost_usd(call.model, answer.usage, now.date(), served=answer.model_version)
        span.finish(
            output={"answer": answer.text, "finish_reason": answer.finish_reason},
            usage=answer.usage,
            cost_usd=cost,
            cost_at_most=at_most,
            metadata={"model_version": answer.model_version},
        )
        await self._store(
            span,
            Settlement(
                call_id=span.id,
                state="unknown" if answer.problem == "NO_GEMINI_ANSWER" else "answered",
                finished_at=now,
                usage=answer.usage or Usage(),
                cost_usd=cost,
                cost_at_most=at_most,
                model_version=answer.model_version,
                finish_reason=answer.finish_reason,
                answer=stored(body),
                error_code=answer.problem,
            ),
        )
        return answer

    async def _store_failure(
        self, span: ChildSpan, error: ModelError, reserve: Decimal | None
    ) -> None:
        at_most = error.maybe_billed
        span.fail(
            error.code,
            error.message,
            cost_usd=reserve if at_most else None,
            cost_at_most=at_most,
        )
        await self._store(
            span,
            Settlement(
                call_id=span.id,
                state="unknown" if at_most else "failed",
                finished_at=datetime.now(UTC),
                cost_usd=reserve if at_most else Decimal(0),
                cost_at_most=at_most,
                error_code=error.code,
            ),
        )

    async def _store(self, span: ChildSpan, settlement: Settlement) -> None:
        """Store the outcome of a call; retry for as long as PostgreSQL is unreachable.

        Until then the paid answer exists only in this process. Raises Superseded when the call
        counts as lost already.
        """
        while True:
            try:
                async with self._transaction() as conn:
                    if not await settle_call(conn, settlement):
                        raise Superseded("the call counts as lost")
                took = settlement.finished_at - span.started_at
                self._metrics.call(span.model or "", self._stage, settlement, took)
                return
            except Unavailable:
                log.warning("settlement_waits_for_postgresql", call_id=str(settlement.call_id))
            await asyncio.sleep(STORE_RETRY_S)

    def _read_back(self, paid: PaidCall, request: Request) -> Answer:
        """Return a stored answer that an earlier attempt paid for.

        The span of the earlier call is written again with its tokens and cost; this attempt gets no
        span for the call, so the call is counted once.
        """
        answer = take_apart(paid.answer)
        if paid.error_code == "OUTPUT_TOO_LARGE":  # only its beginning is stored
            answer = replace(answer, problem="OUTPUT_TOO_LARGE")
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
            usage=None if paid.cost_at_most else paid.usage,
            cost_usd=paid.cost_usd,
            cost_at_most=paid.cost_at_most,
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
        call = request.call
        today = span.started_at.date()
        return Reservation(
            call_id=span.id,
            trace_id=self._run.trace_id,
            stage=self._stage,
            request_sha256=request.sha256,
            attempt=self._trace.attempt,
            repair=request.repair,
            model=call.model,
            prompt=request.prompt,
            reserved_usd=reserve_usd(call.model, request.bytes, call.max_output_tokens, today),
            started_at=span.started_at,
            lost_after=timedelta(seconds=call.timeout_s + LOST_MARGIN_S),
            worker_id=self._worker_id,
            workflow_run_id=activity.info().workflow_run_id or "",
            span=self._span_name,
            parent_span_id=self._trace.step_parent_id,
        )

    def _transaction(self) -> AbstractAsyncContextManager[Connection]:
        return transaction(self._pool, self._run.tenant)


async def _reserve(conn: Connection, reservation: Reservation) -> Standing:
    standing = await reserve_call(conn, reservation)
    if standing.run_ended:
        raise Superseded("the run has ended")
    return standing


def lost_span(call: SettledCall) -> ChildSpan:
    """Build the span of a call from the ledger, if the attempt that made the call stored no span.

    The attempt's worker may have died during the call, for example.
    """
    span = ChildSpan(
        id=call.call_id,
        name=call.span,
        started_at=call.started_at,
        attempt=call.attempt,
        type="llm",
        model=call.model,
        provider=PROVIDER,
        parent_id=call.parent_span_id,
    )
    if call.state == "answered":
        usage = None if call.cost_at_most else call.usage
        span.finish(None, usage, call.cost_usd, cost_at_most=call.cost_at_most)
    else:
        message = "Nobody knows whether it was answered and billed"
        span.fail(call.error_code or "CALL_LOST", message, None, call.cost_usd, cost_at_most=True)
    span.ended_at = call.finished_at
    return span


def _cut() -> ModelError:
    return ModelError(stop_code(), "Stopped before the answer came")

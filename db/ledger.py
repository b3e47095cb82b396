"""The spend ledger: reserve before the call, store the raw answer and settle after it."""

from asyncpg import ForeignKeyViolationError, Record

from db.pool import Connection
from domain.errors import NotFound
from domain.ledger import PaidCall, Reservation, Settlement
from domain.runs import Usage


async def reserve_call(conn: Connection, reservation: Reservation) -> PaidCall | None:
    """The stored answer to exactly this request of this run; without one, a call is reserved.

    A call that an earlier attempt reserved and never settled becomes unknown. Raises NotFound when
    nobody accepted such a run.
    """
    try:
        row = await _reserve(conn, reservation)
    except ForeignKeyViolationError as error:
        raise NotFound(f"no run has the trace id {reservation.trace_id}") from error
    return None if row is None else _paid_call(row)


async def _reserve(conn: Connection, reservation: Reservation) -> Record | None:
    row: Record | None = await conn.fetchrow(
        """
        WITH paid AS (
            SELECT call_id, attempt, started_at, finished_at, input_tokens, output_tokens,
                   thought_tokens, cached_tokens, cost_usd, answer
              FROM llm_calls
             WHERE trace_id = $2 AND stage = $3 AND request_sha256 = $4 AND state = 'answered'
             ORDER BY finished_at
             LIMIT 1
        ), lost AS (
            UPDATE llm_calls SET state = 'unknown', finished_at = now()
             WHERE trace_id = $2 AND stage = $3 AND request_sha256 = $4 AND state = 'reserved'
               AND attempt < $5
        ), reserved AS (
            INSERT INTO llm_calls (call_id, trace_id, stage, request_sha256, attempt, repair,
                                   model, prompt_stage, prompt_version, reserved_usd, started_at)
            SELECT $1::uuid, $2::uuid, $3, $4, $5::integer, $6::boolean, $7, $8, $9::integer,
                   $10::numeric, $11::timestamptz
             WHERE NOT EXISTS (SELECT FROM paid)
            ON CONFLICT (call_id) DO NOTHING
        )
        SELECT call_id, attempt, started_at, finished_at, input_tokens, output_tokens,
               thought_tokens, cached_tokens, cost_usd, answer
          FROM paid
        """,
        reservation.call_id,
        reservation.trace_id,
        reservation.stage,
        reservation.request_sha256,
        reservation.attempt,
        reservation.repair,
        reservation.model,
        reservation.prompt.stage,
        reservation.prompt.version,
        reservation.reserved_usd,
        reservation.started_at,
    )
    return row


def _paid_call(row: Record) -> PaidCall:
    fields = dict(row)
    return PaidCall(
        usage=Usage(**{name: fields.pop(name) for name in Usage.model_fields}),
        **fields,
    )


async def settle_call(conn: Connection, settlement: Settlement) -> None:
    """Store the raw answer (or why there is none), the tokens and the cost of a reserved call."""
    await conn.execute(
        """
        UPDATE llm_calls
           SET state = $12, finished_at = $2, input_tokens = $3, output_tokens = $4,
               thought_tokens = $5,
               cached_tokens = $6, cost_usd = $7, model_version = $8, answer = $9,
               finish_reason = $10, error_code = $11
         WHERE call_id = $1
        """,
        settlement.call_id,
        settlement.finished_at,
        settlement.usage.input_tokens,
        settlement.usage.output_tokens,
        settlement.usage.thought_tokens,
        settlement.usage.cached_tokens,
        settlement.cost_usd,
        settlement.model_version,
        settlement.answer,
        settlement.finish_reason,
        settlement.error_code,
        settlement.state,
    )

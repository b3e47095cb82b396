"""The spend ledger: a model call is reserved before it is made, and settled after it.

Settling stores the provider's raw answer, so that a retry can read the answer and need not buy it
again.
"""

from asyncpg import ForeignKeyViolationError

from db.calls import LOSE, SETTLED_CALL
from db.pool import Connection
from domain.errors import NotFound
from domain.ledger import MAYBE_BILLED_CALLS, Reservation, Settlement, Standing


async def reserve_call(conn: Connection, reservation: Reservation) -> Standing:
    """Reserve a model call before it is made, unless there is a reason not to make it.

    The result says whether the call is reserved, and otherwise why not: for example, an answer to
    the same request is stored. Raises NotFound when no run has this trace id.
    """
    try:
        row = await conn.fetchrow(
            _RESERVE,
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
            reservation.worker_id,
            reservation.span,
            reservation.parent_span_id,
            reservation.workflow_run_id,
            reservation.lost_after,
            MAYBE_BILLED_CALLS,
        )
    except ForeignKeyViolationError as error:
        raise NotFound(f"no run has the trace id {reservation.trace_id}") from error
    return Standing.model_validate(dict(row or {}))


_RESERVE = f"""
    WITH same AS (
        SELECT * FROM llm_calls
         WHERE trace_id = $2 AND stage = $3 AND request_sha256 = $4 AND call_id <> $1
    ), lost AS (
        UPDATE llm_calls SET {LOSE}
         WHERE call_id IN (
               SELECT call_id FROM same
                WHERE state = 'reserved'
                  AND (started_at < now() - $16::interval OR NOT EXISTS (
                       SELECT FROM workers WHERE worker_id = same.worker_id)))
        RETURNING *
    ), unknown AS (
        SELECT * FROM lost UNION ALL SELECT * FROM same WHERE state = 'unknown'
    ), paid AS (
        SELECT * FROM same WHERE state = 'answered' ORDER BY finished_at LIMIT 1
    ), standing AS (
        SELECT EXISTS (SELECT FROM same WHERE state = 'reserved'
                          AND call_id NOT IN (SELECT call_id FROM lost)) AS under_way,
               EXISTS (SELECT FROM runs WHERE trace_id = $2 AND finished_at IS NOT NULL
                          AND workflow_run_id = $15) AS run_ended
    ), reserved AS (
        INSERT INTO llm_calls (call_id, trace_id, stage, request_sha256, attempt, repair, model,
                               prompt_stage, prompt_version, reserved_usd, started_at, worker_id,
                               span, parent_span_id)
        SELECT $1::uuid, $2::uuid, $3, $4, $5::integer, $6::boolean, $7, $8, $9::integer,
               $10::numeric, $11::timestamptz, $12::integer, $13, $14::uuid
          FROM standing
         WHERE NOT under_way AND NOT run_ended AND NOT EXISTS (SELECT FROM paid)
           AND (SELECT count(*) FROM unknown) < $17
        RETURNING call_id
    )
    SELECT EXISTS (SELECT FROM reserved) AS reserved, under_way, run_ended,
           (SELECT {SETTLED_CALL} || jsonb_build_object('answer', answer) FROM paid) AS paid,
           (SELECT coalesce(jsonb_agg({SETTLED_CALL} ORDER BY started_at), '[]') FROM unknown)
           AS unknown
      FROM standing
"""  # noqa: S608 - interpolates constants only


async def settle_call(conn: Connection, settlement: Settlement) -> bool:
    """Store the outcome of a reserved call: raw answer or error code, tokens and cost.

    Return False, without any change, when the call is no longer reserved because another process
    has settled it as lost.
    """
    settled = await conn.fetchval(
        """
        UPDATE llm_calls
           SET state = $2, finished_at = $3, input_tokens = $4, output_tokens = $5,
               thought_tokens = $6, cached_tokens = $7,
               cost_usd = CASE WHEN $9 THEN reserved_usd ELSE $8 END, cost_at_most = $9,
               model_version = $10, answer = $11, finish_reason = $12, error_code = $13
         WHERE call_id = $1 AND state = 'reserved'
        RETURNING true
        """,
        settlement.call_id,
        settlement.state,
        settlement.finished_at,
        settlement.usage.input_tokens,
        settlement.usage.output_tokens,
        settlement.usage.thought_tokens,
        settlement.usage.cached_tokens,
        settlement.cost_usd,
        settlement.cost_at_most,
        settlement.model_version,
        settlement.answer,
        settlement.finish_reason,
        settlement.error_code,
    )
    return settled is not None

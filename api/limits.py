"""Checks the limits of a tenant when a run is accepted: models, pace and runs in flight."""

from db.callers import count_runs_in_flight, lock_tenant, take_turn
from db.pool import Connection
from domain.callers import Caller, Limits, Quota
from domain.errors import ModelNotAllowed, TooManyRequests

# A caller with too many runs in flight is told to retry after this many seconds. The API cannot
# know when a run will end; most runs take seconds.
RUN_ENDS_S = 5


def check_model(limits: Limits, model: str) -> None:
    """Raise ModelNotAllowed if the limits list allowed models and `model` is not one of them."""
    allowed = limits.allowed_models
    if allowed is not None and model not in allowed:
        raise ModelNotAllowed(
            f"expected one of {', '.join(allowed)}; came {model}",
            cure="ask for one of these, or have the tenant's limits changed",
        )


async def admit(conn: Connection, caller: Caller) -> dict[str, str]:
    """Count the run that this transaction has just stored against the limits of its tenant.

    Returns the RateLimit headers, or none if the tenant has no limit of runs a minute. Raises
    TooManyRequests, which must roll back the transaction, so that the refused run is not counted.
    Call this last: the tenant's row is locked until the transaction ends.
    """
    limits, headers = caller.limits, dict[str, str]()
    if limits.runs_per_minute is not None:
        headers |= await _in_turn(conn, caller.tenant, limits.runs_per_minute)
    if limits.runs_in_flight is not None:
        if limits.runs_per_minute is None:
            await lock_tenant(conn, caller.tenant)
        await _beside_others(conn, caller.tenant, limits.runs_in_flight)
    return headers


async def _in_turn(conn: Connection, tenant: str, limit: int) -> dict[str, str]:
    pace = await take_turn(conn, tenant, limit)
    if pace.retry_after_s:
        raise TooManyRequests(
            f"expected at most {limit} runs a minute",
            quota=pace.quota,
            retry_after=pace.retry_after_s,
        )
    return pace.quota.headers


async def _beside_others(conn: Connection, tenant: str, limit: int) -> None:
    # The count is exact, because every transaction that accepts a run of this tenant holds the lock
    # on the tenant's row while it counts.
    if await count_runs_in_flight(conn, tenant) > limit:
        raise TooManyRequests(
            f"expected at most {limit} runs that have not ended",
            quota=Quota(limit, remaining=0, reset_s=RUN_ENDS_S),
            retry_after=RUN_ENDS_S,
        )

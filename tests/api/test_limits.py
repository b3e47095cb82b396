"""Limits of tenants: exact with many acceptors in several processes, and told in headers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import uuid4

import httpx
import pytest

from api.limits import admit, check_model
from db import pool as database
from db.callers import insert_tenant, update_limits
from db.pool import Pool, Pools, acquire, transaction
from domain.callers import Caller, Limits, Pace
from domain.errors import ModelNotAllowed, ReinError, TooManyRequests
from tests.factories import api_key

CROWD = 32


@pytest.fixture(scope="module")
async def operations(module_postgres_url: str) -> AsyncIterator[Pool]:
    async with database.connect(module_postgres_url, size=2, role="rein_operations") as pool:
        yield pool


@pytest.fixture(scope="module")
async def processes(module_postgres_url: str) -> AsyncIterator[list[Pool]]:
    """The pools of two API processes."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                database.connect(module_postgres_url, size=CROWD // 2, role="rein_application")
            )
            for _ in range(2)
        ]


async def limited(operations: Pool, tenant: str, **limits: int) -> Caller:
    async with acquire(operations) as conn:
        await insert_tenant(conn, tenant)
        await update_limits(conn, tenant, Limits(**limits))
    return Caller(tenant=tenant, key_id="k", scopes=frozenset(), limits=Limits(**limits))


async def accept(pool: Pool, caller: Caller) -> dict[str, str]:
    """What the API does: stored and admitted in one transaction."""
    async with transaction(pool, caller.tenant) as conn:
        await conn.execute(
            """
            INSERT INTO runs (trace_id, kind, user_id, pseudonym, workflow_id, request, manifest,
                              status)
            VALUES ($1, 'goal_generation', 'u', 'p', $2, '{}', '{}', 'accepted')
            """,
            uuid4(),
            str(uuid4()),
        )
        return await admit(conn, caller)


async def crowd(processes: list[Pool], *callers: Caller) -> list[dict[str, str]]:
    """So many acceptors at once; the headers of those who were let in."""
    answers = await asyncio.gather(
        *(accept(processes[number % 2], callers[number % len(callers)]) for number in range(CROWD)),
        return_exceptions=True,
    )
    assert all(isinstance(answer, dict | TooManyRequests) for answer in answers), answers
    return [answer for answer in answers if isinstance(answer, dict)]


async def runs_of(operations: Pool, tenant: str) -> int:
    async with acquire(operations) as conn:
        count: int = await conn.fetchval("SELECT count(*) FROM runs WHERE tenant_id = $1", tenant)
    return count


async def test_a_crowd_gets_the_runs_of_a_minute_and_not_one_more(
    operations: Pool, processes: list[Pool]
) -> None:
    caller = await limited(operations, "minute", runs_per_minute=3)
    async with acquire(operations) as conn:
        began = await conn.fetchval("SELECT clock_timestamp()")
    answers = await crowd(processes, caller)
    async with acquire(operations) as conn:
        passed = await conn.fetchval("SELECT clock_timestamp()") - began

    # On a machine so slow that an interval passed meanwhile, its run is rightly let in too.
    assert 3 <= len(answers) <= 3 + passed // Pace.interval(3)
    assert await runs_of(operations, "minute") == len(answers)
    assert {answer["RateLimit-Remaining"] for answer in answers} == {"0", "1", "2"}


async def test_a_crowd_gets_the_places_in_flight_and_not_one_more(
    operations: Pool, processes: list[Pool]
) -> None:
    caller = await limited(operations, "flight", runs_in_flight=7)
    assert len(await crowd(processes, caller)) == 7
    assert await runs_of(operations, "flight") == 7

    async with acquire(operations) as conn:
        await conn.execute(
            """
            UPDATE runs SET status = 'success', finished_at = now()
             WHERE trace_id IN (SELECT trace_id FROM runs WHERE tenant_id = 'flight' LIMIT 2)
            """
        )
    assert len(await crowd(processes, caller)) == 2


async def test_both_limits_hold_at_once(operations: Pool, processes: list[Pool]) -> None:
    caller = await limited(operations, "both", runs_per_minute=40, runs_in_flight=5)
    assert len(await crowd(processes, caller)) == 5
    async with acquire(operations) as conn:
        ahead = await conn.fetchval(
            "SELECT next_run_at - clock_timestamp() FROM tenants WHERE tenant_id = 'both'"
        )
    # Those who found no place in flight did not use up the minute.
    assert ahead <= 5 * Pace.interval(40)


async def test_one_tenant_takes_nothing_from_another(
    operations: Pool, processes: list[Pool]
) -> None:
    greedy = await limited(operations, "greedy", runs_in_flight=2)
    modest = await limited(operations, "modest", runs_in_flight=CROWD)
    free = await limited(operations, "free")
    await crowd(processes, greedy, modest, free, free)
    assert await runs_of(operations, "greedy") == 2
    assert await runs_of(operations, "modest") == CROWD // 4
    assert await runs_of(operations, "free") == CROWD // 2


class Nothing:
    """No connection: a statement fails."""


async def test_a_tenant_without_limits_costs_no_statement() -> None:
    caller = Caller(tenant="local", key_id="k", scopes=frozenset())
    assert await admit(Nothing(), caller) == {}  # type: ignore[arg-type]


async def test_a_refusal_says_when_to_come_again(operations: Pool, processes: list[Pool]) -> None:
    minute = await limited(operations, "told", runs_per_minute=1)
    flight = await limited(operations, "told-flight", runs_in_flight=1)
    for caller in (minute, flight):
        await accept(processes[0], caller)

    refusals: list[ReinError] = []
    for caller in (minute, flight):
        with pytest.raises(TooManyRequests) as refused:
            await accept(processes[0], caller)
        refusals.append(refused.value)

    by_minute, by_flight = refusals
    assert by_minute.retry_after is not None
    assert 1 <= by_minute.retry_after <= 60
    assert by_minute.headers == {
        "Retry-After": str(by_minute.retry_after),
        "RateLimit-Limit": "1",
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": str(by_minute.retry_after),
    }
    assert by_minute.cure
    assert str(by_minute.retry_after) in by_minute.cure
    assert by_flight.headers["RateLimit-Remaining"] == "0"
    assert (by_flight.status, by_flight.code) == (429, "TOO_MANY_REQUESTS")


async def test_the_api_tells_what_is_left_and_counts_no_repeated_request(
    http: httpx.AsyncClient, pools: Pools
) -> None:
    await limited(pools.operations, "over-http", runs_per_minute=2)
    key = await api_key(pools, "over-http")

    async def send(idempotency_key: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": idempotency_key}
        body = {"goal": "Run a 5K", "user_id": "u"}
        return await http.post("/api/goals", json=body, headers=headers)

    first, again, second, third = [await send(name) for name in ("one", "one", "two", "three")]

    assert [first.status_code, second.status_code, third.status_code] == [202, 202, 429]
    assert [first.headers["RateLimit-Remaining"], second.headers["RateLimit-Remaining"]] == [
        "1",
        "0",
    ]
    assert again.json()["trace_id"] == first.json()["trace_id"]
    assert "RateLimit-Limit" not in again.headers
    assert 1 <= int(third.headers["Retry-After"]) <= int(third.headers["RateLimit-Reset"])
    assert third.json()["code"] == "TOO_MANY_REQUESTS"

    listed = await http.get("/api/goals", headers={"Authorization": f"Bearer {key}"})
    assert len(listed.json()["items"]) == 2


def test_a_model_outside_the_list_is_forbidden_and_the_list_is_told() -> None:
    limits = Limits(allowed_models=("gemini-2.0-flash", "gemini-2.5-flash"))
    check_model(limits, "gemini-2.5-flash")
    check_model(Limits(), "anything")
    with pytest.raises(
        ModelNotAllowed, match=r"gemini-2\.0-flash, gemini-2\.5-flash; came gemini-9"
    ):
        check_model(limits, "gemini-9")

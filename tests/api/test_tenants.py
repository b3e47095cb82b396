"""What belongs to another tenant does not exist, on every address there is."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from api import openapi
from api.app import Api
from db.pool import Pools, acquire
from tests.factories import Runs, api_key

from .conftest import serving

BODIES: dict[str, dict[str, Any]] = {
    "/api/goals": {"goal": "I want to run a 5K", "user_id": "user-1"},
    "/api/runs/{trace_id}/rerun": {"from_stage": "plan"},
    "/api/feedback": {"trace_id": "{trace_id}", "user_id": "user-1", "rating": 4},
}
ROUTES = sorted(
    (method.upper(), path)
    for path, methods in json.loads(openapi.document())["paths"].items()
    for method in methods
    if path.startswith("/api/")
)
# Those that name something of a tenant's.
NAMING = [route for route in ROUTES if "_id}" in route[1] + str(BODIES.get(route[1]))]


@pytest.fixture(scope="module")
async def foreign(pools: Pools) -> dict[str, str]:
    """The ids of an ended run of the tenant `globex`."""
    await api_key(pools, "globex")
    trace_id = await Runs(pools, "globex").finished()
    async with acquire(pools.operations) as conn:
        ids = await conn.fetchrow(
            """
            SELECT s.trace_id, s.resolution_id, p.plan_id
              FROM resolutions s JOIN plans p USING (trace_id) WHERE trace_id = $1
            """,
            trace_id,
        )
    return {name: str(value) for name, value in dict(ids or {}).items()}


@pytest.fixture(scope="module")
async def anybody(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key."""
    async with serving(api) as client:
        yield client


async def _send(
    http: httpx.AsyncClient, method: str, path: str, ids: dict[str, str], key: str | None
) -> httpx.Response:
    body = BODIES.get(path)
    if body:
        body = {name: ids.get(str(value).strip("{}"), value) for name, value in body.items()}
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return await http.request(method, path.format(**ids), json=body, headers=headers)


@pytest.mark.parametrize(("method", "path"), NAMING)
async def test_foreign_is_the_same_404_as_missing(
    anybody: httpx.AsyncClient,
    pools: Pools,
    foreign: dict[str, str],
    method: str,
    path: str,
) -> None:
    key = await api_key(pools, "acme")
    missing = {name: str(uuid4()) for name in foreign}
    theirs = await _send(anybody, method, path, foreign, key)
    nobodys = await _send(anybody, method, path, missing, key)
    assert theirs.status_code == nobodys.status_code == 404
    assert _without_ids(theirs, foreign) == _without_ids(nobodys, missing)


def _without_ids(answer: httpx.Response, ids: dict[str, str]) -> dict[str, Any]:
    text = answer.text
    for value in ids.values():
        text = text.replace(value, "ID")
    found: dict[str, Any] = httpx.Response(200, text=text).json()
    del found["request_id"]
    return found


@pytest.mark.parametrize(("method", "path"), NAMING)
async def test_the_owner_does_reach_it(
    anybody: httpx.AsyncClient, pools: Pools, foreign: dict[str, str], method: str, path: str
) -> None:
    """Without this the 404 of the others would prove nothing."""
    answer = await _send(anybody, method, path, foreign, await api_key(pools, "globex"))
    assert answer.status_code not in (401, 403, 404)


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_without_a_key_it_is_401(
    anybody: httpx.AsyncClient, foreign: dict[str, str], method: str, path: str
) -> None:
    for key in (None, "nonsense", "rk_local_aaaaaaaaaaaa_" + "x" * 43):
        answer = await _send(anybody, method, path, foreign, key)
        assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHORIZED")
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_key_without_the_scope_is_403(
    anybody: httpx.AsyncClient, pools: Pools, foreign: dict[str, str], method: str, path: str
) -> None:
    key = await api_key(pools, "globex", scopes=("ops",))
    answer = await _send(anybody, method, path, foreign, key)
    assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize("path", ["/api/goals", "/api/runs"])
async def test_lists_hold_a_tenants_own(
    anybody: httpx.AsyncClient, pools: Pools, foreign: dict[str, str], path: str
) -> None:
    key = {"Authorization": f"Bearer {await api_key(pools, 'acme')}"}
    mine = await Runs(pools, "acme").finished()
    items = (await anybody.get(path, headers=key)).json()["items"]
    assert str(mine) in {item["trace_id"] for item in items}
    assert foreign["trace_id"] not in {item["trace_id"] for item in items}


async def test_an_idempotency_key_is_the_tenants_own(
    anybody: httpx.AsyncClient, pools: Pools
) -> None:
    same = {"Idempotency-Key": uuid4().hex}
    answers = [
        await anybody.post(
            "/api/goals",
            json=BODIES["/api/goals"] | {"goal": f"Goal of {tenant}"},
            headers=same | {"Authorization": f"Bearer {await api_key(pools, tenant)}"},
        )
        for tenant in ("acme", "globex")
    ]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert len({UUID(answer.json()["trace_id"]) for answer in answers}) == 2


async def test_one_person_has_another_pseudonym_in_each_tenant(
    anybody: httpx.AsyncClient, pools: Pools
) -> None:
    for tenant in ("acme", "globex"):
        await anybody.post(
            "/api/goals",
            json=BODIES["/api/goals"] | {"user_id": "shared-person"},
            headers={"Authorization": f"Bearer {await api_key(pools, tenant)}"},
        )
    async with acquire(pools.operations) as conn:
        rows = await conn.fetch("SELECT pseudonym FROM runs WHERE user_id = 'shared-person'")
    assert len({row["pseudonym"] for row in rows}) == 2

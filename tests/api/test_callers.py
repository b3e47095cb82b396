"""Callers: which keys open which routes, for how long, and what nobody is told."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Security
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from structlog.testing import capture_logs

import api.callers
from api import problems
from api.app import create_app
from api.callers import (
    TRUSTED_S,
    Authenticator,
    FeedbackWrite,
    GoalsRead,
    GoalsWrite,
    NoAuthentication,
    Ops,
    authenticate,
)
from api.keys import mint
from db import pool as database
from db.callers import insert_api_key, revoke_api_key, roll_api_key, select_api_key
from db.pool import Connection, Pool, acquire
from domain.callers import SCOPES, ApiKey, Credential
from domain.errors import Unauthorized, Unavailable
from settings import Settings

PEPPER = SecretStr("a pepper of the tests")
# Routes that anybody may ask, because they tell nothing of anybody.
PUBLIC = frozenset(
    (
        *("/", "/livez", "/openapi.json", "/docs", "/docs.js", "/docs.css"),
        *("/docs/caller.py", "/docs/caller.ts"),
    )
)


def routes_without_scope(app: FastAPI) -> list[str]:
    """The routes of an app, at whatever depth, that ask for no scope and are not public."""
    return [
        f"{','.join(sorted(route.methods or ()))} {route.path}"
        for route in iter_route_contexts(app.routes)
        if route.path not in PUBLIC and not _asks_for_scope(getattr(route, "dependant", None))
    ]


def _asks_for_scope(dependant: Dependant | None) -> bool:
    return dependant is not None and any(
        (part.call is authenticate and bool(part.own_oauth_scopes or part.parent_oauth_scopes))
        or _asks_for_scope(part)
        for part in dependant.dependencies
    )


class Clock:
    """Both clocks of an authenticator, which go on when they are told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.today = datetime.now(UTC)

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return self.today


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
async def operations(module_postgres_url: str) -> AsyncIterator[Pool]:
    async with database.connect(module_postgres_url, size=4, role="rein_operations") as pool:
        yield pool


@pytest.fixture
def authenticator(operations: Pool, clock: Clock) -> Authenticator:
    return Authenticator(
        operations, pepper=PEPPER, environment="test", clock=clock.monotonic, now=clock.now
    )


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The key ids that were asked for in PostgreSQL."""
    asked: list[str] = []

    async def counted(conn: Connection, key_id: str) -> ApiKey | None:
        asked.append(key_id)
        return await select_api_key(conn, key_id)

    monkeypatch.setattr(api.callers, "select_api_key", counted)
    return asked


async def store(
    pool: Pool, credential: Credential, *scopes: str, lifetime: timedelta = timedelta(days=1)
) -> None:
    async with acquire(pool) as conn:
        await insert_api_key(
            conn,
            key_id=credential.key_id,
            tenant="local",
            name="a test",
            secret_mac=credential.mac(PEPPER),
            scopes=scopes or SCOPES,
            lifetime=lifetime,
        )


async def end_of(pool: Pool, credential: Credential) -> datetime:
    async with acquire(pool) as conn:
        key = await select_api_key(conn, credential.key_id)
    assert key is not None
    return key.expires_at


@pytest.fixture
async def key(operations: Pool) -> Credential:
    """A stored key with every scope, good for a day."""
    credential = mint("test")
    await store(operations, credential)
    return credential


def small_app(authenticator: Authenticator | NoAuthentication) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None)
    app.state.services = SimpleNamespace(authenticator=authenticator)
    problems.install(app)
    router = APIRouter(prefix="/api")

    @router.get("/goals")
    async def read_goals(caller: GoalsRead) -> str:
        return caller.tenant

    @router.post("/goals", dependencies=[Security(authenticate, scopes=["feedback:write"])])
    async def write_goals(caller: GoalsWrite) -> str:
        return caller.key_id

    app.include_router(router)
    return app


def serving(authenticator: Authenticator | NoAuthentication) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(small_app(authenticator))
    return httpx.AsyncClient(transport=transport, base_url="http://rein.test")


def bearing(credential: Credential) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential.reveal()}"}


async def test_a_key_opens_what_it_has_the_scope_for(
    operations: Pool, authenticator: Authenticator
) -> None:
    reader = mint("test")
    await store(operations, reader, "goals:read", "feedback:write", "of:later")
    async with serving(authenticator) as http:
        read = await http.get("/api/goals", headers=bearing(reader))
        written = await http.post("/api/goals", headers=bearing(reader))

    assert (read.status_code, read.json()) == (200, "local")
    assert written.status_code == 403
    problem = written.json()
    assert problem["code"] == "FORBIDDEN"
    assert "the scope goals:write; this one has feedback:write, goals:read" in problem["detail"]
    assert problem["cure"]


async def test_every_wrong_key_gets_the_same_answer(
    operations: Pool, authenticator: Authenticator, key: Credential, clock: Clock
) -> None:
    revoked, expired = mint("test"), mint("test")
    await store(operations, revoked)
    await store(operations, expired, lifetime=timedelta(0))
    clock.today += timedelta(hours=1)
    async with acquire(operations) as conn:
        await revoke_api_key(conn, revoked.key_id)
    secret = key.secret.get_secret_value()
    wrong = (
        mint("test").reveal(),
        key._replace(secret=mint("test").secret).reveal(),
        key._replace(environment="live").reveal(),
        key.reveal()[:-1],
        key.reveal().upper(),
        f"rk_test__{secret}",
        revoked.reveal(),
        expired.reveal(),
        "x" * 5000,
    )
    async with serving(authenticator) as http:
        for headers in ({}, {"Authorization": key.reveal()}, {"Authorization": "Basic eDp5"}):
            missing = await http.get("/api/goals", headers=headers)
            assert missing.status_code == 401
            assert missing.headers["WWW-Authenticate"] == "Bearer"
            assert "came none" in missing.json()["detail"]
        answers = [
            await http.get("/api/goals", headers={"Authorization": f"Bearer {text}"})
            for text in wrong
        ]

    assert {answer.status_code for answer in answers} == {401}
    assert {answer.headers["WWW-Authenticate"] for answer in answers} == {"Bearer"}
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].json()["code"] == "UNAUTHORIZED"


@given(st.text(max_size=200))
async def test_what_is_no_key_is_not_looked_up(text: str) -> None:
    authenticator = Authenticator(Nowhere(), pepper=PEPPER, environment="test")  # type: ignore[arg-type]
    with pytest.raises(Unauthorized):
        await authenticator.identify(text)


class Nowhere:
    """No pool: using it fails."""


async def test_a_revoked_key_is_refused_when_the_look_up_is_too_old(
    operations: Pool, authenticator: Authenticator, key: Credential, clock: Clock
) -> None:
    await authenticator.identify(key.reveal())
    async with acquire(operations) as conn:
        await revoke_api_key(conn, key.key_id)

    clock.seconds += TRUSTED_S
    with capture_logs() as logs, pytest.raises(Unauthorized):
        await authenticator.identify(key.reveal())

    assert TRUSTED_S < 5
    assert [(line["reason"], line["key_id"]) for line in logs] == [("revoked", key.key_id)]


async def test_a_look_up_serves_for_a_while(
    authenticator: Authenticator, key: Credential, clock: Clock, lookups: list[str]
) -> None:
    for _ in range(3):
        await authenticator.identify(key.reveal())
        clock.seconds += TRUSTED_S / 3 - 0.001
    assert lookups == [key.key_id]


async def test_a_new_key_serves_soon_though_it_was_asked_for_too_early(
    operations: Pool, authenticator: Authenticator, clock: Clock, lookups: list[str]
) -> None:
    early = mint("test")
    for _ in range(2):
        with pytest.raises(Unauthorized):
            await authenticator.identify(early.reveal())
    assert lookups == [early.key_id]

    await store(operations, early)
    clock.seconds += TRUSTED_S
    assert (await authenticator.identify(early.reveal())).tenant == "local"


async def test_a_crowd_is_one_look_up_which_outlives_whoever_began_it(
    authenticator: Authenticator, key: Credential, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def held(conn: Connection, key_id: str) -> ApiKey | None:
        assert not asked.is_set()
        asked.set()
        await may_answer.wait()
        return await select_api_key(conn, key_id)

    monkeypatch.setattr(api.callers, "select_api_key", held)
    first, *others = [asyncio.create_task(authenticator.identify(key.reveal())) for _ in range(50)]
    await asked.wait()
    first.cancel()
    may_answer.set()

    callers = await asyncio.gather(*others)
    assert first.cancelled()
    assert {caller.key_id for caller in callers} == {key.key_id}


async def test_no_more_keys_are_remembered_than_fit(
    authenticator: Authenticator, lookups: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.callers, "REMEMBERED", 3)
    strangers = [mint("test") for _ in range(4)]
    for stranger in [*strangers, *strangers[1:], strangers[0]]:
        with pytest.raises(Unauthorized):
            await authenticator.identify(stranger.reveal())
    assert lookups == [stranger.key_id for stranger in (*strangers, strangers[0])]


async def test_postgresql_away_is_unavailable_and_not_remembered(
    authenticator: Authenticator, key: Credential, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(conn: Connection, key_id: str) -> ApiKey | None:
        raise ConnectionResetError

    with monkeypatch.context() as broken:
        broken.setattr(api.callers, "select_api_key", away)
        async with serving(authenticator) as http:
            answer = await http.get("/api/goals", headers=bearing(key))
        with pytest.raises(Unavailable):
            await authenticator.identify(key.reveal())

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert (await authenticator.identify(key.reveal())).key_id == key.key_id


async def test_a_key_ends_at_its_moment_though_it_is_remembered(
    operations: Pool, authenticator: Authenticator, key: Credential, clock: Clock
) -> None:
    end = await end_of(operations, key)
    clock.today = end - timedelta(microseconds=1)
    await authenticator.identify(key.reveal())
    clock.today = end
    with pytest.raises(Unauthorized):
        await authenticator.identify(key.reveal())


async def test_a_rolled_key_serves_beside_its_successor_until_the_overlap_is_over(
    operations: Pool, authenticator: Authenticator, key: Credential, clock: Clock
) -> None:
    new = mint("test")
    async with acquire(operations) as conn:
        await roll_api_key(
            conn,
            key.key_id,
            new_key_id=new.key_id,
            secret_mac=new.mac(PEPPER),
            overlap=timedelta(hours=1),
        )
    end = await end_of(operations, key)

    clock.today = end - timedelta(microseconds=1)
    old_caller = await authenticator.identify(key.reveal())
    new_caller = await authenticator.identify(new.reveal())
    assert old_caller.scopes == new_caller.scopes == set(SCOPES)

    clock.today = end
    assert await authenticator.identify(new.reveal()) == new_caller
    with pytest.raises(Unauthorized):
        await authenticator.identify(key.reveal())


async def test_secrets_are_compared_in_constant_time(
    authenticator: Authenticator, key: Credential, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def never_equal(stored: bytes, came: bytes) -> bool:
        compared.append((stored, came))
        return False

    monkeypatch.setattr("domain.callers.hmac.compare_digest", never_equal)
    with pytest.raises(Unauthorized):
        await authenticator.identify(key.reveal())
    assert compared == [(key.mac(PEPPER), key.mac(PEPPER))]


async def test_no_secret_is_shown_or_stored(
    operations: Pool, authenticator: Authenticator, key: Credential
) -> None:
    wrong = key._replace(secret=mint("test").secret)
    with capture_logs() as logs:
        async with serving(authenticator) as http:
            answers = [
                await http.request(method, "/api/goals", headers=bearing(sent))
                for sent in (key, wrong)
                for method in ("GET", "POST", "PUT")
            ]
    async with acquire(operations) as conn:
        rows = await conn.fetch("SELECT k::text FROM api_keys k")
        stored = await select_api_key(conn, key.key_id)
    caller = await authenticator.identify(key.reveal())

    seen = repr((logs, rows, stored, caller, key, vars(authenticator)))
    seen += "".join(f"{answer.text}{answer.headers}" for answer in answers)
    assert key.key_id in seen
    for secret in (key.secret, wrong.secret, PEPPER):
        assert secret.get_secret_value() not in seen


async def test_without_authentication_everybody_is_local() -> None:
    async with serving(NoAuthentication()) as http:
        read = await http.get("/api/goals")
        written = await http.post("/api/goals", headers={"Authorization": "Bearer anything"})
    assert (read.status_code, read.json()) == (200, "local")
    assert written.status_code == 200


def test_the_document_shows_the_scheme_and_the_scopes() -> None:
    document = small_app(NoAuthentication()).openapi()
    operations = document["paths"]["/api/goals"]
    assert operations["get"]["security"] == [{"ApiKey": ["goals:read"]}]
    assert operations["post"]["security"] == [{"ApiKey": ["feedback:write", "goals:write"]}]
    scheme = document["components"]["securitySchemes"]["ApiKey"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")


def test_every_route_of_the_api_asks_for_a_scope_or_is_public() -> None:
    assert routes_without_scope(create_app(Settings(_env_file=None))) == []


def test_a_route_without_a_scope_is_named() -> None:
    async def through_another(caller: FeedbackWrite) -> str:
        return caller.tenant

    app = small_app(NoAuthentication())
    inner, outer = APIRouter(), APIRouter(dependencies=[Security(authenticate, scopes=["ops"])])

    @app.get("/livez")
    async def livez() -> None: ...

    @app.get("/livez/more")
    async def more() -> None: ...

    @app.get("/through")
    async def through(tenant: Annotated[str, Depends(through_another)]) -> str:
        return tenant

    @inner.get("/forgotten")
    async def forgotten() -> None: ...

    @inner.get("/no-scope")
    async def no_scope(caller: Annotated[Any, Security(authenticate)]) -> None: ...

    @outer.get("/by-its-router")
    async def by_its_router() -> None: ...

    @outer.get("/twice")
    async def twice(caller: Ops) -> None: ...

    outer.include_router(inner, prefix="/deep")
    app.include_router(inner, prefix="/shallow")
    app.include_router(outer)
    app.mount("/files", FastAPI())

    assert routes_without_scope(app) == [
        "GET /livez/more",
        "GET /shallow/forgotten",
        "GET /shallow/no-scope",
        " /files",
    ]

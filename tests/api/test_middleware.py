"""What comes from outside, however broken, is answered with 4xx and what to do about it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Message, Scope

from api.app import Api, create_app
from api.sites import Sites
from domain.goals import GOAL_MIN
from domain.text import visible_length
from tests.factories import Runs

from .conftest import serving
from .conftest import settings as api_settings

JSON = {"Content-Type": "application/json"}
GOAL = {"goal": "I want to run a 5K", "user_id": "user-1"}
UNREAD = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le")


async def _bytes(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 1000):
        yield b" " * 1000


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"", JSON, 422, "INVALID_REQUEST"),
        (b"{", JSON, 400, "MALFORMED_BODY"),
        (b"\xff\xfe{}", JSON, 400, "MALFORMED_BODY"),
        *((json.dumps(GOAL).encode(name), JSON, 400, "MALFORMED_BODY") for name in UNREAD),
        (b"[" * 60_000, JSON, 400, "MALFORMED_BODY"),
        (b"9" * 60_000, JSON, 400, "MALFORMED_BODY"),
        (b'{"goal": "run 5K", "user_id": 1e999}', JSON, 422, "INVALID_REQUEST"),
        (rb'{"goal": "run \ud800 5K", "user_id": "u"}', JSON, 422, "INVALID_REQUEST"),
        (rb'{"goal": "run 5K", "user_id": "u", "\ud800": 1}', JSON, 422, "INVALID_REQUEST"),
        (b"null", JSON, 422, "INVALID_REQUEST"),
        (b"goal=run", {"Content-Type": "text/plain"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b"{}", {}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b" " * 100_000, JSON, 413, "TOO_LARGE"),
        (b" " * 100_000, {"Content-Type": "text/plain"}, 413, "TOO_LARGE"),
        (b"{}", JSON | {"Idempotency-Key": "two words"}, 422, "INVALID_REQUEST"),
        (b"{}", JSON | {"Idempotency-Key": "k" * 256}, 422, "INVALID_REQUEST"),
    ],
)
async def test_broken_bodies(
    http: httpx.AsyncClient, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await http.post("/api/goals", content=body, headers=headers)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["cure"]
    assert len(answer.content) < 4000


async def test_a_large_body_in_chunks_is_cut_off(http: httpx.AsyncClient) -> None:
    answer = await http.post("/api/goals", content=_bytes(100_000), headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (413, "TOO_LARGE")


async def test_double_keys_are_harmless(http: httpx.AsyncClient) -> None:
    body = b'{"goal": "no", "goal": "I want to run a 5K", "user_id": "u"}'
    assert (await http.post("/api/goals", content=body, headers=JSON)).status_code == 202


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 307),
        ("GET", "/docs", 200),
        ("GET", "/docs.js", 200),
        ("GET", "/docs/caller.py", 200),
        ("GET", "/docs/caller.ts", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/livez", 200),
        ("GET", "/api/goals", 200),
        ("GET", "/api/nothing", 404),
        ("GET", "/api/goals/%00", 422),
        ("GET", "/api/goals/%ff", 422),
        ("DELETE", "/api/goals", 405),
        ("PROPFIND", "/api/goals", 405),
    ],
)
async def test_every_answer_has_safe_headers(
    http: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await http.request(method, path)
    assert answer.status_code == status, answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    if status >= 400:
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/api/goals", "GET, POST"), ("/api/feedback", "POST"), ("/openapi.json", "GET, HEAD")],
)
async def test_405_names_every_method_of_the_address(
    http: httpx.AsyncClient, path: str, allowed: str
) -> None:
    answer = await http.delete(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


async def test_what_nobody_foresaw_is_500_without_the_inside() -> None:
    app = create_app(api_settings("postgresql://nobody@127.0.0.1:1/none", auth="off"))

    @app.get("/broken")
    async def broken() -> None:
        raise ValueError("the inside")

    async with serving(app) as client:
        answer = await client.get("/broken")
    assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL")
    assert "inside" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_without_postgresql_it_is_503_and_alive() -> None:
    app = create_app(api_settings("postgresql://nobody@127.0.0.1:1/none", auth="off"))
    async with serving(app) as client:
        answers = [await client.get("/api/goals"), await client.post("/api/goals", json=GOAL)]
        alive = await client.get("/livez")
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE")
        assert answer.headers["retry-after"]
    assert alive.json() == {"status": "ok"}


class TestRequestId:
    async def test_the_callers_own_is_kept(self, http: httpx.AsyncClient) -> None:
        answer = await http.get("/api/nothing", headers={"X-Request-Id": "order/42:a"})
        assert answer.headers["x-request-id"] == "order/42:a"
        assert answer.json()["request_id"] == "order/42:a"

    @pytest.mark.parametrize("came", [b"", b"two words", b"x" * 129, "é".encode(), b"a\tb"])
    async def test_another_is_made_where_it_is_none(
        self, http: httpx.AsyncClient, came: bytes
    ) -> None:
        answers = [await http.get("/livez", headers={b"X-Request-Id": came}) for _ in range(2)]
        made = [answer.headers["x-request-id"] for answer in answers]
        assert all(re.fullmatch("[0-9a-f]{32}", each) for each in made)
        assert made[0] != made[1]

    async def test_the_logs_name_it(self, caplog: pytest.LogCaptureFixture) -> None:
        app = create_app(api_settings("postgresql://nobody@127.0.0.1:1/none", auth="off"))
        async with serving(app) as client:
            await client.get("/api/goals", headers={"X-Request-Id": "order-42"})
        refused = next(line for line in logged(caplog) if line["event"] == "refused")
        assert refused["request_id"] == "order-42"


def logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """What structlog was told."""
    return [record.msg for record in caplog.records if isinstance(record.msg, dict)]


async def test_a_client_that_leaves_in_mid_answer_is_no_error(
    api: Api, http: httpx.AsyncClient, stored: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    """It has stopped reading before, so that the stream stands with an event in its hands."""
    trace_id = await stored.accepted()
    for number in range(2, 10):
        await stored.event(trace_id, f"step-{number}")
    reading, full = asyncio.Event(), asyncio.Event()

    async def send(message: Message) -> None:
        if message.get("body"):
            full.set()
            await reading.wait()

    async def receive() -> Message:
        await full.wait()
        for _ in range(50):  # turns of the loop, in which every buffer is filled
            await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    request = http.build_request("GET", f"/api/runs/{trace_id}/events")
    await api(_scope(request), receive, send)
    assert [line["event"] for line in logged(caplog)] == ["client_left"]


def _scope(request: httpx.Request) -> Scope:
    return {
        "type": "http",
        "asgi": {"spec_version": "2.3"},
        "method": request.method,
        "path": request.url.path,
        "query_string": b"",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
    }


class TestSites:
    """The public address of these tests is http://rein.test."""

    @pytest.mark.parametrize("host", ["rein.test", "REIN.test", "rein.test:8443"])
    async def test_the_public_host_is_served(self, http: httpx.AsyncClient, host: str) -> None:
        assert (await http.get("/livez", headers={"Host": host})).status_code == 200

    @pytest.mark.parametrize(
        "host",
        ["evil.test", "rein.test.evil.test", "127.0.0.1", "localhost", "[::1", "[::1]", "a@b:c"],
    )
    async def test_another_host_is_not(self, http: httpx.AsyncClient, host: str) -> None:
        answer = await http.get("/livez", headers={"Host": host})
        assert (answer.status_code, answer.json()["code"]) == (421, "WRONG_HOST")
        assert answer.headers["x-request-id"]

    @pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "[::1]:8000"])
    def test_on_one_machine_every_name_of_it_is_served(self, host: str) -> None:
        sites = Sites("http://localhost:8000")
        assert sites.refusal(_scope(httpx.Request("GET", f"http://{host}/livez"))) is None
        assert sites.refusal(_scope(httpx.Request("GET", "http://evil.test/livez"))) is not None

    @pytest.mark.parametrize(
        ("headers", "allowed"),
        [
            ({}, True),
            ({"Sec-Fetch-Site": "same-origin"}, True),
            ({"Sec-Fetch-Site": "none"}, True),
            ({"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.test"}, True),
            ({"Origin": "http://rein.test"}, True),
            ({"Origin": "http://rein.test:80"}, True),
            ({"Sec-Fetch-Site": "cross-site"}, False),
            ({"Sec-Fetch-Site": "same-site"}, False),
            ({"Sec-Fetch-Site": "cross-site", "Origin": "http://rein.test"}, False),
            ({"Origin": "http://evil.test"}, False),
            ({"Origin": "https://rein.test"}, False),
            ({"Origin": "http://rein.test:8000"}, False),
            ({"Origin": "null"}, False),
            ({"Origin": "http://rein.test:x"}, False),
        ],
    )
    async def test_pages_of_other_sites_change_nothing(
        self, http: httpx.AsyncClient, headers: dict[str, str], allowed: bool
    ) -> None:
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            answer = await http.request(method, "/api/feedback", json={}, headers=headers)
            assert (answer.status_code != 403) == allowed, method
            assert answer.json()["code"] == "CROSS_SITE" or allowed
        assert (await http.get("/livez", headers=headers)).status_code == 200


HOSTILE = st.text(st.characters(codec=None, categories=None), max_size=200)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | HOSTILE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(HOSTILE, inner, max_size=4),
    max_leaves=8,
)
NAMES = st.sampled_from(
    (*GOAL, "locale", "context", "trace_id", "rating", "comment", "model", "prompts")
)
ID = "019aa000-0000-7000-8000-000000000009"
PATHS = st.sampled_from(["/api/goals", "/api/feedback", f"/api/runs/{ID}/rerun"])


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=PATHS, changes=st.dictionaries(NAMES, ANY, max_size=6), whole=st.booleans())
async def test_no_body_breaks_it(
    http: httpx.AsyncClient, path: str, changes: dict[str, Any], whole: bool
) -> None:
    body = (GOAL | {"trace_id": ID, "rating": 4} if whole else {}) | changes
    answer = await http.post(path, content=json.dumps(body), headers=JSON)
    assert answer.status_code < 500, answer.text


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=st.text(min_size=3, max_size=300))
async def test_a_persons_words_come_back_as_they_were(http: httpx.AsyncClient, text: str) -> None:
    answer = await http.post("/api/goals", json={"goal": text, "user_id": "hostile"})
    if "\x00" in text or visible_length(text.strip()) < GOAL_MIN:
        assert answer.status_code == 422
    else:
        assert answer.json()["goal"] == text.strip()

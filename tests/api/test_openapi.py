"""The contract: committed, its examples run, and the API keeps it whatever is sent."""

import json
from typing import Any
from uuid import UUID

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from api import openapi
from api.app import create_app
from api.examples import PLAN_ID, RESOLUTION_ID, TRACE_ID
from api.headers import HEADERS
from db.pool import acquire
from settings import Settings
from tests.factories import Runs


def _found(operation: Any) -> Any:
    return operation.ok()


DOCUMENT: dict[str, Any] = json.loads(openapi.document())
SCHEMAS = DOCUMENT["components"]["schemas"]
CODES = SCHEMAS["Problem"]["properties"]["code"]["enum"]
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
# A stream of an open run does not end; tests/api/test_events.py has it.
OPERATIONS: list[Any] = [
    operation
    for operation in (_found(each) for each in SCHEMA.get_all_operations())
    if operation.path.startswith("/api/") and not operation.path.endswith("/events")
]
BODIES = [
    (path, example["value"])
    for path, methods in DOCUMENT["paths"].items()
    for operation in methods.values()
    for example in operation.get("requestBody", {})
    .get("content", {})
    .get("application/json", {})
    .get("examples", {})
    .values()
]
READS = [
    (path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
    if method == "get" and path != "/api/runs/{trace_id}/trace"
]


@pytest.fixture(scope="module")
async def example_run(stored: Runs) -> UUID:
    """The run that the examples speak of."""
    trace_id = await stored.finished(trace_id=UUID(TRACE_ID))
    async with acquire(stored.pools.operations) as conn, conn.transaction():
        await conn.execute("SET LOCAL rein.tenant = 'local'; SET CONSTRAINTS ALL DEFERRED")
        await conn.execute(
            "UPDATE plans SET plan_id = $2 WHERE trace_id = $1", trace_id, UUID(PLAN_ID)
        )
        await conn.execute(
            """
            INSERT INTO resolutions (resolution_id, trace_id, draft, title, body)
            SELECT $2, trace_id, 2, title, body FROM resolutions WHERE trace_id = $1
            """,
            trace_id,
            UUID(RESOLUTION_ID),
        )
    return trace_id


def test_the_committed_file_is_current() -> None:
    assert openapi.main(["--check"]) is None


def test_no_environment_changes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REIN_NOTICE", "A developer's own")
    monkeypatch.setenv("REIN_API_PORT", "no port")
    assert openapi.main(["--check"]) is None


def test_an_installation_says_its_notice() -> None:
    app = create_app(Settings(_env_file=None, notice="Answers come from a stand-in"))
    assert app.openapi()["info"]["description"].startswith("> Answers come from a stand-in\n")


@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_every_example_body_runs(
    http: httpx.AsyncClient, example_run: UUID, path: str, body: dict[str, Any]
) -> None:
    answer = await http.post(path.format(trace_id=example_run), json=body)
    assert answer.status_code in (200, 201, 202), answer.text


@pytest.mark.parametrize(("path", "operation"), READS)
async def test_every_example_id_is_read(
    http: httpx.AsyncClient, example_run: UUID, path: str, operation: dict[str, Any]
) -> None:
    ids = {
        parameter["name"]: parameter["schema"].get("examples", parameter.get("examples"))[0]
        for parameter in operation.get("parameters", [])
        if parameter["in"] == "path"
    }
    answer = await http.get(path.format(**ids))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
@settings(max_examples=30, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_nothing_sent_by_the_contract_or_against_it_breaks_it(
    http: httpx.AsyncClient, operation: Any, data: st.DataObject
) -> None:
    case = data.draw(_cases(operation))
    sent = case.as_transport_kwargs(base_url=str(http.base_url))
    answer = await http.request(
        sent["method"],
        sent["url"],
        params=sent.get("params"),
        headers=dict(sent.get("headers") or {}) | {"Authorization": http.headers["authorization"]},
        content=_content(sent),
    )
    answers = operation.definition.raw["responses"]
    assert str(answer.status_code) in {*answers, "404", "405"}, answer.text
    declared = answers.get(str(answer.status_code), answers["default"])["headers"]
    came = {name for name in HEADERS if name in answer.headers}
    assert came <= set(declared)
    assert {"X-Request-Id", "Retry-After"} & set(declared) <= came
    # The one part that is away here is Temporal.
    assert answer.status_code < 500 or answer.json()["code"] == "UNAVAILABLE"
    assert answer.is_success or answer.json()["code"] in CODES


def _cases(operation: Any) -> st.SearchStrategy[Any]:
    by, against = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
    return st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in (by, against)))


def _content(sent: dict[str, Any]) -> bytes | None:
    if "json" in sent:
        return httpx.Request("POST", "http://x", json=sent["json"]).content
    data = sent.get("data")
    return data if isinstance(data, bytes) or data is None else str(data).encode()

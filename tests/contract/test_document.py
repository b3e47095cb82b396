"""openapi.json as the tools of others read it: valid, and no more and no less than what comes."""

import json
from typing import Any, get_args

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from api import openapi, problems
from api.headers import HEADERS, RATE_LIMIT
from domain.run_errors import RUN_ERRORS, AnyRunErrorCode, run_error_code
from domain.runs import RunEventKind

DOCUMENT: dict[str, Any] = json.loads(openapi.FILE.read_text())
SCHEMAS = DOCUMENT["components"]["schemas"]
OPERATIONS: dict[str, Any] = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
OF_CALLERS = sorted(name for name in OPERATIONS if " /api/" in name)
RUN_MAKING = {"POST /api/goals", "POST /api/runs/{trace_id}/rerun"}
OF_STATE = {"POST /api/runs/{trace_id}/cancel", "POST /api/runs/{trace_id}/rerun"}
FEEDBACK = "POST /api/feedback"


def test_it_is_openapi_3_1() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


@pytest.mark.parametrize("name", OF_CALLERS)
def test_a_status_is_declared_where_it_can_come(name: str) -> None:
    operation = OPERATIONS[name]
    expected = {"401", "403", "422", "503", "default"}
    if "_id}" in name or name == FEEDBACK:
        expected |= {"404"}
    if "requestBody" in operation:
        expected |= {"400", "413", "415"}
    if name in OF_STATE | {FEEDBACK}:
        expected |= {"409"}
    if name in RUN_MAKING:
        expected |= {"429"}
    refusals = {status for status in operation["responses"] if status[0] not in "23"}
    assert refusals == expected


def test_health_needs_no_key_and_promises_nothing_else() -> None:
    assert set(OPERATIONS["GET /livez"]["responses"]) == {"200"}
    assert "security" not in OPERATIONS["GET /livez"]


@pytest.mark.parametrize("name", sorted(RUN_MAKING))
def test_a_post_that_makes_a_run_may_answer_its_result(name: str) -> None:
    answers = OPERATIONS[name]["responses"]
    for status in ("200", "202"):
        told = set(answers[status]["headers"])
        assert told >= {"Location", "Idempotent-Replayed", "Preference-Applied", *RATE_LIMIT}
        assert answers[status]["content"]["application/json"]["schema"]["$ref"]
    assert answers["200"]["content"] == answers["202"]["content"]


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("401", {"WWW-Authenticate"}),
        ("429", {"Retry-After", *RATE_LIMIT}),
        ("503", {"Retry-After"}),
        ("404", set()),
    ],
)
def test_a_refusal_declares_its_headers(status: str, headers: set[str]) -> None:
    for operation in OPERATIONS.values():
        if status in operation["responses"]:
            assert set(operation["responses"][status]["headers"]) == headers | {"X-Request-Id"}


def test_every_answer_declares_its_request_id_by_a_header_that_is_there() -> None:
    assert DOCUMENT["components"]["headers"] == HEADERS
    for operation in OPERATIONS.values():
        for answer in operation["responses"].values():
            assert answer["headers"]["X-Request-Id"] == {
                "$ref": "#/components/headers/X-Request-Id"
            }


def test_header_parameters_are_texts() -> None:
    """Generators send no list, no integer and no null in a header."""
    found = {
        parameter["name"]: parameter["schema"]["type"]
        for operation in OPERATIONS.values()
        for parameter in operation.get("parameters", [])
        if parameter["in"] == "header"
    }
    assert found == {"Idempotency-Key": "string", "Prefer": "string", "Last-Event-ID": "string"}


@pytest.mark.parametrize("name", ["GoalSubmission", "RerunSubmission", "FeedbackSubmission"])
def test_what_may_be_left_out_of_a_body_may_be_null(name: str) -> None:
    """And has no default: some generators take a field with one for a field that must be sent."""
    schema = SCHEMAS[name]
    for field, told in schema["properties"].items():
        assert "default" not in told
        if field not in schema["required"]:
            assert {"type": "null"} in told["anyOf"], field


@pytest.mark.parametrize("name", ["GoalRun", "Run", "RunEvent", "ClarifiedGoal", "StoredFeedback"])
def test_what_is_read_back_has_all_its_fields(name: str) -> None:
    assert set(SCHEMAS[name]["required"]) == set(SCHEMAS[name]["properties"])


def test_a_stream_says_what_it_carries() -> None:
    answers = OPERATIONS["GET /api/runs/{trace_id}/events"]["responses"]
    stream = answers["200"]["content"]["text/event-stream"]["schema"]
    assert stream["contentSchema"] == {"$ref": "#/components/schemas/RunEvent"}
    assert SCHEMAS["RunEvent"]["properties"]["kind"]["$ref"].endswith("/RunEventKind")
    assert SCHEMAS["RunEventKind"]["enum"] == list(get_args(RunEventKind.__value__))


def test_every_code_of_a_problem_is_told() -> None:
    code = SCHEMAS["Problem"]["properties"]["code"]
    assert {"MODEL_NOT_ALLOWED", "TOO_MANY_REQUESTS", "WRONG_HOST", "REFUSED"} <= set(code["enum"])
    assert list(code["x-enumDescriptions"]) == code["enum"] == list(problems.codes())


def test_every_code_of_a_run_is_told() -> None:
    code = SCHEMAS["RunErrorCode"]
    assert set(code["enum"]) == set(get_args(AnyRunErrorCode)) == set(RUN_ERRORS)
    assert code["x-enumDescriptions"] == RUN_ERRORS
    assert SCHEMAS["RunError"]["properties"]["code"] == {
        "$ref": "#/components/schemas/RunErrorCode"
    }


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("OUTPUT_EMPTY", "OUTPUT_EMPTY"),
        ("TimeoutError", "TIMED_OUT"),
        ("WorkflowTerminated", "TERMINATED"),
        ("A_CODE_OF_TOMORROW", "UNKNOWN"),
        ("ZeroDivisionError", "UNKNOWN"),
    ],
)
def test_whatever_ended_a_run_has_one_of_these_codes(name: str, code: str) -> None:
    assert run_error_code(name) == code

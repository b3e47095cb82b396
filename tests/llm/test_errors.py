"""Every exception of the client is classified, and none of them makes the classifier raise."""

from datetime import timedelta
from typing import Any

import httpx2
import pytest
from google.genai.errors import ClientError, ServerError

from llm.errors import LONGEST_WAIT, classify


def quota(*details: Any) -> ClientError:
    return ClientError(429, {"error": {"code": 429, "details": list(details)}})


def delay(text: Any) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": text}


@pytest.mark.parametrize("told", ["99999999999999s", "9" * 5000 + "s", "3601s"])
def test_an_absurd_wait_is_bounded(told: str) -> None:
    assert classify(quota(delay(told))).retry_after == LONGEST_WAIT


def test_a_fair_wait_is_kept() -> None:
    assert classify(quota(delay("37.5s"))).retry_after == timedelta(seconds=37.5)


@pytest.mark.parametrize(
    "details",
    [[delay(37)], [delay("soon")], [delay(["1s"])], [7, None], ["PerDay"],
     [{"violations": "all"}], [{"violations": [7, {"quotaId": ["PerDay"]}]}]],
)  # fmt: skip
def test_odd_details_are_no_reason_to_fail(details: list[Any]) -> None:
    error = classify(quota(*details))
    assert (error.code, error.retry_after) == ("RATE_LIMITED", None)


@pytest.mark.parametrize("body", [{"error": "busy"}, [], {"error": {"details": {"a": 1}}}])
def test_an_error_of_another_form_is_told_by_its_status(body: Any) -> None:
    assert classify(ServerError(503, body)).code == "PROVIDER_UNAVAILABLE"
    assert classify(ClientError(429, body)).code == "RATE_LIMITED"


@pytest.mark.parametrize(
    ("error", "code", "maybe_billed"),
    [
        (httpx2.ConnectError("refused"), "PROVIDER_UNAVAILABLE", False),
        (httpx2.ConnectTimeout("no route"), "PROVIDER_UNAVAILABLE", False),
        (httpx2.ReadError("reset"), "CONNECTION_LOST", True),
        (httpx2.RemoteProtocolError("cut"), "CONNECTION_LOST", True),
        (TimeoutError(), "TIMEOUT", True),
        (httpx2.ReadTimeout("slow"), "TIMEOUT", True),
        (RecursionError(), "UNKNOWN", True),
    ],
)
def test_only_a_request_that_never_left_cannot_have_been_billed(
    error: Exception, code: str, maybe_billed: bool
) -> None:
    found = classify(error)
    assert (found.code, found.maybe_billed, found.retryable) == (code, maybe_billed, True)

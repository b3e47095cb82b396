"""Every answer of Opik's is classified in one place."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tracing.ship.client import Outcome, classify, retry_after_s


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (204, "sent"),
        (200, "denied"),
        (201, "denied"),
        (202, "denied"),
        (400, "refused"),
        (409, "refused"),
        (413, "refused"),
        (422, "refused"),
        (429, "wait"),
        (408, "unavailable"),
        (500, "unavailable"),
        (502, "unavailable"),
        (503, "unavailable"),
        (504, "unavailable"),
        (529, "unavailable"),
        (301, "denied"),
        (401, "denied"),
        (403, "denied"),
        (404, "denied"),
    ],
)
def test_every_status_has_a_meaning(status: int, verdict: Outcome) -> None:
    assert classify(status, {}, "").outcome == verdict


def test_an_id_out_of_the_window_is_too_old_not_wrong() -> None:
    body = '{"code":400,"details":"must be in the allowed ingestion window of \'PT24H\'"}'
    assert classify(400, {}, body).outcome == "too_old"


def test_waits_as_told() -> None:
    assert retry_after_s({"RateLimit-Reset": "7", "Retry-After": "60"}) == 7
    assert retry_after_s({"Retry-After": "2.5"}) == 2.5
    assert retry_after_s({}) is None
    assert retry_after_s({"Retry-After": "soon"}) is None
    later = retry_after_s({"Retry-After": format_datetime(datetime.now(UTC) + timedelta(hours=1))})
    assert later is not None
    assert 3500 < later <= 3600

"""Every answer of Opik's is told apart in one place."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tracing.ship.answers import Verdict, judge, told_wait


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, "sent"),
        (201, "sent"),
        (204, "sent"),
        (400, "refused"),
        (409, "refused"),
        (413, "refused"),
        (422, "refused"),
        (429, "wait"),
        (408, "away"),
        (500, "away"),
        (502, "away"),
        (503, "away"),
        (504, "away"),
        (529, "away"),
        (301, "denied"),
        (401, "denied"),
        (403, "denied"),
        (404, "denied"),
    ],
)
def test_every_status_has_a_meaning(status: int, verdict: Verdict) -> None:
    assert judge(status, {}, "").verdict == verdict


def test_an_id_out_of_the_window_is_late_not_wrong() -> None:
    body = '{"code":400,"details":"must be in the allowed ingestion window of \'PT24H\'"}'
    assert judge(400, {}, body).verdict == "late"


def test_waits_as_told() -> None:
    assert told_wait({"RateLimit-Reset": "7", "Retry-After": "60"}) == 7
    assert told_wait({"Retry-After": "2.5"}) == 2.5
    assert told_wait({}) is None
    assert told_wait({"Retry-After": "soon"}) is None
    later = told_wait({"Retry-After": format_datetime(datetime.now(UTC) + timedelta(hours=1))})
    assert later is not None
    assert 3500 < later <= 3600

"""Ids: version 7, deterministic, carrying their time."""

from datetime import UTC, datetime, timedelta

from tracing import new_trace_id
from tracing.ids import timestamp_of, uuid7

AT = datetime(2026, 11, 24, 10, 0, 0, 123_000, tzinfo=UTC)


def test_a_seed_and_a_time_make_one_id() -> None:
    assert uuid7(AT, "stage|a") == uuid7(AT, "stage|a")
    assert uuid7(AT, "stage|a") != uuid7(AT, "stage|b")
    assert uuid7(AT, "stage|a") != uuid7(AT + timedelta(milliseconds=1), "stage|a")


def test_ids_are_version_7_and_carry_their_time() -> None:
    for identity in (uuid7(AT, "x"), new_trace_id(AT)):
        assert (identity.version, identity.variant) == (7, "specified in RFC 4122")
        assert timestamp_of(identity) == AT


def test_new_ids_differ() -> None:
    assert new_trace_id(AT) != new_trace_id(AT)

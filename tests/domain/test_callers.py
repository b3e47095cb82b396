"""Callers: one reading of a key's text, and the arithmetic of a tenant's pace."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from domain.callers import MINUTE, Credential, Pace

NOW = datetime(2027, 1, 4, tzinfo=UTC)

credentials = st.builds(
    Credential,
    st.from_regex(r"[A-Za-z0-9._-]{1,40}", fullmatch=True),
    st.from_regex(r"[a-z0-9]{12}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9]{43}", fullmatch=True).map(SecretStr),
)


@given(credentials)
def test_a_key_has_one_reading(credential: Credential) -> None:
    assert Credential.parse(credential.reveal()) == credential


@given(credentials, st.data())
def test_a_damaged_key_is_none(credential: Credential, data: st.DataObject) -> None:
    text = credential.reveal()
    place = data.draw(st.integers(0, len(text)))
    kept = data.draw(st.integers(0, len(text)))
    strange = data.draw(st.sampled_from(" \n\t\x00é/=٣"))
    assert Credential.parse(text[:place] + strange + text[place:]) is None
    assert kept == len(text) or Credential.parse(text[:kept]) is None
    assert Credential.parse(text.replace("rk_", "RK_", 1)) is None


@given(st.text(max_size=120))
def test_other_text_is_no_key(text: str) -> None:
    assert Credential.parse(text) is None


@given(credentials)
def test_no_repr_shows_the_secret(credential: Credential) -> None:
    assert credential.secret.get_secret_value() not in f"{credential!r} {credential}"


def test_the_stored_form_depends_on_secret_and_pepper() -> None:
    one = Credential("local", "a" * 12, SecretStr("s" * 43))
    other = one._replace(secret=SecretStr("t" * 43))
    pepper = SecretStr("pepper")
    # printf sss… | openssl dgst -sha256 -hmac pepper
    assert one.mac(pepper).hex() == (
        "8bab380041991cc3f30db0a17d4dd2a01c649ce7caf2dfc4fabd6f77e7b6b96d"
    )
    assert len({one.mac(pepper), other.mac(pepper), one.mac(SecretStr("salt"))}) == 3


def admitted(limit: int, gaps: list[timedelta]) -> tuple[list[datetime], list[Pace]]:
    """What a tenant with this limit gets for requests with these gaps between them."""
    now, due, times, paces = NOW, NOW, list[datetime](), list[Pace]()
    for gap in gaps:
        now += gap
        counted = max(due, now) + Pace.interval(limit)
        pace = Pace(limit, counted - now)
        paces.append(pace)
        if not pace.retry_after_s:
            due = counted
            times.append(now)
    return times, paces


some_gaps = st.lists(st.timedeltas(timedelta(0), timedelta(seconds=40)), max_size=60)
limits = st.integers(1, 50)


@given(limits, some_gaps)
def test_no_time_sees_more_than_the_burst_and_the_even_pace(
    limit: int, gaps: list[timedelta]
) -> None:
    times, _ = admitted(limit, gaps)
    for first, start in enumerate(times):
        for last, end in enumerate(times[first:], first):
            assert last - first < limit + (end - start) / Pace.interval(limit)


@given(limits, some_gaps)
def test_what_is_said_to_be_left_is_left(limit: int, gaps: list[timedelta]) -> None:
    _, before = admitted(limit, [*gaps, timedelta(0)])
    left = before[-1].quota.remaining
    _, after = admitted(limit, [*gaps, timedelta(0), *[timedelta(0)] * (left + 1)])
    assert [pace.retry_after_s == 0 for pace in after[len(before) :]] == [True] * left + [False]


@given(limits, some_gaps)
def test_retry_after_is_long_enough_and_no_second_too_long(
    limit: int, gaps: list[timedelta]
) -> None:
    gaps = [*gaps, *[timedelta(0)] * (limit + 1)]
    _, paces = admitted(limit, gaps)
    wait = timedelta(seconds=paces[-1].retry_after_s)
    assert wait
    assert admitted(limit, [*gaps, wait])[1][-1].retry_after_s == 0
    assert admitted(limit, [*gaps, wait - timedelta(seconds=1)])[1][-1].retry_after_s


@given(limits, some_gaps)
def test_after_the_reset_all_of_it_is_there(limit: int, gaps: list[timedelta]) -> None:
    _, paces = admitted(limit, [*gaps, timedelta(0)])
    reset = timedelta(seconds=paces[-1].quota.reset_s)
    _, after = admitted(limit, [*gaps, timedelta(0), reset])
    assert after[-1].quota.remaining == limit - 1


@pytest.mark.parametrize("limit", [1, 7, 59, 61, 999_983, 100_000_000])
def test_a_limit_that_does_not_divide_a_minute_fits_into_it(limit: int) -> None:
    assert timedelta(0) < Pace.interval(limit)
    assert limit > 60_000_000 or Pace.interval(limit) * limit <= MINUTE


def test_the_headers_are_the_usual_ones() -> None:
    headers = Pace(6, timedelta(seconds=19.5)).quota.headers
    assert headers == {
        "RateLimit-Limit": "6",
        "RateLimit-Remaining": "4",
        "RateLimit-Reset": "20",
    }

"""The deadlines that the model stand-in hears, and what it says when it hears none."""

from datetime import date

import pytest

from devstack.gemini.answers.dates import find_deadline
from tests.devstack.gemini_answers import TODAY, Goal


@pytest.mark.parametrize(
    ("said", "day"),
    [
        ("by 30 June", "2027-06-30"),
        ("by end of Q1", "2027-03-31"),
        ("by the end of Q4", "2026-12-31"),
        ("by Q2 2028", "2028-06-30"),
        ("by 2027-05-04", "2027-05-04"),
        ("by 31.12.2026", "2026-12-31"),
        ("before March 3rd, 2027", "2027-03-03"),
        ("by the 15th of April", "2027-04-15"),
        ("in 5 weeks", "2026-12-30"),
        ("in three months", "2027-02-25"),
        ("within a couple of months", "2027-01-25"),
        ("in one year's time", "2027-11-25"),
        ("over the next 30 days", "2026-12-25"),
        ("for four years", "2030-11-25"),
        ("this year", "2026-12-31"),
        ("by the end of next month", "2026-12-31"),
        ("by the end of the month", "2026-11-30"),
        ("by November", "2026-11-30"),
        ("before June", "2027-05-31"),
        ("by mid-June", "2027-06-15"),
        ("by the end of February 2028", "2028-02-29"),
        ("before my exchange year starts next September", "2027-08-31"),
        ("before the marathon in May", "2027-04-30"),
        ("in 2027", "2027-12-31"),
        ("before 2028", "2027-12-31"),
        ("by winter", "2026-12-21"),
        ("by next winter", "2027-12-21"),
        ("until next spring", "2027-03-20"),
        ("by Christmas", "2026-12-24"),
        ("by tomorrow", "2026-11-26"),
    ],
)
def test_a_named_deadline_is_heard(said: str, day: str) -> None:
    found = find_deadline(f"learn to juggle {said}", TODAY)
    assert found is not None
    assert (found[0].isoformat(), found[1].strip()) == (day, said)


@pytest.mark.parametrize(
    "text",
    [
        "I have not run for four years and want to run 5 km",
        "I haven't played in ten years",
        "go to the gym for 3 days a week",
        "I may run 5 km",
        "run 5 km",
        "finish it in 99999 years",
    ],
)
def test_no_deadline_is_made_of_other_words(text: str) -> None:
    assert find_deadline(text, TODAY) is None


def test_the_first_day_that_can_be_is_taken() -> None:
    assert find_deadline("by the 31st of 2026-02-31, I mean by 1 May", TODAY) == (
        date(2027, 5, 1),
        " by 1 May",
    )


def test_what_was_heard_and_what_was_not_is_said() -> None:
    heard, past = (
        Goal("Run a 5K by next winter").clarified,
        Goal("Run a 5K by 2020-01-01").clarified,
    )
    assert "'by next winter' is read as 21 December 2027" in heard.assumptions
    assert past.deadline is None
    assert past.assumptions[0] == "The date 'by 2020-01-01' is past, so no deadline is set"
    for text in ("Run a 5K", "Run a 5K as soon as I can", "Courir 5 km avant le 30 juin prochain"):
        clarified = Goal(text).clarified
        assert clarified.deadline is None
        assert any("No date was recognised" in line for line in clarified.assumptions)


def test_a_date_of_the_context_counts_before_that_of_the_text() -> None:
    goal = Goal("Run a 5K by June", "deadline: 2027-02-01\nhours_per_week: 2.0")
    assert goal.clarified.deadline == date(2027, 2, 1)
    assert goal.resolution().title == "Run a 5K by 1 February 2027"


def test_what_lasts_keeps_its_words_in_the_title() -> None:
    assert Goal("I want to stay sober for four years").resolution().title == (
        "Stay sober for four years, until 25 November 2030"
    )

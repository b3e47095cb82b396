"""The crisis rule: every danger in every language it knows, and no false alarm."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from domain.crisis import find_crisis, refusal
from domain.languages import LANGUAGES, language_of, say

CORPUS = yaml.safe_load(Path(__file__).with_name("crisis.yaml").read_text(encoding="utf-8"))
DANGERS = [
    (text, danger, language)
    for language, dangers in CORPUS["danger"].items()
    for danger, texts in dangers.items()
    for text in texts
]
HARMLESS = [text for texts in CORPUS["harmless"].values() for text in texts]
SENTENCES = frozenset(LANGUAGES["en"].say)


@pytest.mark.parametrize(("text", "danger", "language"), DANGERS)
def test_a_danger_is_found_and_answered_in_its_own_language(
    text: str, danger: str, language: str
) -> None:
    found = find_crisis(text)
    assert found == (danger, language)
    assert say("help", language) in found.answer


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_a_danger_is_a_goal(text: str) -> None:
    assert find_crisis(text) is None


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_has_each_sentence_and_is_tried(code: str) -> None:
    assert LANGUAGES[code].say.keys() == SENTENCES
    assert {danger for _, danger, language in DANGERS if language == code} == {
        "suicide",
        "starvation",
        "violence",
    }
    assert "findahelpline.com" in say("help", code)


@pytest.mark.parametrize(("locale", "language"), [("ja", "ja"), ("zh-Hant", "zh"), (None, "zh")])
def test_a_text_of_two_languages_is_answered_in_the_locale(
    locale: str | None, language: str
) -> None:
    assert find_crisis("自殺", locale) == ("suicide", language)


def test_a_text_of_another_language_than_the_locale_is_answered_in_its_own() -> None:
    assert find_crisis("Ich will sterben", "en") == ("suicide", "de")


@given(st.sampled_from(["\u200b", "\u2060", "\u00ad", "\ufe0f", "\u200d"]), st.integers(1, 17))
def test_invisible_characters_hide_nothing(hidden: str, at: int) -> None:
    text = "I want to kill myself"
    assert find_crisis(text[:at] + hidden + text[at:]) == ("suicide", "en")


@given(st.text(max_size=200))
def test_any_text_can_be_judged(text: str) -> None:
    assert find_crisis(text) == find_crisis(text)


def test_the_longest_text_is_judged_before_a_workflow_task_times_out() -> None:
    """Every pattern is bounded, so no text makes the rule slow."""
    for text in ("I want to " * 1200, "quiero " * 1700, "не " * 4000, "想" * 12000, "x " * 6000):
        assert find_crisis(text) is None


@pytest.mark.parametrize(
    ("text", "locale", "code"),
    [
        ("Ich will nicht mehr rauchen", None, "de"),
        ("quiero correr una maratón con mi hermana", None, "es"),
        ("je veux lire un livre par semaine", None, "fr"),
        ("禁煙したい", None, "ja"),
        ("戒烟", None, "zh"),
        ("хочу бегать", None, "ru"),
        ("run", None, "en"),
        ("12345", None, "en"),
        ("run", "pt-BR", "pt"),
        ("хочу бегать", "sv", "ru"),
    ],
)
def test_the_language_of_a_text(text: str, locale: str | None, code: str) -> None:
    assert language_of(text, locale) == code


def test_a_refusal_without_words_gets_some_that_say_where_help_is() -> None:
    assert "findahelpline.com" in refusal("harmful", "ein Plan und mehr", None)
    assert refusal("blocked", "x", "de").startswith("Die Sicherheitsregeln")
    assert "findahelpline.com" not in refusal("not_a_goal", "asdf", None)

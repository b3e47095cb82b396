"""Personal text is kept out where rows are made, and numbers and names stay."""

import json
from collections.abc import Callable

import pytest
from pydantic import BaseModel

from tracing import TracingPlugin
from tracing.redaction import Redaction, TextMode, redaction

WORD = "marathon-in-memory-of-Ann"


class Goal(BaseModel):
    text: str
    weeks: int
    missing: str | None = None


def test_full_keeps_everything() -> None:
    text = Redaction("full")
    assert text.payload({"a": [WORD]}) == {"a": [WORD]}
    assert text.payload(Goal(text=WORD, weeks=3)) == {"text": WORD, "weeks": 3}
    assert text.message(WORD) == WORD
    assert text.payload(7) == {"value": 7}


def test_redacted_keeps_structure_and_numbers() -> None:
    text = Redaction("redacted", b"key")
    treated = text.payload({"goal": WORD, "weeks": [3, True, None], "deep": {"a": WORD}})
    assert isinstance(treated, dict)
    assert treated["weeks"] == [3, True, None]
    assert treated["goal"] == treated["deep"]["a"] != WORD
    assert treated["goal"].startswith(f"[{len(WORD)} characters, ")


def test_hashes_need_the_key() -> None:
    assert Redaction("redacted", b"a").message(WORD) != Redaction("redacted", b"b").message(WORD)


def test_none_lets_no_text_through() -> None:
    text = Redaction("none")
    assert text.payload({"goal": WORD}) is None
    assert text.message(WORD) is None
    metadata = text.metadata({"note": WORD, "count": 3, "deep": {"x": WORD}})
    assert metadata == {"note": None, "count": 3, "deep": None}


@pytest.mark.parametrize("mode", ["full", "redacted", "none"])
def test_metadata_that_its_owner_calls_plain_stays(mode: TextMode) -> None:
    text = Redaction(mode, plain_metadata=frozenset({"model", "deep"}))
    metadata = {"model": "gemini", "deep": {"x": ["y"]}}
    assert text.metadata(metadata) == metadata


def test_the_plugin_configures_the_process(text_mode: Callable[..., None]) -> None:
    TracingPlugin(project="p", text="none", plain_metadata=["model"])
    assert redaction().metadata({"model": "m", "note": WORD}) == {"model": "m", "note": None}
    TracingPlugin(project="p")
    assert redaction().mode == "none"


def test_no_mode_but_full_leaks_a_word_from_anywhere() -> None:
    nested = {WORD: [{"a": WORD}], "b": (WORD, 1), "model": {"c": {"d": WORD}}}
    for mode in ("redacted", "none"):
        text = Redaction(mode, b"k")
        told = json.dumps([text.payload(nested["b"]), text.metadata({"note": nested["b"]})])
        assert WORD not in told
        assert WORD not in (text.message(f"bad: {WORD}") or "")

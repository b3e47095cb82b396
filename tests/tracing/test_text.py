"""Personal text is kept out where rows are made, and numbers and names stay."""

import json

from pydantic import BaseModel

from tracing.text import TraceText

WORD = "marathon-in-memory-of-Ann"


class Goal(BaseModel):
    text: str
    weeks: int
    missing: str | None = None


def test_full_keeps_everything() -> None:
    text = TraceText("full")
    assert text.data({"a": [WORD]}) == {"a": [WORD]}
    assert text.data(Goal(text=WORD, weeks=3)) == {"text": WORD, "weeks": 3}
    assert text.sentence(WORD) == WORD
    assert text.data(7) == {"value": 7}


def test_redacted_keeps_structure_and_numbers() -> None:
    text = TraceText("redacted", b"key")
    treated = text.data({"goal": WORD, "weeks": [3, True, None], "deep": {"a": WORD}})
    assert isinstance(treated, dict)
    assert treated["weeks"] == [3, True, None]
    assert treated["goal"] == treated["deep"]["a"] != WORD
    assert treated["goal"].startswith(f"[{len(WORD)} characters, ")


def test_hashes_need_the_key() -> None:
    assert TraceText("redacted", b"a").sentence(WORD) != TraceText("redacted", b"b").sentence(WORD)


def test_none_lets_no_text_through() -> None:
    text = TraceText("none")
    assert text.data({"goal": WORD}) is None
    assert text.sentence(WORD) is None
    facts = text.facts({"status": "success", "note": WORD, "count": 3, "deep": {"x": WORD}})
    assert facts == {"status": "success", "note": None, "count": 3, "deep": None}


def test_no_mode_but_full_leaks_a_word_from_anywhere() -> None:
    nested = {WORD: [{"a": WORD}], "b": (WORD, 1), "model": {"c": {"d": WORD}}}
    for mode in ("redacted", "none"):
        text = TraceText(mode, b"k")
        told = json.dumps([text.data(nested["b"]), text.facts({"note": nested["b"]})])
        assert WORD not in told
        assert WORD not in (text.sentence(f"bad: {WORD}") or "")

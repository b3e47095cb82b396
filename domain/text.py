"""Text as people write it: how much of it can be seen, and what it is under its disguises."""

import unicodedata
from typing import Annotated

from pydantic import StringConstraints

Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]

_JOINER = "\u200d"
# Letters, marks and symbols that take no ink, besides the format characters (category Cf).
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {
    chr(code)
    for first, last in ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
    for code in range(first, last + 1)
}


def is_invisible(char: str) -> bool:
    """Whether a character that is no white space is not seen: zero-width, format, filler."""
    return char in _BLANK or unicodedata.category(char) == "Cf"


def visible_length(text: str) -> int:
    """How many characters a reader sees: letters with their marks count once, spaces never."""
    seen, joined = 0, False
    for char in unicodedata.normalize("NFC", text):
        counts = unicodedata.category(char)[0] not in "CMZ" and char not in _BLANK
        seen += counts and not joined
        joined = char == _JOINER
    return seen


def clean(text: str) -> str:
    """Without the white space around it. Raises ValueError for a NUL, which PostgreSQL refuses."""
    if "\x00" in text:
        raise ValueError("the text holds a NUL character; remove it")
    return text.strip()


def clean_or_none(text: str | None) -> str | None:
    """The cleaned text; None when there is nothing in it that can be seen."""
    cleaned = clean(text or "")
    return cleaned if visible_length(cleaned) else None

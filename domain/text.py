"""Text as people write it: its visible characters, its visible length, and its clean-up."""

import re
import unicodedata
from typing import Annotated

from pydantic import StringConstraints

Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]

_JOINER = "\u200d"
# Characters that are drawn as blanks or not at all although Unicode classes them as letters, marks
# or symbols. Format characters (category Cf) are recognised by their category.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {
    chr(code)
    for first, last in ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
    for code in range(first, last + 1)
}


def is_invisible(char: str) -> bool:
    """Tell whether the character renders as nothing and is not white space.

    Such characters are zero-width characters, format characters and blank fillers (U+3164).
    """
    return char in _BLANK or unicodedata.category(char) == "Cf"


def visible_length(text: str) -> int:
    """Return the number of characters that a reader sees.

    A letter with its accents counts once, as does an emoji joined from several. White space and
    invisible characters do not count.
    """
    seen, joined = 0, False
    for char in unicodedata.normalize("NFC", text):
        counts = unicodedata.category(char)[0] not in "CMZ" and char not in _BLANK
        seen += counts and not joined
        joined = char == _JOINER
    return seen


def clean(text: str) -> str:
    """Return the text without leading and trailing white space.

    Raises ValueError for a NUL character, because PostgreSQL cannot store it.
    """
    if "\x00" in text:
        raise ValueError("the text holds a NUL character; remove it")
    return text.strip()


def clean_or_none(text: str | None) -> str | None:
    """Return the text without surrounding white space; None if it has no visible character.

    Raises ValueError for a NUL character, because PostgreSQL cannot store it.
    """
    cleaned = clean(text or "")
    return cleaned if visible_length(cleaned) else None


_MARKDOWN = re.compile(r"[\\`*_\[\]<>|~@&]|:(?=//)|(?<=www)\.")


def as_markdown(text: str) -> str:
    """Return a person's text on one line, so that Markdown shows it as it is: no link, no markup.

    The Temporal UI renders the details of a run as Markdown.
    """
    return _MARKDOWN.sub(r"\\\g<0>", " ".join(text.split()))

"""Kinds of text that the models are made of."""

from typing import Annotated

from pydantic import StringConstraints

Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]


def clean(text: str) -> str:
    """Without the white space around it. Raises ValueError for a NUL, which PostgreSQL refuses."""
    if "\x00" in text:
        raise ValueError("the text holds a NUL character; remove it")
    return text.strip()

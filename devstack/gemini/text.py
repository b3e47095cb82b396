"""Reading a prompt: its delimited data parts, whatever they are called."""

import html
import json
import re
from datetime import date

from devstack.gemini.protocol import Json

_PART = re.compile(r"<([a-z][\w-]*)(?:\s[^<>]*)?>((?:(?!<\1[\s>]).)*?)</\1\s*>", re.S | re.I)


def parts_of(text: str) -> dict[str, str]:
    """The delimited parts by lower-case name; the first of each name counts."""
    found: dict[str, str] = {}
    for match in _PART.finditer(text):
        found.setdefault(match[1].lower().replace("-", "_"), html.unescape(match[2]).strip())
    return found


def read_json(text: str) -> Json:
    """The first JSON object in the text, or an empty one."""
    start = text.find("{")
    try:
        value, _ = json.JSONDecoder().raw_decode(text[start:] if start >= 0 else "")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def read_date(text: str) -> date | None:
    """The first YYYY-MM-DD in the text."""
    match = re.search(r"\b\d{4}-\d{2}-\d{2}\b", text)
    try:
        return date.fromisoformat(match[0]) if match else None
    except ValueError:
        return None

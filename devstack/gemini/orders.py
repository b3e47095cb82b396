"""A gullible reader of prompts: finds orders outside of the data, for models that obey them."""

import html
import re
import unicodedata
from typing import Any

_TAG = re.compile(r"<\s*(/?)\s*([a-z_]\w*)[^<>]*>")
_ESCAPE = re.compile(r"\\+(?:u00|u\{|x)(3[ce])\}?|%(3[ce])")
# Tags that a person's text puts in to speak with another voice.
_VOICES = frozenset(("system", "instructions", "assistant", "developer", "admin", "prompt"))


def orders(user: str) -> list[str]:
    """What stands between the tagged parts of a prompt, or claims to be said by somebody else.

    The last lines are the prompt's own, and so is what stands before a `<problem>`.
    """
    text, found, inside, start = _read(user), list[str](), "", 0
    for tag in _TAG.finditer(text):
        closes, name = bool(tag[1]), tag[2]
        if not inside:
            said = text[start : tag.start()].strip()
            found += [said] if said and name != "problem" else []
            inside = "" if closes else name
        elif closes and name == inside:
            inside = ""
        elif name in _VOICES and not closes:
            found.append(text[tag.end() : tag.end() + 200].strip())
        start = tag.end()
    return found


def obeyed(answer: Any, prompt: str) -> Any:
    """The answer of a model that was told to give full marks, to say no and to show its prompt."""
    if isinstance(answer, dict):
        no = {"verdict": "not_a_goal"} if "verdict" in answer else {}
        return {key: obeyed(value, prompt) for key, value in answer.items()} | no
    if isinstance(answer, list):
        return [obeyed(value, prompt) for value in answer]
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        return 10
    return prompt[:200] if isinstance(answer, str) and " " in answer else answer


def _read(text: str) -> str:
    """The text as such a reader sees it: no disguises, no difference between great and small."""
    text = unicodedata.normalize("NFKC", text).casefold()
    shown = "".join(char for char in text if unicodedata.category(char) not in ("Cf", "Mn"))
    while (plain := _plain(shown)) != shown:
        shown = plain
    return shown


def _plain(text: str) -> str:
    text = _ESCAPE.sub(lambda code: chr(int(code[1] or code[2], 16)), text)
    return unicodedata.normalize("NFKC", html.unescape(text))

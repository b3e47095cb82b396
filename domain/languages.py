"""The languages in which Rein itself speaks to a person, and which of them a text is in.

`texts/<code>.yaml` holds one language: `say` are Rein's own sentences, `common` are words by which
the language is told from others of its `script`, and `crisis` is read by domain/crisis.py.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

FALLBACK = "en"
TEXTS = Path(__file__).parent / "texts"


@dataclass(frozen=True)
class Language:
    """One file of texts."""

    code: str
    script: str
    common: frozenset[str]
    say: Mapping[str, str]
    crisis: Mapping[str, str]
    """Patterns by what they find, one in a line."""
    let: Mapping[str, str]
    """Parts of patterns."""


def _read(path: Path) -> Language:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    crisis = content["crisis"]
    return Language(
        code=path.stem,
        script=content.get("script", "latin"),
        common=frozenset(content.get("common", "").split()),
        say=content["say"],
        let=crisis.pop("let"),
        crisis=crisis,
    )


LANGUAGES: Mapping[str, Language] = {
    path.stem: _read(path) for path in sorted(TEXTS.glob("*.yaml"))
}

# What the names of letters begin with in the Unicode character database.
_SCRIPTS = {
    "LATIN": "latin",
    "CYRILLIC": "cyrillic",
    "CJK": "han",
    "HIRAGANA": "kana",
    "KATAKANA": "kana",
    "HANGUL": "hangul",
    "DEVANAGARI": "devanagari",
    "ARABIC": "arabic",
}
# Marks that people leave out when they type: of Latin and Cyrillic, Arabic, Devanagari letters.
_ACCENTS = ((0x0300, 0x036F), (0x0610, 0x061A), (0x064B, 0x065F), (0x093C, 0x093C))
_USUAL = str.maketrans(
    {"ı": "i", "ł": "l", "ø": "o", "đ": "d", "æ": "ae", "œ": "oe", "ى": "ي", "ँ": "ं"}
)


def language_of(text: str, locale: str | None = None) -> str:
    """The code of the language to answer in: the locale's, else the text's, else English's."""
    asked = (locale or "").partition("-")[0]
    if asked in LANGUAGES:
        return asked
    letters = _scripts(text)
    script = "kana" if letters["kana"] else max(letters, key=letters.__getitem__, default="")
    words = Counter(re.findall(r"\w+", plain(text)))

    def likeness(code: str) -> tuple[int, bool]:
        return sum(words[word] for word in LANGUAGES[code].common), code == FALLBACK

    same_script = [code for code, language in LANGUAGES.items() if language.script == script]
    return max(same_script, key=likeness, default=FALLBACK)


def say(name: str, language: str, **values: object) -> str:
    """One of Rein's own sentences, in a language that Rein knows."""
    return LANGUAGES[language].say[name].format(**values)


def plain(text: str) -> str:
    """Small letters in their usual form, without the accents that people may leave out."""
    return without_accents(unicodedata.normalize("NFKC", text).casefold())


def without_accents(text: str) -> str:
    """The same letters, composed, without marks; what is no letter stays."""
    kept = (char for char in unicodedata.normalize("NFD", text) if not _is_accent(ord(char)))
    return unicodedata.normalize("NFC", "".join(kept)).translate(_USUAL)


def _scripts(text: str) -> Counter[str]:
    """How many letters of each script the text has."""
    names = (unicodedata.name(char, "").partition(" ")[0] for char in text if char.isalpha())
    return Counter(_SCRIPTS[name] for name in names if name in _SCRIPTS)


def _is_accent(code: int) -> bool:
    return any(first <= code <= last for first, last in _ACCENTS)

"""The languages of Rein's own sentences to a person, and a guess of which one a text is in.

Each language has a file `texts/<code>.yaml`. `say` holds Rein's own sentences. `common` lists
frequent words that distinguish the language from others with the same `script`. `crisis` holds
the patterns of the crisis rule (domain/crisis.py).
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
    """The content of one language's file in `texts`."""

    code: str
    script: str
    common: frozenset[str]
    say: Mapping[str, str]
    crisis: Mapping[str, str]
    """Patterns of the crisis rule, by the danger that they detect; one pattern per line."""
    let: Mapping[str, str]
    """Parts that the patterns refer to as `<name>`, by their names."""


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

# The first word of a letter's Unicode name, mapped to the name of its script.
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
# Code point ranges of marks that people often leave out when they type: accents of Latin and
# Cyrillic letters, Arabic signs and vowels, the Devanagari nukta.
_ACCENTS = ((0x0300, 0x036F), (0x0610, 0x061A), (0x064B, 0x065F), (0x093C, 0x093C))
_USUAL = str.maketrans(
    {"ı": "i", "ł": "l", "ø": "o", "đ": "d", "æ": "ae", "œ": "oe", "ى": "ي", "ँ": "ं"}
)


def language_of(text: str, locale: str | None = None) -> str:
    """Return the code of the language in which the person is to be answered.

    It is the language of `locale` if Rein knows that one, else the language that the text seems to
    be in, else English.
    """
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
    """Return one of Rein's own sentences in a language, with `values` filled in.

    Raises KeyError for an unknown sentence or language.
    """
    return LANGUAGES[language].say[name].format(**values)


def plain(text: str) -> str:
    """Return the text in lower case, Unicode-normalised (NFKC) and without accents.

    Different spellings of a word become equal, so that they can be compared.
    """
    return without_accents(unicodedata.normalize("NFKC", text).casefold())


def without_accents(text: str) -> str:
    """Return the text without accents, with special letters replaced by plain ones (ł by l).

    The result is in composed form (NFC).
    """
    kept = (char for char in unicodedata.normalize("NFD", text) if not _is_accent(ord(char)))
    return unicodedata.normalize("NFC", "".join(kept)).translate(_USUAL)


def _scripts(text: str) -> Counter[str]:
    """Count the text's letters by script. Letters of unknown scripts are not counted."""
    names = (unicodedata.name(char, "").partition(" ")[0] for char in text if char.isalpha())
    return Counter(_SCRIPTS[name] for name in names if name in _SCRIPTS)


def _is_accent(code: int) -> bool:
    return any(first <= code <= last for first, last in _ACCENTS)

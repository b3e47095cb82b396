"""The crisis rule: a person who writes of suicide, starvation or violence is told who can help.

The rule matches patterns. It needs no model, and no model can switch it off. Its patterns are few
and precise; the model's own verdict covers the dangerous texts that they miss.

Each language has a file of patterns (domain/texts/<code>.yaml), one pattern per line, in lower case
without accents. A line that begins with "|" continues the line before. `<name>` stands for the part
called `name` under `let`. `<want>` matches the ways to say that one wants something. `<wish>`
matches the same or the beginning of a sentence, because people often write a goal as a bare verb.
`idioms` are harmless phrases, which are removed before the patterns are tried. A match counts for
nothing if one of the three words before it is listed in `not_after` ("without hurting myself").
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

from domain.languages import LANGUAGES, Language, language_of, plain, say, without_accents
from domain.text import is_invisible

Danger = Literal["starvation", "suicide", "violence"]
Refused = Literal["harmful", "blocked", "not_a_goal"]

# The number of words before a match that are checked against `not_after`, the negating words.
_REACH = 3
_SPACELESS = frozenset(("han", "kana", "hangul"))
_APOSTROPHES = frozenset("'’‘ʼ`´")
_ENDS = frozenset(".!?;:\n。؟।۔")
# Letters of other scripts, mapped to the Latin (or Cyrillic) letters that look the same, so that a
# text with exchanged letters still matches.
_LATIN = str.maketrans(
    "авекмнорстухіјѕһԁԛԝαβεηικνορτυχωᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢɑɡ",
    "abekmhopctyxijshdqwabenikvoptuxwabcdefghijklmnoprstuvwyzag",
)
_CYRILLIC = str.maketrans("aekmhopctyxbαεο", "аекмнорстухваео")


class Crisis(NamedTuple):
    """The danger that a person's text speaks of, and the code of the language it was found in."""

    danger: Danger
    language: str

    @property
    def answer(self) -> str:
        """The fixed answer to the person: a kind sentence on the danger, then where to get help."""
        return f"{say(self.danger, self.language)} {say('help', self.language)}"


def find_crisis(text: str, locale: str | None = None) -> Crisis | None:
    """Return the danger that the text speaks of, or None when no language's patterns match.

    If the patterns of several languages match, the locale's language is preferred, then the
    language that the text seems to be in.
    """
    found = dict(_dangers(text))
    likely = (language_of(text, locale), language_of(text), *found)
    return next((Crisis(found[code], code) for code in likely if code in found), None)


def refusal(why: Refused, text: str, locale: str | None) -> str:
    """Return a fixed sentence for a refusal for which the model or the provider gave no reason.

    Except for `not_a_goal`, it also says where to get help.
    """
    language = language_of(text, locale)
    told = say(why, language)
    return told if why == "not_a_goal" else f"{told} {say('help', language)}"


@dataclass(frozen=True)
class _Rules:
    """The compiled patterns of one language."""

    script: str
    idioms: re.Pattern[str]
    dangers: tuple[tuple[Danger, re.Pattern[str]], ...]
    not_after: frozenset[str]

    def danger_in(self, said: str) -> Danger | None:
        said = self.idioms.sub("~", said)
        for danger, pattern in self.dangers:
            for match in pattern.finditer(said):
                sentence = said[: match.start()].rpartition(".")[2]
                if self.not_after.isdisjoint(sentence.split()[-_REACH:]):
                    return danger
        return None


@lru_cache(maxsize=256)
def _dangers(text: str) -> tuple[tuple[str, Danger], ...]:
    """Return (language code, danger) for each language whose patterns match the text."""
    said = _words(text)
    forms = {
        "latin": said.translate(_LATIN),
        "cyrillic": said.translate(_CYRILLIC),
        **dict.fromkeys(_SPACELESS, said.replace(" ", "")),
    }
    found = (
        (code, rules.danger_in(forms.get(rules.script, said))) for code, rules in _RULES.items()
    )
    return tuple((code, danger) for code, danger in found if danger)


def _words(text: str) -> str:
    """Reduce a text to its words in plain form, so that the patterns can match it.

    One space separates two words, and " . " marks the end of a sentence. Apostrophes and invisible
    characters are removed, all other characters become spaces.
    """
    found = []
    for char in re.sub(r"\.{2,}", " ", plain(text)):
        if char in _APOSTROPHES or is_invisible(char):
            continue
        word = unicodedata.category(char)[0] in "LMN"
        found.append(char if word else " . " if char in _ENDS else " ")
    return re.sub(r" +", " ", re.sub(r" [ .]*\.[ .]*", " . ", "".join(found))).strip(" .")


def _compiled(language: Language) -> _Rules:
    parts = {name: f"(?:{part.replace(chr(10), '')})" for name, part in language.let.items()}
    spaced = language.script not in _SPACELESS
    if spaced and "wish" in parts:
        parts["want"] = f"{parts['wish']} "
        parts["wish"] = rf"(?:{parts['want']}|(?:^|\. )(?:\d+ )?{parts.get('start', '')})"

    def one_of(lines: str) -> re.Pattern[str]:
        pattern = lines.strip().replace("\n|", "|").replace("\n", "|")
        for _ in range(2):  # twice, because a part may refer to another part
            pattern = re.sub(r"<(\w+)>", lambda name: parts[name[1]], pattern)
        pattern = without_accents(pattern)
        return re.compile(rf"(?<!\S)(?:{pattern})(?!\S)" if spaced else pattern)

    crisis = language.crisis
    return _Rules(
        script=language.script,
        idioms=one_of(crisis["idioms"]),
        dangers=tuple((danger, one_of(crisis[danger])) for danger in get_args(Danger)),
        not_after=frozenset(crisis.get("not_after", "").split()),
    )


_RULES = {code: _compiled(language) for code, language in LANGUAGES.items()}

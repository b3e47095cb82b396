"""The crisis rule: whoever writes of dying, starving or hurting somebody hears where help is.

The rule is Rein's own: it needs no model, and no model can switch it off. Its patterns are few and
sure. What they miss, the model's own verdict is there for.

A language's file (domain/texts) has the patterns, one in a line, in small letters without accents;
a line that begins with "|" goes on with the line before. `<name>` stands for a part under `let`.
`<want>` is one of the ways to say that one wants something, and `<wish>` is that or the beginning
of a sentence, because a goal is often a bare verb. `idioms` are harmless, so they are taken out
first, and what follows a word of `not_after` is left alone: "without hurting myself".
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

# How many words before a match may say that it is not meant.
_REACH = 3
_SPACELESS = frozenset(("han", "kana", "hangul"))
_APOSTROPHES = frozenset("'’‘ʼ`´")
_ENDS = frozenset(".!?;:\n。؟।۔")
# Letters of other scripts that look like a Latin or a Cyrillic one.
_LATIN = str.maketrans(
    "авекмнорстухіјѕһԁԛԝαβεηικνορτυχωᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢɑɡ",
    "abekmhopctyxijshdqwabenikvoptuxwabcdefghijklmnoprstuvwyzag",
)
_CYRILLIC = str.maketrans("aekmhopctyxbαεο", "аекмнорстухваео")


class Crisis(NamedTuple):
    """What somebody is in danger of, and the language in which they said so."""

    danger: Danger
    language: str

    @property
    def answer(self) -> str:
        """A fixed, kind answer that says where help is."""
        return f"{say(self.danger, self.language)} {say('help', self.language)}"


def find_crisis(text: str, locale: str | None = None) -> Crisis | None:
    """The danger that a text speaks of, if any.

    The language is the locale's if the text can be in it, else the text's own.
    """
    found = dict(_dangers(text))
    likely = (language_of(text, locale), language_of(text), *found)
    return next((Crisis(found[code], code) for code in likely if code in found), None)


def refusal(why: Refused, text: str, locale: str | None) -> str:
    """A fixed sentence for a person whose text was refused by somebody who did not say why."""
    language = language_of(text, locale)
    told = say(why, language)
    return told if why == "not_a_goal" else f"{told} {say('help', language)}"


@dataclass(frozen=True)
class _Rules:
    """The patterns of one language, compiled."""

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
    """The languages in which the text speaks of a danger."""
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
    """The text's plain words with a space between two of them, " . " where a sentence ends."""
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
        for _ in range(2):  # a part may name another one
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

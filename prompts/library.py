"""Loading and rendering prompts.

A version is one file, `prompts/<stage>/v<N>.md`: a YAML header, a `# System` part and a `# User`
part with `{{names}}`. Its hash is of the whole file, so changed words are another version.
"""

import hashlib
import html
import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field

from domain.runs import PromptRef
from domain.text import is_invisible

FOLDER = Path(__file__).parent

_FILE = re.compile(
    r"\A---\n(?P<header>.*?)\n---\n+# System\n+(?P<system>.*?)\n+# User\n+(?P<user>.*?)\s*\Z",
    re.DOTALL,
)
_NAME = re.compile(r"\{\{(\w+)\}\}")
# What may stand for "<" or ">": itself, an HTML entity (perhaps of an entity), or an escape.
_BRACKET = re.compile(r"[<>]|&(?:amp;?|#0*38;?|#x0*26;?)*#?\w+;?|\\+(?:u0*|u\{0*|x)3[ce]\}?|%3[ce]")
# Every bracket begins with one of these, of which most texts have none.
_SUSPECT = re.compile(r"[<>＜＞﹤﹥&＆﹠%％﹪＼﹨]|\\(?![\\\"/bfnrt])")
_HARMLESS = str.maketrans("<>", "‹›")


class PromptFile(NamedTuple):
    """A version as it lies on disk."""

    stage: str
    version: int
    sha256: str
    body: str


class Prompt(BaseModel):
    """A version, taken apart. `why` says what it is meant to do better than the one before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ref: PromptRef
    system: str
    user: str
    temperature: float = Field(ge=0, le=2)
    max_output_tokens: int = Field(ge=1, le=65_536)
    thinking_budget: int | None = Field(default=None, ge=-1)
    why: str = Field(min_length=1)


class Rendered(NamedTuple):
    """What is sent: rules in the system part, everybody else's text in the user part."""

    system: str
    user: str


def files() -> list[PromptFile]:
    """Every version on disk, by stage and number."""
    found = []
    for path in sorted(FOLDER.glob("*/v*.md")):
        body = path.read_text(encoding="utf-8")
        found.append(PromptFile(path.parent.name, int(path.stem[1:]), sha256(body), body))
    return sorted(found, key=lambda file: (file.stage, file.version))


def sha256(body: str) -> str:
    """The hash that names a version's exact words."""
    return hashlib.sha256(body.encode()).hexdigest()


def parse(stage: str, version: int, body: str) -> Prompt:
    """Take a version apart. Raises ValueError when it has not the form of a prompt file."""
    match = _FILE.match(body)
    if match is None:
        raise ValueError(f"{stage} v{version}: expected a header, '# System' and '# User'")
    header = yaml.safe_load(match["header"])
    return Prompt(
        ref=PromptRef(stage=stage, version=version, sha256=sha256(body)),
        system=match["system"],
        user=match["user"],
        **header,
    )


def render(prompt: Prompt, data: dict[str, str]) -> Rendered:
    """Put data into the user part. Raises ValueError for a name that is missing or unused.

    A person's text stands between tags, and no text can close them: every bracket in it, however
    it is written, is replaced by one that makes no tag.
    """
    wanted = set(_NAME.findall(prompt.user))
    if wanted != set(data):
        missing, unused = sorted(wanted - set(data)), sorted(set(data) - wanted)
        raise ValueError(f"{prompt.ref.stage}: missing {missing}, unused {unused}")
    user = _NAME.sub(lambda name: _without_tags(data[name[1]]), prompt.user)
    return Rendered(prompt.system, user)


def _without_tags(text: str) -> str:
    """The text with "‹" and "›" for all that a reader could take for "<" and ">"."""
    if not _SUSPECT.search(text):
        return text
    # The text as such a reader sees it, with the place that each character has in the real text.
    seen = [
        (small, place)
        for place, char in enumerate(text)
        if not is_invisible(char)
        for small in unicodedata.normalize("NFKC", char).casefold()
    ]
    found, end = [], 0
    for match in _BRACKET.finditer("".join(char for char, _ in seen)):
        read = _read(match[0])
        if "<" in read or ">" in read:
            found += [text[end : seen[match.start()][1]], read.translate(_HARMLESS)]
            end = seen[match.end() - 1][1] + 1
    return "".join([*found, text[end:]])


def _read(written: str) -> str:
    """What a bracket, an entity or an escape stands for."""
    if written[0] in "\\%":
        return "<" if "3c" in written else ">"
    while (decoded := html.unescape(written)) != written:
        written = decoded
    return unicodedata.normalize("NFKC", written)

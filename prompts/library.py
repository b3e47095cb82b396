"""Loads and renders prompts.

A prompt version is one file, `prompts/<stage>/v<N>.md`. It consists of a YAML header, a `# System`
part and a `# User` part with placeholders such as `{{goal}}`. The hash of the whole file identifies
the version, so a file with changed words is another version.
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
# Everything that a model may read as an angle bracket: the character itself, an HTML entity (also
# with its "&" escaped), a backslash escape such as \u003c, or a percent escape such as %3c.
_BRACKET = re.compile(r"[<>]|&(?:amp;?|#0*38;?|#x0*26;?)*#?\w+;?|\\+(?:u0*|u\{0*|x)3[ce]\}?|%3[ce]")
# Every plain or escaped angle bracket starts with one of these characters. Most texts contain none
# of them, so this cheap search saves the costly replacement.
_SUSPECT = re.compile(r"[<>＜＞﹤﹥&＆﹠%％﹪＼﹨]|\\(?![\\\"/bfnrt])")
_HARMLESS = str.maketrans("<>", "‹›")


class PromptFile(NamedTuple):
    """A prompt version as it is stored on disk; `body` is the text of the whole file."""

    stage: str
    version: int
    sha256: str
    body: str


class Prompt(BaseModel):
    """A parsed prompt version. `why` says what the version should do better than the one before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ref: PromptRef
    system: str
    user: str
    temperature: float = Field(ge=0, le=2)
    max_output_tokens: int = Field(ge=1, le=65_536)
    thinking_budget: int | None = Field(default=None, ge=-1)
    why: str = Field(min_length=1)


class Rendered(NamedTuple):
    """The two texts that are sent to the model.

    The system part contains only Rein's rules. Every text that a person or a model wrote is in the
    user part.
    """

    system: str
    user: str


def files() -> list[PromptFile]:
    """Return all prompt versions on disk, sorted by stage and version number."""
    found = []
    for path in sorted(FOLDER.glob("*/v*.md")):
        body = path.read_text(encoding="utf-8")
        found.append(PromptFile(path.parent.name, int(path.stem[1:]), sha256(body), body))
    return sorted(found, key=lambda file: (file.stage, file.version))


def sha256(body: str) -> str:
    """Return the SHA-256 of a prompt file's text, which identifies its exact words."""
    return hashlib.sha256(body.encode()).hexdigest()


def parse(stage: str, version: int, body: str) -> Prompt:
    """Split the text of a prompt file into its parts.

    Raises ValueError when the text does not have the form of a prompt file.
    """
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
    """Fill the data into the placeholders of the user part.

    The prompt encloses a person's text in tags. So that the text cannot close them, every angle
    bracket in the data, plain or escaped, is replaced by a similar character. Raises ValueError
    when `data` lacks a placeholder of the prompt or has one too many.
    """
    wanted = set(_NAME.findall(prompt.user))
    if wanted != set(data):
        missing, unused = sorted(wanted - set(data)), sorted(set(data) - wanted)
        raise ValueError(f"{prompt.ref.stage}: missing {missing}, unused {unused}")
    user = _NAME.sub(lambda name: _without_tags(data[name[1]]), prompt.user)
    return Rendered(prompt.system, user)


def _without_tags(text: str) -> str:
    """Replace everything in the text that a model could read as "<" or ">" by "‹" or "›"."""
    if not _SUSPECT.search(text):
        return text
    # The text as a model may read it: invisible characters removed, look-alike forms normalised, in
    # lower case. Each character is paired with its position in the original text.
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
    """Return what a bracket, an HTML entity or an escape stands for."""
    if written[0] in "\\%":
        return "<" if "3c" in written else ">"
    while (decoded := html.unescape(written)) != written:
        written = decoded
    return unicodedata.normalize("NFKC", written)

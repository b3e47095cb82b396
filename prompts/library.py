"""Loading and rendering prompts.

A version is one file, `prompts/<stage>/v<N>.md`: a YAML header, a `# System` part and a `# User`
part with `{{names}}`. Its hash is of the whole file, so changed words are another version.
"""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field

from domain.runs import PromptRef

FOLDER = Path(__file__).parent

_FILE = re.compile(
    r"\A---\n(?P<header>.*?)\n---\n+# System\n+(?P<system>.*?)\n+# User\n+(?P<user>.*?)\s*\Z",
    re.DOTALL,
)
_NAME = re.compile(r"\{\{(\w+)\}\}")
_TAG = re.compile(r"<(?=/?\w)")


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

    A person's text stands between tags that it cannot close: what looks like a tag in it loses its
    bracket.
    """
    wanted = set(_NAME.findall(prompt.user))
    if wanted != set(data):
        missing, unused = sorted(wanted - set(data)), sorted(set(data) - wanted)
        raise ValueError(f"{prompt.ref.stage}: missing {missing}, unused {unused}")
    user = _NAME.sub(lambda name: _TAG.sub("‹", data[name[1]]), prompt.user)
    return Rendered(prompt.system, user)

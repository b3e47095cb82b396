"""How much personal text goes to Opik. Held here, where rows are made, and nowhere later."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic_core import to_jsonable_python

TextMode = Literal["full", "redacted", "none"]

# Metadata that describes a run and never its person; everything else is treated as text.
PLAIN_METADATA = frozenset(
    (
        "accepted_at",
        "activity_id",
        "attempt",
        "code",
        "created_from",
        "environment",
        "finish_reason",
        "kind",
        "locale",
        "links",
        "manifest",
        "model",
        "model_version",
        "prompt",
        "prompt_sha256",
        "prompts",
        "quality_status",
        "notice",
        "rerun",
        "run_id",
        "run_url",
        "schema",
        "source_trace_id",
        "stage",
        "status",
        "temporal_ui_url",
        "trace_id",
        "user",
        "user_id",
        "workflow_id",
        "workflow_run_id",
        "workflow_type",
        "workflow_url",
    )
)


# An error may quote all of what it met; more than this of it helps nobody.
LONGEST_SENTENCE = 20_000


def as_plain(value: object, *, exclude_none: bool = False) -> Any:
    """What JSON knows of a value, whatever it is: a trace never fails the run that it tells of."""
    return to_jsonable_python(
        value,
        exclude_none=exclude_none,
        inf_nan_mode="strings",
        bytes_mode="base64",
        serialize_unknown=True,
    )


@dataclass(frozen=True)
class TraceText:
    """full: as it is · redacted: every text as its length and hash · none: no text at all.

    With a `key` the hashes cannot be found again by guessing short texts.
    """

    mode: TextMode = "full"
    key: bytes = b""

    def data(self, value: object) -> object:
        """An input or output: JSON, with its texts treated."""
        if value is None or self.mode == "none":
            return None
        if self.mode == "full" and isinstance(value, dict | list | str):
            return value
        # Unset fields of a model say nothing, and they would be most of a row.
        plain = as_plain(value, exclude_none=True)
        plain = plain if self.mode == "full" else self._masked(plain)
        return plain if isinstance(plain, dict | list | str) else {"value": plain}

    def facts(self, metadata: Mapping[str, object] | None) -> dict[str, object]:
        """Metadata: what is known to be no personal text stays."""
        if self.mode == "full":
            return dict(metadata or {})
        plain: dict[str, object] = as_plain(dict(metadata or {}))
        return {k: v if k in PLAIN_METADATA else self._fact(v) for k, v in plain.items()}

    def sentence(self, text: str | None) -> str | None:
        """An error message or a reason."""
        if text is None:
            return None
        if self.mode == "full":
            cut = f"… ({len(text)} characters)"
            return text if len(text) <= LONGEST_SENTENCE else text[:LONGEST_SENTENCE] + cut
        return None if self.mode == "none" else self._digest(text)

    def _fact(self, value: object) -> object:
        if isinstance(value, bool | int | float) or value is None:
            return value
        return None if self.mode == "none" else self._masked(value)

    def _masked(self, value: object) -> object:
        match value:
            case str():
                return self._digest(value)
            case dict():
                return {name: self._masked(each) for name, each in value.items()}
            case list():
                return [self._masked(each) for each in value]
        return value

    def _digest(self, text: str) -> str:
        digest = hmac.new(self.key, text.encode(errors="replace"), hashlib.sha256).hexdigest()
        return f"[{len(text)} characters, {digest[:12]}]"


_chosen = TraceText()


def configure(mode: TextMode, *, key: str = "") -> None:
    """Choose the mode of this process; called once, by its root."""
    global _chosen
    _chosen = TraceText(mode, key.encode())


def chosen() -> TraceText:
    """The mode of this process."""
    return _chosen

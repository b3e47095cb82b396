"""Redaction: how much personal text is sent to Opik.

Texts are redacted when the rows of the outbox are made, so every later step sees only redacted
texts.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic_core import to_jsonable_python

TextMode = Literal["full", "redacted", "none"]

# Longer messages are cut, because an error may quote a text of any size, and no reader of a trace
# needs more than this.
MAX_MESSAGE_CHARS = 20_000


def as_plain(value: object, *, exclude_none: bool = False) -> Any:
    """Convert any value to JSON types.

    Values of unknown types become text, because an unusual value in a trace must not fail the run.
    """
    return to_jsonable_python(
        value,
        exclude_none=exclude_none,
        inf_nan_mode="strings",
        bytes_mode="base64",
        serialize_unknown=True,
    )


@dataclass(frozen=True)
class Redaction:
    """The rules for what a trace shows of a text.

    Attributes:
        mode: `full` keeps every text, `redacted` replaces it by its length and a hash, and `none`
            leaves it out.
        key: Secret key of the hashes. Without a key, short texts could be recovered by hashing
            guesses.
        plain_metadata: Names of metadata fields that never hold personal text and keep their
            values.
    """

    mode: TextMode = "full"
    key: bytes = b""
    plain_metadata: frozenset[str] = frozenset()

    def payload(self, value: object) -> object:
        """Return an input or output, redacted, as a JSON object, list or string.

        None means that there is nothing to send.
        """
        if value is None or self.mode == "none":
            return None
        if self.mode == "full" and isinstance(value, dict | list | str):
            return value
        # Fields that are None are left out, because they tell nothing and would fill most of a row.
        plain = as_plain(value, exclude_none=True)
        plain = plain if self.mode == "full" else self._masked(plain)
        return plain if isinstance(plain, dict | list | str) else {"value": plain}

    def metadata(self, metadata: Mapping[str, object] | None) -> dict[str, object]:
        """Return the metadata, redacted.

        In the modes `redacted` and `none` only numbers, booleans, nulls and the fields named in
        `plain_metadata` keep their values.
        """
        if self.mode == "full":
            return dict(metadata or {})
        plain: dict[str, object] = as_plain(dict(metadata or {}))
        return {
            name: value if name in self.plain_metadata else self._masked_metadata(value)
            for name, value in plain.items()
        }

    def message(self, text: str | None) -> str | None:
        """Return an error message or the reason of a score, redacted.

        In the mode `full` the text is cut after MAX_MESSAGE_CHARS. None means that there is no text
        to send.
        """
        if text is None:
            return None
        if self.mode == "full":
            cut = f"… ({len(text)} characters)"
            return text if len(text) <= MAX_MESSAGE_CHARS else text[:MAX_MESSAGE_CHARS] + cut
        return None if self.mode == "none" else self._digest(text)

    def _masked_metadata(self, value: object) -> object:
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


_configured = Redaction()


def configure(mode: TextMode, *, key: str = "", plain_metadata: Iterable[str] = ()) -> None:
    """Set the redaction that this process applies to all traces."""
    global _configured
    _configured = Redaction(mode, key.encode(), frozenset(plain_metadata))


def redaction() -> Redaction:
    """Return the redaction of this process. Its mode is `full` until `configure` is called."""
    return _configured

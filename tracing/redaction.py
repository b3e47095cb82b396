"""How much personal text goes to Opik. Texts are treated where rows are made, and nowhere later."""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic_core import to_jsonable_python

TextMode = Literal["full", "redacted", "none"]

# An error may quote everything it met, and nobody reads more of it than this.
MAX_MESSAGE_CHARS = 20_000


def as_plain(value: object, *, exclude_none: bool = False) -> Any:
    """The value as JSON types, whatever it is: no value that a run traces may fail the run."""
    return to_jsonable_python(
        value,
        exclude_none=exclude_none,
        inf_nan_mode="strings",
        bytes_mode="base64",
        serialize_unknown=True,
    )


@dataclass(frozen=True)
class Redaction:
    """What is left of a text in each mode.

    Attributes:
        mode: `full` leaves every text as it is, `redacted` replaces it by its length and a hash,
            `none` leaves it out.
        key: Keys the hashes; without it, short texts could be found again by guessing.
        plain_metadata: Names of metadata that never hold personal text; their values stay.
    """

    mode: TextMode = "full"
    key: bytes = b""
    plain_metadata: frozenset[str] = frozenset()

    def payload(self, value: object) -> object:
        """An input or output, as an object, list or string of JSON."""
        if value is None or self.mode == "none":
            return None
        if self.mode == "full" and isinstance(value, dict | list | str):
            return value
        # The unset fields of a model tell nothing, and they would be most of a row.
        plain = as_plain(value, exclude_none=True)
        plain = plain if self.mode == "full" else self._masked(plain)
        return plain if isinstance(plain, dict | list | str) else {"value": plain}

    def metadata(self, metadata: Mapping[str, object] | None) -> dict[str, object]:
        """Metadata; beside the plain names, only numbers, booleans and nulls stay as they are."""
        if self.mode == "full":
            return dict(metadata or {})
        plain: dict[str, object] = as_plain(dict(metadata or {}))
        return {
            name: value if name in self.plain_metadata else self._masked_metadata(value)
            for name, value in plain.items()
        }

    def message(self, text: str | None) -> str | None:
        """An error message or a score's reason."""
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
    """Set the redaction of this process."""
    global _configured
    _configured = Redaction(mode, key.encode(), frozenset(plain_metadata))


def redaction() -> Redaction:
    """The redaction of this process: `full` until `configure` was called."""
    return _configured

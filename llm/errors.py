"""Every answer of the model's API that is no good, classified once.

| what came | code | what happens |
|---|---|---|
| 429 with RetryInfo | RATE_LIMITED | retried after the time that was named |
| 429 naming a daily quota | QUOTA_EXHAUSTED | the same, 5 minutes at least |
| 408, 499, 5xx | PROVIDER_UNAVAILABLE | retried |
| no answer in time | TIMEOUT | retried; it may have been billed |
| refused, dropped, cut in the middle | CONNECTION_LOST | retried; it may have been billed |
| HTML or other non-JSON with 200 | NO_GEMINI_ANSWER | retried |
| 400, 413 | REQUEST_REFUSED | fails for good |
| 401, 403 | KEY_REFUSED | fails for good |
| 404 | MODEL_UNKNOWN | fails for good |
| prompt or answer blocked | BLOCKED | fails for good, with words for the person |
| answer too like a known text | RECITATION | fails for good |
| cut at the token limit | OUTPUT_TRUNCATED | one repair with more room |
| empty | OUTPUT_EMPTY | one repair |
| broken JSON, wrong types, unknown fields, nonsense | OUTPUT_INVALID | one repair |
| larger than 64 KB | OUTPUT_TOO_LARGE | fails for good |
| stopped early for a reason of the model's own | OUTPUT_UNFINISHED | one repair |
| anything else | UNKNOWN | retried a few times |

Messages are ours: an SDK error's own text holds the server's whole answer, which may hold the key.
"""

import json
import re
from datetime import timedelta
from typing import Any, Self

import httpx2
from google.genai.errors import APIError, UnknownApiResponseError

from domain.run_errors import ModelErrorCode as Code

RETRYABLE: frozenset[Code] = frozenset(
    (
        "RATE_LIMITED",
        "QUOTA_EXHAUSTED",
        "PROVIDER_UNAVAILABLE",
        "TIMEOUT",
        "CONNECTION_LOST",
        "NO_GEMINI_ANSWER",
        "UNKNOWN",
        "DATABASE_UNAVAILABLE",
    )
)
# Paid for and stored, so that asking the same again would only read the same answer.
REPAIRABLE: frozenset[Code] = frozenset(
    ("OUTPUT_TRUNCATED", "OUTPUT_EMPTY", "OUTPUT_INVALID", "OUTPUT_UNFINISHED")
)
# The provider may have computed, and billed, what never arrived.
MAYBE_BILLED: frozenset[Code] = frozenset(("TIMEOUT", "CONNECTION_LOST", "NO_GEMINI_ANSWER"))
DAILY_QUOTA_WAIT = timedelta(minutes=5)


class ModelError(Exception):
    """A model call that gave nothing usable; `message` is safe to show and to store."""

    def __init__(self, code: Code, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retry_after = retry_after

    @classmethod
    def invalid(cls, what: str) -> Self:
        """A well-formed answer that breaks a rule; `what` says which, without quoting it."""
        return cls("OUTPUT_INVALID", f"The answer does not fit: {what}")

    @property
    def retryable(self) -> bool:
        return self.code in RETRYABLE

    @property
    def repairable(self) -> bool:
        """Worth asking once more, saying what was wrong."""
        return self.code in REPAIRABLE

    @property
    def more_tokens(self) -> bool:
        """The repair needs more room."""
        return self.code == "OUTPUT_TRUNCATED"

    @property
    def maybe_billed(self) -> bool:
        return self.code in MAYBE_BILLED


def classify(error: Exception) -> ModelError:
    """What an exception of the client means. Never raises."""
    if isinstance(error, ModelError):
        return error
    if isinstance(error, APIError):
        return _of_status(error)
    if isinstance(error, TimeoutError | httpx2.TimeoutException):
        return ModelError("TIMEOUT", "Gemini did not answer in time")
    if isinstance(error, OSError | httpx2.TransportError):
        return ModelError("CONNECTION_LOST", "The connection to Gemini was refused or lost")
    if isinstance(error, json.JSONDecodeError | UnknownApiResponseError | UnicodeDecodeError):
        return ModelError("NO_GEMINI_ANSWER", "What came with status 200 was no answer of Gemini")
    return ModelError("UNKNOWN", f"Unexpected {type(error).__name__} from the Gemini client")


def _of_status(error: APIError) -> ModelError:
    status = error.code or 0
    if status == 429:
        return _rate_limited(error.details)
    if status in (401, 403) or _reason(error.details) == "API_KEY_INVALID":
        return ModelError("KEY_REFUSED", "Gemini refused the API key; check GEMINI_API_KEY")
    if status == 404:
        return ModelError("MODEL_UNKNOWN", "Gemini does not know this model; check REIN_MODEL")
    if status in (408, 499) or status >= 500:
        return ModelError("PROVIDER_UNAVAILABLE", f"Gemini answered {status}")
    if 400 <= status < 500:
        return ModelError("REQUEST_REFUSED", f"Gemini refused the request with {status}")
    return ModelError("UNKNOWN", f"Gemini answered {status}")


def _rate_limited(details: Any) -> ModelError:
    wait = _retry_delay(details)
    if _names_a_day(details):
        wait = max(wait or DAILY_QUOTA_WAIT, DAILY_QUOTA_WAIT)
        return ModelError("QUOTA_EXHAUSTED", "Gemini's daily quota is used up", retry_after=wait)
    said = f" for {wait.total_seconds():g} s" if wait else ""
    return ModelError("RATE_LIMITED", f"Gemini asks to wait{said}", retry_after=wait)


def _entries(details: Any) -> list[dict[str, Any]]:
    """The `details` list of Google's error JSON, whatever it is wrapped in."""
    if not isinstance(details, dict):
        return []
    inner = details.get("error", details)
    found = inner.get("details") if isinstance(inner, dict) else None
    return [entry for entry in found or [] if isinstance(entry, dict)]


def _retry_delay(details: Any) -> timedelta | None:
    """`retryDelay` of google.rpc.RetryInfo: seconds with an s, such as "37.5s"."""
    for entry in _entries(details):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)s", str(entry.get("retryDelay", "")))
        if match:
            return timedelta(seconds=float(match[1]))
    return None


def _names_a_day(details: Any) -> bool:
    return any("PerDay" in json.dumps(entry) for entry in _entries(details))


def _reason(details: Any) -> str | None:
    return next((entry["reason"] for entry in _entries(details) if "reason" in entry), None)

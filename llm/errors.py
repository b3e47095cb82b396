"""The classification of model calls that give no usable answer.

| failure | code | consequence |
|---|---|---|
| 429 with RetryInfo | RATE_LIMITED | retried after the time that Google names |
| 429 naming a daily quota | QUOTA_EXHAUSTED | the same, but after 5 minutes at least |
| 408, 499, 5xx, no connection | PROVIDER_UNAVAILABLE | retried |
| no answer in time | TIMEOUT | retried; it may have been billed |
| connection lost during the call | CONNECTION_LOST | retried; it may have been billed |
| 200 with HTML or other JSON | NO_GEMINI_ANSWER | retried; it may have been billed |
| 400, 413, other 4xx | REQUEST_REFUSED | fails for good |
| 401, 403 | KEY_REFUSED | fails for good |
| 404 | MODEL_UNKNOWN | fails for good |
| prompt or answer blocked | BLOCKED | fails for good, with a sentence for the person |
| answer too similar to a known text | RECITATION | fails for good |
| answer cut at the token limit | OUTPUT_TRUNCATED | one repair with a higher limit |
| empty answer | OUTPUT_EMPTY | one repair |
| broken JSON, wrong types, unknown fields, broken rules | OUTPUT_INVALID | one repair |
| answer larger than 64 KB | OUTPUT_TOO_LARGE | fails for good |
| answer ended early for another reason | OUTPUT_UNFINISHED | one repair |
| three calls that may have been billed | SPEND_UNKNOWN_LIMIT | fails for good |
| the run was cancelled during the call | CANCELLED | it may have been billed |
| the worker was stopped during the call | WORKER_STOPPED | retried; it may have been billed |
| Temporal gave the attempt up | ATTEMPT_LOST | retried; it may have been billed |
| anything else | UNKNOWN | retried a few times; it may have been billed |

A repair is a second request that tells the model what was wrong with its answer. Google does not
bill requests that it answers with 4xx or 5xx. The messages of these errors are Rein's own, because
the text of the SDK's errors holds the server's whole answer, which may contain the API key.
"""

import re
from datetime import timedelta
from typing import Any, Self

import httpx2
from google.genai.errors import APIError

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
# The unusable answer is paid for and stored, so a retry would only read it again. Instead the stage
# asks the model once to correct it.
REPAIRABLE: frozenset[Code] = frozenset(
    ("OUTPUT_TRUNCATED", "OUTPUT_EMPTY", "OUTPUT_INVALID", "OUTPUT_UNFINISHED")
)
# Error codes after which the provider may still have computed and billed an answer that we never
# received. Such a call is counted at its reserve instead of zero.
MAYBE_BILLED: frozenset[Code] = frozenset(
    (
        "TIMEOUT",
        "CONNECTION_LOST",
        "NO_GEMINI_ANSWER",
        "OUTPUT_TOO_LARGE",
        "CANCELLED",
        "WORKER_STOPPED",
        "ATTEMPT_LOST",
        "UNKNOWN",
    )
)
DAILY_QUOTA_WAIT = timedelta(minutes=5)
# A stage waits at most this long, even if the provider asks for a longer wait.
LONGEST_WAIT = timedelta(hours=1)
MESSAGE_CHARS = 1000

_SECONDS = re.compile(r"(\d+(?:\.\d+)?)s", re.ASCII)


class ModelError(Exception):
    """A model call gave no usable answer.

    `message` is safe to show and to store. `retry_after` is the wait that the provider asked for;
    None if it named none.
    """

    def __init__(self, code: Code, message: str, *, retry_after: timedelta | None = None) -> None:
        self.code = code
        self.message = message if len(message) <= MESSAGE_CHARS else message[:MESSAGE_CHARS] + "…"
        super().__init__(f"{code}: {self.message}")
        self.retry_after = retry_after

    @classmethod
    def invalid(cls, what: str) -> Self:
        """Build the error for a well-formed answer that breaks a rule.

        `what` names the rule, without a quotation from the answer's text.
        """
        return cls("OUTPUT_INVALID", f"The answer does not fit: {what}")

    @property
    def retryable(self) -> bool:
        return self.code in RETRYABLE

    @property
    def repairable(self) -> bool:
        """Whether the model is to be asked once more, with a description of what was wrong."""
        return self.code in REPAIRABLE

    @property
    def more_tokens(self) -> bool:
        """Whether the second request needs a higher limit of output tokens."""
        return self.code == "OUTPUT_TRUNCATED"

    @property
    def maybe_billed(self) -> bool:
        return self.code in MAYBE_BILLED


def classify(error: Exception) -> ModelError:
    """Return the ModelError that describes an exception of the Gemini client. Never raises."""
    if isinstance(error, ModelError):
        return error
    if isinstance(error, APIError):
        return _of_status(error)
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return ModelError("PROVIDER_UNAVAILABLE", "No connection to Gemini could be made")
    if isinstance(error, TimeoutError | httpx2.TimeoutException):
        return ModelError("TIMEOUT", "Gemini did not answer in time")
    if isinstance(error, OSError | httpx2.TransportError):
        return ModelError("CONNECTION_LOST", "The connection to Gemini was lost")
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
    """Return the list `details` of Google's error JSON, with or without its wrapper `error`.

    It is empty if there is no such list.
    """
    if not isinstance(details, dict):
        return []
    inner = details.get("error", details)
    found = inner.get("details") if isinstance(inner, dict) else None
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _retry_delay(details: Any) -> timedelta | None:
    """Return the wait that Google asks for, at most LONGEST_WAIT; None if it names none.

    Google names it as `retryDelay` of a google.rpc.RetryInfo, for example "37.5s".
    """
    for entry in _entries(details):
        delay = entry.get("retryDelay")
        match = _SECONDS.fullmatch(delay) if isinstance(delay, str) else None
        if match:
            return timedelta(seconds=min(float(match[1]), LONGEST_WAIT.total_seconds()))
    return None


def _names_a_day(details: Any) -> bool:
    """Tell whether one of the exceeded quotas (google.rpc.QuotaFailure) is a daily quota."""
    found = (entry.get("violations") for entry in _entries(details))
    violations = [each for some in found if isinstance(some, list) for each in some]
    quotas = [each.get("quotaId") for each in violations if isinstance(each, dict)]
    return any(isinstance(quota, str) and "PerDay" in quota for quota in quotas)


def _reason(details: Any) -> object:
    return next((entry["reason"] for entry in _entries(details) if "reason" in entry), None)

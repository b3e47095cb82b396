"""What Opik's answers mean: the one place where they are told apart."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

# sent: it has them · wait: it says when to come again · away: it is not well just now ·
# refused: something in the batch is wrong for good · late: an id is older than it takes ·
# denied: our key, workspace or address is wrong; no row is to blame.
Verdict = Literal["sent", "wait", "away", "refused", "late", "denied"]

REFUSALS = frozenset((400, 409, 413, 422))
AWAY = frozenset((408, 425, 500, 502, 503, 504))


@dataclass(frozen=True)
class Answer:
    """How a request ended. `status` 0: there was no answer at all."""

    verdict: Verdict
    status: int = 0
    reason: str = ""
    wait_s: float | None = None


def judge(status: int, headers: Mapping[str, str], body: str) -> Answer:
    """The meaning of an HTTP answer."""
    reason = f"{status} {body[:500]}".strip()
    if 200 <= status < 300:
        return Answer("sent", status)
    if status == 429:
        return Answer("wait", status, reason, told_wait(headers))
    if status in REFUSALS:
        late = status == 400 and "ingestion window" in body
        return Answer("late" if late else "refused", status, reason)
    if status in AWAY or status > 504:
        return Answer("away", status, reason, told_wait(headers))
    return Answer("denied", status, reason)


def told_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: its own header first, then the standard one."""
    for name in ("RateLimit-Reset", "Retry-After"):
        seconds = _seconds(headers.get(name, "").strip())
        if seconds is not None:
            return max(0.0, seconds)
    return None


def _seconds(text: str) -> float | None:
    if text.replace(".", "", 1).isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (at.astimezone(UTC) - datetime.now(UTC)).total_seconds()

"""The server's rules that have nothing to do with storage: ids, times, numbers."""

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal
from uuid import UUID

from devstack.opik.errors import Refused

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WINDOW = timedelta(hours=24)
# Opik keeps scores with nine decimals and money with twelve; whole numbers keep both exact.
SCORE_LIMIT = Decimal("999999999.999999999")
PICO = Decimal(10) ** 12

IdWindow = Literal["off", "24h"]


def now_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


def new_id() -> str:
    """A random UUID version 7, as the server mints them."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    return str(UUID(int=value & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62))


def to_us(text: object) -> int:
    """Microseconds since 1970 of an ISO 8601 time; without a zone it is UTC. Raises ValueError."""
    if not isinstance(text, str):
        raise ValueError(f"not a time: {text!r}")
    at = datetime.fromisoformat(text)
    return (at.replace(tzinfo=at.tzinfo or UTC) - EPOCH) // timedelta(microseconds=1)


def from_us(value: int) -> str:
    """ISO 8601 in UTC with microseconds, ending in Z."""
    at = EPOCH + timedelta(microseconds=value)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def to_pico(usd: object) -> int | None:
    """US dollars as whole 1e-12 dollars, so that sums stay exact."""
    return None if usd is None else int((Decimal(str(usd)) * PICO).to_integral_value())


def from_pico(value: int | None) -> float | None:
    """The dollars of a stored sum."""
    return None if value is None else float(Decimal(value) / PICO)


def score_value(value: object) -> float:
    """A score as the server keeps it, with nine decimals. Raises Refused(422)."""
    try:
        number = Decimal("NaN" if isinstance(value, bool) else str(value))
    except ArithmeticError as error:
        raise Refused(422, "value must be a number") from error
    if not number.is_finite() or abs(number) > SCORE_LIMIT:
        raise Refused(422, f"value must be between -{SCORE_LIMIT} and {SCORE_LIMIT}")
    return float(round(number, 9))


@dataclass(frozen=True, slots=True)
class Rules:
    """Which ids are taken; both checks raise Refused(400)."""

    id_window: IdWindow = "off"

    def check_new(self, value: object, what: str) -> None:
        """An id that is being created is version 7, and inside the window when there is one."""
        moment = _v7_time(value, what)
        if self.id_window == "24h" and abs(datetime.now(UTC) - moment) > WINDOW:
            details = f"'{value}' must be in the allowed ingestion window of 'PT24H'"
            raise Refused(400, f"Invalid UUID for {what}", details)

    def check_known(self, value: object, what: str) -> None:
        """An id that is updated or referred to is version 7, and not from the future."""
        moment = _v7_time(value, what)
        if self.id_window == "24h" and moment - datetime.now(UTC) > WINDOW:
            raise Refused(400, f"Invalid UUID for {what}", f"'{value}' must not be in the future")


def _v7_time(value: object, what: str) -> datetime:
    try:
        uuid = UUID(str(value))
    except ValueError as error:
        raise Refused(400, f"Invalid UUID for {what}", f"'{value}' is not a UUID") from error
    if uuid.version != 7:
        raise Refused(400, f"Invalid UUID for {what}", f"{what} id must be a version 7 UUID")
    return EPOCH + timedelta(milliseconds=uuid.int >> 80)

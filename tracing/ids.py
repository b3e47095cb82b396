"""Version-7 UUIDs, either random or derived from a seed.

An id derived from a seed is the same on every retry, so a repeated write addresses the same row.
"""

import hashlib
import os
from datetime import UTC, datetime, timedelta
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIXED_BITS = ~(0xF << 76 | 0x3 << 62)
_VERSION_AND_VARIANT = 0x7 << 76 | 0x2 << 62


def new_trace_id(now: datetime) -> UUID:
    """Return a random version-7 UUID whose timestamp is `now`."""
    return _v7(now, os.urandom(10))


def uuid7(at: datetime, seed: str) -> UUID:
    """Return the version-7 UUID that this time, in milliseconds, and this seed always give."""
    return _v7(at, hashlib.sha256(seed.encode()).digest()[:10])


def timestamp_of(identity: UUID) -> datetime:
    """Return the time that a version-7 UUID contains, to the millisecond and in UTC."""
    return _EPOCH + timedelta(milliseconds=identity.int >> 80)


def _v7(at: datetime, tail: bytes) -> UUID:
    milliseconds = (at - _EPOCH) // timedelta(milliseconds=1)
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(tail)
    return UUID(int=value & _FIXED_BITS | _VERSION_AND_VARIANT)

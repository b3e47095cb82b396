"""Version-7 UUIDs: random ones, and deterministic ones, so that a repeat writes the same row."""

import hashlib
import os
from datetime import UTC, datetime, timedelta
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIXED_BITS = ~(0xF << 76 | 0x3 << 62)
_VERSION_AND_VARIANT = 0x7 << 76 | 0x2 << 62


def new_trace_id(now: datetime) -> UUID:
    """A random id whose timestamp is `now`."""
    return _v7(now, os.urandom(10))


def uuid7(at: datetime, seed: str) -> UUID:
    """The one id of this seed and this time, which is kept to the millisecond."""
    return _v7(at, hashlib.sha256(seed.encode()).digest()[:10])


def timestamp_of(identity: UUID) -> datetime:
    """The timestamp inside a version-7 id."""
    return _EPOCH + timedelta(milliseconds=identity.int >> 80)


def _v7(at: datetime, tail: bytes) -> UUID:
    milliseconds = (at - _EPOCH) // timedelta(milliseconds=1)
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(tail)
    return UUID(int=value & _FIXED_BITS | _VERSION_AND_VARIANT)

"""Callers of the API: services with an API key. Each belongs to a tenant, which owns its runs."""

import hashlib
import hmac
import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal, NamedTuple, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr

# A tenant's id is inserted into SQL text (db/pool.py) without escaping, so it may contain only
# characters that need no escaping.
TENANT_ID = re.compile(r"[a-z][a-z0-9-]{0,39}")
# The default tenant. Installations without API keys use it, and it owns all rows that were stored
# before tenants existed.
LOCAL_TENANT = "local"

Scope = Literal["goals:read", "goals:write", "feedback:write", "analytics:read", "ops"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

MINUTE = timedelta(minutes=1)

KEY_ID = re.compile(r"[a-z0-9]{12}")
# The environment may contain underscores, but the key's id and its secret never do, so every key
# can be split in only one way. A secret of 43 characters from an alphabet of 62 holds 256 bits.
_CREDENTIAL = re.compile(r"rk_([A-Za-z0-9._-]{1,40})_([a-z0-9]{12})_([A-Za-z0-9]{43})")


class Limits(BaseModel):
    """The limits of a tenant's usage. None means that there is no such limit."""

    model_config = ConfigDict(frozen=True)

    runs_per_minute: int | None = Field(default=None, ge=1)
    runs_in_flight: int | None = Field(default=None, ge=1)
    allowed_models: tuple[str, ...] | None = None
    usd_per_day: Decimal | None = None
    usd_per_user_day: Decimal | None = None


class Caller(BaseModel):
    """The authenticated sender of a request.

    `scopes` may contain names that only a newer release knows; no route of this release asks for
    them, so they grant nothing.
    """

    model_config = ConfigDict(frozen=True)

    tenant: str
    key_id: str
    scopes: frozenset[str]
    limits: Limits = Limits()


class Credential(NamedTuple):
    """An API key in the form that the caller sends: `rk_<environment>_<key id>_<secret>`."""

    environment: str
    key_id: str
    secret: SecretStr

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Split the text of an API key. Return None when the text does not have a key's form."""
        found = _CREDENTIAL.fullmatch(text)
        return found and cls(found[1], found[2], SecretStr(found[3]))

    def reveal(self) -> str:
        """Return the key's full text with the secret, which `repr` and logs never show."""
        return f"rk_{self.environment}_{self.key_id}_{self.secret.get_secret_value()}"

    def mac(self, pepper: SecretStr) -> bytes:
        """Return the HMAC-SHA-256 of the secret, 32 bytes, which is stored instead of the secret.

        `pepper` is the HMAC's key. It is not stored in PostgreSQL, so a stolen database alone
        does not allow anybody to test guessed secrets.
        """
        key, secret = pepper.get_secret_value(), self.secret.get_secret_value()
        return hmac.new(key.encode(), secret.encode(), hashlib.sha256).digest()


class ApiKey(BaseModel):
    """A stored API key, with the limits of its tenant."""

    model_config = ConfigDict(frozen=True)

    key_id: str
    tenant: str
    name: str
    secret_mac: bytes = Field(repr=False)
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    rolled_to: str | None
    limits: Limits

    def is_opened_by(self, credential: Credential, pepper: SecretStr) -> bool:
        """Tell whether the credential's secret is the secret of this key.

        The comparison takes constant time, so its duration reveals nothing about the secret.
        """
        return hmac.compare_digest(self.secret_mac, credential.mac(pepper))

    def refusal(self, now: datetime) -> Literal["revoked", "expired"] | None:
        """Return why the key is no longer accepted, or None while it is valid."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at <= now else None


class Quota(NamedTuple):
    """How much of a limit is left. The full limit is available again after `reset_s` seconds."""

    limit: int
    remaining: int
    reset_s: int

    @property
    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_s),
        }


class Pace(NamedTuple):
    """The rate limit of a tenant's runs, `limit` per minute (GCRA, a form of leaky bucket).

    A tenant may start `limit` runs at once, then one more after each interval of 60 s / `limit`.
    `ahead` is how far in the future the next run would be due at that even rate, with the current
    run counted. The current run is admitted when `ahead` is at most one minute.
    """

    limit: int
    ahead: timedelta

    @staticmethod
    def interval(limit: int) -> timedelta:
        """Return the time between two runs at the even rate.

        The time is rounded down to a microsecond, so that `limit` runs fit into one minute.
        """
        return max(MINUTE // limit, timedelta.resolution)

    @property
    def retry_after_s(self) -> int:
        """The seconds until this run can be admitted; 0 when it is admitted now."""
        return _whole_seconds(self.ahead - MINUTE)

    @property
    def quota(self) -> Quota:
        """The quota that is left. An admitted run is counted, a refused run is not."""
        interval = self.interval(self.limit)
        counted = self.ahead - interval if self.retry_after_s else self.ahead
        return Quota(self.limit, (MINUTE - counted) // interval, _whole_seconds(counted))


def _whole_seconds(time: timedelta) -> int:
    """Round a duration up to whole seconds; a negative duration gives 0."""
    return max(0, -(-time // timedelta(seconds=1)))

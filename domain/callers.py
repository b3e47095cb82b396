"""Callers: services with an API key, each of a tenant that owns what it makes."""

import hashlib
import hmac
import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal, NamedTuple, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr

# A tenant's id is written into SQL and into Temporal's queries unquoted, so it has few characters.
TENANT_ID = re.compile(r"[a-z][a-z0-9-]{0,39}")
# An installation that serves only itself uses this tenant; rows from before tenants belong to it.
LOCAL_TENANT = "local"

Scope = Literal["goals:read", "goals:write", "feedback:write", "analytics:read", "ops"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

MINUTE = timedelta(minutes=1)

KEY_ID = re.compile(r"[a-z0-9]{12}")
# An environment may hold underscores; a key's id and its secret never do, so the text has one
# reading. 43 characters of 62 are 256 bits.
_CREDENTIAL = re.compile(r"rk_([A-Za-z0-9._-]{1,40})_([a-z0-9]{12})_([A-Za-z0-9]{43})")


class Limits(BaseModel):
    """What a tenant may use. None: without a limit."""

    model_config = ConfigDict(frozen=True)

    runs_per_minute: int | None = Field(default=None, ge=1)
    runs_in_flight: int | None = Field(default=None, ge=1)
    allowed_models: tuple[str, ...] | None = None
    usd_per_day: Decimal | None = None
    usd_per_user_day: Decimal | None = None


class Caller(BaseModel):
    """Who sends a request. `scopes` may name some that this release does not know."""

    model_config = ConfigDict(frozen=True)

    tenant: str
    key_id: str
    scopes: frozenset[str]
    limits: Limits = Limits()


class Credential(NamedTuple):
    """An API key as its caller holds it: `rk_<environment>_<key id>_<secret>`."""

    environment: str
    key_id: str
    secret: SecretStr

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """None when the text is no key."""
        found = _CREDENTIAL.fullmatch(text)
        return found and cls(found[1], found[2], SecretStr(found[3]))

    def reveal(self) -> str:
        """The text that is sent; nothing else shows the secret."""
        return f"rk_{self.environment}_{self.key_id}_{self.secret.get_secret_value()}"

    def mac(self, pepper: SecretStr) -> bytes:
        """What is stored instead of the secret: HMAC-SHA-256 with the pepper, 32 bytes."""
        key, secret = pepper.get_secret_value(), self.secret.get_secret_value()
        return hmac.new(key.encode(), secret.encode(), hashlib.sha256).digest()


class ApiKey(BaseModel):
    """An API key as it is stored, with the limits of its tenant."""

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
        """Whether it is this key's secret; the comparison takes the same time for any other."""
        return hmac.compare_digest(self.secret_mac, credential.mac(pepper))

    def refusal(self, now: datetime) -> Literal["revoked", "expired"] | None:
        """Why the key is not taken any more; None while it is."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at <= now else None


class Quota(NamedTuple):
    """How much of a limit is left, and after how many seconds all of it is there again."""

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
    """A tenant's runs a minute (GCRA): `limit` at once, then one whenever an interval has passed.

    `ahead` is how far the tenant is before its even pace once this run is counted.
    """

    limit: int
    ahead: timedelta

    @staticmethod
    def interval(limit: int) -> timedelta:
        """Between two runs at the even pace; rounded down, so that `limit` of them fit a minute."""
        return max(MINUTE // limit, timedelta.resolution)

    @property
    def retry_after_s(self) -> int:
        """Seconds until this run can be admitted; 0 when it is admitted now."""
        return _whole_seconds(self.ahead - MINUTE)

    @property
    def quota(self) -> Quota:
        """What is left once this run is counted, or without it when it is refused."""
        interval = self.interval(self.limit)
        counted = self.ahead - interval if self.retry_after_s else self.ahead
        return Quota(self.limit, (MINUTE - counted) // interval, _whole_seconds(counted))


def _whole_seconds(time: timedelta) -> int:
    """Rounded up; 0 for what has passed."""
    return max(0, -(-time // timedelta(seconds=1)))

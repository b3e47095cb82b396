"""Authenticates callers by API keys (bearer tokens) and checks the scope that a route needs."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

import structlog
from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from pydantic import SecretStr

from db.callers import select_api_key
from db.pool import Pool, acquire
from domain.callers import LOCAL_TENANT, SCOPES, ApiKey, Caller, Credential
from domain.errors import Forbidden, Unauthorized

log = structlog.get_logger()

# The result of a key's look-up is cached for this many seconds, so a revoked key may still be
# accepted for that long.
TRUSTED_S = 3
REMEMBERED = 4096

_BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="ApiKey",
    bearerFormat="rk_<environment>_<key id>_<secret>",
    description="The API key of a service. A route names the scope that the key must have.",
)


class Authenticator:
    """Identifies callers by their API keys and caches the look-ups; one instance for a process.

    `pool` has the role `rein_operations`, because the tenant of a key is known only after its
    look-up.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        pepper: SecretStr,
        environment: str,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._pool = pool
        self._pepper = pepper
        self._environment = environment
        self._clock = clock
        self._now = now
        # Maps a key id to the start time and the task of its look-up, oldest first. A key id that
        # does not exist is cached too (its task returns None).
        self._found: dict[str, tuple[float, asyncio.Task[ApiKey | None]]] = {}

    async def identify(self, token: str | None) -> Caller:
        """Return the caller whose API key is `token`.

        Raises Unauthorized when the token is missing, or is no valid key of this environment, and
        Unavailable when PostgreSQL is away.
        """
        if token is None:
            raise _unauthorized("came none")
        credential = Credential.parse(token)
        if credential is None or credential.environment != self._environment:
            raise _not_valid()
        key = await self._find(credential.key_id)
        if key is None or not key.is_opened_by(credential, self._pepper):
            raise _not_valid()
        if reason := key.refusal(self._now()):
            log.info("key_refused", key_id=key.key_id, tenant=key.tenant, reason=reason)
            raise _not_valid()
        return Caller(
            tenant=key.tenant,
            key_id=key.key_id,
            scopes=frozenset(key.scopes),
            limits=key.limits,
        )

    async def _find(self, key_id: str) -> ApiKey | None:
        """Return the stored API key, or None when there is none with this id.

        All requests that bring the same key within TRUSTED_S seconds share one look-up.
        """
        now = self._clock()
        asked_at, lookup = self._found.get(key_id, (now, None))
        if lookup is None or now - asked_at >= TRUSTED_S:
            lookup = asyncio.create_task(self._look_up(key_id))
            lookup.add_done_callback(lambda done: self._forget_failed(key_id, done))
            self._found.pop(key_id, None)
            self._found[key_id] = now, lookup
            if len(self._found) > REMEMBERED:
                del self._found[next(iter(self._found))]
        # Several requests may await this look-up. The shield lets it finish when one of those
        # requests is cancelled, for example because its client disconnected.
        return await asyncio.shield(lookup)

    async def _look_up(self, key_id: str) -> ApiKey | None:
        async with acquire(self._pool) as conn:
            return await select_api_key(conn, key_id)

    def _forget_failed(self, key_id: str, lookup: asyncio.Task[ApiKey | None]) -> None:
        failed = lookup.cancelled() or lookup.exception() is not None
        if failed and self._found.get(key_id, (0, None))[1] is lookup:
            del self._found[key_id]


class NoAuthentication:
    """Accepts every request as the tenant `local`, with all scopes and no limits.

    It replaces Authenticator when the setting REIN_AUTH is `off`.
    """

    async def identify(self, token: str | None) -> Caller:
        return Caller(tenant=LOCAL_TENANT, key_id="none", scopes=frozenset(SCOPES))


async def authenticate(
    needed: SecurityScopes,
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
) -> Caller:
    """Return the caller of a request.

    Raises Unauthorized without a valid API key, Forbidden when the key lacks a scope in `needed`,
    and Unavailable when PostgreSQL is away.
    """
    authenticator: Authenticator | NoAuthentication = request.app.state.services.authenticator
    caller = await authenticator.identify(None if bearer is None else bearer.credentials)
    if missing := [scope for scope in needed.scopes if scope not in caller.scopes]:
        raise Forbidden(
            f"expected a key with the scope {' and '.join(missing)}; "
            f"this one has {', '.join(sorted(caller.scopes))}",
            cure="use a key that has it, or ask the operator of this installation for one",
        )
    return caller


GoalsRead = Annotated[Caller, Security(authenticate, scopes=["goals:read"])]
GoalsWrite = Annotated[Caller, Security(authenticate, scopes=["goals:write"])]
FeedbackWrite = Annotated[Caller, Security(authenticate, scopes=["feedback:write"])]
AnalyticsRead = Annotated[Caller, Security(authenticate, scopes=["analytics:read"])]
Ops = Annotated[Caller, Security(authenticate, scopes=["ops"])]


def _not_valid() -> Unauthorized:
    return _unauthorized("the one that came is not valid")


def _unauthorized(came: str) -> Unauthorized:
    return Unauthorized(
        f"expected an API key in the header Authorization: Bearer; {came}",
        cure="send a key of this installation that has not expired and was not revoked",
    )

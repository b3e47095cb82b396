"""Who calls: API keys as bearer tokens, and the scope that each route asks for."""

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

# A key that was looked up is taken for so long without another look, so a revoked one no longer.
TRUSTED_S = 3
REMEMBERED = 4096

_BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="ApiKey",
    bearerFormat="rk_<environment>_<key id>_<secret>",
    description="The API key of a service. A route names the scope that the key must have.",
)


class Authenticator:
    """Knows callers by their keys. One per process; `pool` is in the role of operations."""

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
        # By key id, the oldest look-up first; a key that does not exist is remembered too.
        self._found: dict[str, tuple[float, asyncio.Task[ApiKey | None]]] = {}

    async def identify(self, token: str | None) -> Caller:
        """Raises Unauthorized, and Unavailable when PostgreSQL is away."""
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
        """One look-up for all who ask within a few seconds."""
        now = self._clock()
        asked_at, lookup = self._found.get(key_id, (now, None))
        if lookup is None or now - asked_at >= TRUSTED_S:
            lookup = asyncio.create_task(self._look_up(key_id))
            lookup.add_done_callback(lambda done: self._forget_failed(key_id, done))
            self._found.pop(key_id, None)
            self._found[key_id] = now, lookup
            if len(self._found) > REMEMBERED:
                del self._found[next(iter(self._found))]
        # Shielded: a caller that goes away ends its own request, not the look-up of the others.
        return await asyncio.shield(lookup)

    async def _look_up(self, key_id: str) -> ApiKey | None:
        async with acquire(self._pool) as conn:
            return await select_api_key(conn, key_id)

    def _forget_failed(self, key_id: str, lookup: asyncio.Task[ApiKey | None]) -> None:
        failed = lookup.cancelled() or lookup.exception() is not None
        if failed and self._found.get(key_id, (0, None))[1] is lookup:
            del self._found[key_id]


class NoAuthentication:
    """Takes everybody for the tenant `local`, with every scope and without limits."""

    async def identify(self, token: str | None) -> Caller:
        return Caller(tenant=LOCAL_TENANT, key_id="none", scopes=frozenset(SCOPES))


async def authenticate(
    needed: SecurityScopes,
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
) -> Caller:
    """The caller of a request. Raises Unauthorized, Forbidden or Unavailable."""
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

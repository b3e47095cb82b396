"""Errors that the API reports to callers, each with an HTTP status and a stable code (RFC 9457)."""

from typing import ClassVar
from uuid import UUID

from domain.callers import Quota


class ReinError(Exception):
    """Base class of all errors that are shown to API callers.

    `detail` says what was expected and what was received; `cure` says what the caller can do.
    `retry_after` is in seconds and becomes the Retry-After header. `trace_id` names the run that
    the error is about, if the URL of the request does not contain it.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL"
    title: ClassVar[str] = "Something went wrong on our side"

    def __init__(
        self,
        detail: str,
        *,
        cure: str | None = None,
        retry_after: int | None = None,
        trace_id: UUID | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.cure = cure
        self.retry_after = retry_after
        self.trace_id = trace_id

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP headers that the answer with this error carries."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


class Unauthorized(ReinError):
    """The request has no API key, or its key is unknown, wrong, expired or revoked.

    The answer does not say which of these is wrong with a key, so that nobody can probe for keys.
    """

    status = 401
    code = "UNAUTHORIZED"
    title = "A valid API key is needed"

    @property
    def headers(self) -> dict[str, str]:
        return {**super().headers, "WWW-Authenticate": "Bearer"}


class Forbidden(ReinError):
    """The API key is valid, but it lacks the scope that this route requires."""

    status = 403
    code = "FORBIDDEN"
    title = "The API key may not do this"


class ModelNotAllowed(Forbidden):
    """The limits of the caller's tenant do not allow this model."""

    code = "MODEL_NOT_ALLOWED"
    title = "The model is not allowed for this tenant"


class NotFound(ReinError):
    """The id is well formed, but nothing is stored under it."""

    status = 404
    code = "NOT_FOUND"
    title = "Nothing is stored under this id"


class AlreadyFinished(ReinError):
    """The run has ended, so it can no longer be changed."""

    status = 409
    code = "ALREADY_FINISHED"
    title = "The run has already ended"


class NotReady(ReinError):
    """The run exists, but it has no result yet, or none that the requested operation can use."""

    status = 409
    code = "NOT_READY"
    title = "The run has no result for this yet"


class DeadlinePassed(ReinError):
    """The goal's deadline has passed since the run was accepted, so a rerun could plan nothing."""

    status = 409
    code = "DEADLINE_PASSED"
    title = "The deadline has passed"


class IdempotencyMismatch(ReinError):
    """The Idempotency-Key was used before with a different request."""

    status = 422
    code = "IDEMPOTENCY_KEY_REUSED"
    title = "This Idempotency-Key belongs to another request"


class InvalidRequest(ReinError):
    """The request is well-formed JSON, but it breaks a rule that involves several fields."""

    status = 422
    code = "INVALID_REQUEST"
    title = "The request does not fit"


class TooManyRequests(ReinError):
    """A limit of the caller's tenant is reached; the same request may succeed later."""

    status = 429
    code = "TOO_MANY_REQUESTS"
    title = "A limit of this tenant is reached"

    def __init__(self, detail: str, *, quota: Quota, retry_after: int) -> None:
        cure = f"send the same request again in {retry_after} s, with the same Idempotency-Key"
        super().__init__(detail, cure=cure, retry_after=retry_after)
        self.quota = quota

    @property
    def headers(self) -> dict[str, str]:
        return {**super().headers, **self.quota.headers}


class Unavailable(ReinError):
    """PostgreSQL or another service that Rein needs is not reachable.

    The same request may succeed later.
    """

    status = 503
    code = "UNAVAILABLE"
    title = "A part of Rein is not reachable just now"

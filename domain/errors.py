"""Errors that a caller of Rein can meet, each with its HTTP status and a stable code (RFC 9457)."""

from typing import ClassVar
from uuid import UUID


class ReinError(Exception):
    """Base of every error that is shown to a caller.

    `detail` says what was expected and what came; `cure` says what to do about it.
    `retry_after` is in seconds and becomes the Retry-After header. `trace_id` names the run that
    the error is about, where the address does not.
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
    """The run exists, but it has no result yet (or none that can be used this way)."""

    status = 409
    code = "NOT_READY"
    title = "The run has no result for this yet"


class IdempotencyMismatch(ReinError):
    """The same Idempotency-Key came with another body."""

    status = 422
    code = "IDEMPOTENCY_KEY_REUSED"
    title = "This Idempotency-Key belongs to another request"


class InvalidRequest(ReinError):
    """The request is well formed JSON, but breaks a rule that spans several fields."""

    status = 422
    code = "INVALID_REQUEST"
    title = "The request does not fit"


class Unavailable(ReinError):
    """A part that Rein needs is away just now; the same request may succeed later."""

    status = 503
    code = "UNAVAILABLE"
    title = "A part of Rein is not reachable just now"

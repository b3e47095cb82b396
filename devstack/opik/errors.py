"""Opik's error answers."""

from typing import Any

from starlette.exceptions import HTTPException

from devstack.standin import JsonDocument


class Refused(HTTPException):
    """Ends a request with a status and Opik's error body; `details` says more than `message`."""

    def __init__(self, status: int, message: str, details: str | None = None) -> None:
        super().__init__(status, message)
        self.details = details


def error_answer(error: HTTPException) -> JsonDocument:
    """An error in the shape of Opik's; of an unknown address too."""
    if error.status_code == 422:
        return JsonDocument({"errors": [error.detail]}, 422)
    body: dict[str, Any] = {"code": error.status_code, "message": error.detail}
    if isinstance(error, Refused) and error.details is not None:
        body["details"] = error.details
    return JsonDocument(body, error.status_code)

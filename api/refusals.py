"""Texts of the problems for errors that have no ReinError class.

Such errors come from the server, the middleware, the framework, or are unexpected.
"""

from typing import NamedTuple


class Refusal(NamedTuple):
    """The fixed parts of a problem.

    Programs can rely on `code`, which is stable. `title` and `cure` are texts for people.
    """

    status: int
    code: str
    title: str
    cure: str


MALFORMED_REQUEST = Refusal(
    400, "MALFORMED_REQUEST", "The request is not HTTP/1.1", "send HTTP/1.1, headers below 16 KB"
)
MALFORMED_BODY = Refusal(
    400, "MALFORMED_BODY", "The body cannot be read", "send one JSON object, encoded as UTF-8"
)
CROSS_SITE = Refusal(
    403,
    "CROSS_SITE",
    "Pages of other sites may not change anything here",
    "send it from a program, or from a page of the host in REIN_PUBLIC_URL",
)
REQUEST_TIMEOUT = Refusal(
    408, "REQUEST_TIMEOUT", "The request did not arrive in time", "send the whole request at once"
)
TOO_LARGE = Refusal(
    413, "TOO_LARGE", "The body is too large", "send at most 64 KB; a goal has 4,000 characters"
)
WRONG_HOST = Refusal(
    421,
    "WRONG_HOST",
    "This host is not served here",
    "use the host in REIN_PUBLIC_URL; a proxy must pass the Host header on as it came",
)
INTERNAL = Refusal(
    500,
    "INTERNAL",
    "Something went wrong on our side",
    "send the request again with an Idempotency-Key; tell the operator if it stays",
)
REFUSED = Refusal(400, "REFUSED", "The request was refused", "see /docs")

# Errors that FastAPI and Starlette raise as HTTPException. They have no code of their own, so the
# problem is chosen by the status.
BY_STATUS = {
    refusal.status: refusal
    for refusal in (
        MALFORMED_BODY,
        Refusal(404, "NO_SUCH_PAGE", "There is no such address", "GET /docs lists every address"),
        Refusal(
            405, "METHOD_NOT_ALLOWED", "The address has no such method", "see the Allow header"
        ),
        Refusal(406, "NOT_ACCEPTABLE", "No such representation", "accept application/json"),
        TOO_LARGE,
        Refusal(
            415,
            "UNSUPPORTED_MEDIA_TYPE",
            "The body is not JSON",
            "send it with the header Content-Type: application/json",
        ),
    )
}
ALL = (
    *BY_STATUS.values(),
    *(MALFORMED_REQUEST, CROSS_SITE, REQUEST_TIMEOUT, WRONG_HOST, REFUSED, INTERNAL),
)

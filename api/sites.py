"""Rejects requests that a web page of another site makes a browser send.

Such requests are recognised by the headers Host, Sec-Fetch-Site and Origin.
"""

from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi.responses import Response
from starlette.datastructures import Headers
from starlette.types import Scope

from api import problems, refusals

_CHANGING = frozenset(("POST", "PUT", "PATCH", "DELETE"))
_PORTS = {"http": 80, "https": 443}


def is_loopback(host: str) -> bool:
    """Return whether the host is `localhost` or a loopback IP address."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class Sites:
    """Checks requests against the public URL of the API.

    A page of another site can attack in two ways. With DNS rebinding its own host name leads to
    this machine, and the Host header shows that name. In a cross-site request, Sec-Fetch-Site and
    Origin show the other site. Programs that are no browsers send neither of these two headers.
    """

    def __init__(self, public_url: str) -> None:
        self._public = urlsplit(public_url)

    def refusal(self, scope: Scope) -> Response | None:
        """Return an error answer for a request that must be rejected; None accepts the request.

        A request is rejected if its Host header names another host, or if a page of another site
        sends it with a method that changes something.
        """
        headers = Headers(scope=scope)
        if not self._is_ours(headers.get("host", "")):
            came = headers.get("host", "")[:80]
            detail = f"expected the host {self._public.hostname}, came {came!r}"
            return problems.refused(refusals.WRONG_HOST, detail)
        if scope["method"] in _CHANGING and self._is_foreign(headers):
            return problems.refused(refusals.CROSS_SITE, "the request comes from another site")
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name, ours = urlsplit(f"//{host}").hostname or "", self._public.hostname or ""
        except ValueError:
            return False
        return name == ours or (is_loopback(name) and is_loopback(ours))

    def _is_foreign(self, headers: Headers) -> bool:
        if (site := headers.get("sec-fetch-site")) is not None:
            return site not in ("same-origin", "none")
        origin = headers.get("origin")
        return origin is not None and not self._is_our_origin(origin)

    def _is_our_origin(self, origin: str) -> bool:
        try:
            scheme, port = (parts := urlsplit(origin)).scheme, parts.port
        except ValueError:
            return False
        ours = (self._public.scheme, self._public.port or _PORTS[self._public.scheme])
        return (scheme, port or _PORTS.get(scheme)) == ours and self._is_ours(parts.netloc)

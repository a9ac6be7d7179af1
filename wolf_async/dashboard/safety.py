"""Decide who is answered: check the ``Host`` and the password, and bind the browser by headers."""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import TYPE_CHECKING, Final

from aiohttp import hdrs, web

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiohttp.typedefs import Handler, Middleware

__all__ = ["LOOPBACK", "OPEN", "check_host", "check_password", "set_headers"]

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""The names of this machine for itself."""
OPEN: Final = "healthz"
"""Name of the one route that needs no password."""

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


async def set_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add the headers of every response; a signal, so that refusals and streams have them too."""
    response.headers.update(_HEADERS)


def check_host(allowed: Collection[str]) -> Middleware:
    """Answer only requests whose ``Host`` is one of these names, with any port.

    A page of another site can make its name point to this machine, to read what is here (DNS
    rebinding). It cannot choose the ``Host`` that the browser sends.
    """
    names = frozenset(name.lower().rstrip(".") for name in allowed)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if host_name(request.headers.get(hdrs.HOST, "")) not in names:
            raise web.HTTPMisdirectedRequest(text="this name is not served here\n")
        return await handler(request)

    return middleware


def host_name(host: str) -> str:
    """Take the name out of a ``Host`` header: no port, brackets or last dot, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")


def check_password(password: str) -> Middleware:
    """Answer only requests with that password, whatever the user name (HTTP Basic, RFC 7617)."""
    expected = password.encode()

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        is_open = request.match_info.route.name == OPEN
        if not is_open and not hmac.compare_digest(_password_of(request), expected):
            challenge = {
                hdrs.WWW_AUTHENTICATE: 'Basic realm="wolf-async dashboard", charset="UTF-8"'
            }
            raise web.HTTPUnauthorized(headers=challenge, text="the password is needed\n")
        return await handler(request)

    return middleware


def _password_of(request: web.Request) -> bytes:
    """Read the password that came; none is taken for an empty one, which no dashboard has."""
    scheme, _, credentials = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(credentials.strip(), validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""

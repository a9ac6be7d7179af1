"""Which proxy a client's requests go through: the one that was given, or the environment's.

The environment's variables mean what they mean for curl (curl(1), *ENVIRONMENT*), and ``NO_PROXY``
takes address ranges and ``*.host`` besides. They are read when a client is made, and never again.
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from yarl import URL

from wolf_async.api.request import is_loopback
from wolf_async.errors import WolfConfigError

__all__ = ["choose_proxy"]

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORTS: Final = {"http": 80, "https": 443}


def choose_proxy(base_url: str, proxy: object, *, trust_env: bool, allow_http: bool) -> URL | None:
    """Return the proxy for requests to ``base_url``; ``None`` if they go there directly.

    A ``proxy`` that is given is always used; otherwise, with ``trust_env``, the environment's.

    Raise `WolfConfigError` for a proxy that cannot be used, and for plain http through one unless
    ``allow_http``. A proxy's text may hold a password, and is not shown.
    """
    parts = urlsplit(base_url)
    is_shown = parts.scheme == "http" and not allow_http
    if proxy is not None:
        if is_shown:
            raise WolfConfigError(
                "plain http would show the token to the proxy, even if it is for loopback: "
                f"use https, or allow_http=True ({base_url})"
            )
        return _check_proxy("proxy", proxy)
    # plain http is allowed for loopback alone here, and is no reason to show the token to a proxy
    if not trust_env or (is_shown and is_loopback(parts.hostname or "")):
        return None
    return _from_environment(parts.scheme, parts.hostname or "", parts.port)


def _from_environment(scheme: str, host: str, port: int | None) -> URL | None:
    found = _variable(f"{scheme}_proxy") or _variable("all_proxy")
    excepted = _variable("no_proxy") or ""
    if not found or _is_excepted(host, port or _PORTS[scheme], excepted):
        return None
    return _check_proxy("the environment's proxy", found)


def _variable(name: str) -> str | None:
    """Return a variable's value, the lower case first; an empty one counts as unset."""
    # a web server sets HTTP_PROXY for a CGI script from a header that anybody may send (httpoxy)
    is_header = name == "http_proxy" and "REQUEST_METHOD" in os.environ
    return os.environ.get(name) or (None if is_header else os.environ.get(name.upper())) or None


def _check_proxy(name: str, proxy: object) -> URL:
    expected = f"{name} must be like http://host[:port]"
    if not isinstance(proxy, str):
        raise WolfConfigError(f"{expected}, not of type {type(proxy).__name__}")
    try:
        url = URL(proxy if "://" in proxy else f"http://{proxy}")
    except ValueError:
        raise WolfConfigError(expected) from None
    if url.scheme.startswith("socks"):
        raise WolfConfigError(f"{expected}: SOCKS is not supported ({url.scheme}://)")
    if url.scheme not in ("http", "https") or not url.host:
        raise WolfConfigError(f"{expected}, not {url.scheme}://")
    return url


def _is_excepted(host: str, port: int, exceptions: str) -> bool:
    """Tell whether ``exceptions``, as in ``NO_PROXY``, name ``host`` or that port of it."""
    host = host.rstrip(".").lower()
    return any(_matches(host, port, entry) for entry in re.split(r"[\s,]+", exceptions.lower()))


def _matches(host: str, port: int, entry: str) -> bool:
    if entry == "*":
        return True
    name, only_port = _split_port(entry)
    if only_port not in (None, port):
        return False
    address = _address(host)
    if address is not None:
        return _holds(name, address)
    # a name stands for all below it too, with or without a dot or a star before it
    name = name.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _split_port(entry: str) -> tuple[str, int | None]:
    if entry.startswith("["):
        name, _, port = entry[1:].partition("]")
    elif entry.count(":") == 1:
        name, _, port = entry.partition(":")
    else:  # a name, or an IPv6 address without brackets
        name, port = entry, ""
    port = port.removeprefix(":")
    return name, int(port) if port.isascii() and port.isdigit() else None


def _address(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _holds(range_: str, address: _Address) -> bool:
    """Tell whether ``address`` is in a range such as ``10.0.0.0/8``, or is the one named."""
    try:
        return address in ipaddress.ip_network(range_, strict=False)
    except ValueError:
        return False

"""Check what callers pass, and make the request for an account, without any I/O."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

import msgspec

from wolf_async.account import Account
from wolf_async.errors import WolfConfigError
from wolf_async.models import TaskDraft

__all__ = [
    "DEFAULT_BASE_URL",
    "check_account",
    "check_base_url",
    "check_ids",
    "choose_base_url",
    "is_loopback",
    "request_url",
    "task_request",
]

DEFAULT_BASE_URL: Final = "https://api.wolfsmartcloud.com"
# what no URL needs to escape, and no check can mind
_PLAIN_ID: Final = re.compile(r"[0-9A-Za-z_-]+")
# the endpoint's path, or a beginning of it, at the end of a base URL
_ENDPOINT: Final = re.compile(r"/agent-api(/new(/user(/[^/]+(/task(/create)?)?)?)?)?\Z")
# visible ASCII without the backslash, which some read as a slash
_URL_TEXT: Final = r"[!-\[\]-~]+"


def check_account(user_id: object, sub_user_id: object = None) -> Account:
    """Return the account of these ids; raise `WolfConfigError` for an id that cannot be one."""
    return Account(*check_ids(user_id, sub_user_id))


def check_ids(user_id: object, sub_user_id: object = None) -> tuple[str, str | None]:
    """Return these ids as a plain tuple, as `check_account` does as an `Account`."""
    sub = None if sub_user_id is None else _check_id("sub_user_id", sub_user_id)
    return _check_id("user_id", user_id), sub


def _check_id(name: str, value: object) -> str:
    if type(value) is str and _PLAIN_ID.fullmatch(value):  # as nearly all are
        return value
    if not isinstance(value, str):
        raise WolfConfigError(f"{name} must be a str, not {type(value).__name__}: {value!r}")
    # what it holds: a member of an enum formats as its name, and hashes by it
    value = str.__str__(value)
    if not value:
        raise WolfConfigError(f"{name} must not be empty")
    if not value.isprintable():
        raise WolfConfigError(f"{name} must hold printable characters only, not {value!r}")
    # a gateway that undoes the percent-encoding early would walk up the path
    if {".", ".."} & set(re.split(r"[/\\]", value)):
        raise WolfConfigError(f"{name} must hold no dot segment, not {value!r}")
    return value


def check_base_url(base_url: object, allow_http: bool, name: str = "base_url") -> str:
    """Return ``base_url`` without a slash at its end; raise `WolfConfigError` if it is no use.

    ``name`` is where it comes from, for the error's text.
    """
    expected = f"{name} must be like https://host[:port][/prefix], in ASCII"
    if not isinstance(base_url, str):
        raise WolfConfigError(f"{expected}, not {base_url!r}")
    # what a URL holds besides its host and path is often a secret, and is not shown
    if "@" in base_url or re.search(r"[?#]+[^?#]", base_url):
        raise WolfConfigError(f"{expected}, without a user name, password, query or fragment")
    try:
        parts = urlsplit(base_url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise WolfConfigError(f"{expected}: {error}") from error
    if parts.scheme not in ("https", "http") or not host or not re.fullmatch(_URL_TEXT, base_url):
        raise WolfConfigError(f"{expected}, not {base_url!r}")
    if parts.scheme == "http" and not allow_http and not is_loopback(host):
        raise WolfConfigError(
            f"plain http would show the token to others: use https, or allow_http=True"
            f" ({name} is {base_url})"
        )
    base_url = base_url.rstrip("/?#")
    if endpoint := _ENDPOINT.search(base_url):
        base = base_url[: endpoint.start()]
        raise WolfConfigError(
            f"{name} must end before the endpoint's own path: {base}, not {base_url}"
        )
    return base_url


def choose_base_url(given: str | None, allow_http: bool) -> str:
    """Return the base URL that was given, or that of ``WOLF_BASE_URL``, or the vendor's own."""
    if given is not None:
        return check_base_url(given, allow_http)
    # empty counts as unset
    variable = os.environ.get("WOLF_BASE_URL") or DEFAULT_BASE_URL
    return check_base_url(variable, allow_http, name="WOLF_BASE_URL")


def is_loopback(host: str) -> bool:
    """Return whether what is sent to ``host`` stays on this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def request_url(base: SplitResult, account: Account) -> SplitResult:
    """Return the URL that asks for ``account``, in the parts that yarl takes as they are.

    It is percent-encoded, so that each id stays one segment or one value.
    """
    user_id, sub_user_id = account
    path = f"{base.path}/agent-api/new/user/{_quote(user_id)}/task/create"
    query = "" if sub_user_id is None else f"sub_user_id={_quote(sub_user_id)}"
    return SplitResult(base.scheme, base.netloc, path, query, "")


def task_request(
    base: SplitResult, account: Account, draft: TaskDraft
) -> tuple[SplitResult, bytes]:
    """Return the URL and the body that create a task for ``account``.

    Source: the vendor's table for POST /agent-api/new/user/{user_id}/task, where the sub-account is
    a field of the body.
    """
    path = f"{base.path}/agent-api/new/user/{_quote(account.user_id)}/task"
    body = draft.body()
    if account.sub_user_id is not None:
        body["sub_user_id"] = account.sub_user_id
    return SplitResult(base.scheme, base.netloc, path, "", ""), msgspec.json.encode(body)


def _quote(id: str) -> str:
    return id if _PLAIN_ID.fullmatch(id) else quote(id, safe="")

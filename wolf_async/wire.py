"""No I/O: from an account to a request, and from a response to an answer or a named error.

Decoding has two ways. The first is one strict typed decode of the whole envelope. Only where that fails, or finds
no success, the second one looks at what came: an error of the API, an answer with quirks that `repair` knows, or
something that is no answer at all.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote, urlsplit

import msgspec

from wolf_async.account import Account
from wolf_async.errors import (
    WolfAPIError,
    WolfAuthError,
    WolfConfigError,
    WolfDecodeError,
    WolfError,
    WolfNotFoundError,
    WolfPermissionError,
    WolfRateLimitError,
    WolfServerError,
)
from wolf_async.models import TaskInit, dec_hook
from wolf_async.repair import Deviations, repair

__all__ = [
    "RawResponse",
    "check_account",
    "check_base_url",
    "parse",
    "refusal",
    "request_url",
    "without_secret",
]

T = TypeVar("T")

DEFAULT_BASE_URL: Final = "https://api.wolfsmartcloud.com"
_SUCCESS: Final = 200
_MESSAGE_KEPT: Final = 500


class RawResponse(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """A response as it came, for what the structs leave out."""

    status: int
    """Status of the HTTP response."""
    headers: Mapping[str, str]
    """Headers of the response; names compare without regard to case."""
    body: bytes
    """The body, with any compression undone."""
    sent_at: float = 0.0
    """When the request was sent: seconds on the monotonic clock."""
    attempts: int = 1
    """How many requests were sent for it."""

    def __repr__(self) -> str:
        return f"<RawResponse: status {self.status}, {len(self.body)} bytes, {self.attempts} attempts>"


# --- the request -----------------------------------------------------------------------------------------------


def check_account(user_id: object, sub_user_id: object = None) -> Account:
    """The account of these ids; raises `WolfConfigError` for an id that cannot be one."""
    return Account(
        _check_id("user_id", user_id), None if sub_user_id is None else _check_id("sub_user_id", sub_user_id)
    )


def _check_id(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise WolfConfigError(f"{name} must be a str, not {type(value).__name__}: {value!r}")
    if not value:
        raise WolfConfigError(f"{name} must not be empty")
    if not value.isprintable():
        raise WolfConfigError(f"{name} must hold printable characters only, not {value!r}")
    # a gateway that undoes the percent-encoding early would walk up the path
    if {".", ".."} & set(re.split(r"[/\\]", value)):
        raise WolfConfigError(f"{name} must hold no dot segment, not {value!r}")
    return value


def check_base_url(base_url: object, allow_http: bool) -> str:
    """``base_url`` without a slash at its end; raises `WolfConfigError` if it cannot be used."""
    expected = "base_url must be like https://host[:port][/prefix]"
    if not isinstance(base_url, str) or not base_url.isprintable() or " " in base_url:
        raise WolfConfigError(f"{expected}, not {base_url!r}")
    try:
        parts = urlsplit(base_url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise WolfConfigError(f"{expected}: {error}") from error
    if parts.username is not None or parts.password is not None:
        raise WolfConfigError(f"{expected}, without a user name or password")
    if parts.scheme not in ("https", "http") or not host or parts.query or parts.fragment:
        raise WolfConfigError(f"{expected}, not {base_url!r}")
    if parts.scheme == "http" and not allow_http and not _is_loopback(host):
        raise WolfConfigError(
            f"plain http would show the token to others: use https, or allow_http=True ({base_url})"
        )
    return base_url.rstrip("/?#")


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None


def request_url(base_url: str, account: Account) -> str:
    """The URL that asks for ``account``, percent-encoded: each id stays one segment or one value."""
    user_id, sub_user_id = account
    url = f"{base_url}/agent-api/new/user/{quote(user_id, safe='')}/task/create"
    return url if sub_user_id is None else f"{url}?sub_user_id={quote(sub_user_id, safe='')}"


# --- the response ----------------------------------------------------------------------------------------------


class _Envelope(msgspec.Struct, frozen=True, gc=False):
    """What a success looks like to the letter."""

    code: int
    status: str
    data: TaskInit


_STRICT: Final = msgspec.json.Decoder(_Envelope, dec_hook=dec_hook)
_NOTHING: Final = TaskInit()
_SECTIONS: Final = frozenset(TaskInit.__struct_fields__)
_UNDECODABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_NO_DEVIATIONS: Final[Deviations] = {}


def parse(response: RawResponse) -> tuple[TaskInit, Deviations]:
    """The answer in ``response``, and which of its quirks were put right.

    Raises `WolfAPIError` or the subclass of it that fits if the server said no, and `WolfDecodeError` if this
    is not what the API documents.
    """
    try:
        envelope = _STRICT.decode(response.body)
    except _UNDECODABLE:
        return _parse_slowly(response)
    # empty all over: either it says so section by section, or it has none and is no answer
    if envelope.code != _SUCCESS or envelope.status != "success" or envelope.data == _NOTHING:
        return _parse_slowly(response)
    return envelope.data, _NO_DEVIATIONS


def refusal(response: RawResponse) -> WolfAPIError | None:
    """The error by which the server said no, if it did; a body that makes no sense under a 2xx is no refusal."""
    try:
        document = _document(response)
    except WolfDecodeError:
        document = None
    return _refusal(response, document)


def _parse_slowly(response: RawResponse) -> tuple[TaskInit, Deviations]:
    undecodable: WolfDecodeError | None = None
    try:
        document = _document(response)
    except WolfDecodeError as error:
        document, undecodable = None, error
    refused = _refusal(response, document)
    if refused is not None:
        raise refused
    if undecodable is not None:
        raise undecodable
    return _repaired(response, document)


def _document(response: RawResponse) -> Any:
    """The body as plain JSON; raises `WolfDecodeError` if it is none."""
    try:
        return msgspec.json.decode(response.body.removeprefix(b"\xef\xbb\xbf"))
    except UnicodeDecodeError as error:
        # not chained: that error holds the whole body
        reason = f"not UTF-8: {error.reason} at byte {error.start}"
    except RecursionError:
        reason = "nested too deeply"
    except msgspec.MsgspecError as error:
        reason = f"not JSON: {error}" if response.body else "an empty body"
    raise WolfDecodeError(f"undecodable answer (HTTP {response.status}): {reason}", body=response.body)


def _repaired(response: RawResponse, document: Any) -> tuple[TaskInit, Deviations]:
    if not _is_envelope(document):
        raise _deviation(response, "$", "no envelope with code and status")
    data = document.get("data")
    if not isinstance(data, dict) or not _SECTIONS & data.keys():
        raise _deviation(response, "$.data", "none of the documented sections")
    fixed, deviations = repair(cast("object", data))
    try:
        return msgspec.convert(fixed, TaskInit, dec_hook=dec_hook), deviations
    except RecursionError:
        raise _deviation(response, "$.data", "nested too deeply") from None
    except msgspec.MsgspecError as error:
        reason, _, path = str(error).partition(" - at ")
        raise _deviation(response, "$.data" + path.strip("`").removeprefix("$"), reason) from error


def _deviation(response: RawResponse, path: str, reason: str) -> WolfDecodeError:
    return WolfDecodeError(
        f"not what the API documents (HTTP {response.status}): {reason} at {path}",
        path=path,
        body=response.body,
    )


def without_secret(
    secret: str, response: RawResponse, read: Callable[[RawResponse], T]
) -> tuple[RawResponse, T]:
    """``response`` and what ``read`` makes of it; an error of ``read`` is free of ``secret``, even if it was echoed."""
    try:
        return response, read(response)
    except WolfError:
        clean = _cleaned(secret, response)
        if clean is response:
            raise
    return clean, read(clean)


def _cleaned(secret: str, response: RawResponse) -> RawResponse:
    body = response.body
    # as it is, as PHP escapes it in JSON, and as it stands in a URL
    for form in {secret, secret.replace("/", "\\/"), quote(secret, safe="")}:
        body = body.replace(form.encode(), b"***")
    return response if body == response.body else msgspec.structs.replace(response, body=body)


# --- the server said no ----------------------------------------------------------------------------------------

_BY_STATUS: Final = {
    401: WolfAuthError,
    403: WolfPermissionError,
    404: WolfNotFoundError,
    429: WolfRateLimitError,
}


def _is_envelope(document: Any) -> bool:
    return isinstance(document, dict) and "code" in document and "status" in document


def _refusal(response: RawResponse, document: Any) -> WolfAPIError | None:
    """Decide on the envelope's code and status, and on the HTTP status only where there is no envelope."""
    fields: dict[str, Any] = document if isinstance(document, dict) else {}
    message = _one_line(fields.get("message"))
    if _is_envelope(document):
        code, status = _as_code(fields["code"]), _one_line(fields["status"])
        if code == _SUCCESS and status == "success":
            return None
        cls = _class_of(code) or _class_of(response.status) or WolfAPIError
        return _api_error(cls, response, code, status, message)
    if 200 <= response.status < 300:
        return None
    return _api_error(_class_of(response.status) or WolfAPIError, response, None, None, message)


def _class_of(status: int | None) -> type[WolfAPIError] | None:
    if status is None:
        return None
    return _BY_STATUS.get(status) or (WolfServerError if 500 <= status < 600 else None)


def _api_error(
    cls: type[WolfAPIError], response: RawResponse, code: int | None, status: str | None, message: str
) -> WolfAPIError:
    said = message or ("a redirect, which is not followed" if 300 <= response.status < 400 else "no message")
    return cls(
        f"the server said no (HTTP {response.status}{'' if code is None else f', code {code}'}): {said}",
        http_status=response.status,
        code=code,
        status=status,
        api_message=message,
        request_id=response.headers.get("X-Request-Id"),
        retry_after=retry_after(response.headers, now=time.time()),
        body=response.body,
    )


def _as_code(code: object) -> int | None:
    if isinstance(code, int) and not isinstance(code, bool):
        return code
    return int(code) if isinstance(code, str) and re.fullmatch(r"[0-9]{1,9}", code) else None


def _one_line(message: Any) -> str:
    """``message`` as text: the API sends a string, or on a validation error lists of strings by field."""
    return " ".join("; ".join(_strings(message, depth=3)).split())[:_MESSAGE_KEPT]


def _strings(value: Any, depth: int) -> list[str]:
    if value is None or not depth:
        return []
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return [f"{key}: {', '.join(texts)}" for key, item in items if (texts := _strings(item, depth - 1))]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item, depth - 1)]
    return [value if isinstance(value, str) else str(value)]


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds to wait by the ``Retry-After`` header (RFC 9110 §10.2.3), ``None`` if there is none that makes sense.

    A date is taken relative to the response's own ``Date``, so that a clock that is off does no harm;
    ``now`` (seconds since the epoch) serves where that is missing.
    """
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text, re.ASCII):
        return float(text)
    until = _epoch(text)
    if until is None:
        return None
    sent = _epoch(headers.get("Date", ""))
    return max(0.0, until - (now if sent is None else sent))


def _epoch(text: str) -> float | None:
    try:
        seconds = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return seconds if math.isfinite(seconds) else None

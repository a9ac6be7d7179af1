"""No I/O: from an account to a request, and from a response to an answer or a named error.

Decoding has two ways. The first is one strict typed decode of the whole envelope. Only where that fails, or finds
no success, the second one looks at what came: an error of the API, an answer with quirks that `repair` knows, or
something that is no answer at all.
"""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from urllib.parse import SplitResult, quote, urlsplit

import msgspec
from multidict import CIMultiDict

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
    deciding,
)
from wolf_async.models import TaskInit, dec_hook

if TYPE_CHECKING:
    from wolf_async.repair import Deviations

__all__ = [
    "RawResponse",
    "check_account",
    "check_base_url",
    "is_loopback",
    "parse",
    "refusal",
    "request_url",
    "scrub",
    "unread",
    "without_secret",
]

T = TypeVar("T")

DEFAULT_BASE_URL: Final = "https://api.wolfsmartcloud.com"
_SUCCESS: Final = 200
_MESSAGE_KEPT: Final = 500
# what no URL needs to escape, and no check can mind
_PLAIN_ID: Final = re.compile(r"[0-9A-Za-z_-]+")
_BOM: Final = b"\xef\xbb\xbf"
# visible ASCII without the backslash, which some read as a slash
_URL_TEXT: Final = r"[!-\[\]-~]+"


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
    if type(value) is not str:
        # what it holds: a member of an enum formats as its name, and hashes by it
        value = str.__str__(value)
    if _PLAIN_ID.fullmatch(value):  # nearly all are: it saves a miss the rest of this, and the quoting
        return value
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
    expected = "base_url must be like https://host[:port][/prefix], in ASCII"
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
            f"plain http would show the token to others: use https, or allow_http=True ({base_url})"
        )
    return base_url.rstrip("/?#")


def is_loopback(host: str) -> bool:
    """Whether what is sent to ``host`` stays on this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def request_url(base: SplitResult, account: Account) -> SplitResult:
    """The URL that asks for ``account``, percent-encoded: each id stays one segment or one value.

    In parts, which yarl would take a fiftieth of a miss to find in a text.
    """
    user_id, sub_user_id = account
    path = f"{base.path}/agent-api/new/user/{_quoted(user_id)}/task/create"
    query = "" if sub_user_id is None else f"sub_user_id={_quoted(sub_user_id)}"
    return SplitResult(base.scheme, base.netloc, path, query, "")


def _quoted(id: str) -> str:
    return id if _PLAIN_ID.fullmatch(id) else quote(id, safe="")


# --- the response ----------------------------------------------------------------------------------------------


class _Envelope(msgspec.Struct, frozen=True, gc=False):
    """What a success looks like to the letter."""

    code: int
    status: str
    data: TaskInit


class _Head(msgspec.Struct, frozen=True, gc=False):
    """What decides between yes and no."""

    code: Any = None
    status: Any = None


_STRICT: Final = msgspec.json.Decoder(_Envelope, dec_hook=dec_hook)
# all fields but the one number that stands beside them
_SECTIONS: Final = frozenset(TaskInit.__struct_fields__) - {"max_recycle_limit"}
_UNDECODABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_NO_DEVIATIONS: Final[Deviations] = {}


def parse(response: RawResponse) -> tuple[TaskInit, Deviations]:
    """The answer in ``response``, and which of its quirks were put right.

    Raises `WolfAPIError` or the subclass of it that fits if the server said no, and `WolfDecodeError` if this
    is not what the API documents.
    """
    init = _parse_strictly(response)
    return _parse_slowly(response) if init is None else (init, _NO_DEVIATIONS)


def _parse_strictly(response: RawResponse) -> TaskInit | None:
    """The answer, if it is one to the letter."""
    try:
        envelope = _STRICT.decode(response.body)
    except _UNDECODABLE:
        # looked into elsewhere, so that it is no later error's context: it may hold the whole body
        return None
    # empty all over: either it says so section by section, or it has none and is no answer
    if not _is_success(envelope.code, envelope.status) or _is_empty(envelope.data):
        return None
    return envelope.data


def _is_empty(init: TaskInit) -> bool:
    # first what nearly every answer has: to look through them all is a hundredth of a decode
    return not init.caller_line_list and not any(getattr(init, name) for name in _SECTIONS)


def _is_success(code: int | None, status: str) -> bool:
    return code == _SUCCESS and status == "success"


def refusal(response: RawResponse) -> WolfAPIError | None:
    """The error by which the server said no, if it did; a body that makes no sense under a 2xx is no refusal."""
    document, _ = _read(response)
    return _refusal(response, document)


def unread(response: RawResponse, reason: str) -> WolfError:
    """The error for a response whose body cannot be read: by its status if that says no, or else ``reason``."""
    return _refusal(response, None) or WolfDecodeError(reason)


def _parse_slowly(response: RawResponse) -> tuple[TaskInit, Deviations]:
    document, undecodable = _read(response)
    refused = _refusal(response, document)
    if refused is not None:
        raise refused
    if undecodable is not None:
        raise undecodable
    return _repaired(response, document)


def _read(response: RawResponse) -> tuple[Any, WolfDecodeError | None]:
    """The body as plain JSON; or what can be read of its code and status, and the error."""
    try:
        return _document(response), None
    except WolfDecodeError as error:
        undecodable = error
    try:
        # skips the rest, whose charset does not matter then
        head = msgspec.json.decode(response.body.removeprefix(_BOM), type=_Head)
    except _UNDECODABLE:
        return None, undecodable
    return msgspec.structs.asdict(head), undecodable


def _document(response: RawResponse) -> Any:
    """The body as plain JSON; raises `WolfDecodeError` if it is none."""
    try:
        return msgspec.json.decode(response.body.removeprefix(_BOM))
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
    from wolf_async.repair import repair  # noqa: PLC0415 (not at import: most answers need no repair)

    fixed, deviations = repair(cast("object", data))
    try:
        init = msgspec.convert(fixed, TaskInit, dec_hook=dec_hook)
    except RecursionError:
        raise _deviation(response, "$.data", "nested too deeply") from None
    except msgspec.MsgspecError as error:
        # from the right: the reason may quote a key of the answer
        reason, _, path = str(error).rpartition(" - at ")
        raise _deviation(response, "$.data" + path.strip("`").removeprefix("$"), reason) from error
    return init, _envelope_deviations(response, document["code"]) | deviations


def _envelope_deviations(response: RawResponse, code: object) -> Deviations:
    found: Deviations = {}
    if response.body.startswith(_BOM):
        found["$"] = "expected JSON, got a byte order mark before it"
    if isinstance(code, str):
        found["$.code"] = f"expected an int, got {code!r}"
    return found


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
    except WolfError as error:
        clean = _cleaned(secret, response)
        if clean is response:
            scrub(secret, error)
            raise
    # read again, rather than clean the error: where it cut a text short, half a secret could be left
    try:
        return clean, read(clean)
    except WolfError as error:
        scrub(secret, error)
        raise


def scrub(secret: str, error: WolfError) -> None:
    """Take ``secret`` out of the texts of ``error``: an escape that was undone, or aiohttp, may have brought it there."""
    echo = re.compile(_echo_of(secret))

    def clean(value: Any) -> Any:
        return echo.sub("***", value) if isinstance(value, str) else value

    error.args = tuple(map(clean, error.args))
    for name, value in vars(error).items():
        setattr(error, name, clean(value))


def _cleaned(secret: str, response: RawResponse) -> RawResponse:
    echo = _echo_of(secret)
    body = re.sub(echo.encode(), b"***", response.body)
    headers = CIMultiDict((name, re.sub(echo, "***", text)) for name, text in response.headers.items())
    if body == response.body and list(headers.values()) == list(response.headers.values()):
        return response
    return msgspec.structs.replace(response, body=body, headers=headers)


def _echo_of(secret: str) -> str:
    """A pattern for ``secret`` as it is, and with its special characters escaped for JSON, a URL or HTML."""
    pattern = "".join(map(_escapes_of, secret))
    # one as short as the envelope's own words counts only where it stands alone, or it could tear them apart
    return pattern if len(secret) > len("success") else rf"(?<![A-Za-z0-9]){pattern}(?![A-Za-z0-9])"


_ENTITIES: Final = {"&": "|amp", "<": "|lt", ">": "|gt", '"': "|quot", "'": "|apos"}
"""The names that HTML has for some characters, as further alternatives in a pattern."""


def _escapes_of(char: str) -> str:
    # no encoder touches letters and digits, and a pattern that begins with them is found a hundred times as fast
    if char.isalnum():
        return char
    plain, number = re.escape(char), ord(char)
    in_json = rf"\\{{1,3}}(?:{plain}|u00(?i:{number:02x}))"
    in_url = rf"%(?:25)?(?i:{number:02x})"
    in_html = rf"&(?:#0?{number}|#(?i:x{number:x}){_ENTITIES.get(char, '')});"
    return f"(?:{plain}|{in_json}|{in_url}|{in_html})"


# --- the server said no ----------------------------------------------------------------------------------------

_BY_STATUS: Final = {
    401: WolfAuthError,
    403: WolfPermissionError,
    404: WolfNotFoundError,
    429: WolfRateLimitError,
}


def _is_envelope(document: Any) -> bool:
    """Whether it has a code and a status, of types that can be read."""
    if not isinstance(document, dict):
        return False
    fields = cast("dict[str, Any]", document)
    return type(fields.get("code")) in (int, str) and isinstance(fields.get("status"), str)


def _refusal(response: RawResponse, document: Any) -> WolfAPIError | None:
    """Decide on the envelope's code and status, and on the HTTP status only where there is no envelope."""
    fields = cast("dict[str, Any]", document) if isinstance(document, dict) else {}
    message = _one_line(fields.get("message"))
    if _is_envelope(document):
        code, status = _as_code(fields["code"]), fields["status"]
        if _is_success(code, status):
            return None
        return _api_error(response, code, _one_line(status), message)
    if 200 <= response.status < 300:
        return None
    return _api_error(response, None, None, message)


def _class_of(status: int) -> type[WolfAPIError]:
    return _BY_STATUS.get(status) or (WolfServerError if 500 <= status < 600 else WolfAPIError)


def _api_error(response: RawResponse, code: int | None, status: str | None, message: str) -> WolfAPIError:
    said = message or ("a redirect, which is not followed" if 300 <= response.status < 400 else "no message")
    return _class_of(deciding(code, response.status))(
        f"the server said no (HTTP {response.status}{'' if code is None else f', code {code}'}): {said}",
        http_status=response.status,
        code=code,
        status=status,
        api_message=message,
        request_id=response.headers.get("X-Request-Id"),
        retry_after=retry_after(response.headers, now=time.time()),
        body=response.body,
    )


def _as_code(code: int | str) -> int | None:
    if isinstance(code, int):
        return code
    return int(code) if re.fullmatch(r"[0-9]{1,9}", code) else None


def _one_line(message: Any) -> str:
    """``message`` as text: the API sends a string, or on a validation error lists of strings by field."""
    return " ".join("; ".join(_strings(message, depth=4)).split())[:_MESSAGE_KEPT]


def _strings(value: Any, depth: int) -> list[str]:
    if value is None or not depth:
        return []
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return [f"{key}: {', '.join(texts)}" for key, item in items if (texts := _strings(item, depth - 1))]
    if isinstance(value, list):
        return [text for item in cast("Any", value) for text in _strings(item, depth - 1)]
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
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError, IndexError):  # the last one in older releases of Python
        return None
    # one form of the standard names no zone, and means UTC
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

"""Turn a response into an answer or a named error, without any I/O.

Decoding has two paths. The first is one strict typed decode of the whole envelope. Only where that
fails, or finds no success, the second looks at what came: an error of the API, an answer with
quirks that `repair` knows, or something that is no answer at all.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final, cast

import msgspec

from wolf_async.api.repair import Deviations, original_path, repair
from wolf_async.errors import (
    WolfAPIError,
    WolfAuthError,
    WolfDecodeError,
    WolfEndpointError,
    WolfError,
    WolfNotFoundError,
    WolfPermissionError,
    WolfRateLimitError,
    WolfServerError,
    deciding,
)
from wolf_async.models import TaskInit, dec_hook
from wolf_async.models.frozen import freeze

__all__ = [
    "RawResponse",
    "find_api_error",
    "parse",
    "parse_retry_after",
    "read_data",
    "unreadable_error",
]

_SUCCESS: Final = 200
_MESSAGE_KEPT: Final = 500
_BYTE_ORDER_MARKS: Final = re.compile(rb"([ \t\r\n]*\xef\xbb\xbf)+")


class RawResponse(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """A response as it came, for what the structs leave out.

    Attributes:
        status: status of the HTTP response.
        headers: headers of the response; names compare without regard to case.
        body: the body, with any compression undone.
        sent_at: when the request was sent, in seconds on the client's ``clock``.
        attempts: how many requests were sent for it.

    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    sent_at: float = 0.0
    attempts: int = 1

    def __repr__(self) -> str:
        return (
            f"<RawResponse: status {self.status}, {len(self.body)} bytes, {self.attempts} attempts>"
        )


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
_SOME_URL: Final = "this base URL"


def parse(response: RawResponse, base_url: str = _SOME_URL) -> tuple[TaskInit, Deviations]:
    """Decode the answer in ``response``; return it with the quirks that were put right.

    ``base_url`` is what was asked, for the error that says that it is wrong. Raises
    `WolfAPIError`, or the subclass of it that fits, if the server said no, and `WolfDecodeError`
    if this is not what the API documents.
    """
    init = _decode_strictly(response)
    return _decode_with_repair(response, base_url) if init is None else (init, _NO_DEVIATIONS)


def find_api_error(response: RawResponse, base_url: str = _SOME_URL) -> WolfAPIError | None:
    """Return the error by which the server said no, or ``None`` if it did not.

    A body that makes no sense under a 2xx says neither yes nor no. ``base_url`` is as in `parse`.
    """
    document, _ = _read(response)
    return _api_error(response, document, base_url)


def read_data(response: RawResponse, base_url: str) -> Any:
    """Return `data` of a success, deeply read-only, for an answer that is documented nowhere.

    Raises as `parse`: `WolfAPIError` if the server said no, and `WolfDecodeError` for what says
    neither yes nor no.
    """
    document, undecodable = _read(response)
    api_error = _api_error(response, document, base_url)
    if api_error is not None:
        raise api_error
    if undecodable is not None:
        raise undecodable
    if not _is_envelope(document):
        raise _deviation(response, "$", "no envelope with code and status")
    try:
        return freeze(document.get("data"))
    except RecursionError:
        raise _deviation(response, "$.data", "nested too deeply") from None


def unreadable_error(response: RawResponse, reason: str, base_url: str = _SOME_URL) -> WolfError:
    """Return the error for a response whose body could not be read.

    That is the one of its status where the status says no, or else a `WolfDecodeError` with
    ``reason``. ``base_url`` is as in `parse`.
    """
    return _api_error(response, None, base_url) or WolfDecodeError(reason)


# --- the strict path ------------------------------------------------------------------------------


def _decode_strictly(response: RawResponse) -> TaskInit | None:
    """Return the answer if it is one to the letter."""
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
    # nearly every answer has lines, so that they are looked at first
    return not init.caller_line_list and not any(getattr(init, name) for name in _SECTIONS)


def _is_success(code: int | None, status: str) -> bool:
    return code == _SUCCESS and status == "success"


# --- the slower path ------------------------------------------------------------------------------


def _decode_with_repair(response: RawResponse, base_url: str) -> tuple[TaskInit, Deviations]:
    document, undecodable = _read(response)
    api_error = _api_error(response, document, base_url)
    if api_error is not None:
        raise api_error
    if undecodable is not None:
        raise undecodable
    fields = _check_envelope(response, document)
    fixed, deviations = repair(fields["data"])
    init = _convert(response, fixed, fields["data"])
    return init, _envelope_deviations(response, fields["code"]) | deviations


def _read(response: RawResponse) -> tuple[Any, WolfDecodeError | None]:
    """Return the body as plain JSON, or what can be read of its code and status, and the error."""
    try:
        return _decode_json(response), None
    except WolfDecodeError as error:
        undecodable = error
    try:
        # skips the rest, whose charset does not matter then
        head = msgspec.json.decode(_without_marks(response.body), type=_Head)
    except _UNDECODABLE:
        return None, undecodable
    return msgspec.structs.asdict(head), undecodable


def _decode_json(response: RawResponse) -> Any:
    """Return the body as plain JSON; raise `WolfDecodeError` if it is none."""
    try:
        return msgspec.json.decode(_without_marks(response.body))
    except UnicodeDecodeError:
        reason = _where_not_utf_8(response.body)
    except RecursionError:
        reason = "nested too deeply"
    except msgspec.MsgspecError as error:
        reason = f"not JSON: {error}" if response.body else "an empty body"
    raise WolfDecodeError(
        f"undecodable answer (HTTP {response.status}): {reason}", body=response.body
    )


def _without_marks(body: bytes) -> bytes:
    marks = _BYTE_ORDER_MARKS.match(body)
    return body[marks.end() :] if marks else body


def _where_not_utf_8(body: bytes) -> str:
    # msgspec counts from the start of the text that the byte is in
    try:
        body.decode()
    except UnicodeDecodeError as error:
        # as text: that error holds the whole body
        return f"not UTF-8: {error.reason} at byte {error.start}"
    return "not UTF-8"


def _check_envelope(response: RawResponse, document: Any) -> dict[str, Any]:
    """Return the envelope of a success that has data to repair."""
    if not _is_envelope(document):
        raise _deviation(response, "$", "no envelope with code and status")
    data = document.get("data")
    if not isinstance(data, dict) or not _SECTIONS & data.keys():
        raise _deviation(response, "$.data", "none of the documented sections")
    return cast("dict[str, Any]", document)


def _convert(response: RawResponse, fixed: object, data: object) -> TaskInit:
    try:
        return msgspec.convert(fixed, TaskInit, dec_hook=dec_hook)
    except RecursionError:
        raise _deviation(response, "$.data", "nested too deeply") from None
    except msgspec.MsgspecError as error:
        # from the right: the reason may quote a key of the answer
        reason, _, path = str(error).rpartition(" - at ")
        path = original_path(data, path.strip("`").removeprefix("$"))
        raise _deviation(response, f"$.data{path}", reason) from error


def _envelope_deviations(response: RawResponse, code: object) -> Deviations:
    found: Deviations = {}
    if _BYTE_ORDER_MARKS.match(response.body):
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


# --- the server said no ---------------------------------------------------------------------------

_BY_STATUS: Final = {
    401: WolfAuthError,
    403: WolfPermissionError,
    404: WolfNotFoundError,
    429: WolfRateLimitError,
}


def _is_envelope(document: Any) -> bool:
    """Return whether it has a code and a status, of types that can be read."""
    if not isinstance(document, dict):
        return False
    fields = cast("dict[str, Any]", document)
    return type(fields.get("code")) in (int, str) and isinstance(fields.get("status"), str)


def _api_error(response: RawResponse, document: Any, base_url: str) -> WolfAPIError | None:
    """Decide on the envelope's code and status, and on the HTTP status if there is no envelope."""
    fields = cast("dict[str, Any]", document) if isinstance(document, dict) else {}
    if _is_envelope(document):
        if _is_success(code := _read_code(fields["code"]), fields["status"]):
            return None
        return _new_error(response, fields, code)
    if 200 <= response.status < 300:
        return None
    if response.status in (404, 405) and not isinstance(document, dict):
        # from a gateway or another server: this API says so in JSON
        text = f"no Wolf Smart Cloud API at {base_url}: check base_url or WOLF_BASE_URL"
        text += f" (HTTP {response.status})"
        return WolfEndpointError(text, **_context(response))
    return _new_error(response, {"message": fields.get("message")}, None)


def _new_error(response: RawResponse, envelope: dict[str, Any], code: int | None) -> WolfAPIError:
    cls = _error_class(deciding(code, response.status))
    message = _one_line(envelope.get("message"))
    is_redirect = 300 <= response.status < 400
    said = message or ("a redirect, which is not followed" if is_redirect else "no message")
    shown = f"HTTP {response.status}" + ("" if code is None else f", code {code}")
    status = envelope.get("status")
    return cls(
        f"the server said no ({shown}): {said}",
        code=code,
        status=None if status is None else _one_line(status),
        api_message=message,
        **_context(response),
    )


def _context(response: RawResponse) -> dict[str, Any]:
    """Return what an error keeps of ``response`` beside what its body says."""
    return {
        "http_status": response.status,
        "request_id": response.headers.get("X-Request-Id"),
        "retry_after": parse_retry_after(response.headers, now=time.time()),
        "body": response.body,
    }


def _error_class(status: int) -> type[WolfAPIError]:
    return _BY_STATUS.get(status) or (WolfServerError if 500 <= status < 600 else WolfAPIError)


def _read_code(code: int | str) -> int | None:
    if isinstance(code, int):
        return code
    return int(code) if re.fullmatch(r"[0-9]{1,9}", code) else None


def _one_line(message: Any) -> str:
    """Return ``message`` as text of one line, cut to 500 characters.

    The API sends a string, or on a validation error lists of strings by field.
    """
    return " ".join("; ".join(_strings(message, depth=4)).split())[:_MESSAGE_KEPT]


def _strings(value: Any, depth: int) -> list[str]:
    if value is None or not depth:
        return []
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return [
            f"{key}: {', '.join(texts)}"
            for key, item in items
            if (texts := _strings(item, depth - 1))
        ]
    if isinstance(value, list):
        return [text for item in cast("Any", value) for text in _strings(item, depth - 1)]
    return [value if isinstance(value, str) else str(value)]


# --- Retry-After ----------------------------------------------------------------------------------


def parse_retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Return the seconds that ``Retry-After`` asks to wait (RFC 9110 §10.2.3).

    ``None`` if there is none that makes sense. A date is taken relative to the response's own
    ``Date``, so that a clock that is off does no harm; ``now`` (seconds since the epoch) serves
    where that is missing.
    """
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text, re.ASCII):
        return float(text)
    until = _parse_http_date(text)
    if until is None:
        return None
    sent = _parse_http_date(headers.get("Date", ""))
    return max(0.0, until - (now if sent is None else sent))


def _parse_http_date(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError, IndexError):  # the last one in older releases of Python
        return None
    # one form of the standard names no zone, and means UTC
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

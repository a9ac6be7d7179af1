"""Take the access token out of what the server sent, and of errors, before anybody sees them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from multidict import CIMultiDict

from wolf_async.errors import WolfError

if TYPE_CHECKING:
    from wolf_async.api.response import RawResponse

__all__ = ["read_redacted", "redact_error", "redact_response"]

T = TypeVar("T")


def read_redacted(
    secret: str, response: RawResponse, read: Callable[[RawResponse], T]
) -> tuple[RawResponse, T]:
    """Return ``response`` and what ``read`` makes of it.

    An error of ``read`` is free of ``secret``, even if the server echoed it; the error then has the
    response with each echo replaced by ``***``.
    """
    try:
        return response, read(response)
    except WolfError as error:
        clean = redact_response(secret, response)
        if clean is response:
            redact_error(secret, error)
            raise
    # read again, rather than clean the error: where it cut a text short, half a secret may be left
    try:
        return clean, read(clean)
    except WolfError as error:
        redact_error(secret, error)
        raise


def redact_error(secret: str, error: WolfError) -> None:
    """Take ``secret`` out of the texts of ``error``.

    An escape that was undone, or aiohttp, may have brought it there.
    """
    echo = re.compile(_echo_of(secret))

    def clean(value: Any) -> Any:
        return echo.sub("***", value) if isinstance(value, str) else value

    error.args = tuple(map(clean, error.args))
    for name, value in vars(error).items():
        setattr(error, name, clean(value))


def redact_response(secret: str, response: RawResponse) -> RawResponse:
    """Return ``response`` with each echo of ``secret`` replaced by ``***``.

    It is the same object if there is none.
    """
    echo = _echo_of(secret)
    body = re.sub(echo.encode(), b"***", response.body)
    headers = CIMultiDict(
        (name, re.sub(echo, "***", text)) for name, text in response.headers.items()
    )
    if body == response.body and list(headers.values()) == list(response.headers.values()):
        return response
    return msgspec.structs.replace(response, body=body, headers=headers)


def _echo_of(secret: str) -> str:
    """Return a pattern for ``secret``, as it is and with its special characters escaped.

    The escapes are those of JSON, of URLs and of HTML.
    """
    pattern = "".join(map(_escapes_of, secret))
    if len(secret) > len("success"):
        return pattern
    # as short as the envelope's own words: unless it stands alone, it would tear them apart
    return rf"(?<![A-Za-z0-9]){pattern}(?![A-Za-z0-9])"


_ENTITIES: Final = {"&": "|amp", "<": "|lt", ">": "|gt", '"': "|quot", "'": "|apos"}
"""The names that HTML has for some characters, as further alternatives in a pattern."""


def _escapes_of(char: str) -> str:
    # no encoder touches letters and digits, and a pattern that begins with them is found fast
    if char.isalnum():
        return char
    plain, number = re.escape(char), ord(char)
    in_json = rf"\\{{1,3}}(?:{plain}|u00(?i:{number:02x}))"
    in_url = rf"%(?:25)?(?i:{number:02x})"
    in_html = rf"&(?:#0?{number}|#(?i:x{number:x}){_ENTITIES.get(char, '')});"
    return f"(?:{plain}|{in_json}|{in_url}|{in_html})"

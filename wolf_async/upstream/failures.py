"""What a failure means: which ones another attempt may mend, and which ones say that the upstream is unwell."""

from __future__ import annotations

from typing import Final

from wolf_async.errors import (
    WolfAPIError,
    WolfConnectionError,
    WolfDecodeError,
    WolfTimeoutError,
    deciding,
)

__all__ = ["is_transient", "is_unwell"]

_TRANSIENT: Final = frozenset({408, 429, 500, 502, 503, 504})


def is_transient(error: BaseException) -> bool:
    """Tell whether another attempt may do better."""
    if isinstance(error, WolfAPIError):
        return deciding(error.code, error.http_status) in _TRANSIENT
    return isinstance(error, (WolfConnectionError, WolfTimeoutError))


def is_unwell(error: BaseException) -> bool:
    """Tell whether a failed load means that the upstream is unwell; otherwise it is the upstream's answer."""
    return isinstance(error, WolfDecodeError) or is_transient(error) or _is_server_error(error)


def _is_server_error(error: BaseException) -> bool:
    return isinstance(error, WolfAPIError) and 500 <= deciding(error.code, error.http_status) < 600

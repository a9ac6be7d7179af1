"""What went wrong: aiohttp's errors as ours, and what each kind of failure means for the caller."""

from __future__ import annotations

import re
import ssl
import traceback
from errno import EADDRNOTAVAIL, EMFILE, ENFILE, ENOBUFS
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.http_exceptions import ContentEncodingError
from multidict import CIMultiDict, CIMultiDictProxy

from wolf_async.errors import (
    WolfAPIError,
    WolfAuthError,
    WolfCircuitOpenError,
    WolfConfigError,
    WolfConnectionError,
    WolfDecodeError,
    WolfEndpointError,
    WolfError,
    WolfRateLimitError,
    WolfTimeoutError,
    deciding,
    iter_causes,
)

if TYPE_CHECKING:
    from wolf_async.policy import Timeouts
    from wolf_async.upstream.deadline import Deadline

__all__ = [
    "GARBLED",
    "bare",
    "clear_frames",
    "is_answer",
    "is_garbled",
    "is_local",
    "is_outage",
    "is_transient",
    "is_unwell",
    "lacks_token",
    "map_error",
]

GARBLED: Final = "the answer's compression is broken, or none that was asked for"
_LOCAL: Final = "lower max_concurrency, or raise ulimit -n"
_NO_ANSWER: Final = "the server closed the connection without an answer"
_NO_HEADERS: Final[CIMultiDict[str]] = CIMultiDict()
_TRANSIENT: Final = frozenset({408, 429, 500, 502, 503, 504})
_UNWELL: Final = (WolfConnectionError, WolfTimeoutError, WolfDecodeError, WolfEndpointError)
_LACKING: Final = frozenset({EMFILE, ENFILE, ENOBUFS, EADDRNOTAVAIL})
"""What the system says when this machine, not the upstream, is at its end."""
_PASSING: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
"""How a connection that is lost within the handshake is told."""
_REFUSALS_OF_PROXIES: Final = frozenset({403, 404, 407})


# --- what a failure means ----------------------------------------------------------------------


def is_transient(error: BaseException) -> bool:
    """Tell whether another attempt may do better."""
    if isinstance(error, WolfEndpointError):
        return False
    if isinstance(error, WolfAPIError):
        return deciding(error.code, error.http_status) in _TRANSIENT
    return isinstance(error, (WolfConnectionError, WolfTimeoutError)) and not (
        isinstance(error, WolfCircuitOpenError) or any(map(_is_lasting, iter_causes(error)))
    )


def is_unwell(error: BaseException) -> bool:
    """Tell whether a failed load means that the upstream is unwell; otherwise it is its answer."""
    if isinstance(error, WolfAPIError) and not isinstance(error, WolfEndpointError):
        return is_transient(error) or _is_server_error(error) or lacks_token(error)
    return isinstance(error, _UNWELL)


def is_answer(error: BaseException | None) -> bool:
    """Tell whether a request that ended so had an answer of the API, be it a no: it is up.

    A 429 says nothing of that, nor does what may come from something else than the API.
    """
    if error is None:
        return True
    if isinstance(error, (WolfRateLimitError, WolfEndpointError)) or lacks_token(error):
        return False
    return isinstance(error, WolfAPIError) and not _is_server_error(error)


def lacks_token(error: BaseException) -> bool:
    """Tell whether the provider gave no token, in contrast to one that the server refused."""
    return isinstance(error, WolfAuthError) and not error.http_status


def is_outage(error: BaseException | None) -> bool:
    """Tell whether the upstream seems to be down: no connection, no answer in time, or a 5xx."""
    if isinstance(error, (WolfConnectionError, WolfTimeoutError)):
        return not isinstance(error, WolfCircuitOpenError) and not is_local(error)
    return error is not None and _is_server_error(error)


def is_local(error: BaseException) -> bool:
    """Tell whether this machine lacked something for a request, such as a file descriptor."""
    return any(isinstance(link, OSError) and link.errno in _LACKING for link in iter_causes(error))


def _is_server_error(error: BaseException) -> bool:
    return isinstance(error, WolfAPIError) and 500 <= deciding(error.code, error.http_status) < 600


def _is_lasting(error: BaseException) -> bool:
    """Tell whether ``error``, of aiohttp or the system, would come again at another attempt."""
    match error:
        case aiohttp.ClientConnectorSSLError():
            return not isinstance(error.os_error, _PASSING)  # pyright: ignore[reportUnknownMemberType]
        case ssl.SSLError():
            return not isinstance(error, _PASSING)
        case aiohttp.ClientHttpProxyError():
            return error.status in _REFUSALS_OF_PROXIES
        case OSError():
            return error.errno in _LACKING
        case _:
            return isinstance(error, aiohttp.ClientResponseError)


# --- aiohttp's errors as ours ------------------------------------------------------------------


def map_error(
    error: Exception, timeouts: Timeouts, deadline: Deadline | None, *, handed_in: bool
) -> WolfError:
    """Return the error of ours for one that aiohttp raised.

    ``deadline`` is given if that, not the attempt's own timeout, was the bound. ``handed_in`` tells
    that the session was the user's, whose settings may be what is wrong.
    """
    match error:
        case TimeoutError():
            return _map_timeout(error, timeouts, deadline)
        case aiohttp.ClientResponseError():
            return _map_response_error(error)
        case aiohttp.ClientPayloadError():
            return WolfConnectionError("the answer was cut short")
        case aiohttp.InvalidURL():
            return WolfConfigError(f"aiohttp refuses the URL: {error}")
        case RuntimeError() | ValueError() if handed_in:
            return WolfConfigError(f"the session that was handed in cannot be used here: {error}")
        case _:
            return WolfConnectionError(_describe(error))


def _map_timeout(error: TimeoutError, timeouts: Timeouts, deadline: Deadline | None) -> WolfError:
    is_over = deadline is not None and deadline.remaining() <= 0
    if isinstance(error, aiohttp.ServerTimeoutError) and not is_over:
        return WolfTimeoutError(f"no connection within {timeouts.connect:g} s")
    if deadline is not None:
        return deadline.timeout_error("waiting for the answer to a request")
    return WolfTimeoutError(f"no complete answer within {timeouts.attempt:g} s")


def _map_response_error(error: aiohttp.ClientResponseError) -> WolfError:
    if is_garbled(error):
        return WolfDecodeError(GARBLED)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return WolfConnectionError(f"the proxy refused to connect: HTTP {error.status}")
    return WolfConnectionError(f"the answer is not HTTP: {_unquoted(error.message)}")


def _describe(error: Exception) -> str:
    """Return what went wrong, without what only aiohttp's own objects say (``ssl:default``)."""
    kind = type(error).__name__
    if is_local(error):
        return f"this machine has too little for a connection ({_LOCAL}): {_reason(error)}"
    match error:
        case aiohttp.ServerDisconnectedError():
            return _NO_ANSWER
        case aiohttp.ClientConnectorCertificateError():
            where = f"{error.host}:{error.port}"
            return f"the certificate of {where} is not accepted: {_reason(error.certificate_error)}"
        case aiohttp.ClientConnectorError():
            through = "the proxy " if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
            return f"no connection to {through}{error.host}:{error.port}: {_reason(error)}"
        case aiohttp.ClientError() | OSError():
            return f"no answer: {kind}: {error}"
        case _:
            return f"no answer: {kind}"


def _reason(error: BaseException) -> str:
    """Return the system's or OpenSSL's own words."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return (isinstance(cause, OSError) and cause.strerror) or str(cause)


def is_garbled(error: BaseException) -> bool:
    """Tell whether it was the Content-Encoding that aiohttp could not undo."""
    return any(isinstance(link, ContentEncodingError) for link in iter_causes(error))


def _unquoted(message: str) -> str:
    """Return a message of aiohttp's up to where it quotes what the server sent.

    The apostrophe of a "can't" begins no quotation.
    """
    return re.split(r"[\n:\"]|(?<!can)'", message)[0].strip()


# --- what an error keeps -----------------------------------------------------------------------


def clear_frames(error: BaseException) -> None:
    """Clear the variables of all frames that ``error``, and all behind it, went through.

    They hold the whole body and the request's headers, for as long as somebody keeps the error. To
    be called only where all these frames are aiohttp's and ours.
    """
    for link in iter_causes(error):
        traceback.clear_frames(link.__traceback__)


def bare(error: Exception) -> Exception:
    """Return the error as a cause without the token.

    The token is in the headers of the request, and in what the error quotes of the answer if the
    server echoed it.
    """
    match error:
        case aiohttp.ClientResponseError():
            _strip_response_error(error)
        case aiohttp.ServerDisconnectedError():
            error.args = (_NO_ANSWER,)
            error.message = _NO_ANSWER
        case aiohttp.ClientPayloadError():
            error.args = ()
        case aiohttp.ClientConnectorError():
            error.args = tuple(map(_unproxied, error.args))
            for name, value in vars(error).items():
                setattr(error, name, _unproxied(value))
            return error
        case _:
            return error
    # what is behind it quotes the same
    error.__cause__ = error.__context__ = None
    return error


def _strip_response_error(error: aiohttp.ClientResponseError) -> None:
    info = error.request_info
    error.request_info = aiohttp.RequestInfo(
        # a proxy's may hold a password
        info.url.with_user(None),
        info.method,
        CIMultiDictProxy(_NO_HEADERS),
        info.real_url.with_user(None),
    )
    error.args = (error.request_info, error.history)
    error.message = ""
    error.headers = None


def _unproxied(value: object) -> object:
    """Return a connection's key without the proxy's URL and password; anything else as it is."""
    if not isinstance(value, ConnectionKey):
        return value
    return value._replace(proxy=None, proxy_auth=None, proxy_headers_hash=None)

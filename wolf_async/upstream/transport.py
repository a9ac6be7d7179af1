"""One bounded exchange over aiohttp, and the one place that maps its errors to ours."""

from __future__ import annotations

import asyncio
import math
import re
import socket
import ssl as ssl_module
import urllib.request
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http_exceptions import ContentEncodingError
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from wolf_async._version import __version__
from wolf_async.api.request import is_loopback
from wolf_async.api.response import RawResponse, unreadable_error
from wolf_async.errors import (
    WolfClosedError,
    WolfConfigError,
    WolfConnectionError,
    WolfDecodeError,
    WolfError,
    WolfTimeoutError,
    iter_causes,
)
from wolf_async.upstream.deadline import Timer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from urllib.parse import SplitResult

    from wolf_async.policy import Timeouts
    from wolf_async.upstream.deadline import Deadline

__all__ = ["Transport"]

_HEADERS: Final = {
    "Accept": "application/json",
    # only what aiohttp undoes without further packages
    "Accept-Encoding": "gzip, deflate",
    # the vendor's samples send it with the GET
    "Content-Type": "application/json",
    "User-Agent": f"wolf-async/{__version__}",
}
_GARBLED: Final = "the answer's compression is broken, or none that was asked for"
_NEVER: Final = math.inf
_NO_ANSWER: Final = "the server closed the connection without an answer"
_NO_HEADERS: Final[CIMultiDict[str]] = CIMultiDict()


class Transport:
    """Sends one request and reads its answer, over a session of its own or over one that was handed in.

    Redirects are not followed, ``.netrc`` is not read, and cookies are not kept. Belongs to one event loop.
    """

    def __init__(
        self,
        base_url: str,
        timeouts: Timeouts,
        *,
        clock: Callable[[], float],
        max_body: int,
        session: aiohttp.ClientSession | None = None,
        ssl: ssl_module.SSLContext | None = None,
        trust_env: bool = False,
    ) -> None:
        self._timeouts = timeouts
        self._clock = clock
        self._max_body = max_body
        self._ssl: ssl_module.SSLContext | bool = True if ssl is None else ssl
        self._owned = session is None
        self._proxy = _proxy_for(base_url) if trust_env else None
        self._session = self._new_session() if session is None else session
        connect = None if math.isinf(timeouts.connect) else timeouts.connect
        # the attempt's own time is kept here: aiohttp would set a timer of the loop for each request
        self._connect_within = aiohttp.ClientTimeout(
            total=None,
            # this counts the wait for a place in the pool as well; only a pool of our own has no such wait
            connect=connect if self._owned else None,
            sock_connect=None if self._owned else connect,
            # aiohttp rounds longer timeouts up to whole seconds above this threshold
            ceil_threshold=_NEVER,
        )
        self._loop = asyncio.get_running_loop()
        self._timer = Timer(self._loop, timeouts.attempt)
        if self._owned:
            self._keeper = _until_the_loop_ends(self._session)
            _begin(self._keeper)

    def _new_session(self) -> aiohttp.ClientSession:
        # no limit here: the place that a request takes is counted before it comes this far, for every kind of session
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, socket_factory=_new_socket),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            response_class=_Response,
        )

    async def get(
        self, url: SplitResult, headers: CIMultiDictProxy[str], deadline: Deadline
    ) -> RawResponse:
        """The answer to one GET, whatever its status.

        Raises `WolfTimeoutError`, `WolfConnectionError`, `WolfClosedError` if the session is closed; and for a body that
        is too large or whose compression is broken a `WolfAPIError` by its status, or `WolfDecodeError`.
        """
        left = deadline.left()
        whole = left >= self._timeouts.attempt
        timer = self._timer if whole else Timer(self._loop, left)
        _connecting.set(_Connecting())
        sent_at = self._clock()
        try:
            with timer.timing():
                response = await self._session.get(
                    URL(url, encoded=True),
                    headers=headers if self._owned else {**_HEADERS, **headers},
                    timeout=self._connect_within,
                    allow_redirects=False,
                    raise_for_status=False,
                    proxy=self._proxy,
                    ssl=self._ssl,
                    auto_decompress=True,
                )
                body = await self._read(response)
        except WolfError:
            raise
        except Exception as error:
            raise self._ours(error, None if whole else deadline) from _bare(error)
        finally:
            if not whole:
                timer.close()
        return RawResponse(response.status, response.headers, body, sent_at)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        length = response.content_length
        try:
            if length is None or length > self._max_body or "Content-Encoding" in response.headers:
                return await self._read_bounded(response, length or 0)
            return await response.read()
        except BaseException as error:
            response.close()
            if isinstance(error, aiohttp.ClientPayloadError) and _is_garbled(error):
                raise _unread(response, _GARBLED) from _bare(error)
            raise

    async def _read_bounded(self, response: aiohttp.ClientResponse, length: int) -> bytes:
        """Read what may turn out larger than its length says, and stop as soon as it does."""
        chunks: list[bytes] = []
        size = 0
        if length <= self._max_body:
            async for chunk in response.content.iter_any():
                chunks.append(chunk)
                size += len(chunk)
                if size > self._max_body:
                    break
            else:
                return b"".join(chunks)
        # nothing of it is kept: what was cut off in the middle of the token could not be told from other text
        raise _unread(response, f"the answer is larger than {self._max_body} bytes")

    def _ours(self, error: Exception, deadline: Deadline | None) -> Exception:  # noqa: C901, PLR0911, PLR0912 (a table)
        """The error of ours for one of aiohttp's; ``deadline`` if that, not the attempt's own timeout, was the bound."""
        if self._session.closed:
            return WolfClosedError("the session is closed")
        match error:
            case _Broken():
                return self._ours(error.how, deadline)
            case aiohttp.ServerTimeoutError() if deadline is None or deadline.left() > 0:
                return WolfTimeoutError(f"no connection within {self._timeouts.connect:g} s")
            case TimeoutError():
                if deadline is not None:
                    return deadline.passed("waiting for the answer to a request")
                return WolfTimeoutError(f"no complete answer within {self._timeouts.attempt:g} s")
            case aiohttp.ClientResponseError() if _is_garbled(error):
                return WolfDecodeError(_GARBLED)
            case aiohttp.ClientPayloadError():
                return WolfConnectionError("the answer was cut short")
            case aiohttp.ClientHttpProxyError():
                return WolfConnectionError(f"the proxy refused to connect: HTTP {error.status}")
            case aiohttp.ClientResponseError():
                return WolfConnectionError(f"the answer is not HTTP: {_unquoted(error.message)}")
            case aiohttp.ServerDisconnectedError():
                return WolfConnectionError(_NO_ANSWER)
            case aiohttp.InvalidURL():
                return WolfConfigError(f"aiohttp refuses the URL: {error}")
            case aiohttp.ClientError() | OSError():
                return WolfConnectionError(f"no answer: {type(error).__name__}: {error}")
            case RuntimeError() | ValueError() if not self._owned:
                return WolfConfigError(
                    f"the session that was handed in cannot be used here: {error}"
                )
            case _:
                return WolfConnectionError(f"no answer: {type(error).__name__}")

    async def close(self) -> None:
        """Close the session if it is ours; no request is under way any more."""
        self._timer.close()
        if self._owned:
            await self._keeper.aclose()

    @property
    def closed(self) -> bool:
        """Whether there is nothing here that wants closing."""
        return not self._owned or self._session.closed

    def __repr__(self) -> str:
        whose = "own session" if self._owned else "a session that was handed in"
        return f"<Transport: {whose}{', closed' if self._session.closed else ''}>"


def _proxy_for(base_url: str) -> URL | None:
    """The environment's proxy, read once: aiohttp would read the environment, and .netrc, at each request.

    Raises `WolfConfigError` for one that cannot be used; its text, which may hold a password, is not shown.
    """
    parts = urlsplit(base_url)
    # to loopback the token may go in plain http, which is no reason to show it to a proxy
    host = parts.hostname or ""
    # with the port, which may be excepted alone, and without, as an IPv6 address is written there without brackets
    if is_loopback(host) or any(map(urllib.request.proxy_bypass, (parts.netloc, host))):
        return None
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy:
        return None
    expected = "the environment's proxy must be like http://host[:port]"
    try:
        url = URL(proxy if "://" in proxy else f"http://{proxy}")
    except ValueError:
        raise WolfConfigError(expected) from None
    if url.scheme not in ("http", "https") or not url.host:
        raise WolfConfigError(f"{expected}, not {url.scheme}://")
    return url


class _Connecting:
    """Whether one request needed a connection of its own."""

    __slots__ = ("new",)

    def __init__(self) -> None:
        self.new = False


_connecting: Final[ContextVar[_Connecting | None]] = ContextVar(
    "wolf_async.connecting", default=None
)


def _new_socket(address: aiohttp.AddrInfoType) -> socket.socket:  # pyright: ignore[reportUnknownParameterType]
    connecting = _connecting.get()
    if connecting is not None:
        connecting.new = True
    return socket.socket(*address[:3])


class _Broken(aiohttp.ClientError):
    """A new connection broke: of a class that makes aiohttp not try again."""

    def __init__(self, how: Exception) -> None:
        super().__init__()
        self.how = how


class _Response(aiohttp.ClientResponse):
    """Keeps aiohttp from two things: to take what nobody asked for, and to ask again where nobody counts it.

    What lies in a kept connection before its next request is answered belongs to no request, but aiohttp would take it
    for the answer, and each later answer for that of the request after. When a new connection breaks, aiohttp would send
    a GET once more; on a kept one, which the server may have closed meanwhile, once more is right.
    """

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        connecting = _connecting.get()
        new = connecting is not None and connecting.new
        if not new:
            _check_silent(connection)
        try:
            return await super().start(connection)
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            if not new:
                raise
            raise _Broken(error) from error


def _check_silent(connection: Connection) -> None:
    """Refuse a connection on which the server has spoken out of turn; to be called right after the request is written."""
    # no byte was read since: what is here came before
    if connection.protocol is not None and connection.protocol.should_close:
        raise aiohttp.ServerDisconnectedError


async def _until_the_loop_ends(session: aiohttp.ClientSession) -> AsyncGenerator[None]:
    """Holds an open session, and closes it when it is closed itself, at the latest by the end of its event loop.

    `asyncio.run` ends asynchronous generators before it closes their loop. So a client that moves on to another loop
    leaves no connections behind, which nobody could close any more.
    """
    try:
        yield
    finally:
        await session.close()


def _begin(generator: AsyncGenerator[None]) -> None:
    """Run a generator up to its ``yield``, before which it waits for nothing."""
    with suppress(StopIteration):
        generator.__anext__().send(None)


def _unread(response: aiohttp.ClientResponse, reason: str) -> WolfError:
    return unreadable_error(RawResponse(response.status, response.headers, b""), reason)


def _is_garbled(error: BaseException) -> bool:
    """Whether it was the Content-Encoding that aiohttp could not undo."""
    return any(isinstance(link, ContentEncodingError) for link in iter_causes(error))


def _unproxied(value: object) -> object:
    """The key of a connection without the proxy's URL and password; anything else as it is."""
    if not isinstance(value, ConnectionKey):
        return value
    return value._replace(proxy=None, proxy_auth=None, proxy_headers_hash=None)


def _unquoted(message: str) -> str:
    """A message of aiohttp's up to where it quotes what the server sent."""
    return re.split(r"[\n:'\"]", message)[0].strip()


def _bare(error: Exception) -> Exception:
    """The error as a cause, without the token.

    That is in the headers of the request, and in what the error quotes of the answer if the server echoed it.
    """
    match error:
        case _Broken():
            return _bare(error.how)
        case aiohttp.ClientResponseError():
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

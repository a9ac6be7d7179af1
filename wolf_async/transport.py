"""One bounded exchange over aiohttp, and the one place that maps its errors to ours."""

from __future__ import annotations

import math
import ssl as ssl_module
import urllib.request
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from wolf_async.errors import (
    WolfClosedError,
    WolfConfigError,
    WolfConnectionError,
    WolfDecodeError,
    WolfTimeoutError,
)
from wolf_async.wire import RawResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from wolf_async.deadline import Deadline
    from wolf_async.policy import Timeouts

__all__ = ["Transport"]

_NEVER: Final = math.inf
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
        self._usual = self._client_timeout(timeouts.attempt)

    def _new_session(self) -> aiohttp.ClientSession:
        # no limit here: the place that a request takes is counted before it comes this far, for every kind of session
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    def _client_timeout(self, attempt: float) -> aiohttp.ClientTimeout:
        # aiohttp rounds longer timeouts up to whole seconds above this threshold
        connect = min(self._timeouts.connect, attempt)
        return aiohttp.ClientTimeout(
            total=None if math.isinf(attempt) else attempt,
            connect=None if math.isinf(connect) else connect,
            ceil_threshold=_NEVER,
        )

    async def get(self, url: str, headers: CIMultiDictProxy[str], deadline: Deadline) -> RawResponse:
        """The answer to one GET, whatever its status.

        Raises `WolfTimeoutError`, `WolfConnectionError`, `WolfDecodeError` for a body that is too large or whose
        compression is broken, `WolfClosedError` if the session is closed.
        """
        left = deadline.left()
        if left <= 0:
            raise deadline.passed("waiting to send a request")
        whole = left >= self._timeouts.attempt
        sent_at = self._clock()
        try:
            response = await self._session.get(
                URL(url, encoded=True),
                headers=headers,
                timeout=self._usual if whole else self._client_timeout(left),
                allow_redirects=False,
                raise_for_status=False,
                proxy=self._proxy,
                ssl=self._ssl,
            )
            body = await self._read(response)
        except Exception as error:
            raise self._ours(error, None if whole else deadline) from _without_headers(error)
        return RawResponse(response.status, response.headers, body, sent_at)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        length = response.content_length
        if length is not None and length <= self._max_body and "Content-Encoding" not in response.headers:
            return await response.read()
        try:
            return await self._read_bounded(response)
        except BaseException:
            response.close()
            raise

    async def _read_bounded(self, response: aiohttp.ClientResponse) -> bytes:
        """Read what may turn out larger than its length says, and stop as soon as it does."""
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            if size > self._max_body:
                raise WolfDecodeError(
                    f"the answer is larger than {self._max_body} bytes", body=b"".join(chunks)
                )
        return b"".join(chunks)

    def _ours(self, error: Exception, deadline: Deadline | None) -> Exception:  # noqa: C901, PLR0911 (a table)
        """The error of ours for one of aiohttp's; ``deadline`` if that, not the attempt's own timeout, was the bound."""
        match error:
            case WolfDecodeError():
                return error
            case aiohttp.ServerTimeoutError() if deadline is None:
                return WolfTimeoutError(f"no connection within {self._timeouts.connect:g} s")
            case TimeoutError():
                if deadline is not None:
                    return deadline.passed("waiting for the answer to a request")
                return WolfTimeoutError(f"no complete answer within {self._timeouts.attempt:g} s")
            case aiohttp.ClientPayloadError() if isinstance(
                error.__cause__, aiohttp.http_exceptions.ContentEncodingError
            ):
                return WolfDecodeError("the answer's compression is broken")
            case aiohttp.ClientPayloadError():
                return WolfConnectionError("the answer was cut short")
            case aiohttp.ClientResponseError():
                return WolfConnectionError(f"the answer is not HTTP: {error.message}")
            case aiohttp.InvalidURL():
                return WolfConfigError(f"aiohttp refuses the URL: {error}")
            case RuntimeError() if self._session.closed:
                return WolfClosedError("the session is closed")
            case aiohttp.ClientError() | OSError():
                return WolfConnectionError(f"no answer: {type(error).__name__}: {error}")
            case _:
                return error

    async def close(self) -> None:
        """Close the session if it is ours."""
        if self._owned:
            await self._session.close()

    @property
    def closed(self) -> bool:
        """Whether there is nothing here that wants closing."""
        return not self._owned or self._session.closed

    def __repr__(self) -> str:
        whose = "own session" if self._owned else "a session that was handed in"
        return f"<Transport: {whose}{', closed' if self._session.closed else ''}>"


def _proxy_for(base_url: str) -> str | None:
    """The environment's proxy, read once: aiohttp would read the environment, and .netrc, at each request."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def _without_headers(error: Exception) -> Exception:
    """The error as a cause: without the request's headers, which hold the token."""
    if isinstance(error, aiohttp.ClientResponseError):
        info = error.request_info
        bare = aiohttp.RequestInfo(info.url, info.method, CIMultiDictProxy(_NO_HEADERS), info.real_url)
        error.request_info = bare
        error.args = (bare, *error.args[1:])
    return error

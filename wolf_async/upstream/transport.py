"""One bounded exchange over aiohttp."""

from __future__ import annotations

import asyncio
import math
import ssl as ssl_module
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp.connector import Connection
from multidict import CIMultiDictProxy
from yarl import URL

from wolf_async._version import __version__
from wolf_async.api.response import RawResponse, unreadable_error
from wolf_async.errors import WolfClosedError, WolfError
from wolf_async.upstream.failures import GARBLED, bare, clear_frames, is_garbled, map_error
from wolf_async.upstream.one_shot import OneShotBody, borrow_session, open_one_shot_session

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
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
_MAX_HEADER: Final = 2**16 + 2**10
"""Bytes of a single header, its name included, that are read; aiohttp's default is an eighth."""


class Transport:
    """Send one request and read its answer, over an own session or one that was handed in.

    Redirects are not followed, ``.netrc`` is not read, and cookies are not kept. It belongs to the
    event loop that it was made in.
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
        proxy: URL | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._base_url = base_url
        self._timeouts = timeouts
        self._clock = clock
        self._max_body = max_body
        self._owned = session is None
        self._session = self._new_session() if session is None else session
        # a session that was handed in may have other settings
        self._options: Final[dict[str, Any]] = {
            "timeout": self._connect_within(timeouts.connect),
            "allow_redirects": False,
            "raise_for_status": False,
            "proxy": proxy,
            "ssl": True if ssl is None else ssl,
            "auto_decompress": True,
            "max_field_size": _MAX_HEADER,
        }
        if self._owned:
            self._keeper = _until_the_loop_ends(self._session)
            _begin(self._keeper)

    def _connect_within(self, seconds: float) -> aiohttp.ClientTimeout:
        connect = None if math.isinf(seconds) else seconds
        return aiohttp.ClientTimeout(
            # the attempt's own time is kept in `_exchange`, which tells it from the deadline's
            total=None,
            # this counts the wait for a place in the pool as well, which an own pool does not have
            connect=connect if self._owned else None,
            sock_connect=None if self._owned else connect,
            # aiohttp rounds longer timeouts up to whole seconds above this threshold
            ceil_threshold=math.inf,
        )

    def _new_session(self) -> aiohttp.ClientSession:
        # no limit here: places are counted before a request comes this far, whatever the session
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            response_class=_Response,
        )

    async def get(
        self, url: SplitResult, headers: CIMultiDictProxy[str], deadline: Deadline
    ) -> RawResponse:
        """Return the answer to one GET, whatever its status.

        Raise `WolfTimeoutError`, `WolfConnectionError`, `WolfClosedError` if the session is closed;
        and for a body that is too large or whose compression is broken a `WolfAPIError` by its
        status, or `WolfDecodeError`.
        """
        if self._owned:
            return await self._get(self._session, url, headers, deadline)
        # the session's own responses would not refuse what lies in a kept connection
        with borrow_session(self._session, _Response) as session:
            return await self._get(session, url, {**_HEADERS, **headers}, deadline)

    async def _get(
        self,
        session: aiohttp.ClientSession,
        url: SplitResult,
        headers: Mapping[str, str],
        deadline: Deadline,
    ) -> RawResponse:
        return await self._exchange(
            lambda: session.get(URL(url, encoded=True), headers=headers, **self._options), deadline
        )

    async def post(
        self,
        url: SplitResult,
        headers: CIMultiDictProxy[str],
        body: bytes,
        about_to_send: Callable[[], None],
    ) -> RawResponse:
        """Return the answer to one POST, whatever its status, on a connection of its own.

        ``about_to_send`` is called when the connection is there, before the first byte. The request
        has the whole time of an attempt, since one that is out is not to be cut off by an earlier
        deadline. Raises as `get`.
        """
        lent = None if self._owned else self._session
        async with open_one_shot_session(lent, _Response) as session:
            return await self._exchange(
                lambda: session.post(
                    URL(url, encoded=True),
                    data=OneShotBody(body, about_to_send),
                    headers={**_HEADERS, **headers, "Connection": "close"},
                    **self._options,
                ),
                None,
            )

    async def _exchange(
        self, request: Callable[[], Awaitable[aiohttp.ClientResponse]], deadline: Deadline | None
    ) -> RawResponse:
        """Return the response to one request, within the attempt's time and the deadline."""
        attempt = self._timeouts.attempt
        bound = attempt if deadline is None else min(deadline.remaining(), attempt)
        sent_at = self._clock()
        try:
            async with asyncio.timeout(None if math.isinf(bound) else bound):
                response = await request()
                body = await self._read(response)
        except WolfError:
            raise
        except Exception as error:
            clear_frames(error)
            raise self._mapped(error, None if bound == attempt else deadline) from bare(error)
        return RawResponse(response.status, response.headers, body, sent_at)

    def _mapped(self, error: Exception, deadline: Deadline | None) -> WolfError:
        if self._session.closed:
            return WolfClosedError("the session is closed")
        return map_error(error, self._timeouts, deadline, handed_in=not self._owned)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        length = response.content_length
        try:
            if length is None or length > self._max_body or "Content-Encoding" in response.headers:
                return await self._read_bounded(response, length or 0)
            return await response.read()
        except BaseException as error:
            response.close()
            if isinstance(error, aiohttp.ClientPayloadError) and is_garbled(error):
                raise _unread(response, GARBLED, self._base_url) from bare(error)
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
        # nothing of it is kept: half a token could not be told from other text
        reason = f"the answer is larger than {self._max_body} bytes"
        raise _unread(response, reason, self._base_url)

    async def close(self) -> None:
        """Close the session if it is ours; no request is under way any more."""
        if self._owned:
            await self._keeper.aclose()

    def __repr__(self) -> str:
        whose = "own session" if self._owned else "a session that was handed in"
        return f"<Transport: {whose}{', closed' if self._session.closed else ''}>"


class _Response(aiohttp.ClientResponse):
    """Refuse a connection on which the server has sent what nobody asked for.

    Without this check a late answer, still lying in a kept connection, is delivered for another
    account.
    """

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        # no byte was read since the request was written: what is here came before
        if connection.protocol is not None and connection.protocol.should_close:
            raise aiohttp.ServerDisconnectedError
        return await super().start(connection)


async def _until_the_loop_ends(session: aiohttp.ClientSession) -> AsyncGenerator[None]:
    """Hold an open session, and close it at the latest when its event loop ends.

    `asyncio.run` ends asynchronous generators before it closes their loop. So a client that moves
    on to another loop leaves no connections behind, which nobody could close any more.
    """
    try:
        yield
    finally:
        await session.close()


def _begin(generator: AsyncGenerator[None]) -> None:
    """Run a generator up to its ``yield``, before which it waits for nothing."""
    with suppress(StopIteration):
        generator.__anext__().send(None)


def _unread(response: aiohttp.ClientResponse, reason: str, base_url: str) -> WolfError:
    return unreadable_error(RawResponse(response.status, response.headers, b""), reason, base_url)

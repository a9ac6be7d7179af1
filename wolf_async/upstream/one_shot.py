"""One request on a connection of its own, sent at most once, with a word before its first byte.

A connection that was kept may have been closed by the server meanwhile, and then nobody knows
whether a request on it was seen. A new one that cannot be opened has carried nothing.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import aiohttp
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection

from wolf_async.errors import WolfConnectionError

__all__ = ["OneShotBody", "borrow_session", "open_one_shot_session"]

_numbers: Final = itertools.count(1)


class OneShotBody(aiohttp.BytesPayload):
    """A body that calls ``about_to_send`` when a connection is there and nothing is written yet."""

    def __init__(self, value: bytes, about_to_send: Callable[[], None]) -> None:
        super().__init__(value, content_type="application/json")
        self._about_to_send = about_to_send
        self._is_sent = False

    def begin(self) -> None:
        """Let the request go, once: raise `WolfConnectionError` for whoever sends it again."""
        if self._is_sent:
            raise WolfConnectionError("the request was about to be sent twice; it was not")
        self._about_to_send()
        self._is_sent = True


class _OneShotRequest(aiohttp.ClientRequest):
    """A request that shares its connection with nobody, whatever connector it goes through."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._number = next(_numbers)

    @property
    def connection_key(self) -> ConnectionKey:
        # the pool looks for kept connections by this key; the number is in no other one
        return super().connection_key._replace(proxy_headers_hash=self._number)

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        if isinstance(self.body, OneShotBody):
            self.body.begin()
        return await super().send(conn)


@asynccontextmanager
async def open_one_shot_session(
    lent: aiohttp.ClientSession | None, response_class: type[aiohttp.ClientResponse]
) -> AsyncGenerator[aiohttp.ClientSession]:
    """Give a session for one request: of its own, or on the connector and settings of ``lent``."""
    if lent is not None:
        with borrow_session(lent, response_class) as session:
            session._request_class = _OneShotRequest  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            yield session
        return
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        request_class=_OneShotRequest,
        response_class=response_class,
    ) as session:
        yield session


@contextmanager
def borrow_session(
    lent: aiohttp.ClientSession, response_class: type[aiohttp.ClientResponse]
) -> Generator[aiohttp.ClientSession]:
    """Give a copy of ``lent`` for one request, whose response is of ``response_class``.

    It uses the same connector, and is closed if ``lent`` is, which stays as it was.
    """
    # a copy, since aiohttp takes the class of a response from the session alone
    session = copy.copy(lent)
    session._response_class = response_class  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    try:
        yield session
    finally:
        session.detach()

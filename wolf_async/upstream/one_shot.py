"""One request on a connection of its own, sent at most once, with a word before its first byte.

A connection that was kept may have been closed by the server meanwhile, and then nobody knows
whether a request on it was seen. A new one that cannot be opened has carried nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final, cast

import aiohttp
from aiohttp import HttpVersion
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection

from wolf_async.errors import WolfConnectionError

__all__ = ["OneShotBody", "open_one_shot_session"]

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


def open_one_shot_session(
    like: aiohttp.ClientSession | None, response_class: type[aiohttp.ClientResponse]
) -> aiohttp.ClientSession:
    """Return a session for one request: of its own, or on the connector and settings of ``like``.

    Closing it leaves the connector of ``like`` open.
    """
    if like is None:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            request_class=_OneShotRequest,
            response_class=response_class,
        )
    return aiohttp.ClientSession(
        connector=like.connector,
        connector_owner=False,
        cookie_jar=like.cookie_jar,
        headers=like.headers,
        skip_auto_headers=like.skip_auto_headers,
        auth=like.auth,
        version=cast("HttpVersion", like.version),
        trust_env=like.trust_env,
        trace_configs=like.trace_configs,
        request_class=_OneShotRequest,
        response_class=response_class,
        # aiohttp shows these nowhere, and without them the request would take another way
        proxy=getattr(like, "_default_proxy", None),
        proxy_auth=getattr(like, "_default_proxy_auth", None),
        middlewares=getattr(like, "_middlewares", ()),
    )

"""Answer the requests of browsers: the application of aiohttp, and what stands at which path."""

from __future__ import annotations

import asyncio
import socket
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from wolf_async.api.request import check_account
from wolf_async.dashboard.details import details_of
from wolf_async.dashboard.events import EventLog
from wolf_async.dashboard.feed import Feed
from wolf_async.dashboard.rows import Rows, label_of
from wolf_async.dashboard.safety import OPEN, check_host, check_password, set_headers
from wolf_async.errors import WolfConfigError
from wolf_async.policy import check_seconds
from wolf_async.watch import check_watched

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from aiohttp.typedefs import Handler, Middleware

    from wolf_async.account import Account
    from wolf_async.bulk import AccountLike
    from wolf_async.client import WolfClient

__all__ = ["make_app"]

_TYPES: Final = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}
_BUFFER: Final = 2**17
"""Bytes that the system may hold of one stream; Linux doubles it."""
_STUCK: Final = 30.0
"""Seconds after which a browser is given up that takes nothing of what is sent."""


def make_app(
    client: WolfClient,
    accounts: Iterable[AccountLike],
    *,
    every: float = 1.0,
    allowed_hosts: Collection[str] | None = None,
    password: str | None = None,
    idle: float = 60.0,
) -> web.Application:
    """Make the dashboard of ``accounts`` as an application of aiohttp.

    Mount it in an application of your own, and see it at ``/dashboard/``::

        app.add_subapp("/dashboard", make_app(wolf, accounts))

    Or run it beside another framework on a port of its own, as here in FastAPI's lifespan::

        async with WolfClient() as wolf:
            runner = web.AppRunner(make_app(wolf, accounts))
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 8080).start()
            try:
                yield  # both are served meanwhile
            finally:
                await runner.cleanup()

    ``/healthz`` is 503 if the newest question about every account failed, else 200.

    Args:
        client: asks for the accounts; it stays yours: close it after the application.
        accounts: an iterable of accounts, pairs of ids, or ids of main accounts; one at least.
        every: seconds in which each account is asked for once, however many browsers look.
        allowed_hosts: the names by which the page may be asked for (the ``Host`` header, with any
            port); ``None`` checks nothing.
        password: what all paths but ``/healthz`` need (HTTP Basic, any user name; put TLS in front
            of that); ``None`` asks for none.
        idle: seconds after which no account is asked for any more if nobody looks.

    Raises `WolfConfigError` for arguments that make no sense.

    >>> import asyncio
    >>> from aiohttp.test_utils import TestClient, TestServer
    >>> from wolf_async import WolfClient
    >>> from wolf_async.dashboard import make_app
    >>> from wolf_async.testing import Sandbox
    >>> async def main() -> None:
    ...     async with Sandbox() as box, WolfClient(box.token, base_url=box.base_url) as wolf:
    ...         app = make_app(wolf, box.users)
    ...         async with TestClient(TestServer(app)) as browser:
    ...             async with browser.get("/healthz") as health:
    ...                 print(health.status, await health.text(), end="")
    >>> asyncio.run(main())
    200 ok

    """
    check_seconds("every", every, above=True, finite=True)
    check_seconds("idle", idle, finite=True)
    dashboard = _Dashboard(client, _checked(accounts), every, idle)
    app = web.Application(middlewares=_checks(allowed_hosts, password))
    app.on_response_prepare.append(set_headers)
    app.on_shutdown.append(dashboard.shut_down)
    app.add_routes(dashboard.routes())
    return app


def _checked(accounts: Iterable[AccountLike]) -> list[Account]:
    checked = [check_account(*account) for account in check_watched(accounts)]
    if not checked:
        raise WolfConfigError("accounts must name at least one account")
    if len({label_of(account) for account in checked}) < len(checked):
        raise WolfConfigError("accounts must differ as USER_ID:SUB_ID, which is how they are shown")
    return checked


def _checks(allowed_hosts: Collection[str] | None, password: str | None) -> list[Middleware]:
    if isinstance(allowed_hosts, str):
        raise WolfConfigError(f"allowed_hosts must be several names, not a str: {allowed_hosts!r}")
    if password is not None and not password:
        raise WolfConfigError("password must not be empty; None asks for none")
    checks: list[Middleware] = []
    if allowed_hosts is not None:
        checks.append(check_host(allowed_hosts))
    if password is not None:
        checks.append(check_password(password))
    return checks


class _Dashboard:
    """The handlers, and what they share."""

    __slots__ = ("_feed", "_log", "_rows", "_transports")

    def __init__(
        self, client: WolfClient, accounts: list[Account], every: float, idle: float
    ) -> None:
        self._rows = Rows(accounts, every)
        self._log = EventLog(self._rows.snapshot)
        self._feed = Feed(
            lambda: client.watch_many(accounts, every=every, unchanged=True),
            self._rows,
            self._log,
            every=every,
            idle=idle,
        )
        self._transports: set[asyncio.Transport] = set()

    def routes(self) -> list[web.RouteDef]:
        """List what is answered."""
        return [
            web.get("/events", self._events, allow_head=False),
            web.get("/account", self._account),
            web.get("/search", self._search),
            web.get("/healthz", self._healthz, name=OPEN),
            *_static_routes(),
            # who forgets the slash after the path of a mount; last, since it stands for "/" too
            web.get("", self._add_slash),
        ]

    async def shut_down(self, app: web.Application) -> None:
        """End all streams and the feed, so that whoever stops the server need not wait for them."""
        self._log.close()
        for transport in self._transports:
            if transport.get_write_buffer_size():  # it does not read, and would not end by itself
                transport.abort()
        await self._feed.aclose()

    async def _add_slash(self, request: web.Request) -> web.Response:
        address = request.rel_url
        raise web.HTTPPermanentRedirect(
            address.with_path(address.path + "/").with_query(address.query)
        )

    async def _healthz(self, request: web.Request) -> web.Response:
        if self._rows.all_failed:
            return web.Response(status=503, text="the newest question about every account failed\n")
        return web.Response(text="ok\n")

    async def _search(self, request: web.Request) -> web.Response:
        return _json(self._rows.matching(request.query.get("q", "")))

    async def _account(self, request: web.Request) -> web.Response:
        row = self._rows.named(request.query.get("id", ""))
        if row is None:
            raise web.HTTPNotFound(text="no such account\n")
        init = None if row.answer is None else row.answer.init
        return _json(None if init is None else details_of(init, self._rows.moment()))

    async def _events(self, request: web.Request) -> web.StreamResponse:
        last = request.headers.get("Last-Event-ID") or request.query.get("after")
        response = web.StreamResponse(headers={"X-Accel-Buffering": "no"})
        response.content_type = "text/event-stream"
        await response.prepare(request)
        transport = request.transport
        if transport is not None:  # else it has gone already
            _bound_buffer(transport)
            self._transports.add(transport)
            try:
                with self._feed.viewer():
                    await self._send(response, transport, self._log.number_of(last))
            finally:
                self._transports.discard(transport)
        return response

    async def _send(
        self, response: web.StreamResponse, transport: asyncio.Transport, number: int | None
    ) -> None:
        """Write the log from that event on, until it is closed or the browser has gone."""
        while not self._log.closed and not transport.is_closing():
            events, newest = self._log.after(number)
            if events:
                number = newest
                await _write(response, transport, events)
            else:
                await self._log.wait()


def _bound_buffer(transport: asyncio.Transport) -> None:
    """Keep the system from buffering megabytes for a browser that reads slowly."""
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)


async def _write(response: web.StreamResponse, transport: asyncio.Transport, events: bytes) -> None:
    try:
        async with asyncio.timeout(_STUCK):
            await response.write(events)
    except (TimeoutError, ConnectionError):
        transport.abort()


def _json(data: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(data), content_type="application/json")


def _static_routes() -> list[web.RouteDef]:
    """Give a route for each file of the page; they are few and small, and stay in memory."""
    folder = files("wolf_async.dashboard") / "static"
    return [
        web.get(
            "/" if file.name == "index.html" else f"/{file.name}",
            _static_handler(file.read_bytes(), _TYPES[file.name.rpartition(".")[2]]),
        )
        for file in folder.iterdir()
    ]


def _static_handler(body: bytes, content_type: str) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=content_type, charset="utf-8")

    return handler

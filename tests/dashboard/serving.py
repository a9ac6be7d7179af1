"""Serve the dashboard of a sandbox's accounts on loopback, and read what it streams."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import aiohttp
from aiohttp import web

from wolf_async import CachePolicy, RetryPolicy, WolfClient
from wolf_async.dashboard import make_app

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from wolf_async.testing import Sandbox

__all__ = ["Event", "Stream", "dashboard", "serve", "url_of"]

LIMIT = 20.0
ONCE = RetryPolicy(attempts=1)
KEEP = CachePolicy()


class Event(NamedTuple):
    """One event of a stream."""

    id: str
    name: str
    data: Any


@asynccontextmanager
async def serve(app: web.Application, port: int = 0) -> AsyncGenerator[str]:
    """Run an application on loopback, and give its address."""
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield url_of(runner)
    finally:
        async with asyncio.timeout(LIMIT):
            await runner.cleanup()


def url_of(runner: web.AppRunner) -> str:
    """Give the address at which a started runner listens."""
    return f"http://127.0.0.1:{runner.addresses[0][1]}"


@asynccontextmanager
async def dashboard(
    box: Sandbox, cache: CachePolicy = KEEP, **settings: Any
) -> AsyncGenerator[str]:
    """Serve the dashboard of all accounts of a sandbox; by default ten periods a second."""
    chosen: dict[str, Any] = {"every": 0.1} | settings
    async with (
        WolfClient(box.token, base_url=box.base_url, cache=cache, retry=ONCE) as wolf,
        serve(make_app(wolf, box.accounts, **chosen)) as url,
    ):
        yield url


class Stream:
    """A browser's stream of events, without the browser."""

    def __init__(self, url: str, *, after: str = "", **request: Any) -> None:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LIMIT))
        headers = {"Last-Event-ID": after} if after else {}
        self._request = self._session.get(f"{url}/events", headers=headers, **request)

    async def __aenter__(self) -> Self:
        self.response = await self._request
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.response.close()
        await self._session.close()

    async def next(self) -> Event:
        """Return the next event."""
        lines: list[str] = []
        async with asyncio.timeout(LIMIT):
            while line := (await self.response.content.readline()).decode().rstrip("\n"):
                lines.append(line.partition(": ")[2])
        return Event(lines[0], lines[1], json.loads(lines[2]))

    async def until(self, name: str) -> Event:
        """Return the next event of that name."""
        while (event := await self.next()).name != name:
            pass
        return event

    async def ended(self) -> None:
        """Return when the server has ended the stream."""
        async with asyncio.timeout(LIMIT):
            while await self.response.content.readany():
                pass

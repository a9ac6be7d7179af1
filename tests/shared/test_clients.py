"""A tier keeps working whatever becomes of its client, its loop and its process.

Clients are handed in or dropped, loops follow on each other, processes fork.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio
import valkey.asyncio

from shared.fake import TextCodec
from shared.servers import Server, until
from wolf_async.cache import LoadingCache
from wolf_async.policy import CachePolicy
from wolf_async.shared import RedisTier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Counter:
    """A loader that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, key: str) -> str:
        self.calls += 1
        return f"{key}#{self.calls}"


def cache_on(load: Counter, tier: RedisTier, **policy: Any) -> LoadingCache[str, str]:
    return LoadingCache(load, policy=CachePolicy(**policy), shared=tier, codec=TextCodec())


async def share(tiers: list[RedisTier]) -> None:
    """See that one cache on each of these tiers gets what the first has loaded.

    It gets the first one's invalidation too.
    """
    loads = [Counter() for _ in tiers]
    caches = [cache_on(load, tier) for load, tier in zip(loads, tiers, strict=True)]
    for cache in caches:
        assert await cache.get("a") == "a#1"
    assert [load.calls for load in loads] == [1] + [0] * (len(tiers) - 1)
    caches[0].invalidate("a")
    assert await caches[0].settled()
    await until(lambda: not any(cache.peek("a") for cache in caches))
    caches[0].clear()
    assert await caches[0].settled()
    for cache in caches:
        assert cache.stats().shared_bypassed == 0
        await cache.aclose()


def slow(**settings: Any) -> RedisTier:
    return RedisTier(namespace="n", timeout=2.0, connect_timeout=5.0, **settings)


async def test_a_client_of_redis_py_and_one_of_valkey_py_share(server: Server) -> None:
    handed: list[Any] = [
        redis.asyncio.Redis(port=server.port),
        valkey.asyncio.Valkey.from_url(server.url),
    ]
    await share([slow(client=client) for client in handed] + [slow(url=server.url)])
    for client in handed:
        assert await client.ping(), "a client that was handed in is not closed"
        await client.aclose()


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a cluster of one server, which holds all slots."""
    server = Server(tmp_path_factory.mktemp("cluster"), "--cluster-enabled", "yes").start()
    with server.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    yield server
    server.kill()


async def test_a_cluster_is_shared(cluster: Server) -> None:
    with cluster.client() as client:
        state: Any = lambda: client.execute_command("CLUSTER", "INFO")  # noqa: E731
        await until(lambda: b"cluster_state:ok" in state())
    clients = [redis.asyncio.RedisCluster.from_url(cluster.url) for _ in range(2)]
    await share([slow(client=client) for client in clients])
    for client in clients:
        await client.aclose()


async def test_a_unix_socket_is_shared(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("unix")
    server = Server(folder, "--unixsocket", str(folder / "s")).start()
    try:
        await share([slow(url=f"unix://{folder / 's'}") for _ in range(2)])
    finally:
        server.kill()


def test_a_second_loop_starts_over_and_keeps_what_is_held(
    server: Server, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    load = Counter()
    cache = cache_on(load, slow(url=server.url))
    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(cache.get("a")) == "a#1"
    assert not cache.invalidate("b")
    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(cache.get("c")) == "c#2"
        assert runner.run(cache.get("a")) == "a#1"
        assert runner.run(cache.settled())
        assert cache.stats().shared_bypassed == 0
        runner.run(cache.aclose())


def test_a_forked_process_connects_by_itself(server: Server) -> None:
    cache = cache_on(Counter(), slow(url=server.url))
    asyncio.run(use(cache, "a"))
    context = multiprocessing.get_context("fork")
    child = context.Process(target=in_child, args=(cache, os.getpid()))
    child.start()
    child.join(20)
    assert child.exitcode == 0
    asyncio.run(close_after(cache, "b"))


async def use(cache: LoadingCache[str, str], key: str) -> str:
    return await cache.get(key)


async def close_after(cache: LoadingCache[str, str], key: str) -> None:
    # the child has loaded it
    assert await cache.get(key) == "b#2"
    assert cache.stats().shared_hits == 1
    assert cache.stats().shared_bypassed == 0
    await cache.aclose()


def in_child(cache: LoadingCache[str, str], parent: int) -> None:
    async def run() -> None:
        assert os.getpid() != parent
        assert await cache.get("b") == "b#2"
        assert cache.stats().shared_bypassed == 0
        await cache.aclose()

    asyncio.run(run())


async def test_a_cache_that_is_dropped_takes_its_tasks_and_connections_along(
    server: Server,
) -> None:
    cache = cache_on(Counter(), slow(url=server.url))
    await cache.get("a")
    assert len(asyncio.all_tasks()) > 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del cache
        gc.collect()
        async with asyncio.timeout(5):
            while len(asyncio.all_tasks()) > 1:
                await asyncio.sleep(0.01)
                gc.collect()
    with server.client() as client:
        assert len(client.client_list(_type="pubsub")) == 0


async def test_closing_ends_every_task_and_connection(server: Server) -> None:
    with server.client() as client:
        before = len(client.client_list())
        cache = cache_on(Counter(), slow(url=server.url))
        await cache.get("a")
        await cache.aclose()
        await cache.aclose()
        await until(lambda: len(client.client_list()) <= before)
    assert len(asyncio.all_tasks()) == 1


async def test_what_is_pending_is_sent_before_closing(server: Server) -> None:
    one, two = cache_on(Counter(), slow(url=server.url)), cache_on(Counter(), slow(url=server.url))
    await one.get("a")
    assert await two.get("a") == "a#1"
    one.invalidate("a")
    await one.aclose()
    await until(lambda: two.peek("a") is None)
    await two.aclose()

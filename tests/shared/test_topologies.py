"""Several servers: a cluster of three masters, and a master with its replica and a Sentinel."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio
import redis.asyncio.sentinel
import valkey.asyncio
import valkey.asyncio.sentinel

from shared.servers import Server, until
from shared.sharing import Counter, cache_on, share, slow, until_shared
from shared.test_creating import create_at_once
from wolf_async import WolfConfigError
from wolf_async.shared import RedisTier

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator

    from wolf_async.cache import LoadingCache

SLOTS = 16384
"""Parts of all names, of which each master of a cluster has some."""


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Return what starts a server that ends with this module."""
    with ExitStack() as stack:

        def start(*options: str) -> Server:
            server = Server(tmp_path_factory.mktemp("server"), *options)
            stack.callback(server.kill)
            return server.start()

        yield start


@asynccontextmanager
async def two_caches(clients: list[Any]) -> AsyncGenerator[list[LoadingCache[str, str]]]:
    """Make caches on these clients, with one loader."""
    load = Counter()
    async with AsyncExitStack() as stack:
        caches = [cache_on(load, slow(client=client)) for client in clients]
        for cache in caches:
            stack.push_async_callback(cache.aclose)
        yield caches


async def outlive(
    one: LoadingCache[str, str],
    two: LoadingCache[str, str],
    *,
    harm: Callable[[], Awaitable[None]],
    mend: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """See that both go on, harmed, and share again afterwards.

    An invalidation made meanwhile is not lost.
    """
    old = await one.get("known")
    assert await two.get("known") == old
    await harm()
    asked = 0
    while not (one.stats().shared_bypassed and two.stats().shared_bypassed):
        asked += 1
        for cache in (one, two):
            async with asyncio.timeout(5):
                assert (await cache.get(f"meanwhile {asked}")).startswith("meanwhile")
    one.invalidate("known")
    assert await one.get("known") != old
    if mend is not None:
        await mend()
    await until_shared(one, two)
    await until(lambda: two.peek("known") != old)
    assert await two.get("known") == await one.get("known") != old


# --- a cluster ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(start: Callable[..., Server]) -> list[Server]:
    """Start three masters, each with a third of the slots."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "500")
    nodes = [start(*options) for _ in range(3)]
    for i, node in enumerate(nodes):
        with node.client() as client:
            # one by one, since Redis 6.2 knows no ranges
            slots = range(SLOTS * i // 3, SLOTS * (i + 1) // 3)
            client.execute_command("CLUSTER ADDSLOTS", *slots)
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", i + 1)
            if i:
                client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port)
    asyncio.run(until(lambda: all(map(is_ok, nodes)), 20))
    return nodes


def is_ok(node: Server) -> bool:
    with node.client() as client:
        return bool(client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")


@pytest.fixture
async def of_cluster(cluster: list[Server]) -> AsyncIterator[list[Any]]:
    """Return two clients of the cluster."""
    if not hasattr(redis.asyncio.RedisCluster, "pubsub"):
        pytest.skip("this redis-py cannot subscribe in a cluster")
    async with AsyncExitStack() as stack:
        clients = [redis.asyncio.RedisCluster.from_url(cluster[0].url) for _ in range(2)]
        for client in clients:
            stack.push_async_callback(client.aclose)
        yield clients


async def test_a_cluster_is_shared_with_accounts_on_all_its_nodes(
    cluster: list[Server], of_cluster: list[Any]
) -> None:
    await share([slow(client=client) for client in of_cluster])
    async with two_caches(of_cluster) as (one, two):
        keys = [f"{number}" for number in range(50)]
        loaded = [await one.get(key) for key in keys]
        assert await asyncio.gather(*map(two.get, keys)) == loaded
        for node in cluster:
            with node.client() as client:
                assert client.dbsize() >= 1
        for key in keys:
            one.invalidate(key)
        assert await one.settled()
        await until(lambda: not any(map(two.peek, keys)))


async def test_a_client_that_cannot_subscribe_in_a_cluster_is_refused(
    cluster: list[Server],
) -> None:
    client: Any = valkey.asyncio.ValkeyCluster.from_url(cluster[0].url)
    with pytest.raises(WolfConfigError, match=r"lacks pubsub: .* redis-py 8\.0"):
        RedisTier(client=client)
    await client.aclose()


async def test_clients_of_a_cluster_create_in_turn(of_cluster: list[Any]) -> None:
    tiers = [RedisTier(client=client, timeout=2.0, connect_timeout=5.0) for client in of_cluster]
    await create_at_once(tiers)


def hears(node: Server) -> bool:
    with node.client() as client:
        return bool(client.pubsub_channels())


async def test_a_cluster_outlives_the_node_that_has_the_subscription(
    cluster: list[Server], of_cluster: list[Any]
) -> None:
    async def kill() -> None:
        dead.kill()
        await until(lambda: not any(map(is_ok, living)), 20)

    async def start() -> None:
        dead.start()
        await until(lambda: all(map(is_ok, cluster)), 20)

    async with two_caches(of_cluster) as (one, two):
        await one.get("a")
        (dead,) = filter(hears, cluster)
        living = [node for node in cluster if node is not dead]
        await outlive(one, two, harm=kill, mend=start)


# --- Sentinel -------------------------------------------------------------------------------------


async def test_clients_of_redis_py_and_valkey_py_outlive_a_failover_of_sentinel(
    start: Callable[..., Server],
) -> None:
    master = start("--repl-diskless-sync-delay", "0")
    start("--replicaof", "127.0.0.1", str(master.port))
    sentinel = start("--sentinel")
    with sentinel.client(decode_responses=True) as client:
        client.execute_command("SENTINEL MONITOR", "main", "127.0.0.1", master.port, 1)
        client.execute_command("SENTINEL SET", "main", "down-after-milliseconds", 300)

        def has_replica() -> bool:
            known: Any = client.sentinel_slaves("main")
            return [one["master-link-status"] for one in known] == ["ok"]

        await until(has_replica, 20)

    kinds: list[Any] = [redis.asyncio.sentinel.Sentinel, valkey.asyncio.sentinel.Sentinel]
    sentinels = [kind([("127.0.0.1", sentinel.port)]) for kind in kinds]
    clients = [known.master_for("main") for known in sentinels]
    await share([slow(client=client) for client in clients])

    async def kill() -> None:
        master.kill()

    async with two_caches(clients) as (one, two):
        await outlive(one, two, harm=kill)  # Sentinel mends it by itself
    for client in [*clients, *(client for known in sentinels for client in known.sentinels)]:
        await client.aclose()

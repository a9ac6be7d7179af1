"""A tier keeps working whatever becomes of its client, its loop and its process.

Clients are handed in or dropped, loops follow on each other, processes fork.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio
import valkey.asyncio

from shared.servers import PausableProxy, Server, until
from shared.sharing import Counter, cache_on, share, slow, until_shared
from wolf_async.shared import RedisTier

if TYPE_CHECKING:
    from collections.abc import Callable

    from wolf_async.cache import LoadingCache


async def test_a_client_of_redis_py_and_one_of_valkey_py_share(server: Server) -> None:
    handed: list[Any] = [
        redis.asyncio.Redis(port=server.port),
        valkey.asyncio.Valkey.from_url(server.url),
    ]
    await share([slow(client=client) for client in handed] + [slow(url=server.url)])
    for client in handed:
        assert await client.ping(), "a client that was handed in is not closed"
        await client.aclose()


@pytest.mark.parametrize(
    ("key", "equal"),
    [
        (1, 1.0),
        (1, True),
        (0, -0.0),
        (2**60, 2.0**60),
        (("a", (2,)), ("a", (2.0,))),
        (2**63 + 4096, 2.0**63 + 4096),
    ],
)
async def test_equal_keys_are_one_key(server: Server, key: Any, equal: Any) -> None:
    caches: list[Any] = [cache_on(Counter(), slow(url=server.url)) for _ in range(2)]
    assert [await cache.get(key) for cache in caches] == [f"{key}#1"] * 2
    caches[0].invalidate(equal)
    assert await caches[0].settled()
    await until(lambda: caches[1].peek(key) is None)
    assert await caches[0].get(key) == f"{key}#2"
    for cache in caches:
        await cache.aclose()


async def test_a_client_without_timeouts_is_given_up_by_the_tier_and_used_again(
    server: Server,
) -> None:
    """Lose what was sent without a word, as a firewall does that has forgotten a connection."""
    load = Counter()
    async with PausableProxy(server.port) as proxy:
        client: Any = redis.asyncio.Redis(port=proxy.port, socket_timeout=None)
        behind = cache_on(load, RedisTier(client=client, namespace="n", timeout=0.1, heartbeat=0.2))
        beside = cache_on(load, slow(url=server.url))
        assert await behind.get("a") == await beside.get("a") == "a#1"
        proxy.close()
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            for key in "bcd":
                group.create_task(behind.get(key))
                for _ in range(10):  # each is sent by itself
                    await asyncio.sleep(0)
        assert behind.stats().shared_bypassed == 3
        proxy.open(silently=True)
        await until_shared(behind, beside)
        for cache in (behind, beside):
            await cache.aclose()
        await client.aclose()


async def test_one_timeout_ends_after_a_server_that_died_in_the_middle_of_an_exchange(
    own_server: Server,
) -> None:
    """The exchange and the subscription fail in one turn of the loop then."""
    tier = RedisTier(own_server.url, namespace="n", timeout=0.5, heartbeat=30.0)
    cache = cache_on(Counter(), tier)
    for key in "bcd":
        await cache.get("a")
        own_server.stop()
        call = asyncio.create_task(cache.get(key))
        for _ in range(10):  # it is sent
            await asyncio.sleep(0)
        own_server.kill()
        await call
        own_server.start()
        await until(lambda: repr(tier).endswith(" up>"))
    own_server.stop()
    await cache.get("e")
    assert repr(tier).endswith(" down>")
    own_server.go_on()
    await until(lambda: repr(tier).endswith(" up>"))
    await cache.aclose()


async def test_a_server_that_refuses_what_is_needed_is_asked_more_and_more_rarely(
    own_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heartbeats, which only read, go on, and say nothing of what is refused."""
    monkeypatch.setattr("wolf_async.shared.link._REFUSED", 0.05)
    with own_server.client() as client:
        rights = "~wolf1:* resetchannels &wolf1:* +@all -hset"
        client.execute_command("ACL", "SETUSER", "half", "on", ">p", *rights.split())
    url = f"redis://half:p@127.0.0.1:{own_server.port}/0"
    cache = cache_on(Counter(), RedisTier(url, namespace="n", timeout=2.0, heartbeat=0.02))
    for number in range(100):
        await cache.get(f"{number}")
        await asyncio.sleep(0.02)
    assert own_server.calls("hmget") < 10, "each time the pause is twice as long"
    await cache.aclose()


@pytest.mark.parametrize("user", ["app:p", "app:wrong", "nobody:p"])
async def test_a_server_that_lets_nobody_listen_is_asked_more_and_more_rarely(
    own_server: Server, monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    monkeypatch.setattr("wolf_async.shared.link._REFUSED", 0.05)
    monkeypatch.setattr("wolf_async.shared.link._MAX_PAUSE", 0.05)
    with own_server.client() as client:
        rights = "on >p ~wolf1:* resetchannels +@all"
        client.execute_command("ACL", "SETUSER", "app", *rights.split())
        before = client.info("stats")["total_connections_received"]
        url = f"redis://{user}@127.0.0.1:{own_server.port}/0"
        cache = cache_on(Counter(), RedisTier(url, namespace="n", timeout=2.0))
        await cache.get("a")
        await asyncio.sleep(2)
        tries = client.info("stats")["total_connections_received"] - before
    assert tries < 12, "each time the pause is twice as long"
    await cache.aclose()


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


@pytest.mark.parametrize("closing", [True, False])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of redis-py
def test_a_loop_ends_at_whatever_moment_of_an_exchange(
    server: Server, caplog: pytest.LogCaptureFixture, closing: bool
) -> None:
    async def use(turns: int) -> None:
        await cache.get("a")
        cache.invalidate("b")
        for _ in range(turns):
            await asyncio.sleep(0)
        if closing:
            async with asyncio.timeout(10):
                await cache.aclose()

    cache = cache_on(Counter(), slow(url=server.url))
    for turns in range(25):
        asyncio.run(use(turns))
        if closing:
            cache = cache_on(Counter(), slow(url=server.url))
    asyncio.run(cache.aclose())
    gc.collect()
    assert caplog.messages == []


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


async def test_closing_twice_at_once_ends_every_connection(server: Server) -> None:
    """The second may come in the middle of the clean-up of the first."""
    with server.client() as client:
        before = len(client.client_list())
        left: list[int] = []
        for turns in range(25):
            cache = cache_on(Counter(), slow(url=server.url))
            await asyncio.gather(*map(cache.get, "abc"))
            cache.invalidate("a")
            closing = asyncio.create_task(cache.aclose())
            for _ in range(turns):
                await asyncio.sleep(0)
            await asyncio.gather(closing, cache.aclose())
            with suppress(TimeoutError):
                await until(lambda: len(client.client_list()) <= before, 0.5)
            left.append(len(client.client_list()) - before)
    assert left == [0] * 25


async def test_what_is_pending_is_sent_before_closing(server: Server) -> None:
    one, two = cache_on(Counter(), slow(url=server.url)), cache_on(Counter(), slow(url=server.url))
    await one.get("a")
    assert await two.get("a") == "a#1"
    one.invalidate("a")
    await one.aclose()
    await until(lambda: two.peek("a") is None)
    await two.aclose()

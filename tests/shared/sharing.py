"""Caches on a tier, and what it means that they share."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from shared.fake import TextCodec
from shared.servers import until
from wolf_async.cache import LoadingCache
from wolf_async.policy import CachePolicy
from wolf_async.shared import RedisTier


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


async def until_shared(one: LoadingCache[str, str], two: LoadingCache[str, str]) -> None:
    """Ask both, which have one loader, for ever new keys until both get the same answer."""
    async with asyncio.timeout(20):
        for number in itertools.count():
            if await one.get(f"{number}") == await two.get(f"{number}"):
                return
            await asyncio.sleep(0.02)

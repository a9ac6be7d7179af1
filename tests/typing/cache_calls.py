"""The cache alone as users write it: type checkers read this file, and nobody runs it."""

from __future__ import annotations

from typing import assert_type

from wolf_async.cache import CacheStats, Loaded, LoadingCache, mark_sent
from wolf_async.policy import CachePolicy
from wolf_async.testing import FakeClock


async def load(key: int) -> str:
    return str(key)


async def load_dated(key: int) -> Loaded[str]:
    return Loaded(str(key), sent_at=12.5)


async def load_in_turn(key: int) -> str:
    mark_sent(12.5)
    return str(key)


def caches() -> None:
    assert_type(LoadingCache(load), LoadingCache[int, str])
    cache: LoadingCache[int, str] = LoadingCache(
        load_dated,
        policy=CachePolicy(max_bytes=2**20),
        sizeof=len,
        clock=FakeClock(),
        is_unwell=lambda error: isinstance(error, OSError),
    )
    assert_type(cache, LoadingCache[int, str])
    assert_type(LoadingCache(load_in_turn, marks_sent=True), LoadingCache[int, str])
    pairs: LoadingCache[tuple[str, str | None], bytes] = LoadingCache(load_pair, policy=None)
    assert_type(pairs.peek(("user", None)), bytes | None)


async def load_pair(key: tuple[str, str | None]) -> bytes:
    return key[0].encode()


async def calls(cache: LoadingCache[int, str]) -> None:
    assert_type(await cache.get(1), str)
    assert_type(await cache.get(1, max_age=0), str)
    assert_type(cache.peek(1, max_age=5), str | None)
    assert_type(cache.held(1), str | None)
    assert_type(cache.invalidate(1), bool)
    assert_type(cache.clear(), None)
    assert_type(await cache.settled(), bool)
    assert_type(cache.is_closed, bool)
    stats = assert_type(cache.stats(), CacheStats)
    assert_type(stats.in_flight, int)
    assert_type(await cache.aclose(), None)

"""Part ``scale``: what a hundred thousand entries do to the worst single call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from time import thread_time
from typing import Any

from cachetools import TTLCache

from benchmarks.harness import Effort, Figure, Samples, beside, uncollected
from benchmarks.subjects import OfflineClient, tiny
from wolf_async import CachePolicy
from wolf_async.testing import FakeClock

CLIENT, TTL_CACHE = "`client.task_init`", "`cachetools.TTLCache`"
BEFORE = "the worst call when nothing has expired"
_SIZES = (1_000, 100_000)
_TTL = 60.0
_OPERATIONS = 2_000

Subject = Callable[[int, int], Coroutine[Any, Any, tuple[float, float]]]
"""Gives the seconds of the worst call, before and after everything has expired."""


def _named(what: str, count: int) -> list[str]:
    return [f"{what}-{number}" for number in range(count)]


async def _worst(call: Callable[[str], Awaitable[object]], users: list[str]) -> float:
    """Time the longest call on the thread's own clock: time that others had does not count."""
    longest = 0.0
    for user in users:
        begin = thread_time()
        await call(user)
        longest = max(longest, thread_time() - begin)
    return longest


async def _client(size: int, operations: int) -> tuple[float, float]:
    """Fill a client under a clock that stands still, then evict, then let everything expire."""
    clock = FakeClock()
    policy = CachePolicy(ttl=_TTL, max_entries=size)
    async with OfflineClient(tiny, cache=policy, clock=clock) as client:
        await _worst(client.task_init, users := _named("user", size))
        before = await _worst(client.task_init, _named("new", operations))
        clock.advance(2 * _TTL)
        # what has expired is met in two ways: by who asks for it, and by who needs the room
        half = operations // 2
        return before, await _worst(client.task_init, users[-half:] + _named("newer", half))


async def _ttl_cache(size: int, operations: int) -> tuple[float, float]:
    """Measure the same of ``TTLCache``, which has no loads: an insert is an assignment."""
    clock = FakeClock()
    cache: TTLCache[str, object] = TTLCache(maxsize=size, ttl=_TTL, timer=clock)

    async def insert(user: str) -> None:
        cache[user] = user

    await _worst(insert, _named("user", size))
    before = await _worst(insert, _named("new", operations))
    clock.advance(2 * _TTL)
    return before, await _worst(insert, _named("newer", operations))


def _repeated(effort: Effort, who: str, subject: Subject, size: int) -> Samples:
    """Repeat an odd number of times: one busy moment must not decide which call was the worst."""
    operations = max(2, min(effort.count(_OPERATIONS), size // 2))
    samples: dict[str, list[float]] = {BEFORE: [], who: []}
    with effort.runner() as runner:
        for _ in range(effort.fewer(4) | 1):
            with uncollected():
                before, after = runner.run(subject(size, operations))
            samples[BEFORE].append(before)
            samples[who].append(after)
    return samples


def scale(effort: Effort) -> list[Figure]:
    """Find the worst single call of the client, and of ``TTLCache`` beside it."""
    figures: list[Figure] = []
    for size in (effort.count(size) for size in _SIZES):
        case = f"everything expired, {size:,} entries"
        title = f"Worst call when {size:,} answers have expired"
        ours = _repeated(effort, CLIENT, _client, size)
        figures.append(beside(ours, CLIENT, BEFORE, case=case, reach=3.0, title=title))
        theirs = _repeated(effort, TTL_CACHE, _ttl_cache, size)
        figures.append(beside(theirs, TTL_CACHE, BEFORE, case=case, peer=True))
    return figures

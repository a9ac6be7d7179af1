"""Part ``scale``: what a thousand, a hundred thousand and a million entries do to each operation."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from importlib import import_module
from itertools import count
from statistics import median
from time import process_time, thread_time_ns
from typing import Any

from benchmarks.harness import Effort, Figure, Spread, spread, uncollected
from benchmarks.peers import installed
from benchmarks.subjects import TinyClient
from wolf_async import CachePolicy
from wolf_async.testing import FakeClock

__all__ = ["scale"]

_SIZES = (1_000, 100_000, 1_000_000)
_TTL = 60.0
_OPERATIONS = 2_000
_LOOKUPS = 20_000

HIT, INSERT, EVICT, EXPIRE, BARE = "hit", "insert", "evict", "expire", "bare dictionary"
WORST, WORST_EXPIRED = "worst call, nothing expired", "worst call, everything expired"
Measured = dict[str, float]


class _Subject:
    """A cache of some size under a clock that stands still until it is told to move."""

    def __init__(self, size: int) -> None:
        self.clock = FakeClock()
        self.client = TinyClient(cache=CachePolicy(ttl=_TTL, max_entries=size), clock=self.clock)
        self.users = [f"user-{number}" for number in range(size)]
        self.fresh_names = (f"new-{number}" for number in count())

    async def insert(self) -> None:
        await self.client.task_init(next(self.fresh_names))


async def _hits(seed: int, call: Callable[[str], Awaitable[object]], users: list[str]) -> float:
    # keys of its own for each: who comes second would find those of the first in the processor's caches
    chosen = random.Random(seed).choices(users, k=_LOOKUPS)
    for user in chosen[: _LOOKUPS // 10]:
        await call(user)
    begin = process_time()
    for user in chosen:
        await call(user)
    return (process_time() - begin) / _LOOKUPS


async def _each(operation: Callable[[], Awaitable[object]], times: int) -> list[int]:
    """Nanoseconds of each call, on the thread's own clock: time that others had the processor does not count."""
    taken: list[int] = []
    for _ in range(times):
        begin = thread_time_ns()
        await operation()
        taken.append(thread_time_ns() - begin)
    return taken


async def _client(size: int, operations: int) -> Measured:
    subject = _Subject(size)
    client = subject.client
    held: dict[tuple[str, str | None], object] = {}
    await client.fill(subject.users[:-operations])
    inserts = await _each(_inserting(client, subject.users[-operations:]), operations)
    for user in subject.users:
        held[user, None] = (user,)

    async def bare(user: str) -> object:
        return held[user, None]

    bare_hit, hit = (
        await _hits(1, bare, subject.users),
        await _hits(2, client.task_init, subject.users),
    )
    evictions = await _each(subject.insert, operations)
    subject.clock.advance(2 * _TTL)
    # both ways in which what has expired is met: by who asks for it, and by who needs the room
    expiries = await _each(_inserting(client, subject.users[-operations:]), operations // 2)
    expiries += await _each(subject.insert, operations // 2)
    await client.aclose()
    return {
        HIT: hit,
        BARE: bare_hit,
        INSERT: median(inserts),
        EVICT: median(evictions),
        EXPIRE: median(expiries),
        WORST: max(evictions),
        WORST_EXPIRED: max(expiries),
    }


def _inserting(client: TinyClient, users: list[str]) -> Callable[[], Awaitable[object]]:
    names = iter(users)
    return lambda: client.task_init(next(names))


async def _ttl_cache(size: int, operations: int) -> Measured:
    """The same of ``cachetools.TTLCache``, which has no loads: an insert is an assignment."""
    clock = FakeClock()
    cache: Any = import_module("cachetools").TTLCache(maxsize=size, ttl=_TTL, timer=clock)
    for number in range(size):
        cache[f"user-{number}"] = number
    names = count()

    async def insert() -> None:
        cache[f"new-{next(names)}"] = None

    evictions = await _each(insert, operations)
    clock.advance(2 * _TTL)
    expiries = await _each(insert, operations)
    return {WORST: max(evictions), WORST_EXPIRED: max(expiries)}


Subject = Callable[[int, int], Awaitable[Measured]]


def _repeated(effort: Effort, subject: Subject, size: int, rounds: int) -> list[Measured]:
    operations = max(2, min(effort.count(_OPERATIONS), size // 2))
    results: list[Measured] = []
    with effort.runner() as runner:

        async def once() -> Measured:
            return await subject(size, operations)

        for _ in range(rounds):
            with uncollected():
                results.append(runner.run(once()))
    return results


def _against(measured: list[Measured], name: str, limits: list[Measured], against: str) -> Spread:
    limit = median(each[against] for each in limits)
    return spread([each[name] / limit for each in measured])


def _worst(who: str, size: int, measured: list[Measured], reach: float | None) -> Figure:
    return Figure(
        part="scale",
        name=f"{who}, {WORST_EXPIRED}, {size:,} entries",
        value=_against(measured, WORST_EXPIRED, measured, WORST),
        against=WORST,
        reach=reach,
        note=f"{median(each[WORST_EXPIRED] for each in measured) / 1e6:.2f} ms here",
    )


def _flat(size: int, few: int, measured: list[Measured], first: list[Measured]) -> Figure:
    """A hit beside one with few entries, to which is added what the dictionary alone got slower by.

    Added, not multiplied: a miss of the processor's caches costs the same nanoseconds whoever has it, and a quotient
    of quotients would flatter whoever is slower to begin with.
    """
    growth = median(each[BARE] for each in measured) - median(each[BARE] for each in first)
    expected = median(each[HIT] for each in first) + growth
    itself, bare = _against(measured, HIT, first, HIT), _against(measured, BARE, first, BARE)
    return Figure(
        part="scale",
        name=f"hit, {size:,} entries",
        value=spread([each[HIT] / expected for each in measured]),
        against=f"itself at {few:,}, and the bare dictionary's growth",
        reach=1.5,
        note=f"itself {itself.median:.2f}, the bare dictionary {bare.median:.2f}",
    )


def scale(effort: Effort) -> list[Figure]:
    """Each operation against itself with a thousand entries, and the worst single call."""
    figures: list[Figure] = []
    sizes = [effort.count(size) for size in _SIZES]
    # an odd number of the long ones: between two, one busy moment would decide which call was the worst
    rounds = dict(zip(sizes, (effort.fewer(4), effort.fewer(4), effort.fewer(13)), strict=True))
    results = {size: _repeated(effort, _client, size, rounds[size]) for size in sizes}
    first = results[sizes[0]]
    for size in sizes[1:]:
        measured = results[size]
        figures.append(_flat(size, sizes[0], measured, first))
        figures += [
            Figure(
                part="scale",
                name=f"{name}, {size:,} entries",
                value=_against(measured, name, first, name),
                against=f"itself at {sizes[0]:,}",
            )
            for name in (INSERT, EVICT, EXPIRE)
        ]
    figures += [_worst("`client.task_init`", size, results[size], 3.0) for size in sizes]
    if installed("cachetools"):
        for size in sizes:
            measured = _repeated(effort, _ttl_cache, size, rounds[size])
            figures.append(_worst("`cachetools.TTLCache`", size, measured, None))
    return figures

"""Parts ``waiting``, ``failure`` and ``leaving``: many callers on one load."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from time import process_time
from typing import Any, NamedTuple

from benchmarks.harness import Effort, Figure, Samples, awaited, interleave, ratio
from benchmarks.peers import Load, as_coroutines, peers
from benchmarks.subjects import SUB, TINY, USER, OfflineClient
from wolf_async import Account, WolfConnectionError
from wolf_async.cache import LoadingCache

__all__ = ["failure", "leaving", "waiting"]

CLIENT = "`client.task_init`"
CACHE = "`LoadingCache.get`"
FUTURE = "one bare future"
OWN = "a bare future for each"
EACH = "a bare future per waiter"
ASYNC_LRU = "async-lru"
SHIELD = "`asyncio.shield(task)` per waiter"
_SIZES = (1_000, 10_000)
# how much more, and less, often than others: some peers take fifty times as long, and for them a few rounds tell enough
_OFTEN, _SELDOM = 3, 5

Call = Callable[[str, str], Coroutine[Any, Any, Any]]
"""What a caller does, with the ids of an account: all are called alike, so that no wrapper is on anybody's bill."""


class Gate:
    """Holds a load back until it is opened, with a value or an error."""

    def __init__(self) -> None:
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def open(self, error: Exception | None = None) -> None:
        if error is None:
            # the decode has a part of its own, and only the client decodes
            self.future.set_result(TINY)
        else:
            self.future.set_exception(error)


class Crowd(NamedTuple):
    """A load that is held back, made anew for each round."""

    gate: Gate
    call: Call
    user_id: str = USER


Gather = Callable[[], Crowd]


def _future() -> Crowd:
    gate = Gate()

    async def call(user_id: str, sub_user_id: str) -> object:
        return await gate.future

    return Crowd(gate, call)


def _own_futures() -> Crowd:
    """What lets callers leave alone most simply: a future for each, and one that tells them all."""
    gate = Gate()
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[bytes]] = []

    def tell(done: asyncio.Future[bytes]) -> None:
        for future in futures:
            if not future.done():
                future.set_result(done.result())

    gate.future.add_done_callback(tell)

    async def call(user_id: str, sub_user_id: str) -> object:
        future = loop.create_future()
        futures.append(future)
        return await future

    return Crowd(gate, call)


def _future_each() -> Crowd:
    gate = Gate()
    loop = asyncio.get_running_loop()

    async def call(user_id: str, sub_user_id: str) -> object:
        return await loop.create_future()

    return Crowd(gate, call)


def _shield() -> Crowd:
    gate = Gate()

    async def load() -> object:
        return await gate.future

    task = asyncio.ensure_future(load())

    async def call(user_id: str, sub_user_id: str) -> object:
        return await asyncio.shield(task)

    return Crowd(gate, call)


def _client() -> Crowd:
    gate = Gate()

    async def upstream(account: Account) -> bytes:
        return await gate.future

    client = OfflineClient(upstream)
    return Crowd(gate, client.task_init)


def _cache() -> Crowd:
    gate = Gate()

    async def load(key: tuple[str, str]) -> bytes:
        return await gate.future

    cache = LoadingCache(load)

    def call(user_id: str, sub_user_id: str) -> Coroutine[Any, Any, bytes]:
        return cache.get((user_id, sub_user_id))

    return Crowd(gate, call)


def _peer(cached: Callable[[Load], Load]) -> Gather:
    # made once: theine never lets go of a cache, and others register theirs
    gates: list[Gate] = []

    async def load(user_id: str, sub_user_id: str | None) -> bytes:
        return await gates[-1].future

    call = as_coroutines(cached(load))

    def crowd() -> Crowd:
        gates.append(Gate())
        return Crowd(gates[-1], call, f"{USER}-{len(gates)}")

    return crowd


async def _until_done(tasks: list[asyncio.Task[Any]]) -> None:
    # no event: a callback for each task would be a good part of what is measured
    while not all(task.done() for task in tasks):  # noqa: ASYNC110
        await asyncio.sleep(0)


async def _served(gather: Gather, callers: int, error: Exception | None = None) -> float:
    """CPU per caller from the first call to the last outcome."""
    loop = asyncio.get_running_loop()
    gate, call, user_id = gather()
    if error is not None:
        call = _forgiving(call)
    begin = process_time()
    tasks = [loop.create_task(call(user_id, SUB)) for _ in range(callers)]
    await asyncio.sleep(0)
    gate.open(error)
    await _until_done(tasks)
    taken = process_time() - begin
    for task in tasks:
        task.result()
    return taken / callers


def _forgiving(call: Call) -> Call:
    async def forgiving(user_id: str, sub_user_id: str) -> object:
        try:
            return await call(user_id, sub_user_id)
        except WolfConnectionError:
            return None

    return forgiving


async def _left(gather: Gather, callers: int, *, apart: bool = False) -> float:
    """CPU per caller from the first cancellation to the last end; each in a turn of the loop of its own if ``apart``."""
    loop = asyncio.get_running_loop()
    gate, call, user_id = gather()
    tasks = [loop.create_task(call(user_id, SUB)) for _ in range(callers)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    begin = process_time()
    for task in tasks:
        task.cancel()
        if apart:
            await asyncio.sleep(0)
    await _until_done(tasks)
    taken = process_time() - begin
    assert all(task.cancelled() for task in tasks)
    gate.future.cancel()  # ends a load that goes on without waiters
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return taken / callers


Measure = Callable[[Gather, int], Awaitable[float]]


def _measured(
    effort: Effort, crowds: dict[str, Gather], sizes: list[int], measure: Measure, rounds: int
) -> Samples:
    """Samples by size and name: the sizes take turns too."""
    with effort.runner() as runner:

        async def mean(gather: Gather, size: int) -> float:
            # small crowds several times over: each measurement is to be as long as that of a large one
            crowds = max(1, sizes[-1] // size // 2)
            return sum([await measure(gather, size) for _ in range(crowds)]) / crowds

        variants = {
            f"{size} {name}": awaited(runner, mean, gather, size)
            for size in sizes
            for name, gather in crowds.items()
        }
        return interleave(variants, rounds)


def _figure(
    samples: Samples,
    part: str,
    name: str,
    size: int,
    limit: str,
    *,
    reach: float | None = None,
    against: str = "",
    note: str = "",
) -> Figure:
    """A crowd of that size beside another way of having one; ``reach`` is for the client."""
    return Figure(
        part=part,
        name=f"{name}, {size:,} {'waiters' if part == 'leaving' else 'callers'}",
        value=ratio(samples, f"{size} {name}", f"{size} {limit}"),
        against=against or limit,
        reach=reach if name == CLIENT else None,
        note=note,
    )


def waiting(effort: Effort) -> list[Figure]:
    """Callers that wait for a load which succeeds."""
    sizes = [effort.count(size) for size in _SIZES]
    ours = {FUTURE: _future, CLIENT: _client, CACHE: _cache, OWN: _own_futures}
    does = {peer.name: peer.does for peer in peers(coalescing=True)}
    others = {peer.name: _peer(peer.cached) for peer in peers(coalescing=True)}
    samples = _measured(effort, ours, sizes, _served, effort.rounds * _OFTEN)
    beside = _measured(
        effort, {FUTURE: _future, CLIENT: _client, **others}, sizes, _served, effort.fewer(_SELDOM)
    )
    figures: list[Figure] = []
    for size in sizes:
        figures += [
            _figure(samples, "waiting", name, size, FUTURE, reach=1.25) for name in (CLIENT, CACHE)
        ]
        note = "the simplest that lets callers leave alone; no look-up"
        figures.append(_figure(samples, "waiting", OWN, size, FUTURE, note=note))
        figures += [
            _figure(beside, "waiting", name, size, FUTURE, note=does[name]) for name in others
        ]
        if ASYNC_LRU in others:
            figures.append(_figure(beside, "waiting", CLIENT, size, ASYNC_LRU, reach=0.5))
    return figures


def failure(effort: Effort) -> list[Figure]:
    """Callers that wait for a load which fails."""
    size = effort.count(_SIZES[0])

    async def failed(gather: Gather, callers: int) -> float:
        return await _served(gather, callers, WolfConnectionError("the load has failed"))

    others = {peer.name: _peer(peer.cached) for peer in peers(coalescing=True)}
    ours = {FUTURE: _future, CLIENT: _client, CACHE: _cache}
    samples = _measured(effort, ours, [size], failed, effort.rounds * _OFTEN)
    beside = _measured(effort, {FUTURE: _future, **others}, [size], failed, effort.fewer(_SELDOM))
    limit = f"{FUTURE} with one shared exception object"

    def figure(samples: Samples, name: str, note: str) -> Figure:
        return _figure(samples, "failure", name, size, FUTURE, reach=1.5, against=limit, note=note)

    return [
        figure(samples, name, "an exception object for each caller") for name in (CLIENT, CACHE)
    ] + [figure(beside, name, "one shared exception") for name in others]


def leaving(effort: Effort) -> list[Figure]:
    """Callers that are all cancelled while they wait."""
    few, many = (effort.count(size) for size in _SIZES)
    others = {SHIELD: _shield}
    others |= {
        peer.name: _peer(peer.cached) for peer in peers(coalescing=True) if peer.name == ASYNC_LRU
    }
    ours = {EACH: _future_each, CLIENT: _client, CACHE: _cache}
    samples = _measured(effort, ours, [few, many], _left, effort.rounds)
    beside = _measured(effort, {EACH: _future_each, **others}, [few, many], _left, effort.fewer(10))
    apart = _measured(effort, ours, [few], partial(_left, apart=True), effort.fewer(_SELDOM))
    figures: list[Figure] = []
    for crowds, names in ((samples, (CLIENT, CACHE)), (beside, tuple(others))):
        figures += [
            _figure(crowds, "leaving", name, size, EACH, reach=1.5)
            for name in names
            for size in (few, many)
        ]
    figures += [
        Figure(
            part="leaving",
            name=f"{name}, {few:,} waiters one after the other",
            value=ratio(apart, f"{few} {name}", f"{few} {EACH}"),
            against=EACH,
            note="others are woken too, each at most once",
        )
        for name in (CLIENT, CACHE)
    ]
    for crowds, names in ((samples, (EACH, CLIENT, CACHE)), (beside, tuple(others))):
        figures += [
            Figure(
                part="leaving",
                name=f"{name}, per waiter at {many:,}",
                value=ratio(crowds, f"{many} {name}", f"{few} {name}"),
                against=f"itself at {few:,}",
                reach=1.5 if name == CLIENT else None,
                note="what more memory costs anybody" if name == EACH else "",
            )
            for name in names
        ]
    return figures

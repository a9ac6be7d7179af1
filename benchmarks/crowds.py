"""Parts ``waiting``, ``failure`` and ``leaving``: many callers on one load."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from time import process_time
from typing import Any, NamedTuple

from benchmarks.harness import Effort, Figure, Samples, awaited, beside, beside_all, interleave
from benchmarks.peers import Load, as_coroutines, peers
from benchmarks.subjects import SUB, TINY, USER, OfflineClient
from wolf_async import WolfConnectionError

CLIENT = "`client.task_init`"
FUTURE = "one bare future"
EACH = "a bare future per waiter"
_FEW, _MANY = 1_000, 10_000

Call = Callable[[str, str], Coroutine[Any, Any, Any]]
"""What a caller does, with the ids of an account: all are called alike, so no wrapper counts."""


class Crowd(NamedTuple):
    """A load that waits for ``gate``, made anew for each round."""

    gate: asyncio.Future[bytes]
    call: Call
    user_id: str = USER


Gather = Callable[[], Crowd]
Measure = Callable[[Gather, int], Awaitable[float]]


def _gate() -> asyncio.Future[bytes]:
    return asyncio.get_running_loop().create_future()


def _future() -> Crowd:
    gate = _gate()

    async def call(user_id: str, sub_user_id: str) -> object:
        return await gate

    return Crowd(gate, call)


def _future_each() -> Crowd:
    async def call(user_id: str, sub_user_id: str) -> object:
        return await _gate()

    return Crowd(_gate(), call)


def _client() -> Crowd:
    gate = _gate()
    return Crowd(gate, OfflineClient(lambda account: gate).task_init)


def _peer(cached: Callable[[Load], Load]) -> Gather:
    # made once: theine never lets go of a cache, and others register theirs
    gates: list[asyncio.Future[bytes]] = []

    async def load(user_id: str, sub_user_id: str | None) -> bytes:
        return await gates[-1]

    call = as_coroutines(cached(load))

    def crowd() -> Crowd:
        gates.append(_gate())
        return Crowd(gates[-1], call, f"{USER}-{len(gates)}")

    return crowd


async def _until_done(tasks: list[asyncio.Task[Any]]) -> None:
    # no event: a callback for each task would be a good part of what is measured
    while not all(task.done() for task in tasks):  # noqa: ASYNC110
        await asyncio.sleep(0)


async def _served(gather: Gather, callers: int, error: Exception | None = None) -> float:
    """Measure CPU per caller from the first call to the last outcome."""
    loop = asyncio.get_running_loop()
    gate, call, user_id = gather()
    begin = process_time()
    tasks = [loop.create_task(call(user_id, SUB)) for _ in range(callers)]
    await asyncio.sleep(0)
    if error is None:
        gate.set_result(TINY)  # the decode has a part of its own, and only the client decodes
    else:
        gate.set_exception(error)
    await _until_done(tasks)
    taken = process_time() - begin
    assert all((task.exception() is None) is (error is None) for task in tasks)
    return taken / callers


async def _failed(gather: Gather, callers: int) -> float:
    return await _served(gather, callers, WolfConnectionError("the load has failed"))


async def _left(gather: Gather, callers: int, *, apart: bool = False) -> float:
    """Measure CPU per caller from the first cancellation to the last end.

    With ``apart`` each leaves in a turn of the loop of its own.
    """
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
    gate.cancel()  # ends a load that goes on without waiters
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return taken / callers


def _measured(effort: Effort, gathers: dict[str, Gather], size: int, measure: Measure) -> Samples:
    """Let the crowds take turns, small ones with several loads in each of their turns."""
    times, rounds = (1, effort.fewer(4)) if size >= _MANY else (3, effort.rounds)
    with effort.runner() as runner:

        async def mean(gather: Gather) -> float:
            return sum([await measure(gather, effort.count(size)) for _ in range(times)]) / times

        variants = {name: awaited(runner, mean, gather) for name, gather in gathers.items()}
        # some peers take fifty times as long as the others: of large crowds, a few rounds
        return interleave(variants, rounds)


def _beside_peers(effort: Effort, measure: Measure, size: int, **ours: Any) -> list[Figure]:
    """Measure the client and all peers beside one bare future."""
    others = {peer.name: _peer(peer.cached) for peer in peers(coalescing=True)}
    samples = _measured(effort, {FUTURE: _future, CLIENT: _client, **others}, size, measure)
    return beside_all(samples, CLIENT, FUTURE, f"{size:,} callers", **ours)


def waiting(effort: Effort) -> list[Figure]:
    """Measure callers that wait for a load which succeeds."""
    figures: list[Figure] = []
    for size in (_FEW, _MANY):
        ours = {"reach": 1.6, "title": f"Waiting, {size:,} callers on one load"}
        figures += _beside_peers(effort, _served, size, plotted=size == _FEW, **ours)
    return figures


def failure(effort: Effort) -> list[Figure]:
    """Measure callers that wait for a load which fails."""
    title = "Failure, 1,000 callers, an error object each"
    return _beside_peers(effort, _failed, _FEW, reach=1.8, title=title)


def leaving(effort: Effort) -> list[Figure]:
    """Measure callers that are all cancelled while they wait."""
    gathers: dict[str, Gather] = {EACH: _future_each, CLIENT: _client}
    apart = _measured(effort, gathers, _FEW, partial(_left, apart=True))
    others = {each.name: _peer(each.cached) for each in peers() if each.name == "async-lru"}
    samples = _measured(effort, gathers | others, _MANY, _left)
    title = "Leaving, one after the other"
    ours: dict[str, Any] = {"title": "Leaving, 10,000 callers at once", "plotted": True}
    return [
        *beside_all(samples, CLIENT, EACH, f"{_MANY:,} waiters", reach=1.5, **ours),
        beside(apart, CLIENT, EACH, case=title.lower(), reach=1.2, title=title),
    ]

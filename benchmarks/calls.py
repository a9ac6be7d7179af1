"""Parts ``miss`` and ``storm``: over HTTP, to an upstream in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from importlib import import_module
from itertools import count
from time import perf_counter, process_time
from typing import Any

import aiohttp

from benchmarks.harness import Effort, Figure, Variant, awaited, beside_all, interleave, spread
from benchmarks.peers import Load, as_coroutines, installed, peers
from benchmarks.server import upstream
from benchmarks.subjects import TOKEN, decoder, request_url
from benchmarks.twins import pydantic_envelope
from wolf_async import WolfClient

RAW = "raw aiohttp and one typed msgspec decode"
CLIENT = "`client.task_init`"
HTTPX = "httpx and pydantic"
FUTURES = "a bare future per account"
WALL = "wall time"
_AT_ONCE = 50
HEADERS = {"Authorization": f"Bearer {TOKEN}"}

Fetch = Callable[[str], Awaitable[object]]


def fetch_raw(session: aiohttp.ClientSession, url: str) -> Fetch:
    async def fetch(user_id: str) -> object:
        async with session.get(request_url(url, user_id)) as response:
            return decoder.decode(await response.read()).data

    return fetch


def _once_each(fetch: Fetch) -> Fetch:
    """Share a load with the least: a task for each account."""
    loads: dict[str, asyncio.Future[object]] = {}

    async def call(user_id: str) -> object:
        if user_id not in loads:
            loads[user_id] = asyncio.ensure_future(fetch(user_id))
        return await loads[user_id]

    return call


def _httpx(client: Any, url: str) -> Fetch:
    envelope = pydantic_envelope()

    async def fetch(user_id: str) -> object:
        response = await client.get(request_url(url, user_id))
        return envelope.model_validate_json(response.content).data

    return fetch


async def _clients(stack: AsyncExitStack, url: str) -> dict[str, Fetch]:
    """Make what asks for one account, each over one session that keeps its connections."""
    session = await stack.enter_async_context(aiohttp.ClientSession(headers=HEADERS))
    client = await stack.enter_async_context(WolfClient(TOKEN, base_url=url, cache=None))
    fetches: dict[str, Fetch] = {RAW: fetch_raw(session, url), CLIENT: client.task_init}
    if installed("httpx") and installed("pydantic"):
        http = import_module("httpx").AsyncClient(headers=HEADERS)
        fetches[HTTPX] = _httpx(await stack.enter_async_context(http), url)
    return fetches


async def cpu_per_call(fetch: Fetch, users: Iterator[int], at_once: int, each: int) -> float:
    """Measure CPU seconds of this process per call, ``at_once`` of them under way at any time."""

    async def worker() -> None:
        for _ in range(each):
            await fetch(f"user-{next(users)}")

    begin = process_time()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    return (process_time() - begin) / (at_once * each)


def miss(effort: Effort) -> list[Figure]:
    """Measure a load over HTTP, distinct accounts, nothing kept."""
    users = count()
    at_once = effort.count(_AT_ONCE)
    with upstream() as url, effort.runner() as runner:
        stack = AsyncExitStack()
        variants: dict[str, Variant] = {}
        for name, fetch in runner.run(_clients(stack, url)).items():
            each = 1 if name == HTTPX else max(1, 8 // effort.shrink)  # httpx is slow enough
            runner.run(cpu_per_call(fetch, users, at_once, 2))  # opens the connections
            variants[name] = awaited(runner, cpu_per_call, fetch, users, at_once, each)
        samples = interleave(variants, effort.rounds)
        runner.run(stack.aclose())
    title = "A miss over HTTP, 50 at once"
    return beside_all(samples, CLIENT, RAW, reach=1.25, title=title, plotted=True)


def _cached(decorate: Callable[[Load], Load], fetch: Fetch) -> Fetch:
    async def load(user_id: str, sub_user_id: str | None) -> object:
        return await fetch(user_id)

    cached = as_coroutines(decorate(load))
    return lambda user_id: cached(user_id, None)


async def _wall(fetch: Fetch, users: list[str]) -> float:
    begin = perf_counter()
    await asyncio.gather(*map(fetch, users))
    return perf_counter() - begin


def storm(effort: Effort) -> list[Figure]:
    """Send many callers for few accounts: nothing held, no connection open, a slow upstream."""
    callers, accounts = effort.count(10_000), effort.count(100)
    shares = {peer.name: partial(_cached, peer.cached) for peer in peers(coalescing=True)}
    sides: dict[str, Callable[[Fetch], Fetch]] = {FUTURES: _once_each, **shares}
    numbers, requests = count(), list[int]()

    def wall(fetch: Fetch) -> Awaitable[float]:
        users = [f"user-{next(numbers)}" for _ in range(accounts)]
        return _wall(fetch, users * (callers // accounts))

    with upstream() as base, effort.runner() as runner:
        url = f"{base}/slow"

        async def ours() -> float:
            async with WolfClient(TOKEN, base_url=url) as client:
                taken = await wall(client.task_init)
                requests.append(client.stats().requests)
                return taken

        async def theirs(share: Callable[[Fetch], Fetch]) -> float:
            async with aiohttp.ClientSession(headers=HEADERS) as session:
                return await wall(share(fetch_raw(session, url)))

        variants = {name: awaited(runner, theirs, share) for name, share in sides.items()}
        samples = interleave({CLIENT: awaited(runner, ours), **variants}, effort.fewer(3))
    what = f"{callers:,} callers, {accounts:,} accounts, all cold"
    return [
        *beside_all(samples, CLIENT, FUTURES, WALL, reach=1.5, title=what, plotted=True),
        Figure(who=CLIENT, case=what, value=spread(requests), unit="requests", reach=accounts),
    ]

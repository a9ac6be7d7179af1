"""Parts ``miss`` and ``storm``: over HTTP, to an upstream in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from importlib import import_module
from itertools import count
from time import perf_counter, process_time
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from benchmarks.harness import Effort, Figure, Variant, awaited, exact, interleave, ratio
from benchmarks.peers import Load, as_coroutines, installed, peers
from benchmarks.server import SLOW, calls_of, upstream
from benchmarks.subjects import decoder, request_url
from benchmarks.twins import pydantic_envelope
from wolf_async import Account, TaskInit, WolfClient
from wolf_async.api import request

__all__ = ["miss", "storm"]

RAW = "raw aiohttp and one typed msgspec decode"
CLIENT = "`client.task_init`"
LEAST = "trimmed aiohttp"
SHARED = "trimmed aiohttp, shared"
BOUNDED = "trimmed aiohttp, shared and bounded"
HTTPX = "httpx and pydantic"
_AT_ONCE = 50
_HEADERS = {"Authorization": "Bearer token"}
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)

_NOTES = {
    LEAST: "no deadline, no cookies, no redirects, nothing shared",
    SHARED: "a task and a future for each request; no deadline, limits or retries",
    BOUNDED: "as before, with `asyncio.timeout` and a semaphore; no retries",
    HTTPX: "no retries, no deadline",
}

Fetch = Callable[[str], Awaitable[object]]


def _raw(session: aiohttp.ClientSession, url: str) -> Callable[[str], Awaitable[TaskInit]]:
    async def fetch(user_id: str) -> TaskInit:
        async with session.get(request_url(url, user_id)) as response:
            return decoder.decode(await response.read()).data

    return fetch


def _least(session: aiohttp.ClientSession, url: str) -> Callable[[str], Awaitable[TaskInit]]:
    """The least that aiohttp's options come down to."""
    base = urlsplit(url)

    async def fetch(user_id: str) -> TaskInit:
        asked = URL(request.request_url(base, Account(user_id, None)), encoded=True)
        response = await session.get(asked, allow_redirects=False, timeout=_NO_TIMEOUT)
        return decoder.decode(await response.read()).data

    return fetch


def _bounded(fetch: Fetch) -> Fetch:
    """What a careful caller of aiohttp writes around it: a limit on requests at once, and a deadline."""
    places = asyncio.Semaphore(2 * _AT_ONCE)

    async def call(user_id: str) -> object:
        async with places, asyncio.timeout(10):
            return await fetch(user_id)

    return call


async def _clients(stack: AsyncExitStack, url: str) -> dict[str, Fetch]:
    """What asks for one account, each over one session that keeps its connections."""
    session = await stack.enter_async_context(aiohttp.ClientSession(headers=_HEADERS))
    client = await stack.enter_async_context(WolfClient("token", base_url=url, cache=None))
    bare = await stack.enter_async_context(
        aiohttp.ClientSession(
            headers={**_HEADERS, "Accept": "application/json", "Accept-Encoding": "gzip, deflate"},
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=0),
        )
    )
    least = _least(bare, url)
    fetches: dict[str, Fetch] = {
        RAW: _raw(session, url),
        CLIENT: client.task_init,
        LEAST: least,
        SHARED: _once_each(least),
        BOUNDED: _once_each(_bounded(least)),
    }
    if installed("httpx") and installed("pydantic"):
        envelope = pydantic_envelope()
        http: Any = await stack.enter_async_context(
            import_module("httpx").AsyncClient(headers=_HEADERS)
        )

        async def fetch(user_id: str) -> object:
            response = await http.get(request_url(url, user_id))
            return envelope.model_validate_json(response.content).data

        fetches[HTTPX] = fetch
    return fetches


async def _cpu_per_call(fetch: Fetch, users: count[int], at_once: int, each: int) -> float:
    """CPU seconds of this process per call, ``at_once`` of them under way at any time."""

    async def worker() -> None:
        for _ in range(each):
            await fetch(f"user-{next(users)}")

    begin = process_time()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    return (process_time() - begin) / (at_once * each)


def miss(effort: Effort) -> list[Figure]:
    """A load over HTTP, distinct accounts, nothing kept."""
    users = count()
    at_once = effort.count(_AT_ONCE)
    with upstream() as url, effort.runner() as runner:
        stack = AsyncExitStack()
        fetches = runner.run(_clients(stack, url))
        variants: dict[str, Variant] = {}
        for name, fetch in fetches.items():
            each = (
                1 if name == HTTPX else max(1, 8 // effort.shrink)
            )  # httpx is slow enough with one
            runner.run(_cpu_per_call(fetch, users, at_once, 2))  # opens the connections
            variants[name] = awaited(runner, _cpu_per_call, fetch, users, at_once, each)
        samples = interleave(variants, effort.rounds)
        runner.run(stack.aclose())
    figures = [
        Figure(
            part="miss",
            name=name,
            value=ratio(samples, name, RAW),
            against=RAW,
            reach=1.0 if name == CLIENT else None,
            note=_NOTES.get(name, ""),
        )
        for name in list(fetches)[1:]
    ]
    if HTTPX in fetches:
        figures.append(
            Figure(
                part="miss",
                name=CLIENT,
                value=ratio(samples, CLIENT, HTTPX),
                against=HTTPX,
                reach=0.5,
            )
        )
    return figures


# --- a storm -----------------------------------------------------------------------------------------------------

FUTURES = "a bare future per account"


def _once_each(fetch: Fetch) -> Fetch:
    """The least that shares a load: a task and a future for each account, let go of when the answer is there."""
    loads: dict[str, tuple[asyncio.Future[object], asyncio.Task[None]]] = {}

    async def load(user_id: str) -> None:
        answer = await fetch(user_id)
        future, _ = loads.pop(user_id)
        future.set_result(answer)

    async def call(user_id: str) -> object:
        if user_id not in loads:
            future = asyncio.get_running_loop().create_future()
            loads[user_id] = future, asyncio.create_task(load(user_id))
        return await loads[user_id][0]

    return call


async def _wall(fetch: Fetch, callers: int, accounts: int, prefix: str) -> float:
    users = [f"{prefix}-{number}" for number in range(accounts)]
    begin = perf_counter()
    await asyncio.gather(*(fetch(users[number % accounts]) for number in range(callers)))
    return perf_counter() - begin


def _cached(decorate: Callable[[Load], Load], fetch: Fetch) -> Fetch:
    async def load(user_id: str, sub_user_id: str | None) -> object:
        return await fetch(user_id)

    cached = as_coroutines(decorate(load))
    return lambda user_id: cached(user_id, None)


def storm(effort: Effort) -> list[Figure]:
    """Many callers, few accounts, nothing held, no connection open, an upstream that takes its time."""
    callers, accounts = effort.count(10_000), effort.count(100)
    others = {peer.name: peer for peer in peers(coalescing=True)}
    prefixes = count()
    with upstream() as base, effort.runner() as runner:
        url = f"{base}/slow"

        async def cold(name: str) -> float:
            prefix = f"user-{next(prefixes)}"
            if name == CLIENT:
                async with WolfClient("token", base_url=url) as client:
                    return await _wall(client.task_init, callers, accounts, prefix)
            async with aiohttp.ClientSession(headers=_HEADERS) as session:
                fetch = _raw(session, url)
                shared = (
                    _once_each(fetch) if name == FUTURES else _cached(others[name].cached, fetch)
                )
                return await _wall(shared, callers, accounts, prefix)

        variants: dict[str, Variant] = {
            name: awaited(runner, cold, name) for name in (FUTURES, CLIENT, *others)
        }
        samples = interleave(variants, effort.fewer(3))
        before = calls_of(base)
        variants[CLIENT]()
        calls = calls_of(base) - before
    what = f"{callers:,} callers, {accounts:,} accounts, {SLOW * 1000:g} ms"
    return [
        Figure(
            part="storm",
            name=f"{CLIENT}, upstream calls",
            value=exact(calls),
            unit="calls",
            against=what,
            reach=accounts,
        ),
        *(
            Figure(
                part="storm",
                name=f"{name}, wall time",
                value=ratio(samples, name, FUTURES),
                against=FUTURES,
                reach=1.5 if name == CLIENT else None,
                note=f"over raw aiohttp; {others[name].does}" if name in others else what,
            )
            for name in (CLIENT, *others)
        ),
    ]

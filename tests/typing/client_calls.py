"""Calls of the client as users write them: type checkers read this file, and nobody runs it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import assert_type

import aiohttp

from wolf_async import (
    Account,
    AccountResult,
    AccountUpdate,
    Answer,
    BreakerPolicy,
    CachePolicy,
    ClientStats,
    Line,
    RawResponse,
    RetryPolicy,
    TaskInit,
    Timeouts,
    WolfClient,
    WolfError,
)
from wolf_async.testing import FakeClock


async def provider() -> str:
    return "token"


async def clients(session: aiohttp.ClientSession) -> None:
    WolfClient()
    WolfClient("token", base_url="https://api.example.com")
    WolfClient(provider, cache=None)
    WolfClient(
        token="token",
        cache=CachePolicy(ttl=10, stale_if_error=300),
        retry=RetryPolicy(attempts=5),
        breaker=BreakerPolicy(failures=5, pause=0.5, max_pause=60),
        timeouts=Timeouts(total=20),
        max_concurrency=20,
        rate_limit=50,
        session=session,
        allow_http=True,
        ssl=ssl.create_default_context(),
        trust_env=True,
        proxy="http://proxy:3128",
        max_body=2**20,
        clock=FakeClock(),
    )
    WolfClient("token", rate_limit=(50.0, 10), breaker=None)
    async with WolfClient("token") as wolf:
        assert_type(wolf, WolfClient)


async def answers(wolf: WolfClient) -> None:
    init = assert_type(await wolf.task_init("user"), TaskInit)
    assert_type(init.caller_line_list, tuple[Line, ...])
    assert_type(await wolf.task_init("user", "sub", max_age=0), TaskInit)
    assert_type(await wolf.task_init(*Account("user", "sub")), TaskInit)
    answer = assert_type(await wolf.answer("user", "sub", max_age=5), Answer)
    assert_type((answer.init, answer.fetched_at), tuple[TaskInit, datetime])
    assert_type((answer.age, answer.is_stale), tuple[float, bool])
    assert_type(await wolf.raw_task_init("user", "sub"), RawResponse)
    assert_type(
        await asyncio.gather(wolf.task_init("a"), wolf.task_init("b")), tuple[TaskInit, TaskInit]
    )


def at_hand(wolf: WolfClient) -> None:
    assert_type(wolf.peek("user"), TaskInit | None)
    assert_type(wolf.peek("user", "sub", max_age=5.0), TaskInit | None)
    assert_type(wolf.peek("user", stale=True), TaskInit | None)
    assert_type(wolf.invalidate("user", "sub"), bool)
    assert_type(wolf.clear(), None)
    stats = assert_type(wolf.stats(), ClientStats)
    assert_type(stats.hits + stats.requests + stats.breaker_opened + stats.shared_hits, int)


async def ids() -> AsyncIterator[Account]:
    yield Account("user")


async def bulk(wolf: WolfClient) -> None:
    wolf.task_init_many(["user", ("user", "sub"), ("user", None), Account("user", "sub")])
    wolf.task_init_many(f"user-{number}" for number in range(10))
    wolf.task_init_many({Account("user"): 1}, concurrency=5, max_age=60, patience=600)
    stream = wolf.task_init_many(ids())
    assert_type(stream, AsyncGenerator[AccountResult, None])
    async with aclosing(stream):
        async for account, init, error in stream:
            assert_type(account, Account)
            assert_type(init, TaskInit | None)
            assert_type(error, WolfError | None)


async def watching(wolf: WolfClient) -> None:
    async with aclosing(wolf.watch("user", "sub", every=2.5)) as inits:
        async for init in inits:
            assert_type(init, TaskInit)


async def watching_many(wolf: WolfClient) -> None:
    wolf.watch_many(["user", ("user", "sub")], every=60)
    updates = wolf.watch_many([Account("user")], every=0.5, unchanged=True)
    assert_type(updates, AsyncGenerator[AccountUpdate, None])
    async with aclosing(updates):
        async for account, answer, error in updates:
            assert_type(account, Account)
            assert_type(answer, Answer | None)
            assert_type(error, WolfError | None)


async def closing(wolf: WolfClient) -> None:
    assert_type(await wolf.aclose(), None)

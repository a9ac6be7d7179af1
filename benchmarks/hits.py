"""Parts ``hit`` and ``peek``: an answer that is held."""

from __future__ import annotations

import asyncio
from typing import Any

from cachetools import FIFOCache

from benchmarks.harness import Effort, Figure, beside, interleave, repeated
from benchmarks.peers import peers
from benchmarks.subjects import SAMPLE, SUB, USER, OfflineClient, decoder
from wolf_async import Account

BARE = "bare function, `d[user_id, sub_user_id]`"
FIFO = "bare function, `FIFOCache[user_id, sub_user_id]` of cachetools"
HIT = "`await client.task_init(u, s)`"
PEEK = "`client.peek(u, s)`"
KEY = (USER, SUB)


async def _upstream(account: Account) -> bytes:
    return SAMPLE


def _client(runner: asyncio.Runner) -> OfflineClient:
    """Make a client that holds the answer."""
    client = OfflineClient(_upstream)
    runner.run(client.task_init(USER, SUB))
    return client


def hit(effort: Effort) -> list[Figure]:
    """Measure a hit that is awaited."""
    init = decoder.decode(SAMPLE).data
    held: dict[Any, Any] = {KEY: init}
    fifo: FIFOCache[Any, Any] = FIFOCache(10_000)
    fifo[KEY] = init

    async def bare(user_id: str, sub_user_id: str) -> Any:
        return held[user_id, sub_user_id]

    async def bare_fifo(user_id: str, sub_user_id: str) -> Any:
        return fifo[user_id, sub_user_id]

    async def load(user_id: str, sub_user_id: str | None) -> Any:
        return init

    others = peers()
    calls: dict[str, Any] = {BARE: bare, FIFO: bare_fifo}
    calls |= {peer.name: peer.cached(load) for peer in others}
    with effort.runner() as runner:
        client = _client(runner)
        ids = {"u": USER, "s": SUB}
        variants = {HIT: repeated(runner, effort.slot, "await c.task_init(u, s)", c=client, **ids)}
        for name, call in calls.items():
            variants[name] = repeated(runner, effort.slot, "await call(u, s)", call=call, **ids)
        samples = interleave(variants, effort.rounds)
        runner.run(client.aclose())
    return [
        beside(samples, HIT, BARE, reach=2.8, title="A hit, awaited", plotted=True),
        beside(samples, FIFO, BARE, note="keeps the entries here; no age, no loads"),
        *(beside(samples, peer.name, BARE, peer=True) for peer in others),
    ]


def peek(effort: Effort) -> list[Figure]:
    """Measure the same without suspending: plain functions."""
    held: dict[Any, Any] = {KEY: decoder.decode(SAMPLE).data}

    def bare(user_id: str, sub_user_id: str) -> Any:
        return held[user_id, sub_user_id]

    with effort.runner() as runner:
        client = _client(runner)
        variants = {
            BARE: repeated(runner, effort.slot, "call(u, s)", call=bare, u=USER, s=SUB),
            PEEK: repeated(runner, effort.slot, "c.peek(u, s)", c=client, u=USER, s=SUB),
        }
        samples = interleave(variants, effort.rounds)
        runner.run(client.aclose())
    return [beside(samples, PEEK, BARE, reach=4.5, title="A hit through `peek`")]

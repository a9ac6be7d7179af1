"""Part ``held``: what an answer weighs, and what many of them cost the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable
from functools import partial
from time import thread_time
from typing import Any

import msgspec

from benchmarks.harness import Effort, Figure, Samples, beside, interleave, spread
from benchmarks.peers import installed
from benchmarks.subjects import SAMPLE, OfflineClient, decoder
from benchmarks.twins import pydantic_envelope
from wolf_async import Account

CLIENT = "in the client's cache"
BARE = "the decoded struct alone"
AN_ANSWER = f"an answer of {len(SAMPLE):,} bytes on the wire"
_WEIGHED = 100
_COLLECTED = 2_000

Hold = Callable[[list[str]], Any]
"""Makes one answer for each user, and gives what holds them."""


def _decoded(decode: Callable[[bytes], Any], users: list[str]) -> Any:
    return [decode(SAMPLE) for _ in users]


def _others() -> dict[str, Hold]:
    others: dict[str, Hold] = {
        BARE: partial(_decoded, lambda body: decoder.decode(body).data),
        "dictionaries": partial(_decoded, lambda body: msgspec.json.decode(body)["data"]),
    }
    if installed("pydantic"):
        validate = pydantic_envelope().model_validate_json
        others["pydantic"] = partial(_decoded, lambda body: validate(body).data)
    return others


async def _upstream(account: Account) -> bytes:
    return bytes(memoryview(SAMPLE))  # another object each time, as from the wire


def _in_client(runner: asyncio.Runner, users: list[str]) -> Any:
    client = OfflineClient(_upstream)

    async def load() -> None:
        for user in users:
            await client.task_init(user)

    runner.run(load())
    return client


def _bytes_each(hold: Hold, count: int) -> float:
    """Weigh two holders of different sizes, so that what there is one of does not count."""

    def traced(users: list[str]) -> int:
        tracemalloc.start()
        holder = hold(users)
        gc.collect()
        traced_bytes, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        del holder
        return traced_bytes

    users = [f"{number:08}-5ac2-4c6e-ba13-d2f8f124862b" for number in range(2 * count)]
    return (traced(users) - traced(users[:count])) / count


def _collection(hold: Hold, count: int) -> float:
    """Measure extra seconds that a full collection takes with ``count`` answers held."""
    holder = hold([f"user-{number}" for number in range(count)])
    gc.collect()
    begin = thread_time()
    gc.collect()
    with_answers = thread_time() - begin
    del holder
    gc.collect()
    begin = thread_time()
    gc.collect()
    return with_answers - (thread_time() - begin)


def held(effort: Effort) -> list[Figure]:
    """Weigh an answer, and time a full collection with many of them."""
    count, many = effort.count(_WEIGHED), effort.count(_COLLECTED)
    with effort.runner() as runner:
        holds: dict[str, Hold] = {CLIENT: partial(_in_client, runner), **_others()}
        weights = {
            name: [_bytes_each(hold, count) / 1000 for _ in range(2)]
            for name, hold in holds.items()
        }
        variants = {name: partial(_collection, hold, many) for name, hold in holds.items()}
        times = interleave(variants, effort.fewer(6))
    milliseconds = [1000 * taken for taken in times[CLIENT]]
    collection = f"a full collection with {many:,} answers held, extra"
    return [
        Figure(who=CLIENT, case=AN_ANSWER, value=spread(weights[CLIENT]), unit="kB", reach=10.5),
        Figure(who=CLIENT, case=collection, value=spread(milliseconds), unit="ms", reach=4.0),
        *_ratios(weights, "A held answer", case=AN_ANSWER, cost_unit="kB"),
        *_ratios(times, "A full collection with 2,000 answers held, extra", case=collection),
    ]


def _ratios(samples: Samples, title: str, **more: Any) -> list[Figure]:
    others = [name for name in samples if name not in {BARE, CLIENT}]
    ours = beside(samples, CLIENT, BARE, title=title, plotted=True, **more)
    return [ours, *(beside(samples, name, BARE, peer=True, **more) for name in others)]

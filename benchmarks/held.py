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

from benchmarks.harness import Effort, Figure, interleave, ratio, spread
from benchmarks.peers import installed
from benchmarks.server import upstream
from benchmarks.subjects import ESCAPED, KEEP, SAMPLE, decoder
from benchmarks.twins import pydantic_envelope
from wolf_async import WolfClient

__all__ = ["held"]

CLIENT = "in the client's cache, account and digest included"
_WEIGHED = 100
_COLLECTED = 2_000

Hold = Callable[[list[str]], Any]
"""Makes one answer for each user, and gives what holds them."""


def _decoded(decode: Callable[[bytes], Any], users: list[str]) -> Any:
    return [decode(SAMPLE) for _ in users]


def _others() -> dict[str, Hold]:
    others: dict[str, Hold] = {
        "the decoded struct alone": partial(_decoded, lambda body: decoder.decode(body).data),
        "dictionaries": partial(_decoded, lambda body: msgspec.json.decode(body)["data"]),
    }
    if installed("pydantic"):
        validate = pydantic_envelope().model_validate_json
        others["pydantic"] = partial(_decoded, lambda body: validate(body).data)
    return others


def _in_client(runner: asyncio.Runner, url: str, users: list[str]) -> Any:
    client = WolfClient("token", base_url=url, cache=KEEP)

    async def load() -> None:
        await client.task_init("opens the connection")
        for user in users:
            await client.task_init(user)

    runner.run(load())
    return client


def _drop(runner: asyncio.Runner, holder: Any) -> None:
    if isinstance(holder, WolfClient):
        runner.run(holder.aclose())


def _bytes_each(runner: asyncio.Runner, hold: Hold, count: int) -> float:
    """Bytes per answer: of two holders of different sizes, so that what there is one of does not count."""

    def traced(users: list[str]) -> int:
        tracemalloc.start()
        holder = hold(users)
        gc.collect()
        traced_bytes, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        _drop(runner, holder)
        return traced_bytes

    users = [f"{number:08}-5ac2-4c6e-ba13-d2f8f124862b" for number in range(2 * count)]
    return (traced(users) - traced(users[:count])) / count


def _collection(runner: asyncio.Runner, hold: Hold, count: int) -> float:
    """Extra milliseconds that a full collection takes with ``count`` answers held."""
    holder = hold([f"user-{number}" for number in range(count)])
    gc.collect()
    begin = thread_time()
    gc.collect()
    with_answers = thread_time() - begin
    _drop(runner, holder)
    del holder
    gc.collect()
    begin = thread_time()
    gc.collect()
    return (with_answers - (thread_time() - begin)) * 1000


def held(effort: Effort) -> list[Figure]:
    """Memory per answer, and time per collection."""
    figures: list[Figure] = []
    count, many = effort.count(_WEIGHED), effort.count(_COLLECTED)
    with upstream() as url, effort.runner() as runner:
        holds: dict[str, Hold] = {CLIENT: partial(_in_client, runner, url), **_others()}
        weighed: dict[str, Hold] = {
            f"{CLIENT}; UTF-8, {len(SAMPLE):,} bytes": holds[CLIENT],
            f"{CLIENT}; with \\u escapes, {len(ESCAPED):,} bytes": partial(
                _in_client, runner, f"{url}/escaped"
            ),
            **_others(),
        }
        for index, (name, hold) in enumerate(weighed.items()):
            rounds = [_bytes_each(runner, hold, count) / 1000 for _ in range(2)]
            reach = 11.0 if index == 0 else None
            figures.append(
                Figure(
                    part="held",
                    name=name,
                    value=spread(rounds),
                    unit="kB",
                    reach=reach,
                    against="an answer",
                )
            )
        samples = interleave(
            {name: partial(_collection, runner, hold, many) for name, hold in holds.items()},
            effort.fewer(6),
        )
    figures += [
        Figure(
            part="held",
            name=name,
            value=spread(samples[name]),
            unit="ms",
            reach=2.0 if name == CLIENT else None,
            against=f"extra time of a full collection with {many:,} answers",
        )
        for name in holds
    ]
    return figures + [
        Figure(
            part="held",
            name=f"{CLIENT}, collection",
            value=ratio(samples, CLIENT, name),
            against=name,
        )
        for name in holds
        if name != CLIENT
    ]

"""Parts ``held``, ``bulk`` and ``import``: what answers take in memory, and the start."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc
from asyncio import Runner
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from tempfile import TemporaryDirectory
from time import thread_time
from typing import Any

import msgspec

from benchmarks.harness import Effort, Figure, beside_all, interleave, spread
from benchmarks.peers import installed
from benchmarks.subjects import SAMPLE, OfflineClient, decoder, sample, tiny
from benchmarks.twins import pydantic_envelope

CLIENT, BARE = "in the client's cache", "the decoded struct alone"
AN_ANSWER = f"an answer of {len(SAMPLE):,} bytes on the wire"
_WEIGHED = 100
_COLLECTED = 2_000
_USERS = 100
_STREAMED = (10_000, 1_000_000)

Hold = Callable[[list[str]], Any]
"""Makes one answer for each user, and gives what holds them."""


def _decoded(decode: Callable[[bytes], Any], users: list[str]) -> Any:
    return [decode(SAMPLE) for _ in users]


def _others() -> dict[str, Hold]:
    decodes: dict[str, Callable[[bytes], Any]] = {
        BARE: lambda body: decoder.decode(body).data,
        "dictionaries": lambda body: msgspec.json.decode(body)["data"],
    }
    if installed("pydantic"):
        validate = pydantic_envelope().model_validate_json
        decodes["pydantic"] = lambda body: validate(body).data
    return {name: partial(_decoded, decode) for name, decode in decodes.items()}


def _in_client(runner: Runner, users: list[str]) -> Any:
    client = OfflineClient(sample)

    async def load() -> None:
        for user in users:
            await client.task_init(user)

    runner.run(load())
    return client


@contextmanager
def _traced() -> Generator[Callable[[], tuple[int, int]]]:
    """Give what tells the bytes allocated in the block: now, and at most."""
    tracemalloc.start()
    try:
        yield tracemalloc.get_traced_memory
    finally:
        tracemalloc.stop()


def _bytes_each(hold: Hold, count: int) -> float:
    """Weigh two holders of different sizes, so that what there is one of does not count."""

    def traced(users: list[str]) -> int:
        with _traced() as memory:
            holder = hold(users)
            gc.collect()
            weight, _ = memory()
            del holder
        return weight

    users = [f"{number:08}-5ac2-4c6e-ba13-d2f8f124862b" for number in range(2 * count)]
    return (traced(users) - traced(users[:count])) / count


def _collection(hold: Hold, count: int) -> float:
    """Measure extra seconds that a full collection takes with ``count`` answers held."""

    def taken() -> float:
        gc.collect()
        begin = thread_time()
        gc.collect()
        return thread_time() - begin

    holder = hold([f"user-{number}" for number in range(count)])
    with_answers = taken()
    del holder
    return with_answers - taken()


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
    title = collection.capitalize()
    return [
        Figure(who=CLIENT, case=AN_ANSWER, value=spread(weights[CLIENT]), unit="kB", reach=10.5),
        Figure(who=CLIENT, case=collection, value=spread(milliseconds), unit="ms", reach=4.0),
        *beside_all(weights, CLIENT, BARE, AN_ANSWER, "kB", title="A held answer", plotted=True),
        *beside_all(times, CLIENT, BARE, collection, title=title, plotted=True),
    ]


# --- a stream -------------------------------------------------------------------------------------


async def _peak(client: OfflineClient, count: int) -> float:
    """Measure kilobytes at the highest while a stream of held answers passes."""
    # not a list, which would be what takes the memory
    accounts = (f"user-{number % _USERS}" for number in range(count))
    with _traced() as memory:
        seen = 0
        async for _, init, _ in client.task_init_many(accounts):
            seen += init is not None
        assert seen == count
        return memory()[1] / 1000


def bulk(effort: Effort) -> list[Figure]:
    """Compare the memory of a short stream with that of a million accounts."""
    few, many = map(effort.count, _STREAMED)
    with effort.runner() as runner:
        client = OfflineClient(tiny)
        # once: the memory of a million takes a minute to trace
        _, low, high = (runner.run(_peak(client, count)) for count in (_USERS * 2, few, many))
        runner.run(client.aclose())
    who, against = "`task_init_many`, peak of extra memory", f"itself, {few:,} accounts"
    samples = {who: [high] * 2, against: [low] * 2}
    title = "Peak of extra memory, a million cached accounts in one stream"
    case = f"{many:,} cached accounts"
    return beside_all(samples, who, against, case, "kB", reach=1.5, title=title)


# --- the import -----------------------------------------------------------------------------------

_NEEDED, _ALL = "import aiohttp, msgspec, cachetools", "import wolf_async"
_TIMED = f"""
from time import process_time
begin = process_time()
{_NEEDED}
print(process_time() - begin)
{_ALL}
print(process_time() - begin)
"""


def _taken(bytecode: str) -> list[float]:
    """Return the CPU seconds of its dependencies, and of all of it."""
    # with bytecode, as a user has it, whatever this environment says of writing it
    env = os.environ | {"PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""}
    return [*map(float, subprocess.check_output([sys.executable, "-c", _TIMED], env=env).split())]


def imports(effort: Effort) -> list[Figure]:
    """Measure in fresh interpreters, since an import happens once; both sides in each of them."""
    with TemporaryDirectory() as folder:
        _taken(folder)  # writes the bytecode
        taken = [_taken(folder) for _ in range(effort.fewer(2))]
    needed, whole = zip(*taken, strict=True)
    who, against = f"`{_ALL}`", f"`{_NEEDED}`"
    return beside_all({who: whole, against: needed}, who, against, reach=1.2, title=who)

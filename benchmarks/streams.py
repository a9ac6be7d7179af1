"""Part ``bulk``: many cached accounts in one stream."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from time import thread_time

from benchmarks.harness import Effort, Figure, exact
from benchmarks.server import upstream
from benchmarks.subjects import KEEP
from wolf_async import WolfClient

__all__ = ["bulk"]

_USERS = 100
_ACCOUNTS = (10_000, 1_000_000)


def _accounts(count: int) -> Iterator[str]:
    """Accounts from nowhere: a list of them would be what takes the memory."""
    return (f"user-{number % _USERS}" for number in range(count))


async def _stream(client: WolfClient, count: int) -> tuple[float, float]:
    """Microseconds per account, and kilobytes at the highest above what there was before."""
    timed = count // 10 or 1  # apart from the memory, whose tracing takes time
    begin = thread_time()
    async for _ in client.task_init_many(_accounts(timed)):
        pass
    elapsed = thread_time() - begin
    tracemalloc.start()
    try:
        base, _ = tracemalloc.get_traced_memory()
        seen = 0
        async for _, init, _ in client.task_init_many(_accounts(count)):
            seen += init is not None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if seen != count:
        raise RuntimeError(f"{seen} answers for {count} accounts")
    return elapsed / timed * 1e6, (peak - base) / 1000


def bulk(effort: Effort) -> list[Figure]:
    """A short stream and one of a million: the same time per account, and the same memory in all."""
    few, many = (effort.count(count) for count in _ACCOUNTS)
    with upstream() as url, effort.runner() as runner:
        client = WolfClient("token", base_url=url, cache=KEEP)
        runner.run(_stream(client, _USERS * 2))
        # once: tracing the memory of a million takes a minute
        short, long = runner.run(_stream(client, few)), runner.run(_stream(client, many))
        runner.run(client.aclose())
    long_name = f"`task_init_many`, {many:,} cached accounts"
    against = f"itself, {few:,} accounts"
    return [
        Figure(
            part="bulk",
            name=f"{long_name}, time per account",
            value=exact(long[0] / short[0]),
            against=against,
        ),
        Figure(
            part="bulk",
            name=f"{long_name}, peak of extra memory",
            value=exact(long[1] / short[1]),
            reach=1.5,
            against=against,
        ),
    ]

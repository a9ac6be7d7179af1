"""Part ``bulk``: many cached accounts in one stream."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

from benchmarks.harness import Effort, Figure, spread
from benchmarks.subjects import TINY, OfflineClient
from wolf_async import Account, WolfClient

_USERS = 100
_ACCOUNTS = (10_000, 1_000_000)


async def _upstream(account: Account) -> bytes:
    return TINY


def _accounts(count: int) -> Iterator[str]:
    # not a list, which would be what takes the memory
    return (f"user-{number % _USERS}" for number in range(count))


async def _peak(client: WolfClient, count: int) -> float:
    """Measure kilobytes at the highest, above what there was before."""
    tracemalloc.start()
    try:
        base, _ = tracemalloc.get_traced_memory()
        seen = 0
        async for result in client.task_init_many(_accounts(count)):
            seen += result[1] is not None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if seen != count:
        raise RuntimeError(f"{seen} answers for {count} accounts")
    return (peak - base) / 1000


def bulk(effort: Effort) -> list[Figure]:
    """Compare the memory of a short stream with that of a million accounts."""
    few, many = (effort.count(count) for count in _ACCOUNTS)
    with effort.runner() as runner:
        client = OfflineClient(_upstream)
        runner.run(_peak(client, _USERS * 2))
        # once: the memory of a million takes a minute to trace
        low, high = runner.run(_peak(client, few)), runner.run(_peak(client, many))
        runner.run(client.aclose())
    figure = Figure(
        who="`task_init_many`, peak of extra memory",
        case=f"{many:,} cached accounts",
        value=spread([high / low] * 2),
        against=f"itself, {few:,} accounts",
        cost=high,
        cost_unit="kB",
        reach=1.5,
        title="Peak of extra memory, a million cached accounts in one stream",
    )
    return [figure]

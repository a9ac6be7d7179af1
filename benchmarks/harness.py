"""Measuring side by side: short rounds of each variant in turn, and ratios within each round."""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import repeat
from time import process_time
from typing import Any, ParamSpec, TypeAlias

import msgspec

__all__ = [
    "Effort",
    "Figure",
    "Part",
    "Spread",
    "awaited",
    "exact",
    "interleave",
    "looped",
    "ratio",
    "repeated",
    "spread",
    "uncollected",
]

P = ParamSpec("P")
Variant: TypeAlias = Callable[[], float]
"""Measures once; gives CPU seconds per operation unless it says otherwise."""
Samples: TypeAlias = Mapping[str, Sequence[float]]
Loop: TypeAlias = Callable[[int], Coroutine[Any, Any, float]]
"""Executes something that many times."""
LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]


class Effort(msgspec.Struct, frozen=True):
    """How long to measure: the whole run stays under ten minutes with these defaults."""

    rounds: int = 40
    slot: float = 0.008
    """CPU seconds that one measurement of a short operation takes."""
    shrink: int = 1
    """What numbers of callers and entries are divided by; above 1 the figures mean nothing."""
    loop: LoopFactory | None = None
    """Makes the event loop; ``None`` for asyncio's own."""

    def count(self, number: int) -> int:
        return max(2, number // self.shrink)

    def fewer(self, divisor: int) -> int:
        """Rounds for what takes long."""
        return max(2, self.rounds // divisor)

    def runner(self) -> asyncio.Runner:
        return asyncio.Runner(loop_factory=self.loop)


QUICK = Effort(rounds=2, slot=0.0005, shrink=100)


class Spread(msgspec.Struct, frozen=True):
    """A median with its quartiles."""

    median: float
    low: float
    high: float


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured figure, as it is shown and saved."""

    part: str
    name: str
    value: Spread
    against: str = ""
    unit: str = "×"
    reach: float | None = None
    """What the median should not exceed."""
    exact: bool = False
    """Whether it does not depend on the machine's load, so that any difference is a change."""
    note: str = ""

    @property
    def met(self) -> bool | None:
        return None if self.reach is None else self.value.median <= self.reach


class Part(msgspec.Struct, frozen=True):
    """A part of the benchmark that can be run alone."""

    name: str
    title: str
    run: Callable[[Effort], list[Figure]]


def spread(values: Sequence[float]) -> Spread:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def exact(value: float) -> Spread:
    """The spread of what has none."""
    return Spread(value, value, value)


def ratio(samples: Samples, name: str, against: str) -> Spread:
    """How many times ``against`` it took, round by round: what disturbs a round disturbs both."""
    pairs = zip(samples[name], samples[against], strict=True)
    return spread([measured / limit for measured, limit in pairs])


@contextmanager
def uncollected() -> Generator[None]:
    """No garbage collection but what the block asks for, as with `timeit`: whom it would interrupt is chance.

    What it costs is measured by the part ``held``.
    """
    gc.collect()
    gc.freeze()  # the modules of ten libraries would make each collection in the block a long one
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def interleave(variants: Mapping[str, Variant], rounds: int) -> Samples:
    """``rounds`` measurements of each variant, each round in another order, on a heap without garbage."""
    names = list(variants)
    samples: dict[str, list[float]] = {name: [] for name in names}
    with uncollected():
        for turn in range(rounds):
            # not by turns: each would then always find caches and heap as the same one of the others left them
            random.Random(turn).shuffle(names)
            for name in names:
                gc.collect()
                samples[name].append(variants[name]())
    return samples


_TEMPLATE = """
async def run(n, {names}):
    {statement}
    begin = process_time()
    for _ in repeat(None, n):
        {statement}
    return (process_time() - begin) / n
"""


def looped(statement: str, **names: Any) -> Loop:
    """``statement``, which may await, in a loop; gives CPU seconds per execution.

    The loop is compiled for each statement, as `timeit` does: CPython adapts bytecode to what it meets, and one loop
    that is shared by all variants would be adapted to none. The first execution is not timed: it finds what another
    variant has left in the caches and on the heap.
    """
    scope: dict[str, Any] = {"process_time": process_time, "repeat": repeat}
    exec(_TEMPLATE.format(names=", ".join(names), statement=statement), scope)
    return partial(scope["run"], **names)


def awaited(
    runner: asyncio.Runner,
    measure: Callable[P, Coroutine[Any, Any, float]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> Variant:
    """What ``measure`` gives when it is awaited on the runner's loop."""
    return lambda: runner.run(measure(*args, **kwargs))


def repeated(runner: asyncio.Runner, slot: float, statement: str, **names: Any) -> Variant:
    """``statement`` repeated for about ``slot`` seconds at a time."""
    run = looped(statement, **names)
    times = 1
    while (taken := runner.run(run(times))) * times < slot / 8:
        times *= 8
    times = max(1, round(slot / taken))
    return lambda: runner.run(run(times))

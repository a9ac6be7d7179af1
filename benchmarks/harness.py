"""Measure side by side: short rounds of each variant in turn, and ratios within each round."""

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
from typing import Any, TypeAlias

import msgspec

Variant: TypeAlias = Callable[[], float]
"""Measures once; gives CPU seconds per operation unless it says otherwise."""
Samples: TypeAlias = Mapping[str, Sequence[float]]
Loop: TypeAlias = Callable[..., Coroutine[Any, Any, float]]
"""Gives seconds per operation."""


class Effort(msgspec.Struct, frozen=True):
    """How long to measure: the whole run stays within eight minutes with these defaults."""

    rounds: int = 40
    slot: float = 0.008
    """CPU seconds that one measurement of a short operation takes."""
    shrink: int = 1
    """What numbers of callers and entries are divided by; above 1 the figures mean nothing."""
    loop: Callable[[], asyncio.AbstractEventLoop] | None = None
    """Makes the event loop; ``None`` for asyncio's own."""

    def count(self, number: int) -> int:
        return max(2, number // self.shrink)

    def fewer(self, divisor: int) -> int:
        """Return the rounds for what takes long."""
        return max(2, self.rounds // divisor)

    def runner(self) -> asyncio.Runner:
        return asyncio.Runner(loop_factory=self.loop)


class Spread(msgspec.Struct, frozen=True):
    """A median with its quartiles."""

    median: float
    low: float
    high: float


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured figure, as it is shown and saved."""

    part: str = ""
    who: str
    case: str = ""
    """The circumstances, such as the number of callers, where a part has several."""
    value: Spread
    unit: str = "×"
    against: str = ""
    cost: float | None = None
    """The median of what it took in itself, in ``cost_unit``."""
    cost_unit: str = "s"
    reach: float | None = None
    """What the median should not exceed."""
    note: str = ""
    peer: bool = False
    """Whether it is of somebody else who does the same job."""
    title: str = ""
    """What it is called where a user decides by it; empty elsewhere."""
    plotted: bool = False

    @property
    def name(self) -> str:
        return ", ".join(filter(None, (self.who, self.case)))

    @property
    def met(self) -> bool | None:
        return None if self.reach is None else self.value.median <= self.reach


class Part(msgspec.Struct, frozen=True):
    """A part of the benchmark that can be run alone."""

    name: str
    title: str
    measure: Callable[[Effort], list[Figure]]

    def run(self, effort: Effort) -> list[Figure]:
        return [msgspec.structs.replace(each, part=self.name) for each in self.measure(effort)]


QUICK = Effort(rounds=2, slot=0.0005, shrink=100)


def spread(values: Sequence[float]) -> Spread:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def exact(value: float) -> Spread:
    return Spread(value, value, value)


def ratio(samples: Samples, name: str, against: str) -> Spread:
    """Compare round by round: what disturbs a round disturbs both."""
    pairs = zip(samples[name], samples[against], strict=True)
    return spread([measured / limit for measured, limit in pairs])


def beside(samples: Samples, who: str, against: str, **more: Any) -> Figure:
    """Make the figure of ``who`` as a multiple of ``against``, with ``more`` of its fields."""
    value, cost = ratio(samples, who, against), statistics.median(samples[who])
    return Figure(who=who, against=against, value=value, cost=cost, **more)


def beside_all(
    samples: Samples, who: str, against: str, case: str = "", cost_unit: str = "s", **ours: Any
) -> list[Figure]:
    """Make the figure of ``who``, with ``ours`` of its fields, and of all others as its peers."""
    both = {"case": case, "cost_unit": cost_unit}
    others = [name for name in samples if name not in {who, against}]
    peers = [beside(samples, name, against, peer=True, **both) for name in others]
    return [beside(samples, who, against, **both, **ours), *peers]


@contextmanager
def uncollected() -> Generator[None]:
    """Keep the garbage collector away, as `timeit` does: whom it would interrupt is chance."""
    gc.collect()
    gc.freeze()  # the modules of ten libraries would make each collection in the block a long one
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def interleave(variants: Mapping[str, Variant], rounds: int) -> Samples:
    """Measure each variant ``rounds`` times, each round in another order, on a clean heap."""
    names = list(variants)
    samples: dict[str, list[float]] = {name: [] for name in names}
    with uncollected():
        for turn in range(rounds):
            # not by turns: each would always find caches and heap as the same one left them
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
    """Compile a loop around ``statement``, which may await; it gives CPU seconds per execution.

    Each statement has a loop of its own, as with `timeit`: CPython adapts bytecode to what it
    meets, and one loop shared by all variants would be adapted to none. The first execution is
    not timed: it finds what another variant has left in the caches and on the heap.
    """
    scope: dict[str, Any] = {"process_time": process_time, "repeat": repeat}
    exec(_TEMPLATE.format(names=", ".join(names), statement=statement), scope)
    return partial(scope["run"], **names)


def awaited(runner: asyncio.Runner, measure: Loop, *args: Any) -> Variant:
    """Return what awaits ``measure`` on the runner's loop."""
    return lambda: runner.run(measure(*args))


def repeated(runner: asyncio.Runner, slot: float, statement: str, **names: Any) -> Variant:
    """Return what repeats ``statement`` for about ``slot`` seconds at a time."""
    run = looped(statement, **names)
    times = 1
    while (taken := runner.run(run(times))) * times < slot / 8:
        times *= 8
    times = max(1, round(slot / taken))
    return lambda: runner.run(run(times))

"""The answer of one account over time: the first, then each change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

__all__ = ["Naps", "watch"]

V = TypeVar("V")


class Naps:
    """Pauses that can be ended all at once, for good."""

    __slots__ = ("_are_over", "_naps")

    def __init__(self) -> None:
        self._naps: set[asyncio.Future[None]] = set()
        self._are_over = False

    async def nap(self, seconds: float) -> None:
        """Return after that time, or when `end` is called, or at once after that."""
        if self._are_over:
            return
        loop = asyncio.get_running_loop()
        nap: asyncio.Future[None] = loop.create_future()
        alarm = loop.call_later(seconds, _wake, nap)
        self._naps.add(nap)
        try:
            await nap
        finally:
            alarm.cancel()
            self._naps.discard(nap)

    def end(self) -> None:
        """End all pauses, those to come included."""
        self._are_over = True
        for nap in self._naps:
            if not nap.get_loop().is_closed():
                _wake(nap)


def _wake(nap: asyncio.Future[None]) -> None:
    if not nap.done():
        nap.set_result(None)


async def watch(
    ask: Callable[[float], Awaitable[tuple[V, float]]],
    *,
    every: float,
    clock: Callable[[], float],
    nap: Callable[[float], Awaitable[None]],
    outlives: Callable[[Exception, float], bool],
) -> AsyncGenerator[V, None]:
    """The first value of ``ask``, then each that differs.

    ``ask(max_age)`` gives a value and when it was sent. ``outlives(error, age)`` tells whether a value of that age
    stays good enough although asking for a newer one failed.
    """
    value, sent_at = await ask(every)
    yield value
    # counted from when the value was sent, not from when this watcher got it: all watchers of an account wake at
    # the same time, and the first one's question serves them all
    pause = sent_at + every - clock()
    while True:
        await nap(max(0.0, pause))
        try:
            newer, sent_at = await ask(every / 2)
        except Exception as error:
            if not outlives(error, clock() - sent_at):
                raise
            pause = every
            continue
        # an equal one is another object where the cache no longer held the older one
        differs = newer is not value and newer != value
        value = newer
        if differs:
            yield value
        pause = sent_at + every - clock()

"""Tell the answer of one account over time: the first, then each change."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

__all__ = ["Sleep", "watch"]

V = TypeVar("V")


class Sleep:
    """Sleep for some seconds, or until the client is closed."""

    __slots__ = ("_is_closed", "_sleeping")

    def __init__(self) -> None:
        self._is_closed = False
        self._sleeping: set[asyncio.Event] = set()

    async def __call__(self, seconds: float) -> None:
        """Return when the time is over, or `close` is called, or at once after that."""
        if self._is_closed:
            return
        woken = asyncio.Event()
        self._sleeping.add(woken)
        try:
            async with asyncio.timeout(seconds):
                await woken.wait()
        except TimeoutError:
            pass
        finally:
            self._sleeping.discard(woken)

    def close(self) -> None:
        """End all sleep, that to come included."""
        self._is_closed = True
        for woken in self._sleeping:
            try:
                woken.set()
            except RuntimeError:  # its loop was closed over it: nobody sleeps there any more
                continue


async def watch(
    ask: Callable[[float], Awaitable[tuple[V, float]]],
    *,
    every: float,
    clock: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
    outlives: Callable[[Exception, float], bool],
) -> AsyncGenerator[V, None]:
    """Yield the first value of ``ask``, then each that differs.

    ``ask(max_age)`` gives a value and when it was sent. ``outlives(error, age)`` tells whether a
    value of that age stays good enough although asking for a newer one failed.
    """
    value, sent_at = await ask(every)
    yield value
    # counted from when the value was sent, not from when this watcher got it: all watchers of an
    # account wake at the same time, and the first one's request serves them all
    pause = sent_at + every - clock()
    while True:
        await sleep(max(0.0, pause))
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

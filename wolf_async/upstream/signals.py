"""Wake all who wait for a change, on whatever event loop they wait."""

from __future__ import annotations

import asyncio
import math
import time

__all__ = ["Signal", "loop_time"]


def loop_time() -> float:
    """Return seconds on the running event loop's clock, or else on the monotonic clock.

    They are the same clock on the loops of asyncio and uvloop, so that a moment keeps its meaning
    when a client changes its loop.
    """
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()


class Signal:
    """Something that many tasks may wait for, and that may come again."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    async def wait(self, seconds: float = math.inf) -> None:
        """Wait until it comes, but no longer than ``seconds``."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            async with asyncio.timeout(None if math.isinf(seconds) else seconds):
                await waiter
        except TimeoutError:
            pass
        finally:
            self._waiting.discard(waiter)

    def wake(self) -> None:
        """Let all who wait go on."""
        waiting, self._waiting = self._waiting, set()
        for waiter in waiting:
            if not (waiter.done() or waiter.get_loop().is_closed()):
                waiter.set_result(None)

    def forget(self) -> None:
        """Forget who waits, since their event loop has ended."""
        self._waiting = set()

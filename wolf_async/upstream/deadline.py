"""The one moment by which a load with all its attempts and waits is over."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from wolf_async.errors import WolfTimeoutError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["Deadline"]


class Deadline:
    """A moment on the event loop's clock, ``total`` seconds after it was made."""

    __slots__ = ("_loop", "_total", "_when")

    def __init__(self, loop: asyncio.AbstractEventLoop, total: float) -> None:
        self._loop = loop
        self._total = total
        self._when = loop.time() + total

    def remaining(self) -> float:
        """Return the seconds until then; negative when it has passed."""
        return self._when - self._loop.time()

    def timeout_error(self, doing: str) -> WolfTimeoutError:
        """Return the error for whoever was ``doing`` something when the deadline passed."""
        return WolfTimeoutError(
            f"no answer within {self._total:g} s in total: time ran out while {doing}"
        )

    def check(self, doing: str) -> None:
        """Raise `WolfTimeoutError` for who is ``doing`` something, if the deadline has passed."""
        if self.remaining() <= 0:
            raise self.timeout_error(doing)

    @asynccontextmanager
    async def enforce(self, doing: str) -> AsyncGenerator[None, None]:
        """Cancel the block at the deadline; the `WolfTimeoutError` says what it was ``doing``."""
        try:
            async with asyncio.timeout_at(None if math.isinf(self._when) else self._when):
                yield
        except TimeoutError as error:
            if isinstance(error, WolfTimeoutError):
                raise
            raise self.timeout_error(doing) from error

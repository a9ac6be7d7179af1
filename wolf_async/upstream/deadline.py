"""The one moment by which a load with all its attempts and waits is over, and the time that each attempt has."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from wolf_async.errors import WolfTimeoutError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from types import TracebackType

__all__ = ["Deadline", "Timer"]


class Deadline:
    """A moment on the event loop's clock, ``total`` seconds after it was made."""

    __slots__ = ("_loop", "_total", "_when")

    def __init__(self, loop: asyncio.AbstractEventLoop, total: float) -> None:
        self._loop = loop
        self._total = total
        self._when = loop.time() + total

    def left(self) -> float:
        """Seconds until then; negative when it has passed."""
        return self._when - self._loop.time()

    def passed(self, doing: str) -> WolfTimeoutError:
        """The error for whoever was ``doing`` something when it passed."""
        return WolfTimeoutError(
            f"no answer within {self._total:g} s in total: time ran out while {doing}"
        )

    @asynccontextmanager
    async def while_(self, doing: str) -> AsyncGenerator[None, None]:
        """Cancel the block at the deadline, and raise `WolfTimeoutError` that says what it was ``doing``."""
        try:
            async with asyncio.timeout_at(None if math.isinf(self._when) else self._when):
                yield
        except TimeoutError as error:
            if isinstance(error, WolfTimeoutError):
                raise
            raise self.passed(doing) from error


class Timer:
    """Gives each block of code that it times the same number of seconds.

    So their ends come in the order of their beginnings, and one timer of the event loop serves them all: to set one
    for each request, and to cancel it, would be a twentieth of what a request costs.
    """

    __slots__ = ("_handle", "_loop", "_runs", "_seconds")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._runs: dict[_Run, None] = {}
        """The blocks that run, in the order of their beginnings."""
        self._handle: asyncio.TimerHandle | None = None

    def timing(self) -> _Run:
        """A context manager that cancels its block when the time is over, and then raises `TimeoutError`."""
        task = asyncio.current_task(self._loop)
        assert task is not None
        return _Run(self, task)

    def begin(self, run: _Run) -> None:
        """Start the clock for a block."""
        run.until = self._loop.time() + self._seconds
        self._runs[run] = None
        if self._handle is None and run.until < math.inf:
            self._set(run.until)

    def end(self, run: _Run) -> None:
        """Stop it; the loop's timer stays, for the blocks to come."""
        self._runs.pop(run, None)

    def close(self) -> None:
        """Leave no timer of the loop behind; blocks that still run have no end any more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _set(self, when: float) -> None:
        self._handle = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._handle = None
        now = self._loop.time()
        for run in list(self._runs):
            if run.until > now:
                self._set(run.until)
                break
            del self._runs[run]
            run.expire()


class _Run:
    """One block that a `Timer` times; like `asyncio.timeout`, it tells its own cancellation from others'."""

    __slots__ = ("_cancelling", "_expired", "_task", "_timer", "until")

    def __init__(self, timer: Timer, task: asyncio.Task[Any]) -> None:
        self._timer = timer
        self._task = task
        self._cancelling = task.cancelling()
        self._expired = False
        self.until = math.inf

    def expire(self) -> None:
        """Cancel the block."""
        self._expired = True
        self._task.cancel()

    def __enter__(self) -> None:
        self._timer.begin(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._timer.end(self)
        if (
            self._expired
            and self._task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise TimeoutError from error

"""A clock that moves only when it is told to."""

from __future__ import annotations

import math

__all__ = ["FakeClock"]


class FakeClock:
    """Stands in for `time.monotonic`: call it for the time in seconds, move it with `advance`.

    ``start`` is the time in seconds to begin with.

    >>> from wolf_async.testing import FakeClock
    >>> clock = FakeClock(start=100)
    >>> clock.advance(2.5)
    102.5
    >>> clock()
    102.5
    """

    __slots__ = ("_now",)

    def __init__(self, start: float = 0.0) -> None:
        self._now = float(start)

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> float:
        """Move forward by that many seconds and return the new time.

        Raises `ValueError` for a negative or non-finite number: a monotonic clock does not go back.
        """
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(
                f"a clock moves forward by a finite number of seconds, not {seconds!r}"
            )
        self._now += seconds
        return self._now

    def __repr__(self) -> str:
        return f"FakeClock({self._now!r})"

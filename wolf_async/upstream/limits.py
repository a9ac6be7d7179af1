"""Bound how many requests are under way at once, and keep them to a pace."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar, cast

from wolf_async.errors import WolfConfigError
from wolf_async.policy import check_count, check_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from wolf_async.upstream.deadline import Deadline
    from wolf_async.upstream.throttle import Throttle

__all__ = ["Limits", "RateLimit", "check_limits"]

T = TypeVar("T")

RateLimit: TypeAlias = float | tuple[float, int]
"""Requests per second, or that with how many of them may be sent in one burst (1 by default)."""


def check_limits(max_concurrency: object, rate_limit: object) -> None:
    """Raise `WolfConfigError` for limits that make no sense."""
    check_count("max_concurrency", max_concurrency)
    if rate_limit is None:
        return
    if not isinstance(rate_limit, tuple):
        check_seconds("rate_limit", rate_limit, above=True, finite=True)
        return
    pair = cast("tuple[object, ...]", rate_limit)
    if len(pair) != 2:
        raise WolfConfigError(
            f"rate_limit must be requests per second, or (per second, burst), not {rate_limit!r}"
        )
    check_seconds("rate_limit[0]", pair[0], above=True, finite=True)
    check_count("rate_limit[1]", pair[1])
    check_seconds("rate_limit[1]", pair[1], finite=True)  # it is multiplied by a float


class Limits(Generic[T]):
    """Hold back requests of which there are too many at once, or too many in too short a time.

    ``is_held(request)`` tells that the gate or the breaker does not let it go now. Belongs to one
    event loop; the throttle, whose pace it keeps to, outlives that.
    """

    __slots__ = ("_is_held", "_throttle", "places")

    def __init__(
        self, max_concurrency: int, throttle: Throttle, is_held: Callable[[T], bool]
    ) -> None:
        self.places = asyncio.Semaphore(max_concurrency)
        self._throttle = throttle
        self._is_held = is_held

    async def acquire(self, deadline: Deadline, request: T) -> None:
        """Take a place, then wait for the pace, but no longer once ``request`` is held back.

        With neither taken, raise at the deadline: `WolfTimeoutError`, or `WolfRateLimitError` where
        the pace was learned from a 429.
        """
        if self.places.locked():
            async with deadline.enforce("waiting for one of max_concurrency places"):
                await self.places.acquire()
        else:
            await self.places.acquire()
        if self._throttle.pacer.is_idle:
            return
        # with the place in hand, so that the request leaves at the moment that the pace allows
        try:
            await self._throttle.pacer.acquire(
                self._throttle, deadline, lambda: self._is_held(request)
            )
        except BaseException:
            self.places.release()
            raise

    def release(self) -> None:
        """Give the place back."""
        self.places.release()

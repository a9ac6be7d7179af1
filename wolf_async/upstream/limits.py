"""How many requests may be under way at once, and how many may be sent per second."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias, cast

from wolf_async.errors import WolfConfigError
from wolf_async.policy import check_count, check_seconds

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

    from wolf_async.upstream.deadline import Deadline

__all__ = ["Limits", "RateLimit", "check_limits"]

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


class Limits:
    """The two gates before a request; belongs to one event loop."""

    __slots__ = ("_limiter", "_places")

    def __init__(self, max_concurrency: int, rate_limit: RateLimit | None) -> None:
        self._places = asyncio.Semaphore(max_concurrency)
        self._limiter: AsyncLimiter | None = None
        if rate_limit is not None:
            from aiolimiter import AsyncLimiter  # noqa: PLC0415 (not at import: it brings half of importlib)

            per_second, burst = rate_limit if isinstance(rate_limit, tuple) else (rate_limit, 1)
            self._limiter = AsyncLimiter(burst, burst / per_second)

    async def acquire(self, deadline: Deadline) -> None:
        """Take a place, then a share of the rate; raises `WolfTimeoutError` at the deadline, with neither taken."""
        if self._places.locked():
            async with deadline.enforce("waiting for one of max_concurrency places"):
                await self._places.acquire()
        else:
            await self._places.acquire()
        if self._limiter is None:
            return
        # with the place in hand, so that the request leaves at the moment that the rate allows
        try:
            async with deadline.enforce("waiting for the rate limit"):
                await self._limiter.acquire()
        except BaseException:
            self._places.release()
            raise

    def release(self) -> None:
        """Give the place back."""
        self._places.release()

"""Which failures are tried again, within one deadline and one budget."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final, TypeVar

from wolf_async.upstream.failures import is_transient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wolf_async.logs import ThrottledLogger
    from wolf_async.policy import RetryPolicy
    from wolf_async.upstream.again import Again
    from wolf_async.upstream.deadline import Deadline

__all__ = ["Budget", "Retry"]

T = TypeVar("T")

_RESERVE: Final = 10.0
_SAVED_AT_MOST: Final = 100.0


class Budget:
    """How many further attempts are still allowed: a fraction of the first ones, after a small reserve."""

    __slots__ = ("_fraction", "_left")

    def __init__(self, fraction: float) -> None:
        self._fraction = fraction
        self._left = math.inf if math.isinf(fraction) else _RESERVE

    def earn(self) -> None:
        """Count a first attempt."""
        # never more than a bound: a long quiet day must not pay for a storm of attempts in the evening
        self._left = max(self._left, min(self._left + self._fraction, _SAVED_AT_MOST))

    def spend(self) -> bool:
        """Take one further attempt out of the budget, if it holds one."""
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def __repr__(self) -> str:
        return f"<Budget: {self._left:.1f} attempts left>"


class Retry:
    """Calls an attempt, and calls it again where that may help."""

    def __init__(
        self,
        policy: RetryPolicy,
        log: ThrottledLogger,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._policy = policy
        self._log = log
        self._sleep = sleep
        self._budget = Budget(policy.budget)
        self._again: Again | None = None

    async def call(self, attempt: Callable[[], Awaitable[T]], deadline: Deadline) -> T:
        """What ``attempt`` returns, or the error of its last try."""
        self._budget.earn()
        try:
            return await attempt()
        except Exception as error:
            if not is_transient(error) or self._policy.attempts == 1:
                raise
            failed: Exception | None = error

        async def again() -> T:
            # the attempt that has failed already counts as the first one; and nothing here holds its error any longer
            nonlocal failed
            if failed is not None:
                first, failed = failed, None
                raise first
            return await attempt()

        if self._again is None:
            from wolf_async.upstream.again import Again  # noqa: PLC0415 (not at import: most programs never need it)

            self._again = Again(self._policy, self._budget, self._log, self._sleep)
        return await self._again.call(again, deadline)

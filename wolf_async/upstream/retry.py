"""Try a failed attempt again, within one deadline and one budget."""

from __future__ import annotations

import logging
import math
import random
from typing import TYPE_CHECKING, Final, TypeVar

from wolf_async.errors import WolfAPIError, WolfRateLimitError
from wolf_async.upstream.failures import is_transient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wolf_async.logs import ThrottledLogger
    from wolf_async.policy import RetryPolicy
    from wolf_async.upstream.deadline import Deadline

__all__ = ["Retry", "RetryBudget"]

T = TypeVar("T")

_RESERVE: Final = 10.0
_MAX_SAVED: Final = 100.0
_MAX_DOUBLINGS: Final = 60
"""More would be longer than any ``max_backoff``, and in the end no float could hold it."""


class RetryBudget:
    """Count the further attempts that are allowed: a fraction of the first ones, and a reserve."""

    __slots__ = ("_fraction", "_left")

    def __init__(self, fraction: float) -> None:
        self._fraction = fraction
        self._left = math.inf if math.isinf(fraction) else _RESERVE

    def earn(self) -> None:
        """Count a first attempt."""
        # up to a bound: a long quiet day must not pay for a storm of attempts in the evening
        self._left = max(self._left, min(self._left + self._fraction, _MAX_SAVED))

    def spend(self) -> bool:
        """Take one further attempt out of the budget, and tell whether it held one."""
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def __repr__(self) -> str:
        return f"<RetryBudget: {self._left:.1f} attempts left>"


class Retry:
    """Call an attempt, and call it again where that may help."""

    def __init__(
        self,
        policy: RetryPolicy,
        log: ThrottledLogger,
        *,
        sleep: Callable[[float, Deadline], Awaitable[None]],
    ) -> None:
        self._policy = policy
        self._log = log
        self._sleep = sleep
        self._budget = RetryBudget(policy.budget)

    async def call(
        self,
        attempt: Callable[[], Awaitable[T]],
        deadline: Deadline,
        may_repeat: Callable[[Exception], bool] = lambda error: True,
    ) -> T:
        """Return what ``attempt`` returns in the end, or raise the error of its last try.

        ``may_repeat`` tells of an error whether the attempt may be made again at all.
        """
        self._budget.earn()
        attempts = 0
        while True:
            attempts += 1
            try:
                return await attempt()
            except Exception as error:
                pause = self._pause(error, attempts)
                if attempts >= self._policy.attempts or not may_repeat(error):
                    raise
                if not self._may_help(error, pause, deadline):
                    raise
                # a 429 is waited for at the gate, by all alike
                is_refused = isinstance(error, WolfRateLimitError)
            # here, not above: nothing holds the error, and what the server sent with it, any longer
            if not is_refused:
                await self._sleep(pause, deadline)

    def _pause(self, error: Exception, attempts: int) -> float:
        """Return the seconds that the server asked for, or a random pause ("full jitter")."""
        if isinstance(error, WolfAPIError) and error.retry_after is not None:
            return error.retry_after
        bound = self._policy.backoff * 2.0 ** min(attempts - 1, _MAX_DOUBLINGS)
        return random.uniform(0, min(bound, self._policy.max_backoff))

    def _may_help(self, error: Exception, pause: float, deadline: Deadline) -> bool:
        """Tell whether another attempt may help, its pause fits, and the budget pays for it."""
        if not is_transient(error):
            return False
        asked = error.retry_after if isinstance(error, WolfAPIError) else None
        if asked is not None and asked > self._policy.max_retry_after:
            return False
        # the error that is known says more than a timeout in the middle of a pause would
        if pause >= deadline.remaining():
            return False
        # last, since it takes what it finds
        if isinstance(error, WolfRateLimitError) or self._budget.spend():
            return True
        self._log(
            logging.WARNING, "budget", "the retry budget is spent: failures are raised at once"
        )
        return False

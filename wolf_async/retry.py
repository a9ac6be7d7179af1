"""Which failures are tried again, when, within one deadline and one budget.

The waiting, counting and jitter are tenacity's. The first attempt goes without any of it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Final, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)
from tenacity.stop import stop_base

from wolf_async.errors import WolfAPIError, WolfConnectionError, WolfTimeoutError
from wolf_async.logs import Sparingly

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wolf_async.deadline import Deadline
    from wolf_async.policy import RetryPolicy

__all__ = ["Budget", "Retry", "is_transient"]

T = TypeVar("T")

_TRANSIENT: Final = frozenset({408, 429, 500, 502, 503, 504})
_RESERVE: Final = 10.0
_SAVED_AT_MOST: Final = 100.0


def is_transient(error: BaseException) -> bool:
    """Whether another attempt may do better."""
    if isinstance(error, WolfAPIError):
        return error.http_status in _TRANSIENT or error.code in _TRANSIENT
    return isinstance(error, (WolfConnectionError, WolfTimeoutError))


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
        log: Sparingly,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._policy = policy
        self._log = log
        self._sleep = sleep
        self._budget = Budget(policy.budget)
        self._jitter = wait_random_exponential(multiplier=policy.backoff, max=policy.max_backoff)

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
            # the attempt that has failed already counts as the first one
            nonlocal failed
            if failed is not None:
                first, failed = failed, None
                raise first
            return await attempt()

        retrying = AsyncRetrying(
            sleep=self._sleep,
            retry=retry_if_exception(is_transient),
            wait=self._pause,
            stop=stop_after_attempt(self._policy.attempts) | _StopUnless(self._may_go_on, deadline),
            reraise=True,
        )
        return await retrying(again)

    def _pause(self, state: RetryCallState) -> float:
        asked = _asked_pause(state)
        return self._jitter(state) if asked is None else asked

    def _may_go_on(self, state: RetryCallState, deadline: Deadline) -> bool:
        """Whether the pause that is due fits, and the budget pays for the attempt after it."""
        asked = _asked_pause(state)
        if asked is not None and asked > self._policy.max_retry_after:
            return False
        # the error that is known says more than a timeout in the middle of a pause would
        if state.upcoming_sleep >= deadline.left():
            return False
        # last, since it takes what it finds
        if self._budget.spend():
            return True
        self._log(logging.WARNING, "budget", "the retry budget is spent: failures are raised at once")
        return False


class _StopUnless(stop_base):
    def __init__(self, may_go_on: Callable[[RetryCallState, Deadline], bool], deadline: Deadline) -> None:
        self._may_go_on = may_go_on
        self._deadline = deadline

    def __call__(self, retry_state: RetryCallState) -> bool:
        return not self._may_go_on(retry_state, self._deadline)


def _asked_pause(state: RetryCallState) -> float | None:
    """The pause that the server asked for with its last refusal."""
    error = state.outcome.exception() if state.outcome is not None else None
    return error.retry_after if isinstance(error, WolfAPIError) else None

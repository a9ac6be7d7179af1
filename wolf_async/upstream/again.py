"""Further attempts after the first has failed: the waiting, counting and jitter are tenacity's.

A module of its own, imported when an attempt has failed for the first time: it takes as long to import as the models.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)
from tenacity.stop import stop_base

from wolf_async.errors import WolfAPIError
from wolf_async.upstream.failures import is_transient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wolf_async.logs import ThrottledLogger
    from wolf_async.policy import RetryPolicy
    from wolf_async.upstream.deadline import Deadline
    from wolf_async.upstream.retry import Budget

__all__ = ["Again"]

T = TypeVar("T")


class Again:
    """Calls an attempt that has failed again, as long as that may help."""

    def __init__(
        self,
        policy: RetryPolicy,
        budget: Budget,
        log: ThrottledLogger,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._policy = policy
        self._budget = budget
        self._log = log
        self._sleep = sleep
        self._jitter = wait_random_exponential(multiplier=policy.backoff, max=policy.max_backoff)

    async def call(self, attempt: Callable[[], Awaitable[T]], deadline: Deadline) -> T:
        """What ``attempt`` returns in the end, or the error of its last try; its first try counts as one."""
        retrying = AsyncRetrying(
            sleep=self._sleep,
            retry=retry_if_exception(is_transient),
            wait=self._pause,
            stop=stop_after_attempt(self._policy.attempts) | _StopUnless(self._may_go_on, deadline),
            reraise=True,
        )
        return await retrying(attempt)

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
        self._log(
            logging.WARNING, "budget", "the retry budget is spent: failures are raised at once"
        )
        return False


class _StopUnless(stop_base):
    def __init__(
        self, may_go_on: Callable[[RetryCallState, Deadline], bool], deadline: Deadline
    ) -> None:
        self._may_go_on = may_go_on
        self._deadline = deadline

    def __call__(self, retry_state: RetryCallState) -> bool:
        return not self._may_go_on(retry_state, self._deadline)


def _asked_pause(state: RetryCallState) -> float | None:
    """The pause that the server asked for with its last refusal."""
    error = state.outcome.exception() if state.outcome is not None else None
    return error.retry_after if isinstance(error, WolfAPIError) else None

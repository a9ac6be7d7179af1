"""When a request may be sent: first the gate and the breaker, then a place and the pace."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final, Protocol

from wolf_async.errors import (
    WolfCircuitOpenError,
    WolfError,
    WolfRateLimitError,
    WolfTimeoutError,
)
from wolf_async.upstream.breaker import Breaker
from wolf_async.upstream.failures import is_answer, is_local, is_outage
from wolf_async.upstream.limits import Limits, RateLimit
from wolf_async.upstream.signals import Signal
from wolf_async.upstream.throttle import Pacer, Throttle

if TYPE_CHECKING:
    from collections.abc import Callable

    from wolf_async.events import Dispatcher
    from wolf_async.policy import BreakerPolicy, RetryPolicy
    from wolf_async.upstream.deadline import Deadline

__all__ = ["Admission"]

_COURTESY: Final = 0.005
"""Seconds by which a load lets others go first for each attempt that it had.

Otherwise one load would use up its attempts alone.
"""


class _Load(Protocol):
    """What is known here of a load, of which one request at a time is to be sent."""

    @property
    def deadline(self) -> Deadline: ...
    @property
    def attempts(self) -> int: ...
    @property
    def sent_at(self) -> float: ...
    @property
    def failed(self) -> WolfError | None: ...


class Admission:
    """Admit requests one by one, and learn from how they end.

    The gate, the pace and the breaker outlive event loops; the places do not. What a bulk run and a
    cache ask of the upstream's state, they ask here.
    """

    def __init__(
        self,
        *,
        retry: RetryPolicy,
        breaker: BreakerPolicy | None,
        max_concurrency: int,
        rate_limit: RateLimit | None,
        dispatcher: Dispatcher,
    ) -> None:
        self.announce: Callable[[float], object] | None = None
        """Told after each 429 for how many seconds the gate is closed, for other processes."""
        self.said_no = 0
        """Requests that the API has answered with a no."""
        self.is_guarded = False
        """Whether requests ask the gate, the breaker and the pace, and tell them how they ended.

        Not in a healthy client: the gate is open, no request has failed since the last answer, and
        no pace is set or learned. A success is then noted with the time of its request, since a
        pace is learned from how many were accepted before the first 429.
        """
        self._signal = Signal()
        self._dispatcher = dispatcher
        self._throttle = Throttle(retry, Pacer(rate_limit), self._signal, dispatcher.note)
        self._breaker = Breaker(breaker, self._signal, dispatcher.note)
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._max_concurrency = max_concurrency
        self._limits = Limits(max_concurrency, self._throttle, self._is_held)
        self._note_accepted = self._throttle.accepted.append
        self._look()

    async def pause(self, seconds: float, deadline: Deadline) -> None:
        """Sleep between two attempts; raise as soon as the gate closes for too long a time."""
        await self._throttle.pause(seconds, deadline)

    async def acquire(self, load: _Load) -> None:
        """Take a place for a request, at a moment at which the gate and the breaker let it go.

        With nothing taken, raise `WolfRateLimitError`, `WolfCircuitOpenError`, `WolfTimeoutError`,
        or the load's own last error.
        """
        if self.is_guarded or self._limits.places.locked():
            await self._acquire_in_turn(load)
        else:
            load.deadline.check("waiting to send a request")
            await self._limits.places.acquire()

    async def _acquire_in_turn(self, load: _Load) -> None:
        try:
            while True:
                load.deadline.check("waiting to send a request")
                # before a place is taken, or those who wait here would keep others from sending
                if not self._may_go(load):
                    await self._wait_for_turn(load)
                await self._limits.acquire(load.deadline, load)
                # after a wait for the place this may have changed
                if load.deadline.remaining() > 0 and self._may_go(load):
                    return
                self._limits.release()
                self._give_turn_on(load)
        except BaseException:
            self._give_turn_on(load)
            raise

    async def _wait_for_turn(self, load: _Load) -> None:
        while not self._may_go(load):
            remaining = load.deadline.remaining()
            wait = self._breaker.wait_time(load)
            if wait and load.failed is None:
                raise self._breaker.error()
            # its own last error says more than that the breaker is open
            if wait and load.failed and self.is_late(load):
                raise load.failed
            self._throttle.check(load.deadline)
            load.deadline.check("waiting for the server to take requests again")
            wait = max(wait + self._breaker.courtesy, self._throttle.wait_time(load))
            await self._signal.wait(min(wait + load.attempts * _COURTESY, remaining))

    def is_late(self, load: _Load) -> bool:
        """Tell whether the breaker stays open until the deadline, so that nothing can be sent."""
        return self._breaker.opens_in() + self._breaker.courtesy >= load.deadline.remaining()

    def _may_go(self, load: _Load) -> bool:
        """Tell whether the gate and the breaker let a request go now, and take its turn if so."""
        if not (self._throttle.is_closed or self._breaker.is_open):
            return True
        if self._is_held(load):
            return False
        self._throttle.enter(load)
        self._breaker.enter(load)
        return True

    def _is_held(self, load: _Load) -> bool:
        return bool(self._throttle.wait_time(load) or self._breaker.wait_time(load))

    def _give_turn_on(self, load: _Load) -> None:
        self._throttle.leave(load)
        self._breaker.leave(load)

    def release(self, load: _Load, error: BaseException | None) -> None:
        """Give the place of a request back, and learn how it ended."""
        self._limits.release()
        if error is None and not self.is_guarded:
            self._note_accepted(load.sent_at)
        else:
            self._settle(load, error)

    def _settle(self, load: _Load, error: BaseException | None) -> None:
        self._throttle.settle(load, load.sent_at, error)
        if self.announce is not None and isinstance(error, WolfRateLimitError):
            self.announce(self._throttle.opens_in())
        self._breaker.settle(load, error)
        self.said_no += error is not None and is_answer(error)
        self._look()

    def _look(self) -> None:
        self.is_guarded = self._throttle.holds_back or self._breaker.row > 0

    def hold(self, seconds: float) -> None:
        """Close the gate, as for a 429: another process with this token got one."""
        self._throttle.hold(seconds)
        self._look()

    def close(self) -> None:
        """Let nobody wait for the gate or the breaker any more: the client is closed."""
        self._is_closed = True
        self.enter_loop()  # or those would be woken who wait on a loop that has ended
        self._signal.wake()

    def enter_loop(self) -> None:
        """Start over on the running event loop if the one before is closed.

        Gate and breaker stay as they are; who went first, probed or waited there is forgotten.
        """
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop and self._loop.is_closed():
            self._loop = loop
            self._start_over()

    def _start_over(self) -> None:
        self._signal.forget()
        self._throttle.start_over()
        self._breaker.start_over()
        self._limits = Limits(self._max_concurrency, self._throttle, self._is_held)

    # --- what the client, its cache and a bulk run ask ------------------------------------------

    @property
    def breaker_opened(self) -> int:
        """How often the breaker has opened; a probe that fails does not count."""
        return self._dispatcher.breaker_opened

    def is_shut(self) -> bool:
        """Tell whether the gate or the breaker keeps a request from being sent at once.

        So a load makes no sense now for who has a stale answer that may stand in, and a bulk run
        takes no further account. False again as soon as one request may go first, or probe, and in
        a client that is closed: who asks is to hear of that.
        """
        if self._is_closed or not self._shuts():
            return False
        self.enter_loop()  # who goes first may have ended with its loop
        return self._shuts()

    def _shuts(self) -> bool:
        return self._throttle.is_shut() or self._breaker.is_shut()

    def opens_in(self) -> float:
        """Return the seconds for which the gate or the breaker is shut; 0 if none is.

        Also 0 while one request goes first, or probes: what comes of it, nobody knows.
        """
        return max(self._throttle.opens_in(), self._breaker.opens_in())

    def describe(self) -> str:
        """Return what is shut, as in ``gate closed for 2.0 s more``; empty if nothing is."""
        return ", ".join(filter(None, (self._throttle.describe(), self._breaker.describe())))

    def refusal(self) -> WolfError:
        """Return the error of a request that is not sent, since the gate or the breaker is shut."""
        if self._throttle.is_shut():
            return self._throttle.error(self._throttle.opens_in())
        return self._breaker.error()

    @property
    def is_failing(self) -> bool:
        """Whether requests fail in a row, whether the breaker is open or not yet.

        False as soon as the API has answered anything; always False with ``breaker=None``.
        """
        return self._breaker.row > 0

    def is_held_up(self, error: BaseException) -> bool:
        """Tell whether a failed load may say nothing about its account.

        It failed in a row of failures, of the breaker, of the gate or its pace, of what this
        machine lacks, or in line before it was sent. So a bulk run may keep the account and ask
        again when that is over.
        """
        if isinstance(error, (WolfCircuitOpenError, WolfRateLimitError)) or is_local(error):
            return True
        if isinstance(error, WolfTimeoutError) and not error.attempts:
            return True
        return self._breaker.is_on and is_outage(error)

    async def wait_for_change(self, seconds: float = math.inf) -> None:
        """Wait until the gate, the breaker or a row of failures is no longer what it was.

        No longer than ``seconds``; then look again. A pause that is over by the clock is no change:
        wait no longer than `opens_in`.
        """
        await self._signal.wait(seconds)

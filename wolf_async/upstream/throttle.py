"""The gate that a 429 closes for the whole client, and the pace that is learned from it.

A 429 is about the credential, not about one account. `Throttle.settle` is the one place that closes
and opens the gate and changes the learned pace::

            429                        Retry-After is over
    open ────────▶ closed until then ──────────────────────▶ one request goes first
     ▲                    ▲             it gets a 429                │
     │                    └──────────────────────────────────────────┤
     └───────────────────────────────────────────────────────────────┘
                                        it gets any other answer
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from typing import TYPE_CHECKING, Final

from wolf_async.errors import WolfAPIError, WolfDecodeError, WolfRateLimitError
from wolf_async.events import GateEvent
from wolf_async.upstream.signals import loop_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from wolf_async.policy import RetryPolicy
    from wolf_async.upstream.deadline import Deadline
    from wolf_async.upstream.signals import Signal

__all__ = ["Pacer", "Throttle"]

_JITTER: Final = 0.1
"""Fraction of the pause by which the gate opens later at most, so that processes do not meet."""
_MAX_JITTER: Final = 1.0
_LONGEST: Final = 3600.0
"""Seconds after which one request looks whether the server still means what it asked for."""
_MAX_DOUBLINGS: Final = 60
_CUT: Final = 0.75
"""What a 429 leaves of the pace."""
_QUICK: Final = 0.05
"""Fraction of the pace that an accepted request adds while it has never been found too high."""
_QUICK_LEAST: Final = 1.0
"""Requests per second that it adds at least, by which a low pace doubles within a second."""
_CAREFUL: Final = 0.004
"""Fraction that it adds once it has: a limit is met again after some seventy, and refuses one."""
_SLOWEST: Final = 0.5
"""Requests per second that no 429 takes away: the gate holds for less."""
_QUIET: Final = 60.0
"""Seconds, or time for `_QUIET_REQUESTS`, without a 429 after which the pace is forgotten."""
_QUIET_REQUESTS: Final = 100
_WINDOW: Final = (1.0, 60.0)
"""Seconds over which accepted requests are counted when a pace is first learned."""
_COUNTED: Final = 1000
_WORTH_A_WAIT: Final = 0.95
"""Part of the time until the deadline that the pace may take; the answer needs the rest."""


class Throttle:
    """Hold requests back after a 429: a gate for all of them, then a pace.

    A request is whatever object stands for it, the same in `wait_time`, `enter` and `settle`. The
    gate and the pace outlive event loops.
    """

    __slots__ = (
        "_closed_at",
        "_closings",
        "_first",
        "_note",
        "_opens_at",
        "_refused_at",
        "_retry",
        "_signal",
        "_until",
        "_window",
        "accepted",
        "is_closed",
        "pacer",
    )

    def __init__(
        self,
        retry: RetryPolicy,
        pacer: Pacer,
        signal: Signal,
        note: Callable[[GateEvent], None],
    ) -> None:
        self.is_closed = False
        """Whether requests are held back, but for a first one once the pause is over."""
        self.pacer = pacer
        self._retry = retry
        self._signal = signal
        self._note = note
        self._until = -math.inf
        """When what the server asked for is over."""
        self._opens_at = -math.inf
        """The same with some jitter."""
        self._closed_at = -math.inf
        self._closings = 0
        """Closings in a row, each at the 429 of the one request that went first."""
        self._refused_at = -math.inf
        """When the request was sent whose 429 was the first of these."""
        self._window = _WINDOW[0]
        """Seconds before that in which accepted requests count for the pace that is learned."""
        self._first: object | None = None
        """The request that goes first after a closing."""
        self.accepted: deque[float] = deque(maxlen=_COUNTED)
        """When requests were sent whose answers were no 429."""

    def wait_time(self, request: object) -> float:
        """Return the seconds until ``request`` may go; infinite while another one goes first."""
        if not self.is_closed:
            return 0.0
        left = self._opens_at - loop_time()
        if left > 0:
            return left
        return 0.0 if self._first is None or self._first is request else math.inf

    def enter(self, request: object) -> None:
        """Let ``request`` go, for which `wait_time` is 0; at a closed gate it goes first."""
        if self.is_closed:
            self._first = request

    def leave(self, request: object) -> None:
        """Give the turn on, if ``request`` was to go first and got no answer."""
        if self._first is request:
            self._first = None
            self._signal.wake()

    def check(self, deadline: Deadline) -> None:
        """Raise `WolfRateLimitError` if the gate stays closed for too long to wait for it.

        That is more than the policy's ``max_retry_after``, or than the deadline leaves.
        """
        left = self.opens_in()
        if left > self._retry.max_retry_after or 0 < left >= deadline.remaining():
            raise self.error(left)

    def error(self, left: float) -> WolfRateLimitError:
        """Return the error for a request that is not sent, since it would have to wait ``left``."""
        return WolfRateLimitError(
            f"the server has refused requests with this token as too many (429): "
            f"no request was sent, the next one may be in {left:.3g} s",
            http_status=429,
            retry_after=left,
        )

    def settle(self, request: object, sent_at: float, error: BaseException | None) -> None:
        """Learn how ``request``, sent at ``sent_at`` (`loop_time`), ended."""
        now = loop_time()
        if isinstance(error, WolfRateLimitError):
            self._refuse(error.retry_after, sent_at, now)
        elif error is None or isinstance(error, (WolfAPIError, WolfDecodeError)):
            self.accepted.append(sent_at)
            if self.is_closed:
                self._open(request, now)
            else:
                self.pacer.accepted(now)
        self.leave(request)

    def _refuse(self, asked: float | None, sent_at: float, now: float) -> None:
        if sent_at > self._closed_at and not self.is_closed:
            # the 429 of a request that went first is about the pause, not about the pace
            self.pacer.refused(now)
        self._close(asked, sent_at, now, refused=True)

    def hold(self, seconds: float) -> None:
        """Close the gate after a 429 that another process got, with what was left of its pause."""
        now = loop_time()
        self._close(seconds, now, now, refused=False)

    def _close(self, asked: float | None, sent_at: float, now: float, *, refused: bool) -> None:
        """Close the gate; where it is closed, one that was sent before only makes that longer."""
        if (refused and sent_at > self._closed_at) or not self.is_closed:
            if not self.is_closed:
                self._refused_at = sent_at
                self._window = min(max(asked or 0.0, _WINDOW[0]), _WINDOW[1])
                self._closings = 0
            self._closings += 1
            self._closed_at = now
            self.is_closed = True
        # a 0, too: a server that rounds down would be asked without a pause for the whole second
        pause = min(asked, _LONGEST) if asked else self._backoff()
        left = self._until - now
        if pause > left:
            self._until = now + pause
            self._opens_at = self._until + random.uniform(0, min(_JITTER * pause, _MAX_JITTER))
        if pause > left or refused:
            self._note(GateEvent(is_closed=True, seconds=max(pause, left), refused=refused))
        self._signal.wake()

    def _open(self, request: object, now: float) -> None:
        # an answer to a request that was sent before says nothing of the time after
        if request is self._first and now >= self._until:
            self.is_closed = False
            self._note(GateEvent(is_closed=False, seconds=0.0))
            # only now, since answers to requests that were under way have come meanwhile
            since = self._refused_at - self._window
            accepted = sum(since < at <= self._refused_at for at in self.accepted)
            self.pacer.learn(accepted / self._window, self._refused_at)
            self._signal.wake()

    def _backoff(self) -> float:
        """Return a random pause ("full jitter") where the server asked for none."""
        bound = self._retry.backoff * 2.0 ** min(self._closings - 1, _MAX_DOUBLINGS)
        return random.uniform(0, min(bound, self._retry.max_backoff))

    @property
    def holds_back(self) -> bool:
        """Whether the gate is closed, or there is a pace, set or learned."""
        return self.is_closed or not self.pacer.is_idle

    def is_shut(self) -> bool:
        """Tell whether a request would have to wait now: no longer so once one may go first."""
        return self.is_closed and (self._first is not None or self._opens_at > loop_time())

    def opens_in(self) -> float:
        """Return the seconds for which requests are held back; 0 while one goes first."""
        return max(0.0, self._until - loop_time()) if self.is_closed else 0.0

    async def pause(self, seconds: float, deadline: Deadline) -> None:
        """Sleep between two attempts of a load; raise as `check` once the gate closes for long."""
        until = loop_time() + seconds
        while (left := until - loop_time()) > 0:
            self.check(deadline)
            await self._signal.wait(left)

    async def wait_for_change(self, seconds: float) -> None:
        """Wait for a change of the gate or the breaker, but no longer than ``seconds``."""
        await self._signal.wait(seconds)

    def start_over(self) -> None:
        """Forget who was to go first, and who waits, on an event loop that has ended."""
        self._first = None
        self.pacer.start_over()

    def describe(self) -> str:
        """Return how long the gate is closed, and the learned pace; empty if there is neither."""
        gate = f"gate closed for {self.opens_in():.1f} s more" if self.is_closed else ""
        return ", ".join(filter(None, (gate, self.pacer.describe())))


class Pacer:
    """Space requests evenly: the lower of a rate that was set and of one that was learned.

    The learned pace is cut at each 429, raised with each request that is accepted while requests
    wait for it, and forgotten after a quiet while ("additive increase, multiplicative decrease").
    """

    __slots__ = (
        "_burst",
        "_due",
        "_interval",
        "_line",
        "_pace",
        "_refused_at",
        "_waiting",
        "_was_too_high",
        "_was_waited_for",
        "is_idle",
    )

    def __init__(self, rate_limit: float | tuple[float, int] | None) -> None:
        rate, self._burst = rate_limit if isinstance(rate_limit, tuple) else (rate_limit, 1)
        self.is_idle = rate is None
        """Whether requests go as they come."""
        self._interval = 0.0 if rate is None else 1 / rate
        self._pace = math.inf
        """The learned pace in requests per second; infinite while none is learned."""
        self._was_too_high = False
        self._refused_at = -math.inf
        self._due = -math.inf
        """When the next request is due, if they are spaced evenly."""
        self._waiting = 0
        self._was_waited_for = False
        self._line = asyncio.Lock()
        """Who comes first goes first; who is cancelled leaves the line."""

    @property
    def interval(self) -> float:
        """Seconds between two requests."""
        return max(self._interval, 1 / self._pace)

    async def acquire(
        self, throttle: Throttle, deadline: Deadline, is_held: Callable[[], bool]
    ) -> None:
        """Wait until the next request is due, or ``is_held()`` says that this one may not go.

        Raise at once, or at the deadline, if that leaves hardly any time for the answer:
        `WolfRateLimitError` where the pace was learned, `WolfTimeoutError` where it is the limit
        that was set.
        """
        left = self._due_in() + self._waiting * self.interval
        if left >= _WORTH_A_WAIT * deadline.remaining():
            if 1 / self._pace > self._interval:
                raise throttle.error(left)
            raise deadline.timeout_error("waiting for the rate limit")
        self._waiting += 1
        try:
            async with deadline.enforce("waiting for the rate limit"), self._line:
                await self._wait_until_due(throttle, is_held)
        finally:
            self._waiting -= 1

    async def _wait_until_due(self, throttle: Throttle, is_held: Callable[[], bool]) -> None:
        self._was_waited_for = self._due_in() > 0
        while (left := self._due_in()) > 0 and not is_held():
            await throttle.wait_for_change(left)
        if not is_held():  # or nothing is sent, and the turn stays for who comes after
            self._take_turn()

    def _take_turn(self) -> None:
        self._due = max(self._due, loop_time()) + self.interval

    def _due_in(self) -> float:
        burst = self._burst if self.interval == self._interval else 1
        return self._due - (burst - 1) * self.interval - loop_time()

    def accepted(self, now: float) -> None:
        """Raise the learned pace, or forget it after a quiet while."""
        if math.isinf(self._pace):
            return
        if now - self._refused_at > max(_QUIET, _QUIET_REQUESTS / self._pace):
            self._set(math.inf)
            self._was_too_high = False
        elif self._was_waited_for:  # what nobody needs is not known to be right
            quick = max(self._pace * _QUICK, _QUICK_LEAST)
            self._set(self._pace + (self._pace * _CAREFUL if self._was_too_high else quick))

    def refused(self, now: float) -> None:
        """Cut the learned pace."""
        self._refused_at = now
        if not math.isinf(self._pace):
            self._was_too_high = True
            self._set(max(self._pace * _CUT, _SLOWEST))

    def learn(self, rate: float, refused_at: float) -> None:
        """Learn a first pace when the gate opens, from the ``rate`` of accepted requests.

        The 429 at ``refused_at`` may be another process's, of which `refused` was not told.
        """
        had_none = self.is_idle
        if rate and math.isinf(self._pace):
            self._refused_at = refused_at
            self._set(max(rate * _CUT, _SLOWEST))
        if had_none:  # or the request that went first has taken its turn
            self._take_turn()

    def _set(self, pace: float) -> None:
        self._pace = pace
        self.is_idle = math.isinf(pace) and not self._interval

    def start_over(self) -> None:
        """Forget who waits on an event loop that has ended."""
        self._line = asyncio.Lock()
        self._waiting = 0

    def describe(self) -> str:
        """Return the learned pace; empty if there is none."""
        is_learned = 1 / self._pace > self._interval
        return f"at most {self._pace:.3g} requests per second" if is_learned else ""

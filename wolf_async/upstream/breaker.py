"""The circuit breaker: send nothing for a while after many failures in a row.

It knows the whole client's requests, not one load's: whatever account they are for, they tell of
the same upstream. `Breaker.settle` is the one place that opens and closes it::

            failures in a row                  pause is over
    closed ───────────────────▶ open (pause) ────────────────▶ one request probes
      ▲                           ▲    the probe failed: twice the pause  │
      │                           └───────────────────────────────────────┤
      └───────────────────────────────────────────────────────────────────┘
                                               the API answered
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from wolf_async.errors import WolfCircuitOpenError
from wolf_async.events import BreakerEvent
from wolf_async.upstream.failures import is_answer, is_outage
from wolf_async.upstream.signals import loop_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from wolf_async.policy import BreakerPolicy
    from wolf_async.upstream.signals import Signal

__all__ = ["Breaker"]

_MAX_COURTESY: Final = 0.5


class Breaker:
    """Count failed requests in a row; refuse requests while it is open.

    A request is whatever object stands for it, the same in `wait_time`, `enter` and `settle`.
    ``policy=None`` turns it off: it then counts nothing and never opens. It outlives event loops.
    """

    __slots__ = (
        "_note",
        "_pause",
        "_policy",
        "_probe",
        "_signal",
        "_until",
        "is_open",
        "row",
    )

    def __init__(
        self,
        policy: BreakerPolicy | None,
        signal: Signal,
        note: Callable[[BreakerEvent], None],
    ) -> None:
        self.is_open = False
        """Whether requests are refused, but for a probe once the pause is over."""
        self.row = 0
        """Failed requests since the API last answered."""
        self._policy = policy
        self._signal = signal
        self._note = note
        self._pause = 0.0
        self._until = 0.0
        self._probe: object | None = None

    def wait_time(self, request: object) -> float:
        """Return the seconds until ``request`` may go; infinite while another one probes."""
        if not self.is_open or self._probe is request:
            return 0.0
        if self._probe is not None:
            return math.inf
        return max(0.0, self._until - loop_time())

    def enter(self, request: object) -> None:
        """Let ``request`` go, for which `wait_time` is 0; it is the probe of an open breaker."""
        if self.is_open:
            self._probe = request

    def leave(self, request: object) -> None:
        """Give the probe's place on, if ``request`` had it and was not sent."""
        if self._probe is request:
            self._probe = None
            self._signal.wake()

    def settle(self, request: object, error: BaseException | None) -> None:
        """Learn how ``request``, which was sent, ended: in an answer, or in ``error``."""
        if self._policy is None:
            return
        is_probe = self._probe is request
        if self.is_open and not is_probe:
            return  # it was sent before; what is now, the probe tells
        if is_answer(error):
            self._answered()
        elif is_outage(error):
            self._failed(self._policy, is_probe=is_probe)
        self.leave(request)

    def _answered(self) -> None:
        if self.row:
            was_open, self.is_open = self.is_open, False
            self.row = 0
            if was_open:
                self._note(BreakerEvent(is_open=False, seconds=0.0, failures=0))
            self._signal.wake()

    def _failed(self, policy: BreakerPolicy, *, is_probe: bool) -> None:
        self.row += 1
        if is_probe:
            self._open(min(2 * self._pause, policy.max_pause), probed=True)
        elif self.row >= policy.failures:
            self._open(policy.pause, probed=False)

    def _open(self, pause: float, *, probed: bool) -> None:
        self.is_open = True
        self._pause = pause
        self._until = loop_time() + pause
        self._note(BreakerEvent(is_open=True, seconds=pause, failures=self.row, probed=probed))
        self._signal.wake()

    @property
    def is_on(self) -> bool:
        """Whether it counts failures at all."""
        return self._policy is not None

    def is_shut(self) -> bool:
        """Tell whether a request would be refused now: no longer so once a probe is due."""
        return self.is_open and (self._probe is not None or self._until > loop_time())

    def opens_in(self) -> float:
        """Return the seconds for which requests are refused; 0 if none is, or while one probes."""
        return max(0.0, self._until - loop_time()) if self.is_open else 0.0

    @property
    def courtesy(self) -> float:
        """Seconds after the pause in which a load that has failed lets others probe.

        Its own account may be at fault, and all who wait are of that kind.
        """
        return min(self._pause / 4, _MAX_COURTESY) if self.opens_in() else 0.0

    def error(self) -> WolfCircuitOpenError:
        """Return the error for a request that is refused."""
        # while a probe is under way nobody knows how long yet: at least as long as it last was
        left = self.opens_in() or self._pause
        return WolfCircuitOpenError(
            f"the circuit breaker is open after {self.row} failed requests in a row: "
            f"no request was sent, the next one may be in {left:.3g} s",
            retry_after=left,
        )

    def start_over(self) -> None:
        """Forget a probe whose event loop has ended."""
        self._probe = None

    def describe(self) -> str:
        """Return for how long the breaker is open; empty if it is closed."""
        return f"breaker open for {self.opens_in():.1f} s more" if self.is_open else ""

"""Which step the next request to a sandbox gets."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from wolf_async.account import Account
from wolf_async.testing.faults import Step

__all__ = ["Cycle", "Plan"]


class Plan:
    """What the next requests get: queued steps first, then an outage, then a fault."""

    __slots__ = ("_queues", "faults", "outage")

    def __init__(self) -> None:
        self._queues: dict[Account | None, deque[Step]] = {}
        self.outage: Cycle | None = None
        self.faults: Cycle | None = None

    def queue(self, account: Account | None, steps: Sequence[Step]) -> None:
        self._queues.setdefault(account, deque()).extend(steps)

    def next_step(self, account: Account | None) -> Step | None:
        fault = self.faults.turn() if self.faults else None
        for key in (account, None):
            if queue := self._queues.get(key):
                return queue.popleft()
        return self.outage.turn() if self.outage else fault


class Cycle:
    """Steps in turn, one for every n-th request."""

    __slots__ = ("_count", "_every", "_steps")

    def __init__(self, every: int, steps: Sequence[Step]) -> None:
        if every < 1 or not steps:
            raise ValueError(
                f"at least one step is needed, and a request in every 1 or more, not {every!r}"
            )
        self._every = every
        self._steps = steps
        self._count = 0

    def turn(self) -> Step | None:
        self._count += 1
        rounds, rest = divmod(self._count, self._every)
        return None if rest else self._steps[(rounds - 1) % len(self._steps)]

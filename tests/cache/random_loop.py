"""Two event loops for tests: one is stepped by hand, one takes what is ready in any order.

Neither does I/O or keeps time: what would have to wait for the outside world is a hang,
and is reported as one.
"""

from __future__ import annotations

import asyncio
import random
from asyncio.events import _set_running_loop  # pyright: ignore[reportPrivateUsage] # for makers of loops, says its docstring
from collections import deque
from contextlib import contextmanager
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, Unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

__all__ = ["HandLoop", "RandomLoop", "TimedHandLoop"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class HandLoop(asyncio.BaseEventLoop):
    """A loop that runs one callback at each `step`, so that a test can act between any two.

    Callbacks run first in first out. ``on_task`` is called with each task that `create_task`
    makes and its context, before anybody else can add a callback to it.
    """

    def __init__(
        self,
        on_task: Callable[[asyncio.Task[Any], Context | None], None] = lambda task, context: None,
    ) -> None:
        super().__init__()
        self.steps = 0
        """Callbacks run so far."""
        self.problems: list[dict[str, Any]] = []
        """What came to the loop's exception handler."""
        self._on_task = on_task
        self._queue: deque[Callable[[], object]] = deque()

    @property
    def ready(self) -> int:
        """How many callbacks wait to be run."""
        return len(self._queue)

    def step(self) -> None:
        """Run the next callback; what it raises comes out here."""
        callback = self._queue.popleft()
        self.steps += 1
        with self.running():
            callback()

    @contextmanager
    def running(self) -> Generator[None]:
        """Let what is done meanwhile find this loop running."""
        _set_running_loop(self)
        try:
            yield
        finally:
            _set_running_loop(None)

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        home = copy_context() if context is None else context
        self._queue.append(lambda: None if handle.cancelled() else home.run(callback, *args))
        return handle

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        task: asyncio.Task[T] = asyncio.Task(
            coro, loop=self, name=None if name is None else str(name), context=context
        )
        self._on_task(task, context)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.problems.append(context)


class TimedHandLoop(HandLoop):
    """A `HandLoop` that keeps time by a clock of the test's own; what is due runs like the rest."""

    def __init__(
        self,
        on_task: Callable[[asyncio.Task[Any], Context | None], None],
        clock: Callable[[], float],
    ) -> None:
        super().__init__(on_task)
        self._clock = clock
        self._timers: list[asyncio.TimerHandle] = []

    def time(self) -> float:
        return self._clock()

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timers.append(timer)
        return timer

    @property
    def next_due(self) -> float:
        """When the next timer is due; infinity if there is none."""
        return min((timer.when() for timer in self._waiting()), default=float("inf"))

    def take_due(self) -> None:
        """Queue what is due by now, in the order of its times."""
        waiting = sorted(self._waiting(), key=lambda timer: timer.when())
        due = [timer for timer in waiting if timer.when() <= self.time()]
        self._timers = waiting[len(due) :]
        self._queue.extend(partial(_run_timer, timer) for timer in due)

    def _waiting(self) -> list[asyncio.TimerHandle]:
        return [timer for timer in self._timers if not timer.cancelled()]

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass


def _run_timer(timer: asyncio.TimerHandle) -> None:
    if not timer.cancelled():
        timer._run()


class _AnyOrder(deque[asyncio.Handle]):
    """A queue out of which the next item comes from anywhere."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance

    def popleft(self) -> asyncio.Handle:
        at = self._chance.randrange(len(self))
        item = self[at]
        del self[at]
        return item


class RandomLoop(asyncio.SelectorEventLoop):
    """A loop that picks the next of all ready callbacks at random, as its seed says.

    The same seed makes the same picks. Also ready are those that became so in the present pass: a
    callback may run before others that were scheduled long before it. Raises `RuntimeError` where
    an ordinary loop would wait for ever.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.chance = random.Random(seed)
        """Where the picks come from; tests may draw from it too, and stay repeatable."""
        self._ready = _AnyOrder(self.chance)
        self._idlers: list[asyncio.Future[None]] = []
        self.problems: list[dict[str, Any]] = []
        """What came to the loop's exception handler."""
        self.set_exception_handler(lambda loop, context: self.problems.append(context))

    async def idle(self) -> None:
        """Return when nothing else is left to run."""
        idler: asyncio.Future[None] = self.create_future()
        self._idlers.append(idler)
        await idler

    def _run_once(self) -> None:
        if not self._ready:
            if not self._idlers:
                raise RuntimeError("a hang: nothing is ready, and nothing can become ready")
            self._idlers.pop(0).set_result(None)
        super()._run_once()  # type: ignore[misc] # not in the stub

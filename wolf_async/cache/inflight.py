"""Share one load among many waiters: they join, leave alone, and get its outcome.

An `InFlightLoad` runs one load in a task of its own. It knows nothing of caches: its owner is told
when the task has ended, decides what the outcome is, and resolves the load with it. The owner is
also told when the last waiter has left. What changes here is who waits, and whether the load is
queued, under way or ended.
"""

from __future__ import annotations

import asyncio
import copy
import traceback
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, Self, TypeVar

import msgspec

from wolf_async.errors import WolfError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from wolf_async.events import LoadRecord

__all__ = [
    "InFlightLoad",
    "LoadOutcome",
    "LoadOwner",
    "Served",
    "current_load",
    "mark_sent",
    "own_copy",
]

K = TypeVar("K")
V = TypeVar("V")

current_load: Final[ContextVar[InFlightLoad[Any, Any] | None]] = ContextVar(
    "wolf_async.current_load",
    default=None,
)
"""The load in which the code now runs, in all tasks that the load starts."""


class Served(msgspec.Struct, Generic[V], frozen=True):
    """What a caller is served: a value with what is known of its age."""

    value: V
    sent_at: float
    """When it was sent, in seconds on the cache's clock."""
    is_stale: bool = False
    """Whether it is older than the policy's ``ttl`` allows, and stands in for a fresh value."""

    async def wait(self, max_age: float | None) -> Self:
        """Return this at once, as `InFlightLoad.wait` does when the load has ended."""
        return self


class LoadOutcome(msgspec.Struct, Generic[V], frozen=True):
    """What came of a load: a value, or an error with perhaps a stale value to stand in for it."""

    served: Served[V] | None = None
    error: BaseException | None = None
    stale: Served[V] | None = None
    """For callers without ``max_age``."""
    template: BaseException | None = None
    """What waiters get copies of: one of them may change the original before the next one wakes."""


class LoadOwner(Protocol):
    """Who made an in-flight load: it hears of the two ways in which one ends."""

    def load_done(self, load: InFlightLoad[Any, Any], task: asyncio.Task[Any]) -> None:
        """Resolve the load, whose task is done."""

    def load_abandoned(self, load: InFlightLoad[Any, Any]) -> None:
        """Forget the load, whose last waiter has left; it is cancelled right after this call."""


class InFlightLoad(Generic[K, V]):
    """One load of one key, and those who wait for it."""

    __slots__ = (
        "_owner",
        "_task",
        "_waiters",
        "alone",
        "background",
        "begun",
        "cancelled",
        "ended",
        "failed_at",
        "floor",
        "key",
        "loop",
        "record",
        "sent_at",
        "waited_for_by",
    )

    def __init__(
        self,
        owner: LoadOwner,
        loop: asyncio.AbstractEventLoop,
        key: K,
        *,
        background: bool = False,
    ) -> None:
        self.key = key
        self.background = background
        """Whether the load goes on when nobody waits for it."""
        self.alone = False
        """Whether nothing of its key is held, so that whoever comes may join without a look."""
        self.begun = False
        """Whether the load has begun to run."""
        self.cancelled = False
        """Whether the load was asked to end; nobody waits for it any more."""
        self.ended = False
        """Whether the load has ended."""
        self.sent_at: float | None = None
        """When its request was first sent, on the cache's clock; ``None`` before that."""
        self.record: LoadRecord | None = None
        """What is gathered of it, where somebody listens."""
        self.floor = float("-inf")
        """Its waiters accept only what was sent after this."""
        self.failed_at: float | None = None
        """When it failed, if that was in another process, and earlier."""
        self.waited_for_by: list[InFlightLoad[Any, Any]] = []
        """The loads that wait for this one: from within, or to start when it ends."""
        self._owner: LoadOwner | None = owner
        self.loop = loop
        self._task: asyncio.Task[Any] | None = None
        self._waiters: dict[asyncio.Future[LoadOutcome[V]], None] = {}
        """In the order in which they came, and are told."""

    def start(
        self, load: Callable[[K], Awaitable[object]], clock: Callable[[], float] | None
    ) -> None:
        """Begin the load in a task of its own, which sees no caller's context variables.

        It counts as sent when it begins, by ``clock``; without that, when it calls `mark_sent`.
        Raises what a task factory of the program's own raises; nothing has begun then.
        """
        context = Context()
        context.run(current_load.set, self)
        run = self._run(load, clock)
        try:
            self._task = task = self.loop.create_task(run, context=context)
        except BaseException:
            run.close()
            raise
        # a callback, not code after the await: a task cancelled before its first step never runs it
        task.add_done_callback(self._on_done)
        if self.cancelled:  # by the load, which an eager task factory has begun to run already
            task.cancel()

    async def _run(
        self, load: Callable[[K], Awaitable[object]], clock: Callable[[], float] | None
    ) -> object:
        self.begun = True
        if clock is not None:
            self.sent_at = clock()
        return await load(self.key)

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        # the task holds the error, whose traceback holds this load
        self._task = None
        self.ended = True
        owner = self._owner
        self.forget_owner()
        assert owner is not None
        owner.load_done(self, task)

    async def wait(self, max_age: float | None) -> Served[V]:
        """Wait for the load, and return what serves this caller.

        Raises an error of the caller's own if the load failed; without ``max_age``, only if no
        stale value stands in. A caller that is cancelled leaves alone; when the last one leaves,
        the load is cancelled unless it is in the background.
        """
        parent = current_load.get()
        if parent is not None:
            self.waited_for_by.append(parent)
        end = None if self.record is None else self.record.new_wait()
        waiter = self.add_waiter()
        try:
            outcome = await waiter
        except BaseException:
            self.remove_waiter(waiter)
            if end is not None:
                end("left")
            raise
        finally:
            if parent is not None:
                self.waited_for_by.remove(parent)
        served = outcome.served
        if served is None and max_age is None:
            served = outcome.stale
        if end is not None:
            end("failure" if served is None else "stale" if served.is_stale else "value")
        if served is not None:
            return served
        template, original = outcome.template, outcome.error
        assert template is not None
        # the traceback holds this frame, which must not hold a stale value that this caller refused
        del outcome, waiter
        raise own_copy(template) from original

    def add_waiter(self) -> asyncio.Future[LoadOutcome[V]]:
        """Return what brings the outcome to one more waiter."""
        waiter: asyncio.Future[LoadOutcome[V]] = self.loop.create_future()
        self._waiters[waiter] = None
        return waiter

    def remove_waiter(self, waiter: asyncio.Future[LoadOutcome[V]]) -> None:
        """Let a waiter leave who was cancelled, or dropped; the last one cancels the load."""
        if waiter not in self._waiters:  # the load is resolved
            return
        del self._waiters[waiter]
        if not self._waiters and not self.background:
            # first out of sight, then cancelled: who comes while the load cleans up must not find
            # it
            if self._owner is not None:
                self._owner.load_abandoned(self)
            self.cancel()

    def resolve(self, served: Served[V]) -> None:
        """Give ``served`` to everybody who waits; whoever is told later finds nobody."""
        self._tell(LoadOutcome(served))

    def reject(self, error: BaseException, stale: Served[V] | None = None) -> None:
        """Give ``error`` to everybody who waits, or ``stale`` to those who accept that."""
        self._tell(LoadOutcome(None, error, stale, template=own_copy(error)))

    def _tell(self, outcome: LoadOutcome[V]) -> None:
        # in one step, so that whoever leaves while the others are told has left already
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            try:
                waiter.set_result(outcome)
            except asyncio.InvalidStateError:
                # it was cancelled; a check before would not do, since a signal handler may cancel
                # it in between
                continue

    def cancel(self) -> asyncio.Task[Any] | None:
        """Cancel the load, and return its task if it is still running."""
        # once: the second time would interrupt the load's clean-up
        if not self.cancelled and self._task is not None and not self.loop.is_closed():
            self._task.cancel()
        self.cancelled = True
        return self._task

    def forget_owner(self) -> None:
        """Let go of the owner: the load has ended, or never begins."""
        # a task that the load left behind keeps its context, and by that this object
        self._owner = None

    def may_be_joined(self, began: float, max_age: float) -> bool:
        """Tell whether a call that began then, and accepts ``max_age`` seconds, may wait for it.

        Order decides before the clock does: a load that has sent nothing was not sent before the
        call began, and for ``max_age=0`` one that has was, even within one tick of the clock.
        """
        return self.sent_at is None or (max_age > 0 and began - self.sent_at <= max_age)

    def ancestry(self) -> Iterator[InFlightLoad[Any, Any]]:
        """Yield this load, and all that wait for it, directly or not."""
        queue: list[InFlightLoad[Any, Any]] = [self]
        seen = set(queue)
        while queue:
            load = queue.pop()
            yield load
            new = [other for other in load.waited_for_by if other not in seen and not other.ended]
            seen.update(new)
            queue.extend(new)

    @property
    def holds_up_loads(self) -> bool:
        """Whether another load, which is under way, waits for this one, directly or not."""
        return any(load.under_way for load in self.ancestry() if load is not self)

    def is_for(self, owner: LoadOwner, key: object) -> bool:
        """Tell whether ``owner`` made this load for ``key``."""
        return self._owner is owner and self.key == key

    @property
    def under_way(self) -> bool:
        """Whether the load has begun and not ended."""
        return self.begun and not self.ended

    def __repr__(self) -> str:
        state = "ended" if self.ended else "under way" if self.under_way else "queued"
        kind = "background, " if self.background else ""
        return f"<InFlightLoad {self.key!r}: {kind}{state}, {len(self._waiters)} waiting>"


def mark_sent(now: float) -> None:
    """Note that the load in which this runs sends its request at ``now``, on the cache's clock.

    For loaders of a `LoadingCache` with ``marks_sent``. Until then anybody may join the load,
    whatever ``max_age`` asks for; afterwards only who takes an answer of that time. Only the first
    call counts, and outside of a load it does nothing.
    """
    load = current_load.get()
    # only the first request counts: who joins later may get what that one says
    if load is not None and load.sent_at is None:
        load.sent_at = now


def own_copy(error: BaseException) -> BaseException:
    """Return an error of the same kind for one waiter alone, without traceback and cause.

    Where ``copy.copy`` fails or gives another type, that is a `WolfError` with its text.
    """
    try:
        # an error of ours by its own method, which `copy.copy` would only look for
        twin = error.__copy__() if isinstance(error, WolfError) else copy.copy(error)
    except Exception:
        twin = error
    if twin is error or type(twin) is not type(error):
        twin = WolfError("".join(traceback.format_exception_only(error)).strip())
    notes = twin.__dict__.get("__notes__")
    if isinstance(notes, list):
        twin.__dict__["__notes__"] = notes.copy()
    return twin

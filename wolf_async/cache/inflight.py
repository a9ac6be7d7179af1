"""One load, many waiters: they join, leave, and are told.

A `Flight` runs one load in a task of its own and hands its outcome to everybody who waits. It knows
nothing of caches: whoever made it is called back when the load's task is done, decides what the outcome
is, and lands the flight with it. It is also told when the last waiter has left.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import traceback
import types
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from wolf_async.errors import WolfError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

__all__ = ["Flight", "Landing", "Tower", "loading"]

K = TypeVar("K")
V = TypeVar("V")

loading: Final[ContextVar[Flight[Any, Any] | None]] = ContextVar("wolf_async.loading", default=None)
"""The flight in whose load the code now runs, in all tasks that the load starts."""


GROUP: Final = 16
"""Callers who share a future at most, and who are woken, once, when one of them leaves."""
NOT_YET: Final = BaseException("the load has not ended")
"""The error of a landing that is still to come."""
FIELDS: Final = (types.MemberDescriptorType, types.GetSetDescriptorType)
"""The types of what a class says of its instances' fields outside ``__dict__``."""


class Landing(Generic[V]):
    """The outcome of a load: a value, or an error with perhaps a value that may stand in for it."""

    __slots__ = ("error", "pattern", "stand_in", "value")

    def __init__(
        self,
        value: V | None = None,
        error: BaseException | None = None,
        stand_in: Standing[V] | None = None,
    ) -> None:
        self.value: V = value  # type: ignore[assignment]  # read only where there is no error
        self.error = error
        self.stand_in = stand_in
        self.pattern: BaseException | None = None
        """What callers get copies of: one of them may change the original before the next one wakes."""

    def become(self, other: Landing[V]) -> None:
        """Say from now on what ``other`` says."""
        self.value, self.error, self.stand_in, self.pattern = (
            other.value,
            other.error,
            other.stand_in,
            other.pattern,
        )


class Standing(Protocol[V]):
    """Something that holds an older value."""

    value: V


class Tower(Protocol):
    """Who made a flight: it hears of the two ways in which one ends."""

    def flight_done(self, flight: Flight[Any, Any], task: asyncio.Task[Any]) -> None:
        """The load's task is done; the flight is to be landed now."""

    def flight_abandoned(self, flight: Flight[Any, Any]) -> None:
        """The last waiter has left a flight; its load is cancelled right after this call."""


class Flight(Generic[K, V]):
    """One load of one key, and those who wait for it."""

    __slots__ = (
        "_group",
        "_groups",
        "_late",
        "_loop",
        "_room",
        "_task",
        "_tower",
        "_waiting",
        "background",
        "cancelled",
        "ended",
        "key",
        "sent_at",
        "waited_for_by",
    )

    def __init__(
        self, tower: Tower, loop: asyncio.AbstractEventLoop, key: K, *, background: bool = False
    ) -> None:
        self.key = key
        self.background = background
        """Whether the load goes on when nobody waits for it."""
        self.cancelled = False
        """Whether the load was asked to end; nobody waits for it any more."""
        self.ended = False
        """Whether the load has ended."""
        self.sent_at: float | None = None
        """When the load began to run, on the clock that `start` was given; ``None`` before that."""
        self.waited_for_by: list[Flight[Any, Any]] = []
        """The flights that wait for this one: from within their loads, or to start when it ends."""
        self._tower: Tower | None = tower
        self._loop = loop
        self._task: asyncio.Task[Any] | None = None
        self._waiting = 0
        """How many wait, those included who are cancelled and have not been woken; nobody once it has landed."""
        self._groups: dict[asyncio.Future[Landing[V]], None] = {}
        """What they wait for, or did before they were dropped, in the order in which they are told."""
        self._group: asyncio.Future[Landing[V]] | None = None
        """The one of these that may have room for whoever comes next."""
        self._room = 0
        self._late: Landing[V] | None = None
        """What those are told whose group was dissolved: the landing, as soon as there is one."""

    def start(self, load: Callable[[K], Awaitable[object]], clock: Callable[[], float]) -> None:
        """Begin the load in a task of its own, which sees no caller's context variables.

        Raises what a task factory of the program's own raises; nothing has begun then.
        """
        context = Context()
        context.run(loading.set, self)
        run = self._run(load, clock)
        try:
            self._task = task = self._loop.create_task(run, context=context)
        except BaseException:
            run.close()
            raise
        # a callback, not code after the await in _run: a task that is cancelled before its first step never runs it
        task.add_done_callback(self._done)
        if self.cancelled:  # by the load, which an eager task factory has begun to run already
            task.cancel()

    async def _run(
        self, load: Callable[[K], Awaitable[object]], clock: Callable[[], float]
    ) -> object:
        self.sent_at = clock()
        return await load(self.key)

    def _done(self, task: asyncio.Task[Any]) -> None:
        # the task holds the error, whose traceback holds this flight
        self._task = None
        self.ended = True
        tower = self._tower
        self.forget()
        assert tower is not None
        tower.flight_done(self, task)

    async def wait(self, max_age: float | None, landing: Landing[V] | None = None) -> V:
        """The load's value; raises an error of the caller's own if the load failed.

        Without ``max_age`` an older value is accepted where the landing has one. A caller that is cancelled
        leaves alone; when the last one leaves, the load is cancelled unless it is in the background.
        ``landing`` is what a caller who has boarded was told.
        """
        parent = loading.get()
        if parent is not None:
            self.waited_for_by.append(parent)
        try:
            if landing is None:
                landing = await self.board()
            # more than once if a task takes its cancellation back
            while landing.error is NOT_YET:
                # alone, so that nobody is woken a second time because of others
                landing = await self._new_group()
        except (asyncio.CancelledError, GeneratorExit):
            self.leave()
            raise
        finally:
            if parent is not None:
                self.waited_for_by.remove(parent)
        if landing.error is None:
            return landing.value
        if landing.stand_in is not None and max_age is None:
            return landing.stand_in.value
        error, pattern = landing.error, landing.pattern
        # or this frame, and by that the traceback, keeps the stand-in that this caller does not want
        del landing
        assert pattern is not None
        raise own_copy(pattern, error)

    def board(self) -> asyncio.Future[Landing[V]]:
        """What brings the landing to one caller, who has to `leave` if something else ends the wait for it.

        If its error is `NOT_YET`, a caller nearby has left, and this one has to `wait` on.
        """
        self._waiting += 1
        group = self._group
        # whoever awaits it other than as a task of this loop leaves it marked, and asyncio refuses it to the next one
        if group is None or not self._room or group._asyncio_future_blocking:  # noqa: SLF001
            group = self._group = self._new_group()
            self._room = GROUP
        self._room -= 1
        return group

    def _new_group(self) -> asyncio.Future[Landing[V]]:
        """A future that several callers may wait for, and each may leave alone.

        A task that is cancelled first cancels what it waits for, and with an ordinary future everybody who waits for it.
        This one refuses, and wakes them all: asyncio then cancels that task alone. A future for each caller, which needs
        nothing of this, makes a crowd that waits cost a twentieth more. A subclass is what one would write, and costs more
        than that again: asyncio has a short way for futures of exactly its own class.
        """
        group: asyncio.Future[Landing[V]] = asyncio.Future(loop=self._loop)
        group.cancel = functools.partial(self._dissolve, group)  # type: ignore[method-assign]
        self._groups[group] = None
        return group

    def _dissolve(self, group: asyncio.Future[Landing[V]], msg: object = None) -> bool:
        """In place of a group's ``cancel``: refuse, and wake all who wait for it; asyncio cancels one of them."""
        self._groups.pop(group, None)
        if group is self._group:
            self._group = None
        if self._late is None:
            late: Landing[V] = Landing(error=NOT_YET)
            # not if an interruption has dissolved another group, and made one, meanwhile
            self._late = self._late or late
        _tell(group, self._late)
        return False

    def unboard(self) -> None:
        """Have never boarded, for a caller whom asyncio did not let wait.

        The load goes on: the caller who began it may be about to board, on a loop in another thread.
        """
        self._waiting = max(0, self._waiting - 1)

    def leave(self) -> None:
        """Wait no longer, for a caller who was cancelled, or dropped."""
        if not self._waiting:  # it has landed
            return
        self._waiting -= 1
        if not self._waiting and not self.background:
            # first out of everybody's sight, then cancelled: who arrives while the load cleans up must not find it
            if self._tower is not None:
                self._tower.flight_abandoned(self)
            self.cancel()
            # of callers who were dropped: as in `_tell`, but there is nobody to wake, and perhaps no loop any more
            groups, self._groups = self._groups, {}
            for group in groups:
                del group.cancel

    def land(self, landing: Landing[V]) -> None:
        """Tell everybody who waits; later landings find nobody and do nothing."""
        if landing.error is not None:
            landing.pattern = own_copy(landing.error)
        # At any call from here on a signal handler or a finalizer may cancel a caller, who dissolves a group: what that
        # tells its callers has to be the landing already, and what is gone through here has to stay as it is.
        late, self._late = self._late, landing
        if late is not None:
            late.become(landing)
        self._waiting = 0
        groups, self._groups = self._groups, {}
        self._group = None
        for group in groups:
            _tell(group, landing)
        # nothing of the outcome stays here: what a load leaves behind keeps this flight, and so does the frame of a caller,
        # which the traceback of an error holds
        self._late = None

    def cancel(self) -> asyncio.Task[Any] | None:
        """Cancel the load, and return its task if it is still running."""
        # once: the second time would interrupt the load's clean-up
        if not self.cancelled and self._task is not None and not self._loop.is_closed():
            self._task.cancel()
        self.cancelled = True
        return self._task

    def forget(self) -> None:
        """Let go of whoever made this flight, whose load has ended, or never begins."""
        # what the load has left behind, a task for life perhaps, keeps its context, and by that this flight
        self._tower = None

    def may_be_joined(self, began: float, max_age: float) -> bool:
        """Whether a call that began then and wants nothing older than ``max_age`` seconds may wait for this load.

        Order decides before the clock does: a load that has not begun to run was not sent before the call began,
        and for ``max_age=0`` one that has begun was, even within one tick of the clock.
        """
        return self.sent_at is None or (max_age > 0 and began - self.sent_at <= max_age)

    def ancestry(self) -> Iterator[Flight[Any, Any]]:
        """This flight, and all that wait for it, directly or not."""
        queue: list[Flight[Any, Any]] = [self]
        seen = set(queue)
        while queue:
            flight = queue.pop()
            yield flight
            new = [other for other in flight.waited_for_by if other not in seen and not other.ended]
            seen.update(new)
            queue.extend(new)

    def is_for(self, tower: Tower, key: object) -> bool:
        """Whether ``tower`` made this flight for ``key``."""
        return self._tower is tower and self.key == key

    @property
    def loop_is_closed(self) -> bool:
        """Whether the loop that this flight belongs to has ended."""
        return self._loop.is_closed()

    @property
    def under_way(self) -> bool:
        """Whether the load has begun and not ended."""
        return self.sent_at is not None and not self.ended

    def __repr__(self) -> str:
        state = "ended" if self.ended else "under way" if self.under_way else "queued"
        kind = "background, " if self.background else ""
        return f"<Flight {self.key!r}: {kind}{state}, {self._waiting} waiting>"


def _tell(group: asyncio.Future[Landing[V]], landing: Landing[V]) -> None:
    try:
        # or the group keeps itself, and the flight, until the garbage collector comes
        del group.cancel
    except (
        AttributeError
    ):  # told in between, by whatever has interrupted this and cancelled a caller
        return
    group.set_result(landing)


def own_copy(error: BaseException, original: BaseException | None = None) -> BaseException:
    """An error of the same kind for one waiter alone, with the shared original, or else ``error``, as its cause."""
    cause = error if original is None else original
    if isinstance(error, WolfError):
        # as these are made to be copied: what follows would be a fifth of what a failure costs a crowd
        try:
            twin = error.__copy__()
            twin.__cause__ = cause
        except Exception:  # a class of somebody's own, which is made otherwise
            return _careful_copy(error, cause)
        return twin
    return _careful_copy(error, cause)


def _careful_copy(error: BaseException, cause: BaseException) -> BaseException:
    try:
        twin = _copy(error)
    except Exception:
        twin = error
    if twin is error or type(twin) is not type(error):
        # a class that cannot be copied, or not even printed, must not cost the waiter the news
        twin = WolfError("".join(traceback.format_exception_only(error)).strip())
    notes = twin.__dict__.get("__notes__")
    if isinstance(notes, list):
        twin.__dict__["__notes__"] = notes.copy()
    # not by assignment, which a frozen class refuses
    object.__setattr__(twin, "__cause__", cause)
    return twin


def _copy(error: BaseException) -> BaseException:
    cls = type(error)
    if hasattr(cls, "__copy__") or not isinstance(cls.__init__, types.FunctionType):
        return copy.copy(error)
    # an __init__ of its own may want other arguments than those in `args`, or change them again
    twin = cls.__new__(cls, *error.args)
    twin.__dict__.update(error.__dict__)
    for name in _fields(cls):  # type: ignore[arg-type]  # mypy takes a class for unhashable
        # some are unset, and some read-only, which __new__ has set
        with contextlib.suppress(AttributeError, TypeError):
            value = getattr(error, name)
            if getattr(twin, name, FIELDS) is not value:
                object.__setattr__(twin, name, value)
    return twin


@functools.lru_cache(maxsize=64)
def _fields(cls: type[BaseException]) -> tuple[str, ...]:
    """Names of what errors of that class keep outside their ``__dict__``: ``args``, slots, ``OSError.errno`` and such."""
    members = (item for base in cls.__mro__ for item in vars(base).items())
    return tuple(
        name for name, member in members if isinstance(member, FIELDS) and not name.startswith("__")
    )

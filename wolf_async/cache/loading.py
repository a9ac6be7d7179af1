"""Keep what an async loader brings, share each load, and say exactly how old a value may be.

`LoadingCache` stands before any async loader, and works alone::

    cache = LoadingCache(load, policy=CachePolicy(ttl=30, stale_if_error=300))
    value = await cache.get(key)

The life of an entry, by its age (`CachePolicy`; a call without ``max_age``)::

    age 0              ttl         ttl + stale_while_revalidate     ttl + stale_if_error
    │      fresh        │    stale, refreshed behind      │    stale, in need      │   expired
    ├───────────────────┼─────────────────────────────────┼────────────────────────┼───────────▶
    caller: the value,    the value, at once                the loaded value;        the loaded
            at once                                         the old one if the       value, or
                                                            upstream is unwell       the error
    behind: nothing       one load, unless one is in        the load that the        the same
                          flight or the last one failed     caller waits for

Either window may be the longer one. A call with ``max_age`` knows no windows: it gets a value that
is fresh and at most that old, or the next load's.
"""

from __future__ import annotations

import asyncio
import random
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

import msgspec

from wolf_async.cache.inflight import InFlightLoad, Served, current_load, own_copy
from wolf_async.cache.stats import CacheStats
from wolf_async.cache.store import LONG_AGO, Entry, EntryStore
from wolf_async.clock import system_clock
from wolf_async.errors import WolfClosedError, WolfConfigError, WolfConnectionError, WolfError
from wolf_async.events import LoadRecord
from wolf_async.policy import CachePolicy, check_count, check_seconds, check_type

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from wolf_async.cache.tier import Codec, InFlight, SharedLoads, Tier
    from wolf_async.events import Dispatcher

__all__ = ["Loaded", "LoadingCache", "as_loaded", "check_ended"]

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")

MAX_BACKOFF: Final = 60.0
"""Seconds that the pause after failed refreshes is doubled up to."""
DISTRUSTED: Final = 1000
"""Entries that are distrusted in one turn of the loop."""
_CLOSED_MEANWHILE: Final = "closed while a call waited for its answer"


class Loaded(msgspec.Struct, Generic[V], frozen=True, eq=False):
    """What a loader may return in place of the bare value, to say when its request was sent.

    Attributes:
        value: the value.
        sent_at: seconds on the cache's clock; the age counts from there, not from the load's begin.
            Not from before the load's beginning, or whoever waits with a ``max_age`` gets too old a
            value.
        body: the bytes of the value, for a shared tier; without them its codec makes some.
        jitter: from 0 to 1: how much of the policy's jitter it gets; ``None`` is left to chance.

    A load that has to wait for its turn does not make its value older; the default ttl is 30 s:

    >>> import asyncio
    >>> from wolf_async.cache import Loaded, LoadingCache
    >>> from wolf_async.testing import FakeClock
    >>> clock = FakeClock()
    >>> async def load(key: str) -> Loaded[str]:
    ...     clock.advance(20)  # it waits for its turn
    ...     sent_at = clock()
    ...     clock.advance(1)  # the request
    ...     return Loaded(key.upper(), sent_at)
    >>> async def main() -> None:
    ...     cache = LoadingCache(load, clock=clock)
    ...     await cache.get("a")
    ...     clock.advance(28)
    ...     print(cache.peek("a"))
    ...     clock.advance(2)
    ...     print(cache.peek("a"))
    >>> asyncio.run(main())
    A
    None

    """

    value: V
    sent_at: float
    body: bytes | None = None
    jitter: float | None = None


def as_loaded(result: V | Loaded[V], sent_at: float) -> Loaded[V]:
    """Return what a loader returned, or wrap the bare value, which was sent then."""
    return cast("Loaded[V]", result) if isinstance(result, Loaded) else Loaded(result, sent_at)


class LoadingCache(Generic[K, V]):
    """A cache that loads what it lacks, once for all who ask.

    Callers use `get`, `peek`, `held`, `invalidate`, `clear`, `settled`, `stats` and `aclose`; the
    other methods are for a client and a shared tier.

    Args:
        load: ``load(key)`` returns an awaitable of the value, or of `Loaded`. It runs in a task of
            its own, in an empty context.
        policy: how long values are kept; ``None`` keeps none and still shares loads.
        sizeof: ``sizeof(value)`` gives the value's bytes; needed for the policy's ``max_bytes``.
        clock: gives seconds, and never goes back.
        is_unwell: ``is_unwell(error)`` tells whether a failed load means that the upstream is
            unwell, so that a stale value may stand in; otherwise the failure is the upstream's
            answer, and drops what is held. By default every failure means unwell.
        dispatcher: is told of loads, waits and evictions; keys are then the ids of accounts.
        is_shut: ``is_shut()`` tells that no load can succeed now: callers without ``max_age`` get
            a stale value that may stand in at once, and no load begins for them.
        name_error: ``name_error(error, key)`` may note in an error whose it is; in that of a load
            before those who wait get copies of it.
        marks_sent: whether the loader calls `mark_sent` when it sends its request; else a load
            counts as sent when it begins.
        shared: a tier in which other processes' caches take part, as `wolf_async.shared.RedisTier`.
        codec: turns values into bytes for that tier, and back; given if ``shared`` is.

    The cache belongs to the event loop of its first load. Used from another one, it raises
    `WolfConfigError` as long as the first is open, and moves over, with its values, once that is
    closed. A call that finds a fresh value touches no loop. It is not for use from several threads
    at once.

    Raises `WolfConfigError` for arguments that make no sense.

    >>> import asyncio
    >>> from wolf_async import CachePolicy
    >>> from wolf_async.cache import LoadingCache
    >>> async def load(key: str) -> str:
    ...     await asyncio.sleep(0)  # a request, say
    ...     return key.upper()
    >>> async def main() -> None:
    ...     cache = LoadingCache(load, policy=CachePolicy(ttl=30, stale_if_error=300))
    ...     print(await asyncio.gather(cache.get("a"), cache.get("a"), cache.get("b")))
    ...     print(await cache.get("a", max_age=60), cache.peek("c"))
    ...     print(cache.stats().loads)
    ...     await cache.aclose()
    >>> asyncio.run(main())
    ['A', 'A', 'B']
    A None
    2

    """

    def __init__(
        self,
        load: Callable[[K], Awaitable[V | Loaded[V]]],
        *,
        policy: CachePolicy | None = CachePolicy(),
        sizeof: Callable[[V], int] | None = None,
        clock: Callable[[], float] = system_clock,
        is_unwell: Callable[[BaseException], bool] = lambda error: True,
        dispatcher: Dispatcher | None = None,
        is_shut: Callable[[], bool] = lambda: False,
        name_error: Callable[[BaseException, K], object] = lambda error, key: None,
        marks_sent: bool = False,
        shared: Tier | None = None,
        codec: Codec[K, V] | None = None,
    ) -> None:
        _check_policy(policy, sizeof)
        _check_tier(shared, codec)
        self._policy = policy
        self._sizeof = sizeof
        self._clock = clock
        self._is_unwell = is_unwell
        self._is_shut = is_shut
        self._name_error = name_error
        self._marks_sent = marks_sent
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._store: EntryStore[K, V] = EntryStore(
            policy.max_entries if policy else 0,
            policy.max_bytes if policy else None,
            on_evict=None if dispatcher is None else dispatcher.evicted,
        )
        self._dispatcher = dispatcher
        self._current: dict[K, InFlightLoad[K, V]] = {}
        """The load of each key that new callers may find."""
        self._queued: dict[K, InFlightLoad[K, V]] = {}
        """The load that starts when the current one of its key ends."""
        self._running: dict[InFlightLoad[K, V], None] = {}
        """All loads whose tasks have not ended, in order of begin; it keeps them alive."""
        self._hits = self._stale_hits = self._error_hits = self._misses = self._joined = 0
        self._loads = self._refreshes = self._failures = self._abandoned = self._superseded = 0
        self._shared: SharedLoads[K] | None = None
        self._load = load
        if shared is not None and codec is not None:
            self._shared = shared.bind(self, load, codec)
            self._load = self._shared.load

    # --- the callers' side --------------------------------------------------------------------

    async def get(self, key: K, *, max_age: float | None = None) -> V:
        """Return the value of ``key``, loaded if what is held is not good enough.

        With ``max_age`` (seconds) the value was at most that old when this call began. ``key`` is
        anything that can be hashed.

        Raises what the load raised, as an error of this caller's own with the shared original as
        ``__cause__``; `WolfClosedError` if the cache is closed or gets closed meanwhile;
        `WolfConnectionError` if the load was cancelled from within; `WolfConfigError` for an
        unhashable key, a ``max_age`` that is no number from 0, a loader that asks for the key it is
        loading, or a call from a second event loop.
        """
        entry = self.fresh(key) if max_age is None else None
        if entry is not None:
            return entry.value
        return (await self.find(key, max_age).wait(max_age)).value

    def fresh(self, key: K) -> Entry[V] | None:
        """Return the entry of ``key`` if it is fresh, and count a hit."""
        try:
            entry: Entry[V] | None = self._store[key]
        except TypeError:  # `find` refuses a key that cannot be hashed
            return None
        # pyright takes what `__missing__` returns for an entry
        clock = self._clock
        if entry is None or clock() > entry.fresh_until:  # pyright: ignore[reportUnnecessaryComparison]
            return None
        self._hits += 1
        if not entry.used:
            entry.used = True
        return entry

    def joinable(self, key: K) -> InFlightLoad[K, V] | None:
        """Return the load to join at once for a key of which nothing is held, and count the call.

        ``None`` where there is more to decide, or to check of the key: `find` does that.
        """
        try:
            load = self._current.get(key)
        except TypeError:  # `find` refuses a key that cannot be hashed
            return None
        if (
            load is None
            or not load.alone
            or current_load.get() is not None
            or asyncio.get_running_loop() is not self._loop
        ):
            return None
        self._joined += 1
        return load

    def find(self, key: K, max_age: float | None = None) -> Served[V] | InFlightLoad[K, V]:
        """Return what serves a caller whom `fresh` did not serve, to be waited for at once.

        It begins the load that is needed. ``key`` and ``max_age`` are as in `get`, and so is what
        is raised.
        """
        try:
            return self._find(key, max_age)
        except WolfError as error:
            self._name_error(error, key)
            raise

    def _find(self, key: K, max_age: float | None) -> Served[V] | InFlightLoad[K, V]:
        if max_age is not None:
            check_seconds("max_age", max_age)
        if self._closed:
            raise WolfClosedError("closed before this call")
        now = self._clock()
        entry = self._store.find(key)
        if entry is not None and entry.is_fresh_for(max_age, now):
            self._hits += 1
            entry.used = True
            return Served(entry.value, entry.sent_at)
        if asyncio.get_running_loop() is not self._loop:
            self._enter_loop()
        if entry is not None and self._serves(entry, key, now, max_age):
            entry.used = True
            return Served(entry.value, entry.sent_at, is_stale=True)
        parent = current_load.get()
        if parent is not None:
            self._refuse_circle(key, parent)
        load = self._join(key, now, max_age)
        if self._closed:  # by the load, which an eager task factory has run already
            raise WolfClosedError(_CLOSED_MEANWHILE)
        return load

    def peek(self, key: K, *, max_age: float | None = None, stale: bool = False) -> V | None:
        """Return the value of ``key`` if it is fresh, or within ``stale_while_revalidate``.

        Loads nothing and counts nothing. With ``max_age`` (seconds) only a fresh value of at most
        that age; with ``stale`` also one within ``stale_if_error``. Raises `WolfConfigError` for an
        unhashable ``key``, or a ``max_age`` that is no number from 0.
        """
        if max_age is not None:
            check_seconds("max_age", max_age)
        entry = self._store.find(key)
        if entry is None:
            return None
        now = self._clock()
        if max_age is not None:
            return entry.value if entry.is_fresh_for(max_age, now) else None
        serves = now <= entry.fresh_until or now <= entry.revalidate_until
        return entry.value if serves or (stale and now <= entry.stand_in_until) else None

    def held(self, key: K) -> V | None:
        """Return the value that is held for ``key``, whatever its age.

        For a loader that can tell that nothing changed. Raises `WolfConfigError` for an unhashable
        key.
        """
        entry = self._store.find(key)
        return None if entry is None else entry.value

    def invalidate(self, key: K) -> bool:
        """Forget ``key``; a load under way serves its waiters, and is neither stored nor joined.

        Returns whether there was anything to forget: a value, a remembered failure, or a load under
        way. Raises `WolfConfigError` for an unhashable key.
        """
        if self._shared is not None:
            self._shared.void(key)
        return self.forget(key)

    def clear(self) -> None:
        """Forget everything, as `invalidate` does for one key."""
        if self._shared is not None:
            self._shared.void_all()
        self.forget_all()

    async def settled(self) -> bool:
        """Wait until the shared tier has all invalidations of this cache; at once without a tier.

        Returns ``False`` if the tier cannot be reached within its timeout.
        """
        return self._shared is None or await self._shared.settled()

    @property
    def is_closed(self) -> bool:
        """Whether `aclose` was called, and not refused."""
        return self._closed

    def stats(self) -> CacheStats:
        """Return what this cache has done since it was made; `CacheStats` tells each count."""
        return CacheStats(
            hits=self._hits,
            stale_hits=self._stale_hits,
            error_hits=self._error_hits,
            misses=self._misses,
            joined=self._joined,
            loads=self._loads,
            refreshes=self._refreshes,
            failures=self._failures,
            abandoned=self._abandoned,
            superseded=self._superseded,
            evictions=self._store.evictions,
            entries=len(self._store),
            in_flight=len(self._running),
            **({} if self._shared is None else self._shared.stats()),
        )

    async def aclose(self) -> None:
        """Refuse new calls, and end all loads; who waits gets `WolfClosedError`.

        Twice is once. Returns when the last load has ended, and the tier is told what it does not
        know yet. Raises `WolfConfigError` on another event loop than the cache's, if that is still
        open.
        """
        await self.end_loads()
        await self.leave_tier()

    def refuse(self) -> None:
        """Refuse new calls from now on, before the time comes for `aclose`."""
        self._closed = True

    async def leave_tier(self) -> None:
        """Send the tier the invalidations that it does not have, and end the connections to it."""
        if self._shared is not None:
            await self._shared.aclose()

    async def end_loads(self) -> None:
        """Do the first half of `aclose`: what is still to come may be invalidated."""
        if self._loop is not None:
            self._enter_loop()
        self._closed = True
        self._store.clear()
        loads = [*self._running, *self._queued.values()]
        for load in self._queued.values():
            load.forget_owner()
        self._current.clear()
        self._queued.clear()
        # told first, cancelled second: the waiters must not depend on how the loads end
        for load in loads:
            self._reject(load, WolfClosedError(_CLOSED_MEANWHILE))
        tasks = [task for load in loads if (task := load.cancel())]
        others = [task for task in tasks if task is not asyncio.current_task()]
        if others:
            await asyncio.wait(others)

    # --- for a shared tier (`wolf_async.cache.tier`) ------------------------------------------

    @property
    def policy(self) -> CachePolicy | None:
        """How long values are kept."""
        return self._policy

    @property
    def clock(self) -> Callable[[], float]:
        """What gives seconds, for ages."""
        return self._clock

    def forget(self, key: K) -> bool:
        """Forget ``key`` as `invalidate` does, for an invalidation that came from elsewhere."""
        held = self._store.find(key) is not None and self._store.discard(key)
        return self._supersede(key) or held

    def forget_all(self) -> None:
        """Forget everything as `clear` does, for an invalidation that came from elsewhere."""
        self._store.clear()
        for key in list(self._current):
            self._supersede(key)

    def drop(self, key: K) -> None:
        """Drop what is held for ``key``; a load in flight goes on."""
        self._store.discard(key)

    async def distrust(self) -> None:
        """Let nothing that is held be fresh any more; it may only stand in for a failed load."""
        for number, key in enumerate(list(self._store)):
            if number % DISTRUSTED == DISTRUSTED - 1:
                await asyncio.sleep(0)
            entry = self._store.find(key)
            if entry is not None:
                entry.fresh_until = entry.revalidate_until = LONG_AGO

    def stand_in(self, key: K) -> Served[V] | None:
        """Return the value that a stale window lets stand in for a load of ``key`` that failed."""
        entry, policy = self._store.find(key), self._policy
        if entry is None or entry.error is not None or policy is None:
            return None
        has_window = policy.stale_while_revalidate or policy.stale_if_error
        is_over = self._clock() > max(entry.revalidate_until, entry.stand_in_until)
        return (
            None if is_over or not has_window else Served(entry.value, entry.sent_at, is_stale=True)
        )

    def has_stand_in(self, key: K) -> bool:
        """Tell whether a value is held for ``key`` that may still serve somebody."""
        entry = self._store.find(key)
        return entry is not None and entry.error is None and entry.has_use(self._clock())

    def adopt(self, load: InFlight, key: K, value: V, sent_at: float, jitter: float) -> None:
        """Hold an older value, which may stand in for ``load`` unless that was superseded.

        ``value`` is held for ``key``, its age counts from ``sent_at`` (seconds on the cache's
        clock), and ``jitter`` is as in `Loaded`.
        """
        held = self._store.find(key)
        newer = held is not None and held.error is None and held.sent_at >= sent_at
        if self._current.get(key) is load and not newer:
            self._store.put(key, self._new_entry(value, sent_at, jitter), self._clock())
            self._current[key].alone = False

    def discard(self, load: InFlight, key: K) -> None:
        """Supersede the ``load`` of ``key``: what it brings is too old to be stored or joined."""
        if self._current.get(key) is load:
            self._supersede(key)

    # --- what is held -------------------------------------------------------------------------

    def _serves(self, entry: Entry[V], key: K, now: float, max_age: float | None) -> bool:
        """Tell whether ``entry``, which is not fresh, answers a call at once.

        Raises the failure that it remembers, and begins the refresh that is due.
        """
        if entry.error is not None:
            if now <= entry.retry_at and (max_age is None or entry.is_at_most(max_age, now)):
                self._error_hits += 1
                raise own_copy(entry.error) from entry.error
            return False
        if max_age is not None:
            return False
        backs_off = now < entry.retry_at or self._is_shut()
        if now <= entry.revalidate_until:
            if not backs_off and key not in self._current:
                self._begin(key, background=True)
                self._refreshes += 1
        elif not (backs_off and now <= entry.stand_in_until):
            return False
        self._stale_hits += 1
        return True

    def _new_entry(self, value: V, sent_at: float, jitter: float | None) -> Entry[V]:
        assert self._policy is not None
        size = 0 if self._sizeof is None else self._sizeof(value)
        check_count("what sizeof returns", size, least=0)
        part = random.random() if jitter is None else jitter
        expires = sent_at + self._policy.ttl * (1 - self._policy.jitter * part)
        return Entry(
            value,
            sent_at,
            fresh_until=expires,
            revalidate_until=expires + self._policy.stale_while_revalidate,
            stand_in_until=expires + self._policy.stale_if_error,
            size=size,
        )

    def _back_off(self, load: InFlightLoad[K, V], error: BaseException) -> Served[V] | None:
        """Return the stale value that stands in for a load that failed, and delay the next one.

        Where none can, or the failure is the upstream's answer, forget what is held.
        """
        assert self._policy is not None
        now = self._clock()
        entry = self._store.find(load.key)
        held = entry is not None and entry.error is None and entry.has_use(now)
        if entry is None or not held or not self.says_unwell(error):
            self._store.discard(load.key)
            if self._policy.error_ttl > 0:
                self._remember(load, error, now)
            return None
        entry.backoff = max(self._policy.refresh_backoff, min(entry.backoff * 2, MAX_BACKOFF))
        entry.retry_at = _failed_at(load, now) + entry.backoff
        stands_in = now <= entry.stand_in_until
        return Served(entry.value, entry.sent_at, is_stale=True) if stands_in else None

    def says_unwell(self, error: BaseException) -> bool:
        """Tell whether ``error`` means that the upstream is unwell, not that it said no."""
        try:
            return self._is_unwell(error)
        except Exception as broken:
            # those who wait must hear of the load's end whatever becomes of this question
            assert self._loop is not None
            context = {"message": "is_unwell raised an error", "exception": broken}
            self._loop.call_exception_handler(context)
            return False

    def _remember(self, load: InFlightLoad[K, V], error: BaseException, now: float) -> None:
        assert self._policy is not None
        entry: Entry[V] = Entry(
            cast("V", None),
            now if load.sent_at is None else load.sent_at,
            retry_at=_failed_at(load, now) + self._policy.error_ttl,
            # without traceback and cause, which would keep the frames of the whole load alive
            error=own_copy(error),
        )
        self._store.put(load.key, entry, now)

    # --- what is in flight --------------------------------------------------------------------

    def _enter_loop(self) -> None:
        """Move over to the running loop, if the cache's own is closed."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            check_ended(self._loop)
            # what was in flight ended with its loop
            self._abandoned += len(self._running)
            self._current.clear()
            self._queued.clear()
            self._running.clear()
            self._loop = loop

    def _refuse_circle(self, key: K, parent: InFlightLoad[Any, Any]) -> None:
        """Refuse a loader that asks for the key it is loading: it would wait for itself."""
        if parent.under_way and any(load.is_for(self, key) for load in parent.ancestry()):
            raise WolfConfigError(
                f"the loader asked for {key!r}, which it is loading: it would wait for itself"
            )

    def _join(self, key: K, began: float, max_age: float | None) -> InFlightLoad[K, V]:
        """Return the load whose outcome serves a call that began then; begin one if needed."""
        load = self._current.get(key)
        joins = load is not None and (max_age is None or load.may_be_joined(began, max_age))
        if load is None:
            load = self._begin(key)
        elif not joins:
            joins = key in self._queued
            load = self._queued[key] if joins else self._queue(key)
        if max_age is not None:
            load.floor = max(load.floor, began - max_age)
        self._joined += joins
        self._misses += not joins
        return load

    def _begin(self, key: K, *, background: bool = False) -> InFlightLoad[K, V]:
        load = self._new_load(key, background=background)
        self._start(load)
        return load

    def _queue(self, key: K) -> InFlightLoad[K, V]:
        load = self._queued[key] = self._new_load(key)
        # a circle of loads may run through it
        self._current[key].waited_for_by.append(load)
        return load

    def _new_load(self, key: K, *, background: bool = False) -> InFlightLoad[K, V]:
        assert self._loop is not None
        load: InFlightLoad[K, V] = InFlightLoad(self, self._loop, key, background=background)
        if self._dispatcher is not None and self._dispatcher.is_heard():
            load.record = LoadRecord(self._dispatcher, key, background=background)
        return load

    def _start(self, load: InFlightLoad[K, V]) -> None:
        load.alone = load.key not in self._store
        self._current[load.key] = load
        self._running[load] = None
        self._loads += 1
        if load.record is not None:
            load.record.start()
        try:
            load.start(self._load, None if self._marks_sent else self._clock)
        except BaseException:
            # nobody may join what will never end
            del self._current[load.key]
            self._running.pop(load, None)
            self._loads -= 1
            raise

    def _start_queued(self, behind: InFlightLoad[K, V]) -> None:
        load = self._queued.pop(behind.key, None)
        if load is not None and not load.loop.is_closed():
            behind.waited_for_by.remove(load)
            try:
                self._start(load)
            except Exception as error:
                self._reject(load, error)

    def _supersede(self, key: K) -> bool:
        """Take the load of ``key`` out of sight: it is neither stored nor joined from now on."""
        load = self._current.pop(key, None)
        if load is None:
            return False
        self._superseded += 1
        self._start_queued(load)
        return True

    def load_abandoned(self, load: InFlightLoad[K, V]) -> None:
        """Forget ``load``, whose last waiter has left, before it is cancelled."""
        if self._current.get(load.key) is load:
            del self._current[load.key]
            self._start_queued(load)
        elif self._queued.get(load.key) is load:
            del self._queued[load.key]
            self._current[load.key].waited_for_by.remove(load)

    def load_done(self, load: InFlightLoad[K, V], task: asyncio.Task[V | Loaded[V]]) -> None:
        """Take in how ``load`` ended in ``task``: the one place where outcomes enter the cache."""
        self._running.pop(load, None)
        current = self._current.get(load.key) is load
        if current:
            del self._current[load.key]
        error = _failure(load, task)
        # from outside, as by the end of a loop: that says nothing about the upstream
        from_outside = task.cancelled() and task.cancelling() > 0
        self._abandoned += load.cancelled or from_outside
        if load.cancelled:
            pass  # nobody waits, or those who did were told
        elif error is None:
            self._succeed(load, task.result(), keep=current)
        elif from_outside:
            self._reject(load, error)
        else:
            self._fail(load, error, keep=current)
        if current:
            self._start_queued(load)
        if load.record is not None:
            load.record.end(error, abandoned=load.cancelled or from_outside)

    def _succeed(self, load: InFlightLoad[K, V], result: V | Loaded[V], *, keep: bool) -> None:
        sent_at = self._clock() if load.sent_at is None else load.sent_at
        loaded = as_loaded(result, sent_at)
        if keep and self._policy is not None:
            try:
                entry = self._new_entry(loaded.value, loaded.sent_at, loaded.jitter)
            except Exception as error:  # sizeof is not ours
                self._fail(load, error, keep=keep)
                return
            self._store.put(load.key, entry, self._clock())
        load.resolve(Served(loaded.value, loaded.sent_at))

    def _fail(self, load: InFlightLoad[K, V], error: BaseException, *, keep: bool) -> None:
        self._failures += 1
        stale = self._back_off(load, error) if keep and self._policy is not None else None
        self._reject(load, error, stale)

    def _reject(
        self, load: InFlightLoad[K, V], error: BaseException, stale: Served[V] | None = None
    ) -> None:
        # once for all who wait: each of them gets a copy
        self._name_error(error, load.key)
        load.reject(error, stale)

    def __repr__(self) -> str:
        return f"<LoadingCache: {'closed, ' if self._closed else ''}{self.stats()}>"


def _check_policy(policy: object, sizeof: object) -> None:
    if policy is None:
        return
    check_type("policy", policy, CachePolicy, NoneType)
    if cast("CachePolicy", policy).max_bytes is not None and sizeof is None:
        raise WolfConfigError("max_bytes needs sizeof, which tells the bytes of a value")


def _check_tier(shared: object, codec: object) -> None:
    if (shared is None) != (codec is None):
        raise WolfConfigError("shared and codec are given together, or neither of them")


def check_ended(loop: asyncio.AbstractEventLoop | None) -> None:
    """Raise `WolfConfigError` if ``loop`` is still open, since another one is running."""
    if loop is not None and not loop.is_closed():
        raise WolfConfigError(
            "in use on another event loop that is still open: make one for each loop"
        )


def _failed_at(load: InFlightLoad[Any, Any], now: float) -> float:
    return now if load.failed_at is None else load.failed_at


def _failure(load: InFlightLoad[Any, Any], task: asyncio.Task[Any]) -> BaseException | None:
    """Return what went wrong in a load, as an ordinary exception."""
    if task.cancelled():
        return WolfConnectionError(
            f"the load of {load.key!r} was cancelled, not by those who wait for it",
        )
    error = task.exception()
    if error is None or isinstance(error, Exception):
        return error
    wrapped = WolfConnectionError(f"the load of {load.key!r} ended by {type(error).__name__}")
    wrapped.__cause__ = error
    return wrapped

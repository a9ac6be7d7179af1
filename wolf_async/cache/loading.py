"""How old is what we hold, and is that good enough for this caller?

`LoadingCache` stands before any async loader. It keeps values for a while, lets callers of one key share
one load, and says exactly how old a value may be when it is returned. It works alone::

    cache = LoadingCache(load, policy=CachePolicy(ttl=30, stale_if_error=300))
    value = await cache.get(key)

The life of an entry, by its age (`CachePolicy`; a call without ``max_age``)::

    age 0              ttl            ttl + stale_while_revalidate     ttl + stale_if_error
    │      fresh        │       stale, refreshed behind      │    stale, in need      │    gone
    ├───────────────────┼────────────────────────────────────┼────────────────────────┼──────────▶
    caller: the value,    the value, at once                   the loaded value;        the loaded
            at once                                            the old one if the       value, or
                                                               upstream is unwell       the error
    behind: nothing       one load, unless one is under way    the load that the        the load that
                          or the last one failed just now      caller waits for         the caller
                                                                                        waits for

Either window may be the longer one. A call with ``max_age`` knows no windows: it gets a value that is fresh and
at most that old, or the next load's.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

import msgspec

from wolf_async.cache.inflight import Flight, Landing, loading, own_copy
from wolf_async.cache.store import Entry, Store
from wolf_async.errors import WolfClosedError, WolfConfigError, WolfConnectionError
from wolf_async.policy import CachePolicy, check_count, check_seconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

__all__ = ["CacheStats", "Loaded", "LoadingCache", "check_ended"]

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")

MAX_BACKOFF: Final = 60.0
"""Seconds that the pause after failed refreshes is doubled up to."""
_CLOSED_MEANWHILE: Final = "closed while a call waited for its answer"


class Loaded(Generic[V]):
    """What a loader may return in place of the bare value, to say when its request was sent."""

    __slots__ = ("sent_at", "value")

    def __init__(self, value: V, sent_at: float) -> None:
        self.value = value
        self.sent_at = sent_at
        """Seconds on the cache's clock: the value's age counts from there, not from the load's beginning.

        Not from before the load's beginning, or whoever waits for it with a ``max_age`` gets too old a value.
        """


class CacheStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a cache has done since it was made; counts, not rates.

    Each finished call of ``get`` is one of ``hits``, ``stale_hits``, ``error_hits``, ``misses`` or ``joined``,
    unless it was refused for its arguments. Each load that was begun ends as a value, or is one of
    ``failures`` or ``abandoned``, or is still ``in_flight``: values = loads - failures - abandoned - in_flight.
    """

    hits: int
    """Calls answered at once by a fresh value."""
    stale_hits: int
    """Calls answered at once by a stale value."""
    error_hits: int
    """Calls refused at once by a remembered failure."""
    misses: int
    """Calls that began a load, or that were the first to wait for the next one."""
    joined: int
    """Calls that waited for a load which another call had asked for."""
    loads: int
    """Loads begun: for a miss, or as a refresh."""
    refreshes: int
    """Loads begun in the background."""
    failures: int
    """Loads that ended in an error."""
    abandoned: int
    """Loads that were cancelled: their last waiter had left, or the cache was closed, or their loop ended."""
    superseded: int
    """Loads that an invalidation overtook, however they ended."""
    evictions: int
    """Values and remembered failures dropped to make room, not because of their age."""
    entries: int
    """Values and remembered failures held now."""
    in_flight: int
    """Loads under way now, those that were superseded or abandoned and have not ended yet included."""

    def __str__(self) -> str:
        served = self.hits + self.stale_hits
        calls = served + self.error_hits + self.misses + self.joined
        held = f"{self.entries} held, {self.in_flight} in flight"
        return f"{held}, {served} of {calls} calls served from memory, {self.loads} loads"


class LoadingCache(Generic[K, V]):
    """A cache that loads what it lacks, once for all who ask.

    ``load(key)`` returns an awaitable of the value, or of `Loaded`. It runs in its own task in an empty context.
    ``policy=None`` keeps nothing and still shares loads. ``sizeof(value)`` gives bytes, for ``max_bytes``.
    ``clock`` gives seconds and never goes back. ``is_unwell(error)`` tells whether a failed load means that
    the upstream is unwell, so that a stale value may stand in; otherwise the failure is the upstream's answer,
    and drops what is held. By default every failure means unwell. ``store`` holds the values in place
    of a plain one; it has the policy's bounds, and is written by the cache alone.

    The cache belongs to the event loop of its first load. Used from another one, it raises `WolfConfigError`
    as long as the first is open, and moves over, with its values, once that is closed. A call that finds a fresh value
    touches no loop. It is not for use from several threads at once.
    """

    def __init__(
        self,
        load: Callable[[K], Awaitable[V | Loaded[V]]],
        *,
        policy: CachePolicy | None = CachePolicy(),
        sizeof: Callable[[V], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
        is_unwell: Callable[[BaseException], bool] = lambda error: True,
        store: Store[K, V] | None = None,
    ) -> None:
        if policy is not None and not isinstance(policy, CachePolicy):
            raise WolfConfigError(f"policy must be a CachePolicy or None, not {policy!r}")
        if policy is not None and policy.max_bytes is not None and sizeof is None:
            raise WolfConfigError("max_bytes needs sizeof, which tells the bytes of a value")
        self._load = load
        self._policy = policy
        self._sizeof = sizeof
        self._clock = clock
        self._is_unwell = is_unwell
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._store: Store[K, V] = Store.of(policy) if store is None else store
        self._entries = self._store.entries
        self.flights: dict[K, Flight[K, V]] = {}
        """The flight of each key that new callers may find. For reading; the same object for the life of the cache."""
        self._queued: dict[K, Flight[K, V]] = {}
        """The flight that starts when the current one of its key ends."""
        self._running: set[Flight[K, V]] = set()
        """All flights whose tasks have not ended; it keeps them alive."""
        self._hits = self._stale_hits = self._error_hits = self._misses = self._joined = 0
        self._loads = self._refreshes = self._failures = self._abandoned = self._superseded = 0

    # --- the callers' side -------------------------------------------------------------------------------------

    async def get(self, key: K, *, max_age: float | None = None) -> V:
        """The value of ``key``, loaded if what is held is not good enough.

        With ``max_age`` (seconds) the value was at most that old when this call began.

        Raises what the load raised, as an error of this caller's own with the shared original as ``__cause__``;
        `WolfClosedError` if the cache is closed or gets closed meanwhile; `WolfConnectionError` if the load was
        cancelled from within; `WolfConfigError` for an unhashable key, a ``max_age`` that is no number from 0,
        a loader that asks for the key it is loading, or a call from a second event loop.
        """
        if max_age is None:
            entry = self.fresh(key)
            if entry is not None:
                return entry.value
        found = self.find(key, max_age)
        return await found.wait(max_age) if isinstance(found, Flight) else found.value

    def fresh(self, key: K) -> Entry[V] | None:
        """The entry of ``key`` if it is fresh, counted as a hit."""
        try:
            entry = self._entries.get(key)
        except TypeError:  # unhashable: `find` says so
            return None
        if entry is None or self._clock() > entry.fresh_until:
            return None
        self._hits += 1
        entry.used = True
        return entry

    def find(self, key: K, max_age: float | None) -> Entry[V] | Flight[K, V]:
        """What answers a caller whom `fresh` did not serve: an entry, or a flight, which is to be waited for at once."""
        if self._closed:
            raise WolfClosedError("closed before this call")
        if max_age is not None:
            check_seconds("max_age", max_age)
        now = self._clock()
        entry = self._store.get(key)
        fresh = entry is not None and self._is_fresh(entry, now, max_age)
        if not fresh:
            self._enter_loop()
        if entry is not None and (fresh or self._serves(entry, key, now, max_age)):
            entry.used = True
            return entry
        parent = loading.get()
        if (
            parent is not None
            and parent.under_way
            and any(f.is_for(self, key) for f in parent.ancestry())
        ):
            raise WolfConfigError(
                f"the loader asked for {key!r}, which it is loading: it would wait for itself"
            )
        flight = self._board(key, now, max_age)
        if self._closed:  # by the load, which an eager task factory has run already
            raise WolfClosedError(_CLOSED_MEANWHILE)
        return flight

    def peek(self, key: K, *, max_age: float | None = None) -> V | None:
        """The value of ``key`` if it is fresh, or within ``stale_while_revalidate``; never loads, counts nothing.

        With ``max_age`` (seconds) only a fresh value of at most that age.
        """
        if max_age is not None:
            check_seconds("max_age", max_age)
        entry = self._store.get(key)
        if entry is None or entry.error is not None or self._policy is None:
            return None
        now = self._clock()
        if max_age is not None:
            return entry.value if entry.is_fresh_for(now, max_age) else None
        return (
            entry.value if now <= entry.fresh_until + self._policy.stale_while_revalidate else None
        )

    def held(self, key: K) -> V | None:
        """The value that is held for ``key``, whatever its age: for a loader that can tell that nothing changed."""
        entry = self._store.get(key)
        return None if entry is None else entry.value

    def sent_at(self, key: K, default: float) -> float:
        """When the value that is held for ``key`` was sent, on the cache's clock; ``default`` if none is held."""
        entry = self._store.get(key)
        return default if entry is None else entry.sent_at

    def invalidate(self, key: K) -> bool:
        """Forget ``key``. A load that is under way serves those who wait for it, and is neither stored nor joined.

        Returns whether there was anything to forget: a value, a remembered failure, or a load under way.
        """
        held = self._store.get(key) is not None and self._store.drop(key)
        return self._supersede(key) or held

    def clear(self) -> None:
        """Forget everything, as `invalidate` does for one key."""
        self._store.clear()
        for key in list(self.flights):
            self._supersede(key)

    @property
    def is_closed(self) -> bool:
        """Whether `aclose` was called, and not refused."""
        return self._closed

    def stats(self) -> CacheStats:
        """What this cache has done since it was made."""
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
            entries=len(self._entries),
            in_flight=len(self._running),
        )

    async def aclose(self) -> None:
        """Refuse new calls, and end all loads; who waits gets `WolfClosedError`. Twice is once.

        Returns when the last load has ended. Raises `WolfConfigError` on another event loop than the cache's,
        if that is still open.
        """
        if self._loop is not None:
            self._enter_loop()
        self._closed = True
        self._store.clear()
        flights = self._running.union(self._queued.values())
        for flight in self._queued.values():
            flight.forget()
        self.flights.clear()
        self._queued.clear()
        # told first, cancelled second: the waiters must not depend on how the loads end
        for flight in flights:
            flight.land(Landing(error=WolfClosedError(_CLOSED_MEANWHILE)))
        tasks = [
            task
            for flight in flights
            if (task := flight.cancel()) and task is not asyncio.current_task()
        ]
        if tasks:
            await asyncio.wait(tasks)

    # --- what is held ------------------------------------------------------------------------------------------

    def _is_fresh(self, entry: Entry[V], now: float, max_age: float | None) -> bool:
        """Whether ``entry`` answers a call as it is, on whatever loop that runs; counted as a hit."""
        fresh = now <= entry.fresh_until if max_age is None else entry.is_fresh_for(now, max_age)
        self._hits += fresh
        return fresh

    def _serves(self, entry: Entry[V], key: K, now: float, max_age: float | None) -> bool:
        """Whether ``entry``, which is not fresh, answers a call at once; raises the failure that it remembers."""
        if entry.error is not None:
            if now <= entry.gone_at and (max_age is None or entry.is_at_most(max_age, now)):
                self._error_hits += 1
                raise own_copy(entry.error)
            return False
        if max_age is None and self._serves_stale(entry, key, now):
            self._stale_hits += 1
            return True
        return False

    def _serves_stale(self, entry: Entry[V], key: K, now: float) -> bool:
        assert self._policy is not None
        if now <= entry.fresh_until + self._policy.stale_while_revalidate:
            if now >= entry.retry_at and key not in self.flights:
                self._depart(key, background=True)
                self._refreshes += 1
            return True
        return now < entry.retry_at and now <= entry.fresh_until + self._policy.stale_if_error

    # --- what is under way -------------------------------------------------------------------------------------

    def _enter_loop(self) -> None:
        """Make sure that the running loop is the one that this cache belongs to, or follows on it."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            check_ended(self._loop)
            # what was under way ended with its loop
            self._abandoned += len(self._running)
            self.flights.clear()
            self._queued.clear()
            self._running.clear()
            self._loop = loop

    def _board(self, key: K, began: float, max_age: float | None) -> Flight[K, V]:
        """The flight whose outcome serves a call that began then; made and started where there is none."""
        flight = self.flights.get(key)
        if flight is None:
            self._misses += 1
            return self._depart(key)
        if max_age is not None and not flight.may_be_joined(began, max_age):
            if key not in self._queued:
                self._misses += 1
                return self._queue(key)
            flight = self._queued[key]
        self._joined += 1
        return flight

    def _depart(self, key: K, *, background: bool = False) -> Flight[K, V]:
        flight = self._new_flight(key, background)
        self._start(flight)
        return flight

    def _queue(self, key: K) -> Flight[K, V]:
        flight = self._queued[key] = self._new_flight(key)
        # a circle of loads may run through it
        self.flights[key].waited_for_by.append(flight)
        return flight

    def _new_flight(self, key: K, background: bool = False) -> Flight[K, V]:
        assert self._loop is not None
        return Flight(self, self._loop, key, background=background)

    def _start(self, flight: Flight[K, V]) -> None:
        self.flights[flight.key] = flight
        self._running.add(flight)
        self._loads += 1
        try:
            flight.start(self._load, self._clock)
        except BaseException:
            # nobody may join what will never end
            del self.flights[flight.key]
            self._running.discard(flight)
            self._loads -= 1
            raise

    def _start_queued(self, behind: Flight[K, V]) -> None:
        flight = self._queued.pop(behind.key, None)
        if flight is not None and not flight.loop_is_closed:
            behind.waited_for_by.remove(flight)
            try:
                self._start(flight)
            except Exception as error:
                flight.land(Landing(error=error))

    def _supersede(self, key: K) -> bool:
        """Take the flight of ``key`` out of sight, so that it is neither stored nor joined from now on."""
        flight = self.flights.pop(key, None)
        if flight is None:
            return False
        self._superseded += 1
        self._start_queued(flight)
        return True

    def flight_abandoned(self, flight: Flight[K, V]) -> None:
        """Called by a flight whose last waiter has left, before it is cancelled."""
        if self.flights.get(flight.key) is flight:
            del self.flights[flight.key]
            self._start_queued(flight)
        elif self._queued.get(flight.key) is flight:
            del self._queued[flight.key]
            self.flights[flight.key].waited_for_by.remove(flight)

    def flight_done(self, flight: Flight[K, V], task: asyncio.Task[V | Loaded[V]]) -> None:
        """Called by a flight whose load has ended: the one place where outcomes enter the cache."""
        self._running.discard(flight)
        current = self.flights.get(flight.key) is flight
        if current:
            del self.flights[flight.key]
        error = _failure(flight, task)
        if flight.cancelled:
            self._abandoned += 1
        elif task.cancelled() and task.cancelling():
            # from outside, as by the end of a loop: that says nothing about the upstream
            self._abandoned += 1
            flight.land(Landing(error=error))
        elif error is None:
            flight.land(self._landed(flight, task.result(), current))
        else:
            flight.land(self._crashed(flight, error, current))
        if current:
            self._start_queued(flight)

    def _landed(self, flight: Flight[K, V], result: V | Loaded[V], current: bool) -> Landing[V]:
        assert flight.sent_at is not None
        value, sent_at = cast("V", result), flight.sent_at
        if isinstance(result, Loaded):
            value, sent_at = cast("Loaded[V]", result).value, result.sent_at
        if current and self._policy is not None:
            try:
                size = 0 if self._sizeof is None else self._sizeof(value)
                check_count("what sizeof returns", size, least=0)
            except Exception as error:
                return self._crashed(flight, error, current)
            fresh_until = sent_at + self._policy.ttl * (1 - self._policy.jitter * random.random())
            gone_at = fresh_until + max(
                self._policy.stale_while_revalidate, self._policy.stale_if_error
            )
            entry = self._store.entry_type(
                value, sent_at=sent_at, fresh_until=fresh_until, gone_at=gone_at, size=size
            )
            self._store.put(flight.key, entry, self._clock())
        return Landing(value)

    def _crashed(self, flight: Flight[K, V], error: BaseException, current: bool) -> Landing[V]:
        self._failures += 1
        if not current or self._policy is None:
            return Landing(error=error)
        now = self._clock()
        entry = self._entries.get(flight.key)
        if (
            entry is not None
            and entry.error is None
            and now <= entry.gone_at
            and self._says_unwell(error)
        ):
            entry.backoff = max(self._policy.refresh_backoff, min(entry.backoff * 2, MAX_BACKOFF))
            entry.retry_at = now + entry.backoff
            usable = now <= entry.fresh_until + self._policy.stale_if_error
            return Landing(error=error, stand_in=entry if usable else None)
        self._store.drop(flight.key)
        if self._policy.error_ttl > 0:
            self._remember(flight, error, now)
        return Landing(error=error)

    def _says_unwell(self, error: BaseException) -> bool:
        try:
            return self._is_unwell(error)
        except Exception as broken:
            # those who wait must hear of the load's end whatever becomes of this question
            assert self._loop is not None
            self._loop.call_exception_handler(
                {"message": "is_unwell raised an error", "exception": broken}
            )
            return False

    def _remember(self, flight: Flight[K, V], error: BaseException, now: float) -> None:
        assert self._policy is not None
        assert flight.sent_at is not None
        # a copy without traceback and cause, which would keep the frames of the whole load alive
        kept = own_copy(error)
        object.__setattr__(kept, "__cause__", None)
        gone_at = now + self._policy.error_ttl
        entry = self._store.entry_type(None, sent_at=flight.sent_at, gone_at=gone_at, error=kept)
        self._store.put(flight.key, entry, now)

    def __repr__(self) -> str:
        return f"<LoadingCache: {'closed, ' if self._closed else ''}{self.stats()}>"


def check_ended(loop: asyncio.AbstractEventLoop | None) -> None:
    """Raise `WolfConfigError` if ``loop`` is still open: what belongs to it cannot be used on another one."""
    if loop is not None and not loop.is_closed():
        raise WolfConfigError(
            "in use on another event loop that is still open: make one for each loop"
        )


def _failure(flight: Flight[Any, Any], task: asyncio.Task[Any]) -> BaseException | None:
    """What went wrong in a load; an end by anything but an ordinary exception is an error for the waiters."""
    if task.cancelled():
        return WolfConnectionError(
            f"the load of {flight.key!r} was cancelled, not by those who wait for it"
        )
    error = task.exception()
    if error is None or isinstance(error, Exception):
        return error
    wrapped = WolfConnectionError(f"the load of {flight.key!r} ended by {type(error).__name__}")
    wrapped.__cause__ = error
    return wrapped

"""`LoadingCache` against a model of its semantics, one callback at a time.

Hypothesis makes up histories: calls, cancellations, loads that end in every way, invalidations,
time, closing. All of it happens on a loop that runs one callback per step, so that anything can
come between any two callbacks.
The model says what each call must come to, and what `CacheStats` must count.

`CacheMachine` is one cache alone (`test_state_machine.py`); `test_state_machine_with_tier.py` runs
the same rules on two caches that share a tier.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
from collections import Counter
from contextvars import ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,  # pyright: ignore[reportUnknownVariableType]
)
from random_loop import HandLoop

from wolf_async.cache import Loaded, LoadingCache
from wolf_async.cache.inflight import current_load
from wolf_async.errors import WolfClosedError, WolfConfigError, WolfConnectionError
from wolf_async.policy import CachePolicy
from wolf_async.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from contextvars import Context

    from wolf_async.cache.inflight import InFlightLoad

Key: TypeAlias = tuple[str, str]
KEYS: Final[tuple[Key, ...]] = (("a", "x"), ("a", "y"), ("b", "x"))
STEPS: Final = 60
"""Steps of one history."""
BATCH: Final = 9_000
"""Steps between two beginnings of Hypothesis."""
TOTAL: Final = Counter[str]()
"""What all histories together went through."""

End: TypeAlias = Literal["value", "later value", "unwell", "no", "cancelled", "odd", "ask"]


# --- what loads bring
# -----------------------------------------------------------------------------------------


class Answer:
    """A value that names the load that brought it; half of them are falsy, and as good."""

    def __init__(self, key: Key, number: int, sent_at: float, size: int) -> None:
        self.key = key
        self.number = number
        self.sent_at = sent_at
        self.size = size

    def __bool__(self) -> bool:
        return self.number % 2 == 0

    def __repr__(self) -> str:
        return f"<answer {self.number} for {self.key}, sent at {self.sent_at}, size {self.size}>"


class UnwellError(Exception):
    """The upstream is unwell."""

    def __init__(self, key: Key, number: int) -> None:
        super().__init__(key, number)

    def __str__(self) -> str:
        key, number = self.args
        return f"load {number} of {key}"


class NoError(Exception):
    """The upstream said no."""


class OddError(BaseException):
    """Not even an exception."""


def is_unwell(error: BaseException) -> bool:
    return isinstance(error, UnwellError | WolfConnectionError)


def sizeof(value: Answer) -> int:
    if value.size < 0:
        raise NoError(f"load {value.number} of {value.key}")
    return value.size


# --- the model
# ------------------------------------------------------------------------------------------------


class Call:
    """A call of `get`, and what it must come to: a value, an error, or nothing as yet."""

    made = 0

    def __init__(
        self, side: Side, key: Key, max_age: float | None, parent: Load | None = None
    ) -> None:
        Call.made += 1
        self.number = Call.made
        self.side = side
        self.key = key
        self.max_age = max_age
        self.parent = parent
        """The load that makes the call."""
        self.began = self.order = -1.0
        self.newer_than = 0.0
        """The last invalidation that was known when it began."""
        self.load: Load | None = None
        """What it waits for."""
        self.value: Answer | None = None
        self.is_stale = False
        """Whether the value is one that stands in for a fresh one."""
        self.error: tuple[type[BaseException], str | None] | None = None
        self.cancelled = False

    @property
    def decided(self) -> bool:
        return self.value is not None or self.error is not None

    def __repr__(self) -> str:
        outcome = self.value or self.error
        return f"<call for {self.key}, max_age={self.max_age}, began {self.began}, {outcome}>"


class Load:
    """One load, from when it is asked for until its task has ended."""

    def __init__(self, key: Key, *, background: bool = False) -> None:
        self.key = key
        self.background = background
        self.in_flight: InFlightLoad[Any, Any] | None = None
        """The cache's own object."""
        self.begun = False
        self.number = 0
        """Which of all requests it is; 0 as long as it has made none."""
        self.waiters: list[Call] = []
        self.sent_at: float | None = None
        self.order = 0.0
        """When it was asked for."""
        self.leased = float("inf")
        """When a tier let it make its request for all."""
        self.sent_order = self.superseded_order = float("inf")
        self.cancelled = False
        self.asking: Call | None = None
        """What it asks the cache for in its turn."""
        self.slow = False
        """Whether it takes its time to clean up after a cancellation."""
        self.gate: asyncio.Future[tuple[End, int, Call | None]] | None = None
        """Where it waits to be told how to go on."""
        self.result: Answer | None = None
        self.failure: tuple[type[BaseException], str | None] | None = None
        self.unwell = False

    def __repr__(self) -> str:
        return f"<load {self.number} of {self.key}, {len(self.waiters)} waiting>"


class Held:
    """An answer, or a failure, that is kept."""

    def __init__(self, sent_at: float, value: Answer | None) -> None:
        self.sent_at = sent_at
        self.value = value
        self.error: tuple[type[BaseException], str | None] | None = None
        self.trusted = True
        """Whether it may serve other than as a stand-in."""
        self.until = 0.0
        self.failed = 0
        self.retry_at = float("-inf")


class Model:
    """What the cache promises, written down directly; eviction is learnt from the cache."""

    def __init__(
        self, policy: CachePolicy | None, clock: FakeClock, tick: Callable[[], float]
    ) -> None:
        self.policy = policy
        self.clock = clock
        self.tick = tick
        """Orders what happens within one moment of the clock."""
        self.closed = False
        self.held: dict[Key, Held] = {}
        self.current: dict[Key, Load] = {}
        self.queued: dict[Key, Load] = {}
        self.live: list[Load] = []
        self.stored: Key | None = None
        """The key that was stored just now, so that others may have had to leave."""
        self.count = Counter[str]()
        self.invalidated: dict[Key, float] = dict.fromkeys(KEYS, 0.0)
        """When the last invalidation was known."""

    # calls

    def begin(self, call: Call) -> None:
        call.began, call.order = self.clock(), self.tick()
        call.newer_than = self.invalidated[call.key]
        if self.closed:
            call.error = (WolfClosedError, None)
        elif not self.serve(call):
            if call.parent is not None and call.key in {
                load.key for load in self.ancestors(call.parent)
            }:
                call.error = (WolfConfigError, None)
            else:
                self.join(call)

    def serve(self, call: Call) -> bool:
        held = self.held.get(call.key)
        if held is None:
            return False
        age = self.clock() - held.sent_at
        if call.max_age is not None and (age > call.max_age or call.max_age == 0):
            return False
        if held.error is not None:
            call.error = held.error if self.clock() <= held.until else None
            self.count["error_hits"] += call.decided
            return call.decided
        assert self.policy is not None
        assert held.value is not None
        past = age - self.policy.ttl
        if past <= 0 and held.trusted:
            self.count["hits"] += 1
        elif call.max_age is None and held.trusted and past <= self.policy.stale_while_revalidate:
            self.count["stale_hits"] += 1
            if self.clock() >= held.retry_at and call.key not in self.current:
                self.count["refreshes"] += 1
                self.start(Load(call.key, background=True))
        elif (
            call.max_age is None
            and past <= self.policy.stale_if_error
            and self.clock() < held.retry_at
        ):
            self.count["stale_hits"] += 1
        else:
            return False
        call.value, call.is_stale = held.value, past > 0 or not held.trusted
        return True

    def ancestors(self, load: Load) -> list[Load]:
        """Return the load, and all loads that cannot end before it does."""
        found = [load]
        for waited_for in found:
            current = self.current.get(waited_for.key) is waited_for
            either = (waited_for, self.queued.get(waited_for.key) if current else None)
            for other in self.live:
                if (
                    other not in found
                    and other.asking
                    and other.asking.load
                    and other.asking.load in either
                ):
                    found.append(other)
        return found

    def join(self, call: Call) -> None:
        current = self.current.get(call.key)
        if current is None:
            load, asked = self.start(Load(call.key)), "misses"
        elif call.max_age is None or self.young_enough(current, call.max_age):
            load, asked = current, "joined"
        elif call.key in self.queued:
            load, asked = self.queued[call.key], "joined"
        else:
            load, asked = self.queued.setdefault(call.key, Load(call.key)), "misses"
            self.count["of them queued"] += 1
        self.count[asked] += 1
        load.waiters.append(call)
        call.load = load

    def young_enough(self, load: Load, max_age: float) -> bool:
        sent_at = self.sent_at(load)
        return sent_at is None or (max_age > 0 and self.clock() - sent_at <= max_age)

    def sent_at(self, load: Load) -> float | None:
        """Return when what the load brings is sent at the earliest, if anything was sent."""
        return load.sent_at

    def left(self, call: Call) -> None:
        """Note that a cancelled call has gone."""
        load = call.load
        if load is None or call not in load.waiters:
            return
        load.waiters.remove(call)
        if not load.waiters and not load.background:
            load.cancelled = True
            self.count["of them left by all"] += 1
            if self.current.get(load.key) is load:
                self.next_after(load)
            elif self.queued.get(load.key) is load:
                del self.queued[load.key]

    # loads

    def start(self, load: Load) -> Load:
        self.count["loads"] += 1
        self.current[load.key] = load
        self.live.append(load)
        load.order = self.tick()
        return load

    def next_after(self, load: Load) -> None:
        del self.current[load.key]
        if load.key in self.queued:
            self.start(self.queued.pop(load.key))

    def begun(self, key: Key) -> Load:
        """Note that a load has begun to run; it is the oldest that had not."""
        load = next(
            load for load in self.live if load.key == key and not load.begun and not load.cancelled
        )
        load.begun = True
        return load

    def ended(self, load: Load | None) -> None:
        """Note the end of a load's task; ``None`` is one cancelled before it began to run."""
        if load is None:
            load = next(load for load in self.live if not load.begun and load.cancelled)
        self.live.remove(load)
        current = self.current.get(load.key) is load
        if load.cancelled:
            self.count["abandoned"] += 1
        elif load.failure is None:
            self.succeeded(load, current)
        else:
            self.failed(load, load.failure, current)
        if current:
            self.next_after(load)

    def succeeded(self, load: Load, current: bool) -> None:
        value = load.result
        assert value is not None
        if current and self.policy is not None:
            if self.cannot_hold(value):
                self.failed(load, (NoError, f"load {value.number} of {value.key}"), current)
                return
            self.keep(load.key, Held(value.sent_at, value))
        for call in load.waiters:
            call.value = value
        load.waiters.clear()

    def cannot_hold(self, value: Answer) -> bool:
        """Tell whether `sizeof` raises."""
        return value.size < 0 and self.policy is not None and self.policy.max_bytes is not None

    def failed(
        self, load: Load, failure: tuple[type[BaseException], str | None], current: bool
    ) -> None:
        self.count["failures"] += 1
        stand_in = self.outlasts(load, failure) if current and self.policy is not None else None
        for call in load.waiters:
            if stand_in is not None and call.max_age is None:
                call.value, call.is_stale = stand_in.value, True
                self.count["of them stood in for"] += 1
            else:
                call.error = failure
        load.waiters.clear()

    def outlasts(self, load: Load, failure: tuple[type[BaseException], str | None]) -> Held | None:
        """Note what a failed load does to the held answer; return it if it may stand in."""
        assert self.policy is not None
        sent_at, failed_at = self.sent_at(load), self.failed_at(load)
        held, now = self.held.get(load.key), self.clock()
        if held is not None and held.error is None and load.unwell:
            past = now - held.sent_at - self.policy.ttl
            if past <= self.window(held):
                backoff = self.policy.refresh_backoff
                held.retry_at = failed_at + max(backoff, min(60, backoff * 2**held.failed))
                held.failed += 1
                return held if past <= self.policy.stale_if_error else None
        self.held.pop(load.key, None)
        if self.policy.error_ttl > 0:
            remembered = Held(now if sent_at is None else sent_at, None)
            remembered.error, remembered.until = failure, failed_at + self.policy.error_ttl
            self.keep(load.key, remembered)
        return None

    def failed_at(self, load: Load) -> float:
        """Return when the load failed."""
        return self.clock()

    def window(self, held: Held) -> float:
        """Return for how long after its ttl what is held is of any use."""
        assert self.policy is not None
        swr = self.policy.stale_while_revalidate if held.trusted else 0.0
        return max(swr, self.policy.stale_if_error)

    def keep(self, key: Key, held: Held) -> None:
        self.held[key] = held
        self.stored = key

    def gone(self, held: Held) -> bool:
        if held.error is not None:
            return self.clock() > held.until
        assert self.policy is not None
        return self.clock() - held.sent_at > self.policy.ttl + self.window(held)

    def learn(self, kept: set[Key]) -> None:
        """Take over which entries had to leave for the one just stored, if any had to."""
        key, self.stored = self.stored, None
        lost = set(self.held) - kept
        assert kept <= set(self.held), "something is held that was not stored, or was dropped"
        if key is None:
            assert not lost, f"{lost} got lost"
            return
        assert self.policy is not None
        limit = float("inf") if self.policy.max_bytes is None else self.policy.max_bytes
        sizes = {
            k: h.value.size if h.value is not None and self.policy.max_bytes else 0
            for k, h in self.held.items()
        }
        if key in lost:
            assert sizes[key] > limit, f"what was loaded for {key} is not held"
            del self.held[key]
            lost.remove(key)
            assert not lost, "room was made for what cannot be kept"
        elif lost:
            largest = max(sizes[k] for k in lost)
            full = (
                len(kept) == self.policy.max_entries
                or sum(sizes[k] for k in kept) + largest > limit
            )
            assert full, f"{lost} left although there was room"
        self.count["evictions"] += sum(not self.gone(self.held[k]) for k in lost)
        for k in lost:
            del self.held[k]

    # the rest

    def supersede(self, key: Key) -> bool:
        load = self.current.get(key)
        if load is None:
            return False
        self.count["superseded"] += 1
        load.superseded_order = self.tick()
        self.next_after(load)
        return True

    def invalidate(self, key: Key) -> bool:
        self.invalidated[key] = self.tick()
        return self.forget(key)

    def forget(self, key: Key) -> bool:
        held = self.held.pop(key, None) is not None
        return self.supersede(key) or held

    def clear(self) -> None:
        self.invalidated = dict.fromkeys(KEYS, self.tick())
        self.forget_all()

    def forget_all(self) -> None:
        self.held.clear()
        for key in list(self.current):
            self.supersede(key)

    def close(self) -> None:
        self.closed = True
        self.held.clear()
        for load in [*self.live, *self.queued.values()]:
            load.cancelled = True
            for call in load.waiters:
                call.error = (WolfClosedError, None)
            load.waiters.clear()
        self.current.clear()
        self.queued.clear()

    def peek(self, key: Key, max_age: float | None) -> Answer | None:
        held = self.held.get(key)
        if held is None or held.value is None or not held.trusted:
            return None
        assert self.policy is not None
        age = self.clock() - held.sent_at
        if max_age is None:
            return (
                held.value if age <= self.policy.ttl + self.policy.stale_while_revalidate else None
            )
        return held.value if 0 < max_age >= age <= self.policy.ttl else None


# --- the machine
# ----------------------------------------------------------------------------------------------

WITH_WINDOWS: Final = st.builds(
    CachePolicy,
    ttl=st.sampled_from([1.0, 2.0, 1.0, 2.0, 5.0, float("inf")]),
    stale_while_revalidate=st.sampled_from([1.0, 4.0, 0.0]),
    stale_if_error=st.sampled_from([2.0, 6.0, 0.0, 1000.0]),
    refresh_backoff=st.sampled_from([0.0, 1.0, 2.0, 40.0, 100.0]),
    error_ttl=st.sampled_from([0.0, 0.0, 2.0]),
    max_entries=st.sampled_from([1, 2, 3]),
    max_bytes=st.sampled_from([None, None, 10]),
)
WITHOUT_WINDOWS: Final = st.builds(
    CachePolicy,
    ttl=st.just(0.0),
    error_ttl=st.sampled_from([0.0, 2.0]),
    max_entries=st.sampled_from([1, 3]),
)
POLICIES: Final[st.SearchStrategy[CachePolicy | None]] = st.integers(0, 9).flatmap(
    lambda n: st.none() if n == 4 else WITHOUT_WINDOWS if n == 7 else WITH_WINDOWS
)
"""Most with windows; `st.one_of` would have each kind as often."""
AGES: Final = st.sampled_from([0, 0, 0.5, 1.0, 3, 10.0, float("inf")])
STRICT: Final = st.sampled_from([None, 0])
ENDS: Final[st.SearchStrategy[End]] = st.sampled_from(
    ["value", "value", "value", "later value", "unwell", "unwell", "no", "cancelled", "odd"]
)
SIZES: Final = st.sampled_from([0, 4, 4, 7, 11, -1])
ANY: Final = st.integers(0, 11)
"""Which of those there are, modulo their number."""
AT: Final = st.integers(0, 1)
"""Which of the caches, modulo their number."""
BORDERS: Final = st.sampled_from(["ttl", "swr", "sie", "retry"])
PAST: Final = st.sampled_from([0.0, 0.5])
caller_local: Final[ContextVar[bool]] = ContextVar("caller_local", default=False)


class Side:
    """A cache, the model of it, and the tasks of its loads."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.cache: LoadingCache[Key, Answer]
        self.tasks: dict[asyncio.Task[Any], Load | None] = {}
        """The loads' tasks that have not ended; ``None`` where the load has not begun to run."""


class CacheMachine(RuleBasedStateMachine):
    """Callers, loads and everything else, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.order = 0.0
        self.loop = self.new_loop()
        self.complaints: list[str] = []
        self.errors: list[BaseException] = []
        """Every error that a caller got, kept so that no two can be one object."""
        self.loads: list[Load] = []
        """Those that have made a request, in that order."""
        self.calls: dict[asyncio.Task[None], Call] = {}
        """The callers' tasks that have not ended."""
        self.under_way: list[Call] = []
        """The calls that have begun and not ended, those of loads included."""
        self.closers: list[asyncio.Task[None]] = []
        self.at_once: dict[Key, tuple[End, int]] = {}
        """How the next load of a key ends without ever waiting."""
        self._end_seen = False
        Call.made = 0  # or the same choices would not be the same history
        self.sides: list[Side] = []
        self.renew(CachePolicy())

    def new_loop(self) -> HandLoop:
        return HandLoop(self._task_made)

    @initialize(policy=POLICIES)
    def renew(self, policy: CachePolicy | None) -> None:
        self.loads.clear()
        side = Side(Model(policy, self.clock, self.tick))
        side.cache = LoadingCache(
            partial(self._load, side),
            policy=policy,
            sizeof=sizeof if policy is not None and policy.max_bytes else None,
            clock=self.clock,
            is_unwell=is_unwell,
        )
        self.sides = [side]

    def side(self, at: int) -> Side:
        return self.sides[at % len(self.sides)]

    def tick(self) -> float:
        self.order += 1
        return self.order

    def check(self, true: bool, complaint: str) -> None:
        """As an assertion, for code in tasks, whose errors would get lost."""
        if not true:
            self.complaints.append(complaint)

    # --- the loads' side

    async def _load(self, side: Side, key: Key) -> Answer | Loaded[Answer]:
        return await self._request(side, self._begun(side, key))

    def _begun(self, side: Side, key: Key) -> Load:
        """Note that the task that runs now is a load's, which begins."""
        task = asyncio.current_task()
        assert task is not None
        load = side.tasks[task] = side.model.begun(key)
        load.in_flight = current_load.get()
        beside = [o for o in side.tasks.values() if o and o.key == key and o is not load]
        for other in beside:
            self.check(
                other.superseded_order < float("inf") or other.cancelled,
                f"{load} runs beside {other}",
            )
        return load

    async def _request(self, side: Side, load: Load) -> Answer | Loaded[Answer]:
        """Ask the upstream, as the loader that the cache was given."""
        load.sent_at, load.sent_order = self.clock(), self.tick()
        self.loads.append(load)
        load.number, key = len(self.loads), load.key
        self.check(not caller_local.get(), f"{load} sees a caller's context variables")
        try:
            at_once = self.at_once.pop(key, None)
            end, size = at_once or await self._told(load)
        except asyncio.CancelledError:
            self.check(load.cancelled, f"{load} was cancelled")
            if not load.slow:
                raise
            TOTAL["slow clean-ups"] += 1
            end, size = await self._told(load)
        return self._end(side, load, end, size)

    async def _told(self, load: Load) -> tuple[End, int]:
        while True:
            load.gate = self.loop.create_future()
            end, size, ask = await load.gate
            if ask is None:
                return end, size
            TOTAL["asked by loads"] += 1
            load.asking = ask
            try:
                await self._call(ask)
            finally:
                load.asking = None

    def _end(self, side: Side, load: Load, end: End, size: int) -> Answer | Loaded[Answer]:
        assert load.sent_at is not None
        TOTAL[end] += 1
        policy = side.model.policy
        if policy is not None and policy.max_bytes is None:
            size = abs(size)
        name = f"load {load.number} of {load.key}"
        if end in ("unwell", "no"):
            error = self.failure_of(load, name, unwell=end == "unwell")
            load.failure, load.unwell = (type(error), name), end == "unwell"
            raise error
        if end in ("cancelled", "odd"):
            load.failure, load.unwell = (WolfConnectionError, None), True
            raise asyncio.CancelledError if end == "cancelled" else OddError
        sent_at = self.clock() if end == "later value" else load.sent_at
        load.result = answer = Answer(load.key, load.number, sent_at, size)
        return Loaded(answer, sent_at) if end == "later value" else answer

    def failure_of(self, load: Load, name: str, *, unwell: bool) -> Exception:
        return UnwellError(load.key, load.number) if unwell else NoError(name)

    def _task_made(self, task: asyncio.Task[Any], context: Context | None) -> None:
        load = None if context is None else context.get(current_load)
        if load is not None:
            side = next(side for side in self.sides if load.is_for(side.cache, load.key))
            side.tasks[task] = None
            task.add_done_callback(partial(self._task_ended, side))

    def _task_ended(self, side: Side, task: asyncio.Task[Any]) -> None:
        side.model.ended(side.tasks.pop(task))
        self._end_seen = True

    # --- the callers' side

    async def _value(self, call: Call) -> Answer:
        """Ask in either of the two ways, of which one tells the age too."""
        if call.number % 2:
            return await call.side.cache.get(call.key, max_age=call.max_age)
        served = await call.side.cache.find(call.key, call.max_age).wait(call.max_age)
        self.check(served.is_stale is call.is_stale, f"{call} got {served}")
        self.check(served.sent_at == served.value.sent_at, f"{call} got {served}")
        return served.value

    async def _call(self, call: Call) -> None:
        call.side.model.begin(call)
        self.under_way.append(call)
        at_once, steps = call.decided, self.loop.steps
        TOTAL["calls"] += 1
        try:
            value = await self._value(call)
        except asyncio.CancelledError:
            call.side.model.left(call)
            self.check(
                call.cancelled or (call.parent is not None and call.parent.cancelled),
                f"{call} was cancelled",
            )
            raise
        except Exception as error:
            self._got_error(call, error)
        else:
            self._got_value(call, value)
        finally:
            self.under_way.remove(call)
        self.check(not call.cancelled, f"{call} was cancelled in vain")
        self.check(at_once == (steps == self.loop.steps), f"{call} suspended, or did not")
        caller_local.set(False)

    def _got_value(self, call: Call, value: Answer) -> None:
        self.check(value is call.value, f"{value} came for {call}")
        # what follows needs no model of the cache, only of what was allowed
        load = self.loads[value.number - 1]
        self.check(load.key == value.key == call.key, f"{call} got another key's {value}")
        self.check(
            load.sent_order > call.newer_than, f"{call} got {value}, invalidated before it began"
        )
        if call.max_age is not None:
            self.check(
                call.began - value.sent_at <= call.max_age, f"{call} got {value}, which is too old"
            )
            self.check(
                call.max_age > 0 or load.sent_order > call.order or value.sent_at > call.began,
                f"{call} got {value}, sent before it began",
            )

    def _got_error(self, call: Call, error: Exception) -> None:
        kind, text = call.error or (None, None)
        self.check(type(error) is kind, f"{error!r} came for {call}")
        self.check(text is None or str(error) == text, f"{error!r} came for {call}")
        self.check(all(error is not other for other in self.errors), f"{call} shares its {error!r}")
        self._check_failure(call, error)
        self.check(not hasattr(error, "__notes__"), f"{call} got a note of another")
        error.add_note("mine")
        self.errors.append(error)

    def _check_failure(self, call: Call, error: Exception) -> None:
        """See, without a model of the cache, that the failure of this load may be told."""
        found = re.search(r"load (\d+) of (.*)", str(error))
        if found is None:
            return
        load = self.loads[int(found[1]) - 1]
        self.check(found[2] == str(call.key), f"{call} got another key's {error!r}")
        self.check(load.sent_order > call.newer_than, f"{call} got {error!r}, which is forgotten")
        self.check(
            call.max_age != 0 or load.sent_order > call.order,
            f"{call} got {error!r}, of a load sent before it began",
        )

    async def _close(self, side: Side) -> None:
        side.model.close()
        await side.cache.aclose()
        self.check(not side.tasks, "aclose returned before the last load had ended")

    # --- the loop

    def _step(self) -> None:
        self.loop.step()
        if self._end_seen:
            # the cache's own callback stands behind ours; the two are one event
            self._end_seen = False
            self.loop.step()
        self._settle()

    def _settle(self) -> None:
        for task in [task for task in self.calls if task.done()]:
            del self.calls[task]
        # which entries left is the store's choice, and the cache does not show the failures that it
        # remembers
        for side in self.sides:
            side.model.learn(set(side.cache._store))  # pyright: ignore[reportPrivateUsage]

    def _until_idle(self) -> None:
        for _ in range(10_000):
            if not self.loop.ready:
                break
            self._step()
        assert not self.loop.ready, "the loop does not come to rest"
        late = [call for call in self.under_way if call.decided or call.cancelled]
        assert not late, "a caller still waits, although it is decided what it gets"

    def _spawn(self, call: Call) -> None:
        context = copy_context()
        context.run(caller_local.set, True)
        self.calls[asyncio.Task(self._call(call), loop=self.loop, context=context)] = call

    # --- rules: callers

    @rule(at=AT, key=st.sampled_from(KEYS))
    def call(self, at: int, key: Key) -> None:
        self._spawn(Call(self.side(at), key, None))

    @rule(at=AT, key=st.sampled_from(KEYS), max_age=AGES)
    def call_with_max_age(self, at: int, key: Key, max_age: float) -> None:
        self._spawn(Call(self.side(at), key, max_age))

    @rule(at=AT, key=st.sampled_from(KEYS), max_age=st.none() | AGES, number=st.integers(2, 5))
    def many_calls(self, at: int, key: Key, max_age: float | None, number: int) -> None:
        for more in range(number):
            self._spawn(Call(self.side(at + more), key, max_age))
        self._until_idle()

    @precondition(lambda self: self.calls)
    @rule(which=ANY)
    def cancel(self, which: int) -> None:
        task = list(self.calls)[which % len(self.calls)]
        self.calls[task].cancelled = True
        task.cancel()

    @precondition(lambda self: self.calls)
    @rule(key=st.sampled_from(KEYS))
    def cancel_all(self, key: Key) -> None:
        for task, call in self.calls.items():
            if call.key == key:
                call.cancelled = True
                task.cancel()

    @rule(at=AT, key=st.sampled_from(KEYS), max_age=st.none() | AGES)
    def peek(self, at: int, key: Key, max_age: float | None) -> None:
        side = self.side(at)
        assert side.cache.peek(key, max_age=max_age) is side.model.peek(key, max_age)

    # --- rules: loads

    def _waiting_loads(self) -> list[Load]:
        return [
            load
            for side in self.sides
            for load in side.model.live
            if load.gate is not None and not load.gate.done()
        ]

    def _tell(self, which: int, end: End, size: int) -> None:
        loads = self._waiting_loads()
        load = loads[which % len(loads)]
        assert load.gate is not None
        load.gate.set_result((end, size, None))

    def _let_ask(self, which: int, key: Key, max_age: float | None) -> None:
        """Let a load ask its cache for ``key``."""
        loads = self._waiting_loads()
        load = loads[which % len(loads)]
        assert load.in_flight is not None
        assert load.gate is not None
        side = next(s for s in self.sides if load.in_flight.is_for(s.cache, load.key))
        load.gate.set_result(("ask", 0, Call(side, key, max_age, load)))

    @precondition(lambda self: self._waiting_loads())
    @rule(which=ANY, end=ENDS, size=SIZES)
    def finish(self, which: int, end: End, size: int) -> None:
        self._tell(which, end, size)

    @precondition(lambda self: self._waiting_loads())
    @rule(which=ANY, end=ENDS, size=SIZES)
    def finish_and_rest(self, which: int, end: End, size: int) -> None:
        self._tell(which, end, size)
        self._until_idle()

    @precondition(lambda self: self._waiting_loads())
    @rule(which=ANY, key=st.sampled_from(KEYS), max_age=st.none() | AGES)
    def ask(self, which: int, key: Key, max_age: float | None) -> None:
        self._let_ask(which, key, max_age)

    @precondition(lambda self: len(self._waiting_loads()) > 1)
    @rule(max_ages=st.tuples(STRICT, STRICT), rest=st.booleans())
    def ask_for_each_other(self, max_ages: tuple[float | None, float | None], rest: bool) -> None:
        keys = [load.key for load in self._waiting_loads()]
        for key, max_age in zip(reversed(keys), max_ages, strict=False):
            if self._waiting_loads():
                self._let_ask(0, key, max_age)
            if rest:
                self._until_idle()

    @precondition(lambda self: self._waiting_loads())
    @rule(which=ANY)
    def will_clean_up_slowly(self, which: int) -> None:
        loads = self._waiting_loads()
        loads[which % len(loads)].slow = True

    @rule(at=AT, key=st.sampled_from(KEYS), max_age=st.none() | AGES, end=ENDS)
    def call_and_finish(self, at: int, key: Key, max_age: float | None, end: End) -> None:
        self._spawn(Call(self.side(at), key, max_age))
        self._until_idle()
        for number, load in enumerate(self._waiting_loads()):
            if load.key == key:
                self._tell(number, end, 4)
                break
        self._until_idle()

    @rule(at=AT, key=st.sampled_from(KEYS))
    def hold(self, at: int, key: Key) -> None:
        self.call_and_finish(at, key, None, "value")

    def _all_held(self) -> list[tuple[Model, Key, Held]]:
        return [
            (side.model, key, held) for side in self.sides for key, held in side.model.held.items()
        ]

    def _go_to_border(self, which: int, border: str, past: float) -> Key:
        """Let time pass until something changes in the life of something held; returns its key."""
        everything = self._all_held()
        model, key, held = everything[which % len(everything)]
        policy = model.policy
        assert policy is not None
        stale = held.sent_at + policy.ttl
        borders = {
            "ttl": stale,
            "swr": stale + policy.stale_while_revalidate,
            "sie": stale + policy.stale_if_error,
            "retry": held.retry_at,
        }
        if self.clock() < borders[border] < float("inf"):
            self.advance(borders[border] - self.clock() + past)
        return key

    @precondition(lambda self: self._all_held())
    @rule(at=AT, which=ANY, border=BORDERS, past=PAST, max_age=st.sampled_from([None, None, 0, 3]))
    def call_at_a_border(
        self, at: int, which: int, border: str, past: float, max_age: float | None
    ) -> None:
        key = self._go_to_border(which, border, past)
        self._spawn(Call(self.side(at), key, max_age))

    @precondition(lambda self: self._all_held())
    @rule(at=AT, which=ANY, border=BORDERS, past=PAST, end=ENDS)
    def call_at_a_border_and_finish(
        self, at: int, which: int, border: str, past: float, end: End
    ) -> None:
        self.call_and_finish(at, self._go_to_border(which, border, past), None, end)

    @rule(key=st.sampled_from(KEYS), end=ENDS, size=SIZES)
    def next_ends_at_once(self, key: Key, end: End, size: int) -> None:
        self.at_once[key] = end, size

    # --- rules: the rest

    @rule(at=AT, key=st.sampled_from(KEYS))
    def invalidate(self, at: int, key: Key) -> None:
        side = self.side(at)
        expected = side.model.invalidate(key)
        with self.loop.running():
            assert side.cache.invalidate(key) is expected

    @rule(seconds=st.sampled_from([0.5, 0.5, 1.0, 1.0, 2.0, 5.0, 100.0]))
    def pass_time(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @precondition(lambda self: self.loop.ready)
    @rule()
    def one_callback(self) -> None:
        self._step()

    @precondition(lambda self: self.loop.ready > 1)
    @rule(callbacks=st.integers(2, 8))
    def some_callbacks(self, callbacks: int) -> None:
        for _ in range(callbacks):
            if self.loop.ready:
                self._step()

    @precondition(lambda self: self.loop.ready)
    @rule()
    def rest(self) -> None:
        self._until_idle()

    @rule(at=AT, what=ANY)
    def seldom(self, at: int, what: int) -> None:
        # not 0, which Hypothesis likes best: there would be little else
        if what == 3:
            self._begin_to_close(self.side(at))
        elif what in (5, 6):
            self.clear(self.side(at))

    def clear(self, side: Side) -> None:
        side.model.clear()
        with self.loop.running():
            side.cache.clear()

    def _begin_to_close(self, side: Side) -> None:
        self.closers.append(asyncio.Task(self._close(side), loop=self.loop))

    @precondition(lambda self: any(side.model.closed for side in self.sides))
    @rule(policy=POLICIES)
    def close_and_renew(self, policy: CachePolicy | None) -> None:
        self._end_all()
        self.renew(policy)

    # --- invariants

    @invariant()
    def all_is_well(self) -> None:
        TOTAL["steps"] += 1
        self.nothing_is_wrong()
        for side in self.sides:
            self.stats_are_those_of_the_model(side)
            self.what_is_held_is_what_the_model_holds(side)
            self.bounds_are_kept(side)

    def nothing_is_wrong(self) -> None:
        assert not self.complaints, self.complaints
        assert not self.loop.problems, self.loop.problems

    def stats_are_those_of_the_model(self, side: Side) -> None:
        stats, count = side.cache.stats(), side.model.count
        for name in ("hits", "stale_hits", "error_hits", "misses", "joined"):
            assert getattr(stats, name) == count[name], name
        for name in ("loads", "refreshes", "failures", "abandoned", "superseded"):
            assert getattr(stats, name) == count[name], name
        assert stats.evictions == count["evictions"]
        assert stats.entries == len(side.model.held)
        assert stats.in_flight == len(side.model.live) == len(side.tasks)

    def what_is_held_is_what_the_model_holds(self, side: Side) -> None:
        for key in KEYS:
            held = side.model.held.get(key)
            assert side.cache.held(key) is (held and held.value)

    def bounds_are_kept(self, side: Side) -> None:
        policy = side.model.policy
        held = [value for key in KEYS if (value := side.cache.held(key)) is not None]
        assert side.cache.stats().entries <= (0 if policy is None else policy.max_entries)
        if policy is not None and policy.max_bytes is not None:
            assert sum(value.size for value in held) <= policy.max_bytes

    # --- the end

    def _let_all_loads_end(self) -> None:
        self._until_idle()
        while self._waiting_loads():
            self._tell(0, "value", 0)
            self._until_idle()

    def _end_all(self) -> None:
        """End every caller and load: in half of the histories by themselves, then by closing."""
        if self.loop.steps % 2 == 0:
            self._let_all_loads_end()
            assert not self.calls, "a caller waits although no load is left to wait for"
        for side in self.sides:
            self._begin_to_close(side)
        self._until_idle()
        assert all(load.slow for load in self._waiting_loads())
        self._let_all_loads_end()
        assert not self.calls, "a caller hangs"
        assert not self.under_way, "a load's call hangs"
        assert not any(side.tasks for side in self.sides), "a load is left"
        for closer in self.closers:
            closer.result()
        self.closers.clear()
        self.at_once.clear()
        self.nothing_is_wrong()
        for side in self.sides:
            self.stats_are_those_of_the_model(side)
            self._calls_add_up(side)

    def _calls_add_up(self, side: Side) -> None:
        stats = side.cache.stats()
        values = stats.loads - stats.failures - stats.abandoned - stats.in_flight
        assert values >= 0
        assert stats.in_flight == stats.entries == 0
        assert stats.refreshes <= stats.loads
        assert "closed" in repr(side.cache)
        TOTAL.update(side.model.count)

    def teardown(self) -> None:
        try:
            self._end_all()
            self.sides.clear()
            gc.collect(1)  # errors that nobody retrieved are reported by the collector
            assert not self.loop.problems
        finally:
            self.loop.close()


# --- running it
# ------------------------------------------------------------------------------------------


def run_histories(
    machine: type[CacheMachine], reached: Collection[str], batch: int = BATCH
) -> None:
    """Run as many steps as ``WOLF_STEPS`` says, or one batch; of enough steps some reach all."""
    TOTAL.clear()
    steps = int(os.environ.get("WOLF_STEPS", "0"))
    while TOTAL["steps"] < (steps or 1):
        # in batches, because Hypothesis remembers all histories of one
        profile = settings(
            max_examples=batch // STEPS,
            stateful_step_count=STEPS,
            # the same histories at each ordinary run, so that a build does not fail by chance; new
            # ones on demand
            derandomize=not steps,
            database=None,
            report_multiple_bugs=False,
            phases=[Phase.generate]
            if "WOLF_MUTANT" in os.environ
            else [Phase.generate, Phase.shrink],
            deadline=None,
            suppress_health_check=(
                HealthCheck.too_slow,
                HealthCheck.data_too_large,
                HealthCheck.filter_too_much,
            ),
        )
        run_state_machine_as_test(machine, settings=profile)
        print(f"{TOTAL['steps']:,} steps", flush=True)
    print(*(f"{number:>11,} {name}" for name, number in TOTAL.most_common()), sep="\n")
    missed = [name for name in reached if not TOTAL[name]]
    assert steps < 30_000 or not missed, f"the histories never came to {missed}"

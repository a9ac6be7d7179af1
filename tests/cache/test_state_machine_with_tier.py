r"""Two caches that share a tier, under the rules and the model of `machine.py`.

Each cache keeps to the model of it, given how its loads end and what the tier does to it. What the
tier may do is told by the requests that were made: whose turn it was, and how old an answer may be.
The server is the one of `shared/fake.py`, which `shared/test_scripts.py` holds equal to the Lua on
a real one.

In calm histories nothing goes wrong between caches and server. In the others replies, commands and
messages come late or never, links go and come back, time jumps past the end of leases, and the
server forgets, or comes back as it was before.

    WOLF_STEPS=1000000 python -m pytest -o timeout=0 -o faulthandler_timeout=0 -s \
        tests/cache/test_state_machine_with_tier.py
"""

from __future__ import annotations

import asyncio
import copy
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from machine import (
    ANY,
    AT,
    ENDS,
    KEYS,
    TOTAL,
    WITH_WINDOWS,
    WITHOUT_WINDOWS,
    Answer,
    CacheMachine,
    Call,
    End,
    Held,
    Key,
    Load,
    Model,
    Side,
    run_histories,
    sizeof,
)
from random_loop import TimedHandLoop
from shared.fake import FakeLink, FakeNetwork, FakeTier

from wolf_async.cache import Loaded, LoadingCache
from wolf_async.cache.loading import as_loaded
from wolf_async.errors import WolfConnectionError, WolfError
from wolf_async.policy import CachePolicy
from wolf_async.shared.codec import decode_body, decode_key
from wolf_async.shared.loads import Lease, RedisLoads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wolf_async.cache.tier import Codec, InFlight, SharingCache

TICK: Final = 0.25
"""Seconds in which time goes on while everything keeps up with it."""
PATIENCE: Final = 60.0
"""Seconds after which nobody waits any more once nothing goes wrong."""
EXACT: Final = 1e-5
"""Seconds that the server's microseconds may be off by."""
KEY: Final = st.sampled_from(KEYS)
SCRIPTS: Final = st.sampled_from(["take", "take", "put", "fail", "void", "clear", "renew"])
POLICIES: Final = st.integers(0, 9).flatmap(lambda n: WITHOUT_WINDOWS if n == 7 else WITH_WINDOWS)


def is_unwell(error: BaseException) -> bool:
    return isinstance(error, WolfConnectionError)


# --- what the tier does to a cache, told to the model ---------------------------------------------


class TierModel(Model):
    """The model of a cache whose loads ask a tier."""

    def sent_at(self, load: Load) -> float | None:
        return None if load.in_flight is None else load.in_flight.sent_at

    def failed_at(self, load: Load) -> float:
        assert load.in_flight is not None
        failed_at = load.in_flight.failed_at
        return self.clock() if failed_at is None else failed_at

    def distrust(self) -> None:
        for held in self.held.values():
            held.trusted = held.error is not None and held.trusted

    def adopt(self, load: Load, value: Answer) -> None:
        held = self.held.get(load.key)
        newer = held is not None and held.value is not None and held.sent_at >= value.sent_at
        if self.current.get(load.key) is load and not newer and not self.cannot_hold(value):
            self.keep(load.key, Held(value.sent_at, value))

    def discard(self, load: Load) -> None:
        if self.current.get(load.key) is load:
            self.supersede(load.key)


class Process(Side):
    """A cache that stands for a process of its own."""

    def __init__(self, model: TierModel) -> None:
        super().__init__(model)
        self.model: TierModel = model
        self.loads: Watched
        self.tier: Tier
        self.discarded = 0
        """Loads whose value must not be kept."""
        self.heard = 0
        """Invalidations by others."""
        self.gap = 0.0
        """When messages were heard again after some may have been missed."""
        self.missed: dict[Key, float] = {}
        """When the server had had the last invalidations by then."""

    def current_load(self) -> Load:
        """Return the load in whose task this is called."""
        task = asyncio.current_task()
        assert task is not None
        load = self.tasks[task]
        assert load is not None
        return load


class WatchedCache:
    """What a tier knows of a cache; the model is told of all that is done to it."""

    def __init__(self, cache: SharingCache[Any, Any], process: Process) -> None:
        self._cache = cache
        self._process = process
        self._model = process.model
        self.policy = cache.policy
        self.clock = cache.clock
        self.says_unwell = cache.says_unwell

    def _load(self, load: InFlight) -> Load:
        return next(known for known in self._model.live if known.in_flight is load)

    def forget(self, key: Key) -> bool:
        self._process.heard += 1
        self._model.forget(key)
        return self._cache.forget(key)

    def forget_all(self) -> None:
        self._process.heard += 1
        self._process.loads.machine.know_all(self._process)
        self._model.forget_all()
        self._cache.forget_all()

    def drop(self, key: Key) -> None:
        self._model.held.pop(key, None)
        self._cache.drop(key)

    async def distrust(self) -> None:
        self._model.distrust()
        await self._cache.distrust()

    def has_stand_in(self, key: Key) -> bool:
        held = self._model.held.get(key)
        found = held is not None and held.error is None and not self._model.gone(held)
        assert self._cache.has_stand_in(key) is found
        return found

    def adopt(self, load: InFlight, key: Key, value: Answer, sent_at: float, jitter: float) -> None:
        TOTAL["adopted"] += 1
        self._model.adopt(self._load(load), value)
        self._cache.adopt(load, key, value, sent_at, jitter)

    def discard(self, load: InFlight, key: Key) -> None:
        self._process.discarded += 1
        self._model.discard(self._load(load))
        self._cache.discard(load, key)


class Watched(RedisLoads[Key, Answer]):
    """The tier at work, whose outcomes are told to the model."""

    machine: TierMachine
    process: Process

    async def load(self, key: Key) -> Any:
        load = self.machine.began(self.process, key)
        try:
            result = await super().load(key)
        except Exception as error:
            load.failure, load.unwell = (type(error), str(error)), is_unwell(error)
            raise
        except BaseException:
            load.failure, load.unwell = (WolfConnectionError, None), True
            raise
        load.result = as_loaded(result, 0.0).value
        return result

    async def take(self, lease: Lease, *what: Any) -> Any:
        reply = await super().take(lease, *what)
        if reply[0] == b"grant":
            self.process.current_load().leased = self.machine.server.leased[lease.token]
        return reply

    def hear(self, message: bytes) -> None:
        super().hear(message)
        if message[:1] == b"i" and message[1:9] != self._sender:
            self.machine.know(self.process, decode_key(message[9:]), message)

    async def reconnected(self, epoch: str) -> None:
        await super().reconnected(epoch)
        self.process.gap = self.machine.tick()
        self.process.missed = dict(self.machine.server.gone)


class Link(FakeLink):
    """A link that gives up on a reply, as the real one does."""

    timeout = 0.25
    closed = False

    async def aclose(self) -> None:
        self.closed = True
        await super().aclose()


class Tier(FakeTier):
    """A tier whose parts are watched."""

    loads_type = Watched
    link_type = Link

    def __init__(self, machine: TierMachine, process: Process) -> None:
        super().__init__(machine.server)
        self._machine = machine
        self._process = process
        process.tier = self

    def bind(
        self,
        cache: SharingCache[Any, Any],
        load: Callable[[Any], Awaitable[Any]],
        codec: Codec[Any, Any],
    ) -> RedisLoads[Any, Any]:
        loads = super().bind(WatchedCache(cache, self._process), load, codec)
        assert isinstance(loads, Watched)
        self._process.loads = loads
        loads.machine, loads.process = self._machine, self._process
        return loads


class Server(FakeNetwork):
    """The server; it sees that nobody is given what was invalidated."""

    def __init__(self, machine: TierMachine) -> None:
        super().__init__(machine.clock)
        self._machine = machine
        self.voided: dict[str, float] = {}
        """When each hash was invalidated last."""
        self.gone: dict[Key, float] = {}
        """When each key was."""
        self.epochs: dict[str, float] = {}
        """When all were, by the epoch that begins then."""
        self.leased: dict[str, float] = {}
        """When each lease was granted, by its token."""
        self.told: dict[bytes, float] = {}
        """When an invalidation was published last, by its message."""
        self._snapshot: Any = None

    def take(self, key: str, *args: bytes) -> list[Any]:
        reply = super().take(key, *args)
        if reply[0] == b"value" and (load := self._machine.load_of(reply[3])) is not None:
            assert load.sent_order > self.voided.get(key, 0.0), f"{load} was invalidated"
        if reply[0] == b"grant":
            self.leased[args[0].decode()] = self._machine.tick()
        return reply

    def void(self, key: str, *args: bytes) -> int:
        order = self._machine.tick()
        self.voided[key] = self.gone[decode_key(args[1][8:])] = order
        self.told[b"i" + args[1]] = order
        return super().void(key, *args)

    def clear(self, key: str, *args: bytes) -> int:
        order = self.epochs[args[0].decode()] = self._machine.tick()
        self.gone = dict.fromkeys(KEYS, order)
        return super().clear(key, *args)

    def forget_everything(self) -> None:
        """Lose all data, as by ``FLUSHALL``."""
        self.hashes.clear()
        self.expires.clear()
        self.texts.clear()

    def remember_now(self) -> None:
        """Write a snapshot."""
        state: Any = (self.hashes, self.expires, self.texts, self.voided, self.gone)
        self._snapshot = copy.deepcopy(state)

    def come_back(self) -> None:
        """Be as at the last snapshot, or empty; what was on its way is lost."""
        state: Any = self._snapshot or ({}, {}, {}, {}, {})
        self.hashes, self.expires, self.texts, self.voided, self.gone = copy.deepcopy(state)
        self.lose_exchanges()
        self.lose_messages()


# --- the machine
# ----------------------------------------------------------------------------------------------


class TierMachine(CacheMachine):
    """Two caches, their server, and all that can go wrong between them."""

    def __init__(self) -> None:
        self.calm = True
        self.requests: list[Load] = []
        """Those under way."""
        self.chores: list[asyncio.Task[None]] = []
        super().__init__()

    def new_loop(self) -> TimedHandLoop:
        return TimedHandLoop(self._task_made, self.clock)

    @initialize(policies=st.tuples(POLICIES, POLICIES), same=st.booleans(), calm=st.booleans())
    def begin(self, policies: tuple[CachePolicy, CachePolicy], same: bool, calm: bool) -> None:
        self.calm = calm
        self.sides = [self._process(policies[0]), self._process(policies[not same])]

    def renew(self, policy: CachePolicy | None) -> None:
        self.server = Server(self)
        self.begin((CachePolicy(), CachePolicy()), same=True, calm=True)

    def _process(self, policy: CachePolicy) -> Process:
        process = Process(TierModel(policy, self.clock, self.tick))
        process.cache = LoadingCache(
            partial(self._loader, process),
            policy=policy,
            sizeof=sizeof if policy.max_bytes else None,
            clock=self.clock,
            is_unwell=is_unwell,
            shared=Tier(self, process),
            codec=self,
        )
        return process

    @property
    def processes(self) -> list[Process]:
        return [side for side in self.sides if isinstance(side, Process)]

    @property
    def links(self) -> list[Link]:
        """Those of caches that are not closed."""
        links = map(self._link_of, self.processes)
        return [link for link in links if link is not None]

    # --- values on the wire

    def encode(self, value: Answer) -> bytes:
        return f"{value.number} {value.size}".encode()

    def decode(self, key: Key, body: bytes, sent_at: float) -> Answer:
        number, size = map(int, body.split())
        load = self.loads[number - 1]
        truth = load.result
        assert truth is not None
        assert load.key == key
        late = truth.sent_at - sent_at
        self.check(late > -EXACT, f"{load}: the age is understated by {-late} s")
        self.check(not self.calm or late < EXACT, f"{load}: the age is overstated by {late} s")
        return Answer(key, number, sent_at, size)

    def load_of(self, stored: bytes) -> Load | None:
        """Return the load that brought this body, unless it was spoilt."""
        try:
            return self.loads[int(decode_body(stored, 1000).split()[0]) - 1]
        except (ValueError, IndexError):
            return None

    # --- loads

    def began(self, process: Process, key: Key) -> Load:
        return self._begun(process, key)

    async def _loader(self, process: Process, key: Key) -> Answer | Loaded[Answer]:
        load = process.current_load()
        assert load.key == key
        for other in self.requests:
            if self.calm and other.key == key:
                void = other.leased < self.server.gone.get(key, 0.0)
                superseded = other.superseded_order < float("inf")
                self.check(void or superseded, f"{load} makes its request beside {other}")
        self.requests.append(load)
        try:
            return await self._request(process, load)
        finally:
            self.requests.remove(load)

    def failure_of(self, load: Load, name: str, *, unwell: bool) -> Exception:
        return WolfConnectionError(name) if unwell else WolfError(name)

    def _let_ask(self, which: int, key: Key, max_age: float | None) -> None:
        # only for itself, which is refused, or a later one: no process knows of a circle that runs
        # through another process
        loads = self._waiting_loads()
        asking = loads[which % len(loads)].key
        super()._let_ask(which, max(asking, key), max_age)

    # --- what each process knows

    def know(self, process: Process, key: Key, message: bytes) -> None:
        known = process.model.invalidated
        known[key] = max(known[key], self.server.told[message])

    def know_all(self, process: Process) -> None:
        order = self.server.epochs.get(process.loads.epoch, 0.0)
        known = process.model.invalidated
        known.update((key, max(known[key], order)) for key in KEYS)

    def _got_value(self, call: Call, value: Answer) -> None:
        super()._got_value(call, value)
        process, load = call.side, self.loads[value.number - 1]
        assert isinstance(process, Process)
        # of what it has missed, only who waits for a load from before may get something
        asked_since = call.load is None or call.load.order > process.gap
        if call.order > process.gap and asked_since and not call.is_stale:
            missed = process.missed.get(call.key, 0.0)
            self.check(load.sent_order > missed, f"{call} got {value}, whose end was missed")

    # --- time

    def advance(self, seconds: float) -> None:
        """Let time pass: in calm histories for all alike, in others in a jump."""
        if self.calm:
            self._live(seconds)
        else:
            self.clock.advance(seconds)
            assert isinstance(self.loop, TimedHandLoop)
            self.loop.take_due()

    def _live(self, seconds: float) -> None:
        """Let time pass, and everybody do in time what is due."""
        assert isinstance(self.loop, TimedHandLoop)
        ends = self.clock() + seconds
        self._until_idle()
        while self.clock() < ends:
            until_due = self.loop.next_due - self.clock()
            left = ends - self.clock()
            steps = max(1, min(until_due, left) // TICK)
            self.clock.advance(min(left, steps * TICK))
            self.loop.take_due()
            self._until_idle()

    # --- rules: what the other process, and time, do

    @rule(seconds=st.sampled_from([0.25, 0.5, 1.0, 4.0, 10.0]))
    def live_on(self, seconds: float) -> None:
        self._live(seconds)

    @rule(at=AT)
    def settle_invalidations(self, at: int) -> None:
        process = self.processes[at]
        self._spawn_chore(self._settled(process))

    async def _settled(self, process: Process) -> None:
        settled = await process.cache.settled()
        self.check(settled or not self.calm or process.model.closed, "it was not settled")

    @precondition(lambda self: any(side.model.closed for side in self.sides))
    @rule(policy=POLICIES)
    def close_and_renew(self, policy: CachePolicy | None) -> None:
        """Let another process begin where one was closed."""
        assert policy is not None
        for at, process in enumerate(self.processes):
            if process.model.closed:
                self._let_it_end(process)
                self._calls_add_up(process)
                self.sides[at] = self._process(policy)

    def _let_it_end(self, process: Process) -> None:
        for _ in range(int(PATIENCE / TICK)):
            self._until_idle()
            if not process.tasks and all(closer.done() for closer in self.closers):
                return
            for number, load in reversed(list(enumerate(self._waiting_loads()))):
                if load in process.model.live:
                    self._tell(number, "value", 0)
            self._live(TICK)
        raise AssertionError("a closed cache does not end")

    # --- rules: what goes wrong

    @precondition(lambda self: not self.calm)
    @rule(script=SCRIPTS)
    def replies_are_late(self, script: str) -> None:
        self.server.late.add(script)

    @precondition(lambda self: not self.calm)
    @rule(script=SCRIPTS)
    def commands_are_late(self, script: str) -> None:
        self.server.slow.add(script)

    @precondition(lambda self: self.server.slow)
    @rule()
    def commands_arrive(self) -> None:
        with self.loop.running():
            self.server.arrive_now()

    @precondition(lambda self: self.server.late)
    @rule()
    def replies_arrive(self) -> None:
        self.server.reply_now()

    @precondition(lambda self: self.server.late or self.server.slow)
    @rule()
    def exchanges_are_lost(self) -> None:
        self.server.lose_exchanges()
        for link in self.links:
            self._fail(link)

    @precondition(lambda self: not self.calm)
    @rule()
    def messages_are_late(self) -> None:
        self.server.deaf = True

    @precondition(lambda self: self.server.deaf)
    @rule()
    def messages_arrive(self) -> None:
        self.server.deaf = False
        with self.loop.running():
            self.server.deliver()

    @precondition(lambda self: self.server.deaf)
    @rule()
    def messages_are_lost(self) -> None:
        # with the connections alone, which the links notice
        self.server.lose_messages()
        for link in self.links:
            self._cut(link)

    @precondition(lambda self: not self.calm and self.links)
    @rule(which=ANY)
    def link_is_cut(self, which: int) -> None:
        self._cut(self.links[which % len(self.links)])

    @precondition(lambda self: not self.calm and self.links)
    @rule(which=ANY)
    def link_fails(self, which: int) -> None:
        self._fail(self.links[which % len(self.links)])

    def _cut(self, link: Link) -> None:
        if link.hears:
            TOTAL["cuts"] += 1
            with self.loop.running():
                link.cut()

    def _fail(self, link: Link) -> None:
        if link.up:
            TOTAL["failures of links"] += 1
            with self.loop.running():
                link.fail()

    @precondition(lambda self: any(not link.up for link in self.links))
    @rule(which=ANY)
    def link_comes_back(self, which: int) -> None:
        down = [link for link in self.links if not link.up]
        self._come_back(down[which % len(down)])

    def _come_back(self, link: Link) -> None:
        if link.hears:
            with self.loop.running():
                link.recover()
        elif link.reconnects:
            self._spawn_chore(link.connect())

    @precondition(lambda self: self.links)
    @rule(which=ANY)
    def heartbeat(self, which: int) -> None:
        link = self.links[which % len(self.links)]
        if link.up:
            asked = link.owner.epoch
            epoch = self.server.run("hello", link.names.epoch_key, (asked, b""))
            link.owner.epoch_is(epoch.decode(), asked)

    @precondition(lambda self: not self.calm)
    @rule(seconds=st.sampled_from([0.5, 2.0, 3.5, 7.0]))
    def time_jumps(self, seconds: float) -> None:
        """Let leases run out, as for a machine that stood still."""
        self.advance(seconds)

    @precondition(lambda self: not self.calm)
    @rule()
    def server_writes_a_snapshot(self) -> None:
        self.server.remember_now()

    @precondition(lambda self: not self.calm)
    @rule(what=ANY)
    def server_seldom(self, what: int) -> None:
        if what == 3:
            TOTAL["flushes"] += 1
            self.server.forget_everything()
        elif what in (5, 6):
            self._restart()
        elif what == 7:
            for fields in self.server.hashes.values():
                fields.update({name: b"\xff" for name in ("v", "f") if name in fields})

    # --- rules: several steps that seldom come together by chance

    def _link_of(self, process: Process) -> Link | None:
        link = process.tier.links[-1] if process.tier.links else None
        return link if isinstance(link, Link) and not link.closed else None

    def _call_and_rest(self, process: Process, key: Key, max_age: float | None = None) -> None:
        self._spawn(Call(process, key, max_age))
        self._until_idle()

    @rule(key=KEY)
    def hold_everywhere(self, key: Key) -> None:
        for at in (0, 1):
            self.hold(at, key)

    @rule(at=AT, key=KEY, late=st.booleans())
    def invalidate_and_call(self, at: int, key: Key, late: bool) -> None:
        if late and not self.calm:
            self.server.slow.add("void")
        self.hold(1 - at, key)
        self.invalidate(at, key)
        self._call_and_rest(self.processes[at], key)
        self._live(2 * TICK)

    @rule(at=AT, key=KEY, max_age=st.sampled_from([0, 0.5]), end=ENDS)
    def join_while_the_server_is_asked(self, at: int, key: Key, max_age: float, end: End) -> None:
        process = self.processes[at]
        self.hold(1 - at, key)
        self.advance(3 * TICK)
        if not self.calm:
            self.server.late.add("take")
        self._call_and_rest(process, key)
        self._spawn(Call(process, key, max_age))
        self.server.reply_now()
        self._until_idle()
        if self._waiting_loads():
            self.finish_and_rest(0, end, 4)

    @precondition(lambda self: not self.calm)
    @rule(at=AT, key=KEY, ends=st.lists(ENDS, min_size=2, max_size=2), asked=st.booleans())
    def miss_an_invalidation(self, at: int, key: Key, ends: list[End], asked: bool) -> None:
        process = self.processes[at]
        link = self._link_of(process)
        if link is None:
            return
        self.hold_everywhere(key)
        if asked:
            self.server.late.add("take")
            self._call_and_rest(process, key)
        self._cut(link)
        self._call_and_rest(process, key)
        self.invalidate(1 - at, key)
        self._until_idle()
        self._come_back(link)
        self._until_idle()
        self.server.reply_now()
        for end in ends:
            self._until_idle()
            if self._waiting_loads():
                self.finish_and_rest(0, end, 4)
            self._call_and_rest(process, key)

    @precondition(lambda self: not self.calm)
    @rule(at=AT, key=KEY, twice=st.booleans(), own=st.booleans())
    def invalidate_before_a_clear_is_heard_of(
        self, at: int, key: Key, twice: bool, own: bool
    ) -> None:
        process = self.processes[at]
        link = self._link_of(process)
        if link is None or not link.hears:
            return
        with self.server.held_from(link):
            self.clear(process if own else self.processes[1 - at])
            self._until_idle()
            self.hold(1 - at, key)
            if twice:
                self.server.slow.add("clear")
                self.clear(process)
            else:
                self.invalidate(at, key)
            self._until_idle()
        self._until_idle()
        self._call_and_rest(process, key)

    @precondition(lambda self: not self.calm)
    @rule(at=AT, key=KEY)
    def come_back_from_a_snapshot(self, at: int, key: Key) -> None:
        self.hold(at, key)
        self.server.remember_now()
        self.invalidate(at, key)
        self._until_idle()
        self._restart()
        link = self._link_of(self.processes[at])
        if link is not None:
            self._come_back(link)
            self._call_and_rest(self.processes[at], key)

    def _restart(self) -> None:
        TOTAL["restarts"] += 1
        self.server.come_back()
        for link in self.links:
            self._cut(link)

    def _spawn_chore(self, chore: Any) -> None:
        self.chores.append(asyncio.Task(chore, loop=self.loop))

    # --- invariants and the end

    def _settle(self) -> None:
        super()._settle()
        for chore in [chore for chore in self.chores if chore.done()]:
            self.chores.remove(chore)
            chore.result()

    def stats_are_those_of_the_model(self, side: Side) -> None:
        super().stats_are_those_of_the_model(side)
        assert isinstance(side, Process)
        stats = side.cache.stats()
        assert stats.shared_stores_refused <= side.discarded
        assert not self.calm or stats.shared_stores_refused == side.discarded
        assert stats.shared_invalidations == side.heard
        assert stats.shared_hits + stats.shared_bypassed <= stats.loads

    def _heal(self) -> None:
        with self.loop.running():
            self.server.arrive_now()
            self.server.reply_now()
            self.server.deaf = False
            self.server.deliver()
        for link in self.links:
            if not link.up:
                self._come_back(link)
        self._until_idle()

    def _let_all_loads_end(self) -> None:
        self._heal()
        for _ in range(int(PATIENCE / TICK)):
            super()._let_all_loads_end()
            tasks = [task for side in self.sides for task in side.tasks]
            closing = [closer for closer in self.closers if not closer.done()]
            if not (self.under_way or tasks or closing or self.chores):
                return
            self._live(TICK)
        raise AssertionError("somebody waits although nothing goes wrong any more")

    def _calls_add_up(self, side: Side) -> None:
        super()._calls_add_up(side)
        counts = side.cache.stats()
        for name in counts.__struct_fields__:
            if name.startswith("shared_"):
                TOTAL[name] += getattr(counts, name)


REACHED: Final = (
    *("hits", "stale_hits", "error_hits", "misses", "joined", "loads", "refreshes", "failures"),
    *("abandoned", "superseded", "evictions", "of them queued", "of them stood in for"),
    *("asked by loads", "slow clean-ups", "adopted", "cuts", "failures of links"),
    *("flushes", "restarts", "shared_hits", "shared_waits", "shared_bypassed"),
    *("shared_stores_refused", "shared_invalidations"),
)


def test_two_caches_with_a_tier_do_what_the_model_says() -> None:
    run_histories(TierMachine, REACHED, batch=4_000)

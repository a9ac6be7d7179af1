"""Two processes on one server in random orders of events, against what may never be seen.

The state machine of ``tests/cache`` knows more of what must happen. Here answers expire with
jitter, and everything runs on asyncio's own loop.

``WOLF_HISTORIES=10000`` tries more of them.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import re
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from shared.fake import LEASE, FakeNetwork, FakeTier, Refused, TextCodec, is_unwell
from shared.test_orders import settle
from wolf_async.cache import LoadingCache
from wolf_async.errors import WolfConnectionError, WolfError
from wolf_async.policy import CachePolicy
from wolf_async.shared.codec import decode_key, encode_key
from wolf_async.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable

HISTORIES = int(os.environ.get("WOLF_HISTORIES", "150"))
STEPS = 40
KEYS = ("a", "b")
TTL = 10.0


class Load:
    """A load that a process has begun; its value and its error name it by its number."""

    def __init__(self, number: int, key: str, order: int, sent_at: float) -> None:
        self.number = number
        self.key = key
        self.order = order
        self.sent_at = sent_at
        self.told: float = math.inf
        """When a call is known to have got its value, so that later ones find it held."""
        self.end: asyncio.Future[str] = asyncio.get_running_loop().create_future()


class Call:
    """A call of a process, and what it must not get."""

    def __init__(self, key: str, max_age: float | None) -> None:
        self.key = key
        self.max_age = max_age
        self.order = 0
        self.began = 0.0
        self.newer_than = 0
        """The last invalidation that its process knew of."""


class History:
    """What happens in one random course."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        # every other course goes without faults, so that there is exactly one load at a time
        self.calm = seed % 2 == 0
        self.clock = FakeClock(100.0)
        self.network = FakeNetwork(self.clock)
        self.order = 0
        self.loads: list[Load] = []
        self.known: list[Counter[str]] = [Counter(), Counter()]
        self.calls: dict[asyncio.Task[str], Call] = {}
        self.seen = Counter[str]()
        self.barrier = 0
        """What began before this may have been overtaken by an invalidation."""
        policy = CachePolicy(ttl=TTL, jitter=self.chance.choice([0.0, 0.5]))
        self.tiers = [FakeTier(self.network) for _ in range(2)]
        self.caches: list[LoadingCache[str, str]] = [
            LoadingCache(
                self.load,
                policy=policy,
                clock=self.clock,
                is_unwell=is_unwell,
                shared=tier,
                codec=TextCodec(),
            )
            for tier in self.tiers
        ]
        self.executed: dict[bytes, int] = {}
        """When the server had each invalidation, by its message."""
        self.listen()

    def listen(self) -> None:
        """Note when the server has an invalidation, and when each process hears of it."""
        publish = self.network.publish

        def published(channel: bytes, message: bytes) -> None:
            self.executed[message] = self.tick()
            publish(channel, message)

        self.network.publish = published  # type: ignore[method-assign]
        for number, tier in enumerate(self.tiers):
            loads: Any = tier.loads
            loads.hear = partial(self.heard, number, loads.hear)

    def heard(self, number: int, hear: Callable[[bytes], None], message: bytes) -> None:
        before = self.caches[number].stats().shared_invalidations
        hear(message)
        # not one of its own, which is sent again after a gap, and was known for long
        if self.caches[number].stats().shared_invalidations > before and message[:1] == b"i":
            key = decode_key(message[9:])
            self.known[number][key] = max(self.known[number][key], self.executed[message])

    def tick(self) -> int:
        self.order += 1
        return self.order

    async def load(self, key: str) -> str:
        load = Load(len(self.loads), key, self.tick(), self.clock())
        self.loads.append(load)
        return await load.end

    async def run(self) -> None:
        for cache in self.caches:  # what is told before the first connection is told late
            cache.invalidate("to connect")
            assert await cache.settled()
        for _ in range(STEPS):
            kinds = ["call"] * 4 + ["end"] * 3 + ["invalidate", "leave", "wait"]
            kinds += [] if self.calm else ["cut", "connect", "late", "deaf", "clear"]
            kind = self.chance.choice(kinds)
            getattr(self, kind)()
            if kind == "invalidate" and self.calm:
                await settle()
                self.barrier = self.tick()
            for _ in range(self.chance.choice([0, 0, 1, 2, 40])):
                await asyncio.sleep(0)
            self.check()
        await self.finish()

    def call(self) -> None:
        number, key = self.chance.randrange(2), self.chance.choice(KEYS)
        max_age = self.chance.choice([None, None, 0.0, 2.0])
        call = Call(key, max_age)
        self.calls[asyncio.create_task(self.get(number, call))] = call

    async def get(self, number: int, call: Call) -> str:
        call.order, call.began = self.tick(), self.clock()
        call.newer_than = self.known[number][call.key]
        return await self.caches[number].get(call.key, max_age=call.max_age)

    def end(self) -> None:
        running = [load for load in self.loads if not load.end.done()]
        if not running:
            return
        load = self.chance.choice(running)
        how = self.chance.random()
        if how < 0.7:
            load.end.set_result(f"{load.number}")
        else:
            error = WolfConnectionError if how < 0.9 else Refused
            load.end.set_exception(error(f"{load.number}"))

    def invalidate(self) -> None:
        number, key = self.chance.randrange(2), self.chance.choice(KEYS)
        self.caches[number].invalidate(key)
        self.known[number][key] = self.tick()

    def clear(self) -> None:
        number = self.chance.randrange(2)
        self.caches[number].clear()
        self.known[number].update(dict.fromkeys(KEYS, 0))
        for key in KEYS:
            self.known[number][key] = self.tick()

    def leave(self) -> None:
        if self.calls:
            self.chance.choice(list(self.calls)).cancel()

    def wait(self) -> None:
        # a lease that is not renewed, as no real time passes here, would be taken over
        if not (self.calm and self.calls):
            self.clock.advance(self.chance.choice([0.0, 0.5, 2.0, 8.0]))

    def cut(self) -> None:
        if self.network.links:
            self.chance.choice(self.network.links).cut()

    def connect(self) -> None:
        for link in self.network.links:
            if not link.up:
                task = asyncio.create_task(link.connect())
                self.connecting.add(task)
                task.add_done_callback(self.connecting.discard)

    @property
    def connecting(self) -> set[asyncio.Task[None]]:
        found: set[asyncio.Task[None]] = self.__dict__.setdefault("_connecting", set())
        return found

    def late(self) -> None:
        if self.network.late:
            self.network.reply_now()
        else:
            self.network.late = {self.chance.choice(["take", "put", "void", "fail"])}

    def deaf(self) -> None:
        self.network.deaf = not self.network.deaf
        if not self.network.deaf:
            self.network.deliver()

    def check(self) -> None:
        for task in [task for task in self.calls if task.done()]:
            call = self.calls.pop(task)
            if task.cancelled():
                self.seen["left"] += 1
            else:
                self.check_end(call, task)
        if self.calm:
            for key in KEYS:
                running = [x for x in self.loads if x.key == key and not x.end.done()]
                assert sum(load.order > self.barrier for load in running) <= 1, "two loads at once"

    def check_end(self, call: Call, task: asyncio.Task[str]) -> None:
        error = task.exception()
        if error is not None:
            assert isinstance(error, WolfError), error
            self.seen["errors"] += 1
        (number,) = re.findall(r"\d+", task.result() if error is None else str(error))
        load = self.loads[int(number)]
        assert load.key == call.key
        assert load.order > call.newer_than, "older than an invalidation that was known"
        if call.max_age == 0:
            assert load.order > call.order, "older than the call, which wanted the newest"
        elif error is None and (call.max_age is not None or call.order > load.told):
            # without max_age, a load that is slower than the ttl may be waited for
            oldest = TTL if call.max_age is None else call.max_age
            assert call.began - load.sent_at <= oldest, "too old"
        load.told = min(load.told, self.tick())
        self.seen["values"] += error is None

    async def finish(self) -> None:
        """Let everything come to its end: nobody may wait for ever."""
        self.network.reply_now()
        self.network.deaf = False
        self.network.deliver()
        self.connect()
        for _ in range(60):
            await settle()
            self.check()
            if not self.calls:
                break
            for load in self.loads:
                if not load.end.done():
                    load.end.set_result(f"{load.number}")
            self.clock.advance(LEASE)
            for link in self.network.links:  # as by the short waits of real time
                for key in KEYS:
                    link.owner.hear(b"d" + b"somebody" + encode_key(key))
        assert not self.calls, "somebody waits for ever"
        for cache in self.caches:
            assert await cache.settled()
            await cache.aclose()
        await settle()


@pytest.mark.parametrize("part", range(5))
async def test_no_order_of_events_shows_what_may_never_be_seen(part: int) -> None:
    seen = Counter[str]()
    for number in range(HISTORIES // 5):
        history = History(part * 1_000_000 + number)
        try:
            await history.run()
        except BaseException as error:
            error.add_note(f"seed {part * 1_000_000 + number}")
            raise
        seen += history.seen
    assert min(seen["values"], seen["errors"], seen["left"]) > HISTORIES / 50

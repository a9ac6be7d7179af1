"""Caches of several processes on one server, in orders that the test decides.

Time is a clock of the test's own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from client import virtual_time

from shared.fake import LEASE, FakeNetwork, FakeTier, Process, Refused, TextCodec
from wolf_async.cache import LoadingCache
from wolf_async.cache.inflight import Served
from wolf_async.errors import (
    WolfAPIError,
    WolfClosedError,
    WolfConfigError,
    WolfConnectionError,
    WolfError,
    WolfServerError,
)
from wolf_async.policy import CachePolicy
from wolf_async.shared.turns import SharedTurns
from wolf_async.testing import FakeClock
from wolf_async.turns import LocalTurns

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

POLICY = CachePolicy(ttl=30)
TURNS = 30


async def settle() -> None:
    """Let everything that can run, run."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def done(task: asyncio.Task[Any]) -> Any:
    await settle()
    assert task.done(), "it still waits"
    return task.result()


async def error_of(task: asyncio.Task[Any]) -> BaseException:
    await settle()
    assert task.done(), "it still waits"
    error = task.exception()
    assert error is not None
    return error


async def served_by(process: Process) -> Served[str]:
    """Return what a process serves, with its age."""
    return await process.cache.find("a", None).wait(None)


class World:
    """Two processes A and B, their server, and the clock of all of them."""

    def __init__(
        self,
        policy: CachePolicy = POLICY,
        *,
        skew: float = 0.0,
        sizeof: Callable[[str], int] | None = None,
    ) -> None:
        self.clock = FakeClock(1000.0)
        self.network = FakeNetwork(self.clock)
        self.a = Process(self.network, self.clock, policy, sizeof=sizeof)
        self.b = Process(self.network, self.clock, policy, sizeof=sizeof, skew=skew)

    @property
    def loads(self) -> list[asyncio.Future[Any]]:
        return self.a.loads + self.b.loads

    async def both_up(self) -> None:
        """Let both processes connect, by a load of an account that nobody else asks for."""
        for number, process in enumerate((self.a, self.b)):
            task = process.get(f"other{number}")
            await settle()
            process.loads.pop().set_result("other")
            await done(task)

    async def hold(self, process: Process, value: str, key: str = "a") -> None:
        """Let a process load a value, for all."""
        task = process.get(key)
        await settle()
        process.loads[-1].set_result(value)
        assert await done(task) == value

    async def invalidate_unheard(self) -> None:
        """Let B invalidate the account while A's link is away."""
        self.a.link.cut()
        self.b.cache.invalidate("a")
        await settle()
        await self.a.link.connect()

    async def answer_over_a_gap(self) -> asyncio.Task[Any]:
        """Let A ask, and hear the server's reply after it has missed an invalidation."""
        self.network.late = {"take"}
        task = self.a.get()
        await settle()
        await self.invalidate_unheard()
        self.network.reply_now()
        await settle()
        return task

    async def close(self) -> None:
        await self.a.cache.aclose()
        await self.b.cache.aclose()
        for load in self.loads:
            load.cancel()
        await settle()


@pytest.fixture
async def world() -> Any:
    world = World()
    yield world
    await world.close()


# --- sharing --------------------------------------------------------------------------------------


async def test_two_processes_make_one_load(world: World) -> None:
    tasks = [process.get() for process in (world.a, world.b, world.a, world.b)]
    await settle()
    assert len(world.loads) == 1
    world.loads[0].set_result("v")
    assert [await done(task) for task in tasks] == ["v"] * 4
    assert world.b.cache.stats().shared_waits == 1


async def test_a_value_that_another_process_loaded_is_a_shared_hit(world: World) -> None:
    await world.hold(world.a, "v")
    assert await done(world.b.get()) == "v"
    assert world.b.loads == []
    assert world.b.cache.stats().shared_hits == 1


async def test_a_local_hit_sends_nothing(world: World) -> None:
    await world.hold(world.a, "v")
    before = list(world.network.ran)
    assert await done(world.a.get()) == "v"
    assert world.network.ran == before


async def test_a_value_expires_in_all_processes_alike() -> None:
    world = World(CachePolicy(ttl=30, jitter=1.0))
    await world.hold(world.a, "v")
    await done(world.b.get())
    lives = [life(process) for process in (world.a, world.b)]
    assert lives[0] == pytest.approx(lives[1], abs=0.01)
    await world.close()


def life(process: Process) -> float:
    """Return until when a process serves what it holds without asking."""
    low, high = 0.0, 31.0
    entry, skew = process.cache.peek, process.skew
    while high - low > 0.001:
        middle = (low + high) / 2
        process.skew = skew + middle
        low, high = (low, middle) if entry("a") is None else (middle, high)
    process.skew = skew
    return low


# --- ages -----------------------------------------------------------------------------------------


async def test_the_age_counts_from_sending_whatever_a_process_takes_its_time_for() -> None:
    world = World(skew=3600.0)
    task = world.a.get()
    await settle()
    world.clock.advance(5)  # more than the lease, which nobody has taken over
    world.a.loads[0].set_result("v")
    await done(task)
    world.clock.advance(15)
    served = await done(asyncio.create_task(served_by(world.b)))
    assert served.sent_at == pytest.approx(3600 + 1000)
    await world.close()


async def test_the_age_is_overstated_by_the_round_trips_at_most(world: World) -> None:
    world.network.late = {"take"}
    task = world.a.get()
    await settle()
    world.clock.advance(0.1)  # the grant's reply is that long on its way
    world.network.reply_now()
    await settle()
    world.a.loads[0].set_result("v")
    await done(task)
    world.clock.advance(5)
    world.network.late = {"take"}
    reading = asyncio.create_task(served_by(world.b))
    await settle()
    world.clock.advance(0.2)
    world.network.reply_now()
    age = world.clock() - (await done(reading)).sent_at
    assert 5.2 <= age <= 5.2 + 0.1 + 0.001


@pytest.mark.parametrize(("age", "asks"), [(1.9, False), (2.1, True)])
async def test_max_age_holds_across_processes(world: World, age: float, asks: bool) -> None:
    await world.hold(world.a, "v")
    world.clock.advance(age)
    task = world.b.get(max_age=2)
    await settle()
    assert len(world.b.loads) == asks
    if asks:
        world.b.loads[0].set_result("new")
    assert await done(task) == ("new" if asks else "v")


async def test_max_age_0_takes_no_value_and_no_load_that_began_before_it(world: World) -> None:
    first = world.a.get()
    await settle()
    world.clock.advance(1)
    strict = [world.a.get(max_age=0), world.b.get(max_age=0), world.b.get(max_age=0)]
    await settle()
    world.clock.advance(0.5)
    world.loads[0].set_result("old")
    assert await done(first) == "old"
    assert len(world.loads) == 2, "one load at a time, two in all"
    (running,) = [load for load in world.loads if not load.done()]
    running.set_result("new")
    assert [await done(task) for task in strict] == ["new"] * 3
    assert len(world.loads) == 2


async def test_max_age_0_gets_no_failure_of_a_load_that_began_before_it(world: World) -> None:
    first = world.a.get()
    await settle()
    world.clock.advance(1)
    strict = world.b.get(max_age=0)
    await settle()
    world.a.loads[0].set_exception(WolfConnectionError("down"))
    assert isinstance(await error_of(first), WolfConnectionError)
    await settle()
    world.b.loads[0].set_result("new")
    assert await done(strict) == "new"


async def test_who_joins_while_the_server_is_asked_gets_nothing_older_than_it_wants(
    world: World,
) -> None:
    await world.hold(world.a, "old")
    world.clock.advance(5)
    world.network.late = {"take"}
    lenient = world.b.get()
    await settle()
    strict = world.b.get(max_age=1)
    await settle()
    world.network.reply_now()
    await settle()
    world.b.loads[0].set_result("new")
    assert [await done(task) for task in (lenient, strict)] == ["new", "new"]


async def test_who_joins_while_the_server_is_asked_gets_no_failure_from_before_it() -> None:
    world = World(CachePolicy(ttl=30, error_ttl=10))
    await world.both_up()
    failing = world.a.get()
    await settle()
    world.a.loads[-1].set_exception(WolfConnectionError("down"))
    await error_of(failing)
    world.network.late = {"take"}
    lenient = world.b.get()
    await settle()
    strict = world.b.get(max_age=0)
    await settle()
    world.network.reply_now()
    await settle()
    world.b.loads[-1].set_result("new")
    assert [await done(task) for task in (lenient, strict)] == ["new", "new"]
    await world.close()


# --- invalidations --------------------------------------------------------------------------------


async def test_an_invalidation_drops_the_copies_of_all(world: World) -> None:
    await world.hold(world.a, "v")
    await done(world.b.get())
    world.a.cache.invalidate("a")
    await settle()
    assert world.b.cache.peek("a") is None
    assert await world.a.cache.settled()
    assert world.b.cache.stats().shared_invalidations == 1


async def test_a_load_that_an_invalidation_overtook_is_served_and_never_kept(world: World) -> None:
    await world.both_up()
    here, there = world.a.get(), world.b.get()
    await settle()
    world.b.cache.invalidate("a")
    await settle()
    world.a.loads[0].set_result("old")
    assert await done(here) == "old", "who waited in the loading process is served by it"
    assert world.a.cache.peek("a") is None
    world.b.loads[0].set_result("new")
    assert await done(there) == "new", "who waited elsewhere gets the newer load"
    assert await done(world.a.get()) == "new"


async def test_a_store_is_refused_after_an_invalidation_whose_message_was_lost(
    world: World,
) -> None:
    await world.both_up()
    task = world.a.get()
    await settle()
    world.network.deaf = True
    world.b.cache.invalidate("a")
    await settle()
    world.network.lose_messages()
    world.a.loads[0].set_result("old")
    assert await done(task) == "old"
    assert world.a.cache.stats().shared_stores_refused == 1
    assert world.a.cache.peek("a") is None


async def test_a_call_after_an_invalidation_gets_nothing_older_before_the_server_has_it(
    world: World,
) -> None:
    await world.hold(world.a, "old")
    world.network.late = {"void"}
    world.a.cache.invalidate("a")
    task = world.a.get()
    await asyncio.sleep(0.3)  # the tier's timeout, for the acknowledgement
    world.a.loads[-1].set_result("new")
    assert await done(task) == "new"
    assert world.a.cache.stats().shared_bypassed == 1
    world.network.reply_now()
    await settle()


async def test_a_value_on_its_way_is_not_kept_if_an_invalidation_overtakes_it(
    world: World,
) -> None:
    await world.both_up()
    await world.hold(world.a, "old")
    world.network.late = {"take"}
    task = world.b.get()
    await settle()
    world.a.cache.invalidate("a")
    await settle()
    world.network.reply_now()
    await done(task)
    assert world.b.cache.peek("a") is None


async def test_clear_forgets_everything_everywhere(world: World) -> None:
    await world.hold(world.a, "v")
    await done(world.b.get())
    world.a.cache.clear()
    assert await world.a.cache.settled()
    await settle()
    assert world.b.cache.peek("a") is None
    task = world.b.get()
    await settle()
    world.b.loads[-1].set_result("new")
    assert await done(task) == "new"
    assert await done(world.a.get()) == "new"


async def test_what_was_missed_is_not_fresh_any_more_and_own_invalidations_are_sent_again(
    world: World,
) -> None:
    await world.both_up()
    await world.hold(world.a, "old")
    await done(world.b.get())
    snapshot = {key: dict(fields) for key, fields in world.network.hashes.items()}
    expires = dict(world.network.expires)
    world.a.cache.invalidate("a")
    assert await world.a.cache.settled()
    # the server comes back as it was before the invalidation
    for link in world.network.links:
        link.cut()
    world.network.hashes, world.network.expires = snapshot, expires
    for link in world.network.links:
        await link.connect()
    task = world.b.get()
    await settle()
    assert not task.done(), "the old value is gone from the server, and not fresh here"
    world.b.loads[-1].set_result("new")
    assert await done(task) == "new"


async def test_after_a_gap_nothing_that_was_held_is_fresh(world: World) -> None:
    await world.both_up()
    await world.hold(world.a, "old")
    await done(world.b.get())
    world.b.link.cut()
    world.a.cache.invalidate("a")
    await world.a.cache.aclose()
    await world.b.link.connect()
    task = world.b.get()
    await settle()
    world.b.loads[-1].set_result("new")
    assert await done(task) == "new"


async def test_what_was_loaded_alone_over_a_gap_is_served_and_not_kept(world: World) -> None:
    await world.both_up()
    world.a.link.cut()
    task = world.a.get()
    await settle()
    world.b.cache.invalidate("a")
    await settle()
    await world.a.link.connect()
    world.a.loads[-1].set_result("old")
    assert await done(task) == "old", "who waited is served"
    assert world.a.cache.peek("a") is None, "its invalidation may have been missed"


async def test_what_could_not_be_stored_over_a_gap_is_served_and_not_kept(world: World) -> None:
    await world.both_up()
    task = world.a.get()
    await settle()
    await world.invalidate_unheard()
    world.a.link.fail()
    world.a.loads[-1].set_result("old")
    assert await done(task) == "old"
    assert world.a.cache.peek("a") is None


async def test_a_shared_value_whose_reply_comes_after_a_gap_is_asked_for_again(
    world: World,
) -> None:
    await world.both_up()
    await world.hold(world.b, "old")
    task = await world.answer_over_a_gap()
    world.a.loads[-1].set_result("new")
    assert await done(task) == "new"


async def test_a_stale_value_whose_reply_comes_after_a_gap_does_not_stand_in() -> None:
    world = World(CachePolicy(ttl=30, stale_if_error=300))
    await world.both_up()
    await world.hold(world.b, "old")
    world.clock.advance(31)
    task = await world.answer_over_a_gap()
    world.a.loads[-1].set_exception(WolfConnectionError("down"))
    assert isinstance(await error_of(task), WolfConnectionError)
    await world.close()


@pytest.mark.parametrize("whose", ["another's", "its own"])
async def test_an_invalidation_holds_that_was_sent_before_a_clear_was_heard_of(
    world: World, whose: str
) -> None:
    await world.both_up()
    clearing = world.a if whose == "its own" else world.b
    with world.network.held_from(world.a.link):
        clearing.cache.clear()
        await settle()
        await world.hold(world.b, "old")  # under the new epoch
        world.a.cache.invalidate("a")  # under the old one
        await settle()
    await settle()
    task = world.a.get()
    await settle()
    assert not task.done(), "older than its own invalidation"
    world.a.loads[-1].set_result("new")
    assert await done(task) == "new"


async def test_a_clear_holds_that_was_made_before_the_one_before_was_heard_of(
    world: World,
) -> None:
    await world.both_up()
    with world.network.held_from(world.a.link):
        world.a.cache.clear()
        await settle()
        await world.hold(world.b, "old")
        world.network.slow = {"clear"}
        world.a.cache.clear()
        await settle()
    task = world.a.get()
    await asyncio.sleep(0.3)  # the tier's timeout, for the acknowledgement
    world.a.loads[-1].set_result("new")
    assert await done(task) == "new"
    world.network.arrive_now()
    await settle()
    assert await world.a.cache.settled()


async def test_an_invalidation_does_not_repeat_a_clear_that_is_not_heard_of_yet(
    world: World,
) -> None:
    await world.both_up()
    with world.network.held_from(world.a.link):
        world.a.cache.clear()
        await settle()
        world.a.cache.invalidate("a")
        await settle()
    await settle()
    assert await world.a.cache.settled()
    assert world.network.ran.count("clear") == 1


async def test_a_heartbeat_confirms_the_epoch_of_invalidations(world: World) -> None:
    await world.both_up()
    world.a.cache.invalidate("a")
    await settle()
    for _ in range(2):
        loads = world.a.link.owner
        loads.epoch_is(loads.epoch, loads.epoch)
    before = world.network.ran.count("void")
    world.b.cache.clear()
    await settle()
    assert world.network.ran.count("void") == before, "nothing is sent again"


@pytest.mark.parametrize("script", ["void", "clear"])
async def test_an_invalidation_that_got_lost_alone_is_sent_again_at_the_next_heartbeat(
    world: World, script: str
) -> None:
    """Its connection was dead, or the server full, and the link is up."""
    await world.both_up()
    await world.hold(world.a, "old")
    await done(world.b.get())
    world.network.slow = {script}
    if script == "void":
        world.a.cache.invalidate("a")
    else:
        world.a.cache.clear()
    world.network.lose_exchanges()
    world.network.slow.clear()
    loads = world.a.link.owner
    loads.epoch_is(loads.epoch, loads.epoch)
    await settle()
    assert world.b.cache.peek("a") is None
    assert await world.a.cache.settled()


async def test_a_clear_is_sent_again_whose_server_died_before_its_message_came(
    world: World,
) -> None:
    """Also if the server comes back, with nothing, when no value of that time is left."""
    await world.both_up()
    world.network.deaf = True
    world.a.cache.clear()
    await settle()
    for process in (world.a, world.b):
        process.link.cut()
    world.network.lose_messages()
    world.network.deaf = False
    world.network.texts.clear()
    world.clock.advance(POLICY.ttl + 1)
    for process in (world.a, world.b):
        await process.link.connect()
    await settle()
    await world.hold(world.a, "v")
    assert await done(world.b.get()) == "v", "it shares again"
    assert await world.a.cache.settled()


async def test_settled_does_not_wait_for_invalidations_that_were_made_later(
    world: World,
) -> None:
    await world.both_up()
    world.network.late = {"void"}
    world.a.cache.invalidate("a")
    settled = asyncio.create_task(world.a.cache.settled())
    await settle()
    world.network.reply_now()
    world.network.late = {"void"}
    world.a.cache.invalidate("b")
    assert await done(settled)
    world.network.reply_now()
    await settle()


def test_an_invalidation_while_no_loop_runs_is_sent_by_the_next_load() -> None:
    loop = asyncio.new_event_loop()
    run = loop.run_until_complete
    world = World()
    run(world.hold(world.a, "old"))
    assert run(world.b.cache.get("a")) == "old"
    world.a.cache.invalidate("a")
    run(world.hold(world.a, "new"))
    assert run(world.b.cache.get("a")) == "new"
    run(world.close())
    loop.close()


async def test_a_stale_value_that_sizeof_refuses_costs_no_load_and_no_lease() -> None:
    def sizeof(value: str) -> int:
        if value == "old":
            raise ValueError("no size")
        return 1

    world = World(CachePolicy(ttl=30, stale_if_error=300, max_bytes=100), sizeof=sizeof)
    await world.both_up()
    task = world.a.get()
    await settle()
    world.a.loads[-1].set_result("old")
    assert isinstance(await error_of(task), ValueError)
    world.clock.advance(31)
    task = world.a.get()
    await settle()
    world.a.loads[-1].set_result("new")
    assert await done(task) == "new"
    assert await done(world.b.get()) == "new"
    await world.close()


async def test_no_stale_value_comes_back_that_an_invalidation_has_overtaken() -> None:
    world = World(CachePolicy(ttl=30, stale_if_error=300))
    await world.both_up()
    await world.hold(world.a, "old")
    world.clock.advance(31)
    world.network.late = {"take"}
    before = world.b.get()
    await settle()
    world.b.cache.invalidate("a")
    world.network.reply_now()
    await settle()
    after = world.b.get()
    await settle()
    for load in world.b.loads:
        load.set_exception(WolfConnectionError("down"))
    await error_of(before)
    assert isinstance(await error_of(after), WolfConnectionError)
    await world.close()


async def test_an_invalidation_while_the_server_is_away_is_sent_when_it_is_back(
    world: World,
) -> None:
    await world.both_up()
    await world.hold(world.a, "old")
    await done(world.b.get())
    world.a.link.cut()
    world.a.cache.invalidate("a")
    task = world.a.get()
    await settle()
    world.a.loads[-1].set_result("new")
    assert await done(task) == "new"
    await world.a.link.connect()
    await settle()
    assert world.b.cache.peek("a") is None
    assert await world.a.cache.settled()


async def test_a_distrusted_value_still_stands_in_for_a_load_that_fails() -> None:
    world = World(CachePolicy(ttl=30, stale_if_error=60))
    await world.hold(world.a, "old")
    world.a.link.cut()
    await world.a.link.connect()
    task = world.a.get()
    await settle()
    # the value still stands in the server, and is as good as it was
    assert await done(task) == "old"
    world.a.link.cut()
    await world.a.cache.distrust()
    task = world.a.get()
    await settle()
    world.a.loads[-1].set_exception(WolfConnectionError("down"))
    assert await done(task) == "old"
    await world.close()


# --- failures -------------------------------------------------------------------------------------


async def test_a_failure_is_told_in_all_processes_and_costs_one_load(world: World) -> None:
    tasks = [process.get() for process in (world.a, world.b, world.b)]
    await settle()
    world.a.loads[0].set_exception(WolfConnectionError("down"))
    errors = [await error_of(task) for task in tasks]
    assert [(type(error), str(error)) for error in errors] == [(WolfConnectionError, "down")] * 3
    assert len({id(error) for error in errors}) == 3
    assert len(world.loads) == 1


@pytest.mark.parametrize(
    "error",
    [
        WolfAPIError("no", code=10**30),
        WolfAPIError("no", code=-(10**30)),
        WolfConnectionError("no \udcff"),
        WolfServerError("no", request_id="\udcff"),
    ],
    ids=repr,
)
async def test_a_failure_is_told_whatever_the_server_has_put_into_it(
    world: World, error: WolfError
) -> None:
    tasks = [process.get() for process in (world.a, world.b)]
    await settle()
    world.a.loads[0].set_exception(error)
    told = [await error_of(task) for task in tasks]
    assert [type(each) for each in told] == [type(error)] * 2
    assert str(told[0]) == str(error)
    assert len(world.loads) == 1


async def test_a_failure_of_no_text_is_told_too(world: World) -> None:
    tasks = [process.get() for process in (world.a, world.b)]
    await settle()
    world.a.loads[0].set_exception(ValueError("no \udcff"))
    told = [await error_of(task) for task in tasks]
    assert [type(each) for each in told] == [ValueError, WolfError]
    assert len(world.loads) == 1


async def test_a_failure_is_remembered_across_processes() -> None:
    world = World(CachePolicy(ttl=30, error_ttl=5))
    task = world.a.get()
    await settle()
    world.a.loads[0].set_exception(Refused("no"))
    await error_of(task)
    world.clock.advance(4)
    assert "no" in str(await error_of(world.b.get()))
    world.clock.advance(2)
    task = world.b.get()
    await settle()
    assert len(world.b.loads) == 1, "a failure heard of late is not remembered for longer"
    world.b.loads[0].set_result("v")
    assert await done(task) == "v"
    await world.close()


async def test_a_process_without_a_copy_gets_the_shared_one_as_its_stand_in() -> None:
    world = World(CachePolicy(ttl=30, stale_if_error=300, refresh_backoff=2))
    await world.hold(world.a, "old")
    world.clock.advance(60)
    task = world.b.get()
    await settle()
    world.b.loads[0].set_exception(WolfConnectionError("down"))
    assert await done(task) == "old"
    # within the back-off, nobody asks the upstream
    assert await done(world.a.get()) == "old"
    assert world.a.loads[1:] == []
    world.clock.advance(2.1)
    task = world.a.get()
    await settle()
    assert len(world.a.loads) == 2
    world.a.loads[1].set_result("new")
    assert await done(task) == "new"
    await world.close()


async def test_who_comes_after_the_shared_stale_value_is_there_does_not_wait_for_the_load() -> None:
    world = World(CachePolicy(ttl=30, stale_while_revalidate=300))
    await world.hold(world.a, "old")
    world.clock.advance(60)
    first = world.b.get()
    await settle()
    assert world.b.cache.joinable("a") is None
    assert await done(world.b.get()) == "old"
    world.b.loads[0].set_result("new")
    assert await done(first) == "new"
    await world.close()


async def test_who_comes_in_a_back_off_gets_the_shared_stale_value_and_asks_nobody() -> None:
    world = World(CachePolicy(ttl=30, stale_if_error=300, refresh_backoff=5))
    await world.hold(world.a, "old")
    world.clock.advance(60)
    task = world.a.get()
    await settle()
    world.a.loads[-1].set_exception(WolfConnectionError("down"))
    assert await done(task) == "old"
    world.clock.advance(4)
    assert await done(world.b.get()) == "old"
    assert world.b.loads == []
    await world.close()


async def test_a_no_drops_the_answer_everywhere() -> None:
    world = World(CachePolicy(ttl=30, stale_if_error=300))
    await world.hold(world.a, "old")
    await done(world.b.get())
    world.clock.advance(31)
    task = world.a.get()
    await settle()
    world.a.loads[-1].set_exception(Refused("no"))
    assert isinstance(await error_of(task), WolfError)
    task = world.b.get()
    await settle()
    world.b.loads[0].set_exception(WolfConnectionError("down"))
    assert isinstance(await error_of(task), WolfConnectionError), "nothing stands in any more"
    await world.close()


async def test_a_load_that_sent_nothing_is_given_back_and_tells_nobody(world: World) -> None:
    here, there = world.a.get(), world.b.get()
    await settle()
    world.a.loads[0].set_exception(WolfClosedError("closing"))
    await error_of(here)
    await settle()
    world.b.loads[0].set_result("v")
    assert await done(there) == "v"


# --- leaving, dying, and a server that is away ----------------------------------------------------


async def test_a_holder_that_leaves_costs_the_others_one_round_trip(world: World) -> None:
    here, there = world.a.get(), world.b.get()
    await settle()
    here.cancel()
    await settle()
    world.b.loads[0].set_result("v")
    assert await done(there) == "v"


async def test_a_grant_whose_caller_has_left_is_given_back(world: World) -> None:
    await world.both_up()
    world.network.late = {"take"}
    here = world.a.get()
    await settle()
    here.cancel()
    await settle()
    world.network.reply_now()
    await settle()
    task = world.b.get()
    await settle()
    world.b.loads[0].set_result("v")
    assert await done(task) == "v"


async def test_a_grant_whose_reply_got_lost_is_given_back(world: World) -> None:
    """As by a loop that stood still for too long."""
    await world.both_up()
    world.network.late = {"take"}
    task = world.a.get()
    await settle()
    world.network.lose_exchanges()
    world.network.late.clear()
    await settle()
    other = world.b.get()
    await settle()
    assert len(world.b.loads) == 1, "it waits for nobody"
    for process, call in ((world.a, task), (world.b, other)):
        process.loads[-1].set_result("v")
        assert await done(call) == "v"


async def test_a_dead_holder_costs_a_lease_and_its_late_store_is_refused(world: World) -> None:
    await world.both_up()
    here = world.a.get()
    await settle()
    world.clock.advance(LEASE + 0.1)  # by its own clock it renews nothing: it stands still
    there = world.b.get()
    await settle()
    world.b.loads[0].set_result("new")
    assert await done(there) == "new"
    world.a.loads[0].set_result("late")
    assert await done(here) == "late"
    assert world.a.cache.stats().shared_stores_refused == 1
    assert await done(world.a.get()) == "new"


async def test_who_waits_loads_at_once_when_the_server_goes_away(world: World) -> None:
    here, there = world.a.get(), world.b.get()
    await settle()
    world.b.link.cut()
    await settle()
    world.b.loads[0].set_result("mine")
    assert await done(there) == "mine"
    world.a.loads[0].set_result("v")
    assert await done(here) == "v"


class Caches:
    """Two caches of one process; each one's loader asks the other one."""

    def __init__(self, network: FakeNetwork) -> None:
        self.one = self._cache(network, lambda key: self.two.get(key.replace("one", "two")))
        self.two = self._cache(network, lambda key: self.one.get(key.replace("two", "one")))

    def _cache(
        self, network: FakeNetwork, ask: Callable[[str], Coroutine[Any, Any, str]]
    ) -> LoadingCache[str, str]:
        async def load(key: str) -> str:
            await asyncio.sleep(0.1)
            return await ask(key)

        clock = asyncio.get_running_loop().time
        tier: Any = FakeTier(network)
        return LoadingCache(load, clock=clock, shared=tier, codec=TextCodec())


def test_a_circle_of_loads_through_two_processes_ends_and_says_what_it_is() -> None:
    async def main() -> None:
        network = FakeNetwork(asyncio.get_running_loop().time)
        first, second = Caches(network), Caches(network)
        async with asyncio.timeout(20 * LEASE):
            errors = await asyncio.gather(
                first.one.get("one"), second.two.get("two"), return_exceptions=True
            )
        assert [type(error) for error in errors] == [WolfConfigError] * 2
        assert "wait for itself" in str(errors[0])
        for cache in (first.one, first.two, second.one, second.two):
            await cache.aclose()

    virtual_time.run(main())


class SlowPair:
    """Two processes in which a load takes so many seconds."""

    def __init__(self, seconds: float) -> None:
        clock = asyncio.get_running_loop().time
        self.network = FakeNetwork(clock)
        self.loads: list[str] = []
        self.tiers: list[Any] = [FakeTier(self.network) for _ in range(2)]

        async def load(key: str) -> str:
            self.loads.append(key)
            await asyncio.sleep(seconds)
            return "v"

        policy = CachePolicy(ttl=1000)
        self.caches: list[LoadingCache[str, str]] = [
            LoadingCache(load, policy=policy, clock=clock, shared=tier, codec=TextCodec())
            for tier in self.tiers
        ]

    async def close(self) -> None:
        for cache in self.caches:
            await cache.aclose()


def test_a_load_that_holds_up_no_other_waits_for_as_long_as_it_takes() -> None:
    async def main() -> None:
        pair = SlowPair(50 * LEASE)
        assert await asyncio.gather(*(cache.get("a") for cache in pair.caches)) == ["v", "v"]
        assert pair.loads == ["a"]
        await pair.close()

    virtual_time.run(main())


def test_a_renewal_that_gets_lost_lets_no_lease_end() -> None:
    async def main() -> None:
        pair = SlowPair(4 * LEASE)
        calls = [asyncio.create_task(cache.get("a")) for cache in pair.caches]
        await asyncio.sleep(LEASE / 6)
        (link,) = pair.tiers[0].links
        link.timeout = 0.25
        pair.network.slow = {"renew"}
        await asyncio.sleep(LEASE / 3)
        assert not link.up, "the first one was sent, and is late"
        pair.network.lose_exchanges()
        pair.network.slow.clear()
        link.recover()
        assert await asyncio.gather(*calls) == ["v", "v"]
        assert pair.loads == ["a"]
        await pair.close()

    virtual_time.run(main())


async def test_a_value_that_cannot_be_decoded_is_replaced(world: World) -> None:
    await world.hold(world.a, "v")
    for rubbish in (b"\x01no zstd", b"\x00\xff\xff", b"", b"\x07"):
        for fields in world.network.hashes.values():
            fields["v"] = rubbish
        task = world.b.get()
        await settle()
        world.b.loads[-1].set_result("new")
        assert await done(task) == "new"
        await world.b.cache.distrust()


async def test_a_value_whose_jitter_is_none_is_replaced() -> None:
    world = World(CachePolicy(ttl=30, stale_if_error=60))
    await world.hold(world.a, "v")
    for age in (0, 31):  # fresh, and stale
        world.clock.advance(age)
        for fields in world.network.hashes.values():
            fields["r"] = b"rubbish"
        task = world.b.get()
        await settle()
        world.b.loads[-1].set_result("new")
        assert await done(task) == "new"
        world.b.cache.forget_all()
    await world.close()


async def test_a_lease_whose_token_is_none_is_waited_for(world: World) -> None:
    first = world.a.get()
    await settle()
    for fields in world.network.hashes.values():
        fields["l"] = b"\xff"
    task = world.b.get()
    await settle()
    world.clock.advance(4)
    world.a.loads[0].set_result("v")
    assert await done(first) == "v"
    world.b.loads[0].set_result("new")
    assert await done(task) == "new"


async def test_a_failure_that_cannot_be_decoded_is_replaced() -> None:
    world = World(CachePolicy(ttl=30, error_ttl=30))
    task = world.a.get()
    await settle()
    world.a.loads[0].set_exception(Refused("no"))
    await error_of(task)
    for fields in world.network.hashes.values():
        fields["f"] = b"rubbish"
    task = world.b.get()
    await settle()
    world.b.loads[-1].set_result("new")
    assert await done(task) == "new"
    await world.close()


async def test_messages_that_are_none_are_passed_over(world: World) -> None:
    await world.both_up()
    await world.hold(world.a, "v")
    for rubbish in (
        b"",
        b"q",
        b"i",
        b"ixxxxxxxx",
        b"ixxxxxxxx\x80",  # a map, which is no key
        b"xxxxxxxxx\x80",
        b"dxxxxxxxx\xff",
        b"txxxxxxxxsoon",
        b"txxxxxxxx" + b"9" * 400,
        b"ixxxxxxxx" + b"\x91" * 100_000,
        b"c\xff" * 9,
    ):
        world.a.link.owner.hear(rubbish)
    assert await done(world.a.get()) == "v"


# --- turns to create ------------------------------------------------------------------------------


class Turns:
    """The turns of one process."""

    def __init__(self, process: Process) -> None:
        self.turns = SharedTurns(process.tier.loads, LocalTurns(), 10.0)


async def test_one_process_at_a_time_has_the_turn_for_an_account(world: World) -> None:
    await world.both_up()
    ours, theirs = Turns(world.a).turns.turn("u1"), Turns(world.b).turns.turn("u1")
    other = Turns(world.b).turns.turn("u2")
    await ours.acquire()
    await other.acquire()
    waiting = asyncio.create_task(theirs.acquire())
    await settle()
    assert not waiting.done()
    assert await ours.still_mine()
    await ours.release()
    await done(waiting)
    assert not await ours.still_mine()
    assert await theirs.still_mine()
    await theirs.release()
    await other.release()


async def test_a_turn_whose_process_stands_still_goes_to_the_next(world: World) -> None:
    await world.both_up()
    ours, theirs = Turns(world.a).turns.turn("u1"), Turns(world.b).turns.turn("u1")
    await ours.acquire()
    world.clock.advance(10.1)
    await done(asyncio.create_task(theirs.acquire()))
    assert not await ours.still_mine()
    await ours.release()
    assert await theirs.still_mine(), "who has lost it gives nothing on"
    await theirs.release()


async def test_who_leaves_the_queue_for_a_turn_leaves_nothing_behind(world: World) -> None:
    await world.both_up()
    turns = Turns(world.a).turns
    world.network.late = {"take"}
    left = turns.turn("u1")
    leaving = asyncio.create_task(left.acquire())
    await settle()
    leaving.cancel()
    await settle()
    await left.release()
    world.network.reply_now()
    await settle()
    theirs = Turns(world.b).turns.turn("u1")
    await done(asyncio.create_task(theirs.acquire()))
    await theirs.release()


async def test_with_the_server_away_turns_hold_in_each_process_and_a_warning_says_so_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.both_up()
    turns = Turns(world.a).turns
    world.a.link.cut()
    first, second = turns.turn("u1"), turns.turn("u1")
    await first.acquire()
    assert await first.still_mine()
    waiting = asyncio.create_task(second.acquire())
    await settle()
    assert not waiting.done()
    await first.release()
    await done(waiting)
    await second.release()
    told = [record.getMessage() for record in caplog.records]
    assert told.count("the shared tier is away: others may promise the same lines") == 1

"""How old an answer may be, for whom, and what happens behind it."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import random
import time
from typing import Any

import pytest
from upstream import (
    Refused,
    Unwell,
    bench,
    cancel,
    error_of,
    is_unwell,
    outcome,
    settle,
    soon,
    values,
)

from wolf_async.cache import Loaded, LoadingCache
from wolf_async.cache import loading as cache_module
from wolf_async.cache.inflight import current_load
from wolf_async.errors import WolfDecodeError
from wolf_async.policy import CachePolicy
from wolf_async.testing.clock import FakeClock

# --- fresh
# ------------------------------------------------------------------------------------------


async def test_an_answer_is_fresh_up_to_its_ttl_and_no_longer() -> None:
    b = bench(ttl=10)
    await b.hold()
    for _ in range(10):
        b.clock.advance(1)
        assert await b.at_once() == "a#1"
    assert b.cache.peek("a") == "a#1"
    b.clock.advance(0.125)
    assert b.cache.peek("a") is None
    caller = await b.waiting()
    b.calls[1].answer()
    await settle()
    assert outcome(caller) == "a#2"
    assert b.cache.stats().hits == 10
    b.assert_balanced(values=2)


async def test_a_fresh_answer_is_returned_without_suspending() -> None:
    b = bench()
    await b.hold()
    for call in (b.cache.get("a"), b.cache.get("a", max_age=5)):
        with pytest.raises(StopIteration) as stop:
            call.send(None)
        assert stop.value.value == "a#1"


async def test_a_stale_answer_is_returned_without_suspending() -> None:
    b = bench(ttl=10, stale_while_revalidate=10)
    await b.hold()
    b.clock.advance(11)
    call = b.cache.get("a")
    with pytest.raises(StopIteration) as stop:
        call.send(None)
    assert stop.value.value == "a#1"
    await settle()
    b.calls[1].answer()
    await settle()


async def test_age_counts_from_when_the_load_was_sent() -> None:
    b = bench(ttl=10)
    caller = await b.waiting()
    b.clock.advance(4)
    b.calls[0].answer()
    await settle()
    assert outcome(caller) == "a#1"
    b.clock.advance(6)
    assert b.cache.peek("a") == "a#1"
    assert b.cache.peek("a", max_age=10) == "a#1"
    assert b.cache.peek("a", max_age=9.5) is None
    b.clock.advance(0.125)
    assert b.cache.peek("a") is None


async def test_a_loader_that_tried_twice_says_when_the_answering_attempt_was_sent() -> None:
    b = bench(ttl=10)
    caller = await b.waiting()
    b.clock.advance(5)
    again = b.clock()
    b.clock.advance(1)
    b.calls[0].answer(Loaded("late", again))
    await settle()
    assert outcome(caller) == "late"
    b.clock.advance(9)
    assert b.cache.peek("a", max_age=10) == "late"
    b.clock.advance(0.125)
    assert b.cache.peek("a") is None


async def test_a_load_slower_than_the_ttl_is_made_once_and_answers_all_who_waited() -> None:
    """Callers get an answer that was too old on arrival, and the next call loads anew."""
    b = bench(ttl=1)
    callers = [await b.waiting()]
    for _ in range(4):
        b.clock.advance(1)
        callers.append(await b.waiting())
    b.calls[0].answer()
    await settle()
    assert values(callers) == ["a#1"] * 5
    assert len(b.calls) == 1
    assert b.cache.peek("a") is None
    later = await b.waiting()
    b.calls[1].answer()
    await settle()
    assert outcome(later) == "a#2"


async def test_refreshes_slower_than_their_interval_never_pile_up() -> None:
    """Readers get an answer at once, one refresh runs at a time, and each brings a later one."""
    b = bench(ttl=1, stale_while_revalidate=10)
    await b.hold()
    seen: list[str] = []
    for tick in range(1, 61):
        b.clock.advance(1)
        seen.append(await b.at_once())
        assert b.cache.stats().in_flight <= 1
        if tick % 4 == 0:  # a refresh takes some four seconds
            b.calls[-1].answer()
            await settle()
    assert len(b.calls) == 1 + 60 // 4
    assert len(set(seen)) == len(b.calls) - 1
    assert seen == sorted(seen, key=lambda value: int(value[2:]))
    await settle()


async def test_the_wall_clock_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting the wall clock an hour ahead makes no answer older."""
    wall, steady = FakeClock(1e9), FakeClock(50.0)
    spec = importlib.util.spec_from_file_location("cache_with_other_clocks", cache_module.__file__)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", steady)
        patch.setattr("wolf_async.clock.system_clock", steady)
        for name in ("time", "perf_counter", "process_time"):
            patch.setattr(time, name, wall)
        spec.loader.exec_module(module)

    calls: list[str] = []

    async def load(key: str) -> int:
        calls.append(key)
        return len(calls)

    cache = module.LoadingCache(load)
    assert await soon(cache.get("a")) == 1
    wall.advance(3600)
    assert await soon(cache.get("a")) == 1
    steady.advance(30)
    assert await soon(cache.get("a")) == 1
    steady.advance(1)
    assert await soon(cache.get("a")) == 2


# --- stale while revalidate
# ----------------------------------------------------------------------------------


async def test_a_stale_answer_is_returned_at_once_and_refreshed_behind_by_one_load() -> None:
    b = bench(ttl=10, stale_while_revalidate=10)
    await b.hold()
    b.clock.advance(20)
    assert [await b.at_once() for _ in range(5)] == ["a#1"] * 5
    assert len(b.calls) == 2
    b.calls[1].answer()
    await settle()
    assert await b.at_once() == "a#2"
    stats = b.cache.stats()
    assert (stats.hits, stats.stale_hits, stats.refreshes, stats.loads) == (1, 5, 1, 2)
    b.assert_balanced(values=2)


async def test_past_its_window_a_caller_waits() -> None:
    b = bench(ttl=10, stale_while_revalidate=10)
    await b.hold()
    b.clock.advance(20.125)
    assert b.cache.peek("a") is None
    caller = await b.waiting()
    b.calls[1].answer()
    await settle()
    assert outcome(caller) == "a#2"


async def test_past_the_window_a_caller_joins_the_refresh_that_began_within_it() -> None:
    b = bench(ttl=10, stale_while_revalidate=10)
    await b.hold()
    b.clock.advance(15)
    await b.at_once()
    b.clock.advance(10)
    caller = await b.waiting()
    assert len(b.calls) == 2
    b.calls[1].answer()
    await settle()
    assert outcome(caller) == "a#2"


async def test_a_stale_answer_is_not_refreshed_while_a_load_is_under_way_anyhow() -> None:
    b = bench(ttl=10, stale_while_revalidate=10)
    await b.hold()
    b.clock.advance(9)
    writer = await b.waiting(max_age=0)
    b.clock.advance(5)
    assert await b.at_once() == "a#1"
    assert len(b.calls) == 2
    b.calls[1].answer()
    await settle()
    assert outcome(writer) == "a#2"
    assert b.cache.stats().refreshes == 0


async def test_a_failed_refresh_is_not_seen_by_callers_within_the_window() -> None:
    b = bench(ttl=10, stale_while_revalidate=10)
    await b.hold()
    b.clock.advance(15)
    await b.at_once()
    b.calls[1].fail(Unwell())
    await settle()
    assert await b.at_once() == "a#1"
    b.clock.advance(5)
    assert b.cache.peek("a") == "a#1"
    b.clock.advance(0.125)
    assert b.cache.peek("a") is None


async def test_while_revalidating_alone_does_not_stand_in_for_a_failure_past_its_window() -> None:
    b = bench(ttl=10, stale_while_revalidate=10)
    await b.hold()
    b.clock.advance(19)
    assert await b.at_once() == "a#1"
    b.clock.advance(2)
    caller = await b.waiting()
    b.calls[1].fail(Unwell())
    await settle()
    assert isinstance(error_of(caller), Unwell)


# --- stale if error
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("age", "served"), [(10.125, True), (30, True), (30.125, False)])
async def test_up_to_its_window_a_stale_answer_stands_in_for_an_unwell_upstream(
    age: float, served: bool
) -> None:
    b = bench(ttl=10, stale_if_error=20)
    await b.hold()
    b.clock.advance(age)
    callers = [await b.waiting() for _ in range(3)]
    b.calls[1].fail(Unwell())
    await settle()
    if served:
        assert values(callers) == ["a#1"] * 3
    else:
        assert all(isinstance(error_of(caller), Unwell) for caller in callers)
    b.assert_balanced(values=1)


async def test_a_load_that_fails_after_the_window_raises_although_it_began_within_it() -> None:
    b = bench(ttl=10, stale_if_error=20)
    await b.hold()
    b.clock.advance(25)
    caller = await b.waiting()
    b.clock.advance(6)
    b.calls[1].fail(Unwell())
    await settle()
    assert isinstance(error_of(caller), Unwell)
    assert b.cache.stats().entries == 0


async def test_a_load_that_succeeds_within_the_window_answers_those_who_waited() -> None:
    b = bench(ttl=10, stale_if_error=20)
    await b.hold()
    b.clock.advance(15)
    caller = await b.waiting()
    b.calls[1].answer()
    await settle()
    assert outcome(caller) == "a#2"
    assert await b.at_once() == "a#2"


async def test_the_two_windows_both_begin_where_the_ttl_ends() -> None:
    b = bench(ttl=10, stale_while_revalidate=5, stale_if_error=20)
    await b.hold()
    b.clock.advance(15.5)
    caller = await b.waiting()
    b.calls[1].fail(Unwell())
    await settle()
    assert outcome(caller) == "a#1"
    b.clock.advance(14.75)  # age 30.25
    caller = await b.waiting()
    b.calls[2].fail(Unwell())
    await settle()
    assert isinstance(error_of(caller), Unwell)


@pytest.mark.parametrize("window", ["stale_while_revalidate", "stale_if_error"])
@pytest.mark.parametrize("age", [11.0, 5.0])
async def test_a_refusal_is_raised_and_drops_the_answer(window: str, age: float) -> None:
    """A stale answer goes, and so does one too old for this caller's ``max_age``."""
    b = bench(ttl=10, is_unwell=is_unwell, **{window: 100})
    await b.hold()
    b.clock.advance(age)
    caller = await b.waiting(max_age=1)
    b.calls[1].fail(Refused())
    await settle()
    assert isinstance(error_of(caller), Refused)
    assert b.cache.peek("a") is None
    assert b.cache.held("a") is None
    later = await b.waiting()
    b.calls[2].fail(Unwell())
    await settle()
    assert isinstance(error_of(later), Unwell)


async def test_a_refused_refresh_drops_the_answer() -> None:
    """Once the server has said no, nobody is served the answer from before."""
    b = bench(ttl=10, is_unwell=is_unwell, stale_while_revalidate=100)
    await b.hold()
    b.clock.advance(11)
    assert await b.at_once() == "a#1"
    b.calls[1].fail(Refused())
    await settle()
    assert b.cache.peek("a") is None
    assert b.cache.stats().entries == 0


async def test_a_refusal_is_remembered_in_place_of_the_answer() -> None:
    """With ``error_ttl`` later callers get the refusal, and the upstream is left alone."""
    b = bench(ttl=10, is_unwell=is_unwell, stale_if_error=100, error_ttl=8)
    await b.hold()
    b.clock.advance(11)
    b.upstream.always = Refused
    for _ in range(3):
        with pytest.raises(Refused):
            await b.at_once()
    assert len(b.calls) == 2


@pytest.mark.parametrize(
    ("policy", "last"), [({"stale_while_revalidate": 20}, 30), ({"stale_if_error": 25}, 35)]
)
async def test_refreshes_that_cannot_be_decoded_do_not_keep_an_answer_alive(
    policy: dict[str, float], last: int
) -> None:
    """Failing to decode makes use of the stale window but does not lengthen it."""
    b = bench(ttl=10, refresh_backoff=0, **policy)
    await b.hold()
    b.upstream.always = WolfDecodeError
    for _ in range(last):
        b.clock.advance(1)
        assert await b.at_once() == "a#1"
    b.clock.advance(0.5)
    with pytest.raises(WolfDecodeError):
        await b.at_once()
    assert b.cache.held("a") is None
    b.assert_balanced(values=1)


# --- back-off
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", ["stale_while_revalidate", "stale_if_error"])
async def test_in_an_outage_fifty_reads_get_the_stale_answer_and_few_of_them_reach_the_upstream(
    window: str,
) -> None:
    """The back-off doubles: the upstream is tried at 0, 1, 3, 7, 15 and 31 seconds."""
    b = bench(ttl=10, **{window: 1000})
    await b.hold()
    b.clock.advance(11)
    b.upstream.always = Unwell
    for _ in range(50):
        assert await b.at_once() == "a#1"
        b.clock.advance(1)
    assert len(b.calls) == 1 + 6
    b.assert_balanced(values=1)


@pytest.mark.parametrize("window", ["stale_while_revalidate", "stale_if_error"])
async def test_in_an_outage_fifty_reads_at_once_make_one_attempt(window: str) -> None:
    """A crowd of readers shares one attempt and gets the stale answer when it fails."""
    b = bench(ttl=10, **{window: 1000})
    await b.hold()
    b.clock.advance(11)
    b.upstream.always = Unwell
    readers = [b.get() for _ in range(50)]
    await settle()
    readers += [b.get() for _ in range(50)]
    await settle()
    assert values(readers) == ["a#1"] * 100
    assert len(b.calls) == 2


async def test_during_the_back_off_a_stale_answer_is_returned_without_suspending() -> None:
    """Only ``stale_if_error`` covers the answer here, and yet no reader waits for it."""
    b = bench(ttl=10, stale_if_error=1000)
    await b.hold()
    b.clock.advance(11)
    b.upstream.always = Unwell
    await b.at_once()
    with pytest.raises(StopIteration) as stop:
        b.cache.get("a").send(None)
    assert stop.value.value == "a#1"
    assert b.cache.stats().stale_hits == 1


async def attempts(b: Any, until: float) -> list[float]:
    """Pauses between upstream attempts while somebody reads every quarter of a second."""
    times: list[float] = []
    begin = b.clock()
    while b.clock() - begin <= until:
        before = len(b.calls)
        await b.at_once()
        times += [b.clock()] * (len(b.calls) - before)
        b.clock.advance(0.25)
    return [later - earlier for earlier, later in itertools.pairwise(times)]


@pytest.mark.parametrize("window", ["stale_while_revalidate", "stale_if_error"])
async def test_the_pause_after_failed_refreshes_doubles_up_to_a_minute(window: str) -> None:
    b = bench(ttl=10, refresh_backoff=2, **{window: 1000})
    await b.hold()
    b.clock.advance(11)
    b.upstream.always = Unwell
    assert await attempts(b, until=250) == [2, 4, 8, 16, 32, 60, 60, 60]


async def test_a_success_ends_the_back_off() -> None:
    b = bench(ttl=1, stale_while_revalidate=1000)
    await b.hold()
    b.clock.advance(2)
    b.upstream.always = Unwell
    assert await attempts(b, until=8) == [1, 2, 4]
    b.upstream.always = ...
    b.clock.advance(60)
    await b.at_once()
    assert b.cache.peek("a", max_age=1) is not None
    b.clock.advance(2)
    b.upstream.always = Unwell
    assert await attempts(b, until=8) == [1, 2, 4]


@pytest.mark.parametrize("window", ["stale_while_revalidate", "stale_if_error"])
async def test_a_back_off_does_not_keep_an_answer_alive_beyond_its_window(window: str) -> None:
    """When the window is over the upstream is asked again, however long the pause would last."""
    b = bench(ttl=10, refresh_backoff=1000, **{window: 20})
    await b.hold()
    b.clock.advance(25)
    b.upstream.always = Unwell
    assert await b.at_once() == "a#1"
    b.clock.advance(5)
    assert await b.at_once() == "a#1"
    assert len(b.calls) == 2
    b.clock.advance(0.125)
    with pytest.raises(Unwell):
        await b.at_once()
    assert len(b.calls) == 3


async def test_without_a_back_off_every_stale_read_may_refresh() -> None:
    b = bench(ttl=10, stale_while_revalidate=1000, refresh_backoff=0)
    await b.hold()
    b.clock.advance(11)
    b.upstream.always = Unwell
    for count in range(2, 7):
        assert await b.at_once() == "a#1"
        assert len(b.calls) == count


async def test_the_back_off_is_not_for_callers_with_max_age() -> None:
    b = bench(ttl=10, stale_while_revalidate=1000, stale_if_error=1000, refresh_backoff=50)
    await b.hold()
    b.clock.advance(11)
    b.upstream.always = Unwell
    await b.at_once()
    b.upstream.always = ...
    assert await b.at_once(max_age=5) == "a#3"
    assert await b.at_once() == "a#3"


async def test_each_key_backs_off_by_itself() -> None:
    b = bench(ttl=10, stale_while_revalidate=1000)
    b.upstream.always = ...
    await b.at_once("a")
    await b.at_once("b")
    b.clock.advance(11)
    b.upstream.always = Unwell
    await b.at_once("a")
    b.upstream.always = ...
    await b.at_once("b")
    assert (await b.at_once("a"), await b.at_once("b")) == ("a#1", "b#2")


# --- max_age
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fresh", [True, False])
async def test_max_age_0_asks_the_upstream_and_such_callers_share_one_load(fresh: bool) -> None:
    """An answer loaded in the very same tick of the clock is too old for them."""
    b = bench()
    if fresh:
        await b.hold()
    callers = [b.get(max_age=0) for _ in range(20)]
    await settle()
    assert len(b.calls) == 1 + fresh
    b.calls[-1].answer("now")
    await settle()
    assert values(callers) == ["now"] * 20
    b.assert_balanced(values=1 + fresh)


async def test_max_age_0_never_joins_a_load_that_was_sent_before() -> None:
    """A crowd of such callers waits for the next load, and one load runs at a time."""
    b = bench()
    first = await b.waiting()
    crowd = [await b.waiting(max_age=0) for _ in range(10)]
    assert len(b.calls) == 1
    b.calls[0].answer()
    await settle()
    assert outcome(first) == "a#1"
    assert not any(caller.done() for caller in crowd)
    assert len(b.calls) == 2
    second_crowd = [await b.waiting(max_age=0) for _ in range(10)]
    assert len(b.calls) == 2
    b.calls[1].answer()
    await settle()
    assert values(crowd) == ["a#2"] * 10
    b.calls[2].answer()
    await settle()
    assert values(second_crowd) == ["a#3"] * 10
    assert len(b.calls) == 3
    b.assert_balanced(values=3)


async def test_max_age_0_does_not_join_a_load_that_has_ended_but_was_not_told_of_yet() -> None:
    """At whatever point the load is as it ends, its answer is not for a later caller."""
    for turns in range(6):
        b = bench()
        first = await b.waiting()
        b.calls[0].answer("before")
        for _ in range(turns):
            await asyncio.sleep(0)
        writer = b.get(max_age=0)
        await settle()
        assert len(b.calls) == 2
        b.calls[1].answer("after")
        await settle()
        assert values([first, writer]) == ["before", "after"]


async def test_max_age_0_joins_no_background_refresh_either() -> None:
    """An answer that was on its way before the call may lack the caller's own change."""
    b = bench(ttl=10, stale_while_revalidate=100)
    await b.hold()
    b.clock.advance(11)
    await b.at_once()
    writer = await b.waiting(max_age=0)
    b.calls[1].answer()
    await settle()
    b.calls[2].answer()
    await settle()
    assert outcome(writer) == "a#3"
    assert len(b.calls) == 3


async def test_a_load_that_was_asked_for_but_not_sent_yet_may_be_joined_by_all() -> None:
    b = bench()
    callers = [b.get(), b.get(max_age=0), b.get(max_age=5)]
    await settle()
    assert len(b.calls) == 1
    b.calls[0].answer()
    await settle()
    assert values(callers) == ["a#1"] * 3


async def test_a_younger_answer_than_what_is_held_is_loaded_beside_the_default_readers() -> None:
    """One caller's wish for a younger answer neither hides nor drops the one held."""
    b = bench(ttl=60)
    await b.hold()
    b.clock.advance(10)
    caller = await b.waiting(max_age=5)
    assert await b.at_once() == "a#1"
    assert await b.at_once(max_age=10) == "a#1"
    b.calls[1].answer()
    await settle()
    assert outcome(caller) == "a#2"
    assert await b.at_once() == "a#2"
    assert await b.at_once(max_age=5) == "a#2"
    assert len(b.calls) == 2


async def test_when_a_younger_answer_cannot_be_loaded_default_readers_keep_the_old_one() -> None:
    """A load that fails for one caller takes nothing from the others."""
    b = bench(ttl=60)
    await b.hold()
    b.clock.advance(10)
    b.upstream.always = Unwell
    with pytest.raises(Unwell):
        await b.at_once(max_age=5)
    assert await b.at_once() == "a#1"


@pytest.mark.parametrize(("age", "hit"), [(5, True), (5.125, False)])
async def test_an_answer_of_just_that_age_is_young_enough(age: float, hit: bool) -> None:
    b = bench(ttl=60)
    await b.hold()
    b.clock.advance(age)
    assert b.cache.peek("a", max_age=5) == ("a#1" if hit else None)
    caller = b.get(max_age=5)
    await settle()
    assert caller.done() == hit
    if not hit:
        await cancel(caller)


@pytest.mark.parametrize(("age", "joins"), [(5, True), (5.125, False)])
async def test_a_load_sent_just_that_long_ago_may_be_joined(age: float, joins: bool) -> None:
    b = bench()
    first = await b.waiting()
    b.clock.advance(age)
    second = await b.waiting(max_age=5)
    b.calls[0].answer()
    await settle()
    assert outcome(first) == "a#1"
    assert second.done() == joins
    if not joins:
        b.calls[1].answer()
        await settle()
    assert outcome(second) == ("a#1" if joins else "a#2")


async def test_age_is_measured_when_the_call_begins_however_long_it_takes() -> None:
    b = bench(ttl=1)
    first = await b.waiting()
    b.clock.advance(5)
    second = await b.waiting(max_age=5)
    b.clock.advance(3600)
    b.calls[0].answer()
    await settle()
    assert values([first, second]) == ["a#1", "a#1"]
    assert len(b.calls) == 1


async def test_max_age_does_not_make_an_answer_live_longer_than_its_ttl() -> None:
    b = bench(ttl=10)
    await b.hold()
    b.clock.advance(10)
    assert await b.at_once(max_age=float("inf")) == "a#1"
    b.clock.advance(0.125)
    await cancel(await b.waiting(max_age=float("inf")))
    assert len(b.calls) == 2


async def test_the_stale_windows_are_not_for_callers_with_max_age() -> None:
    b = bench(ttl=10, stale_while_revalidate=100, stale_if_error=100)
    await b.hold()
    b.clock.advance(11)
    assert b.cache.peek("a", max_age=50) is None
    demanding = await b.waiting(max_age=50)
    assert await b.at_once() == "a#1"
    b.calls[1].fail(Unwell())
    await settle()
    assert isinstance(error_of(demanding), Unwell)
    assert await b.at_once() == "a#1"


async def test_one_failed_load_is_an_error_for_who_gave_max_age_and_stale_for_others() -> None:
    b = bench(ttl=10, stale_if_error=100)
    await b.hold()
    b.clock.advance(11)
    patient = await b.waiting()
    demanding = await b.waiting(max_age=5)
    b.calls[1].fail(Unwell())
    await settle()
    assert len(b.calls) == 2
    assert outcome(patient) == "a#1"
    assert isinstance(error_of(demanding), Unwell)


async def test_default_callers_join_the_present_load_and_not_the_next() -> None:
    b = bench()
    first = await b.waiting()
    queued = await b.waiting(max_age=0)
    late = await b.waiting()
    b.calls[0].answer()
    await settle()
    assert values([first, late]) == ["a#1", "a#1"]
    assert not queued.done()
    b.calls[1].answer()
    await settle()
    assert outcome(queued) == "a#2"


async def test_the_next_load_starts_also_when_the_present_one_fails_or_cancels_itself() -> None:
    b = bench()
    first = await b.waiting()
    second = await b.waiting(max_age=0)
    b.calls[0].fail(Unwell())
    await settle()
    third = await b.waiting(max_age=0)
    b.calls[1].cancel_itself()
    await settle()
    b.calls[2].answer()
    await settle()
    assert [type(error_of(caller)).__name__ for caller in (first, second)] == [
        "Unwell",
        "WolfConnectionError",
    ]
    assert outcome(third) == "a#3"


async def test_the_next_load_of_one_key_does_not_wait_for_another_key() -> None:
    b = bench()
    callers = [
        await b.waiting("a"),
        await b.waiting("a", max_age=0),
        await b.waiting("b", max_age=0),
    ]
    assert b.upstream.keys == ["a", "b"]
    b.calls[0].answer()
    b.calls[1].answer()
    await settle()
    b.calls[2].answer()
    await settle()
    assert values(callers) == ["a#1", "a#2", "b#1"]


# --- peek
# ------------------------------------------------------------------------------------------


async def test_a_peek_sees_fresh_and_revalidating_answers_and_starts_nothing() -> None:
    b = bench(ttl=10, stale_while_revalidate=10, stale_if_error=100)
    assert b.cache.peek("a") is None
    await b.hold()
    before = b.cache.stats()
    for age, seen, seen_young in ((10, "a#1", "a#1"), (20, "a#1", None), (20.125, None, None)):
        b.clock.advance(1000 + age - b.clock())
        assert b.cache.peek("a") == seen
        assert b.cache.peek("a", max_age=1000) == seen_young
        assert b.cache.peek("a", max_age=0) is None
    await settle()
    assert len(b.calls) == 1
    assert b.cache.stats() == before


async def test_a_peek_during_a_load_sees_what_is_held() -> None:
    b = bench(ttl=10)
    caller = await b.waiting()
    assert b.cache.peek("a") is None
    b.calls[0].answer()
    await settle()
    writer = await b.waiting(max_age=0)
    assert b.cache.peek("a") == "a#1"
    b.calls[1].answer()
    await settle()
    assert values([caller, writer]) == ["a#1", "a#2"]
    assert b.cache.peek("a") == "a#2"


async def test_what_is_held_is_seen_whatever_its_age() -> None:
    b = bench(ttl=10)
    assert b.cache.held("a") is None
    await b.hold()
    b.clock.advance(1000)
    assert b.cache.held("a") == "a#1"
    assert len(b.calls) == 1


# --- jitter
# ------------------------------------------------------------------------------------------


async def test_jitter_spreads_the_end_of_answers_that_were_loaded_together() -> None:
    random.seed(20240616)
    b = bench(ttl=100, jitter=0.25)
    b.upstream.always = ...
    for key in range(200):
        await soon(b.cache.get(key))
    fresh: dict[float, int] = {}
    for age in (75, 87.5, 100, 100.125):
        b.clock.advance(1000 + age - b.clock())
        fresh[age] = sum(b.cache.peek(key) is not None for key in range(200))
    assert fresh[75] == 200
    assert 80 < fresh[87.5] < 120
    assert fresh[100] < 5
    assert fresh[100.125] == 0


async def test_without_jitter_answers_that_were_loaded_together_end_together() -> None:
    b = bench(ttl=100)
    b.upstream.always = ...
    for key in range(50):
        await soon(b.cache.get(key))
    b.clock.advance(100)
    assert all(b.cache.peek(key) for key in range(50))
    b.clock.advance(0.125)
    assert not any(b.cache.peek(key) for key in range(50))


async def test_jitter_moves_the_stale_windows_with_the_end_of_the_ttl() -> None:
    random.seed(1)
    b = bench(ttl=100, jitter=1, stale_while_revalidate=10)
    await b.hold()
    lifetime = 0.0
    while b.cache.peek("a", max_age=1000) is not None:
        b.clock.advance(0.5)
        lifetime += 0.5
    assert 0 < lifetime < 100
    b.clock.advance(9.5)
    assert b.cache.peek("a") == "a#1"
    b.clock.advance(0.5)
    assert b.cache.peek("a") is None


# --- the ends of the scale
# -----------------------------------------------------------------------------------


async def test_an_endless_ttl_keeps_an_answer_for_good() -> None:
    b = bench(ttl=float("inf"))
    await b.hold()
    b.clock.advance(1e9)
    assert await b.at_once() == "a#1"


async def test_a_ttl_of_0_keeps_nothing_once_the_clock_has_moved() -> None:
    b = bench(ttl=0)
    await b.hold()
    b.clock.advance(0.125)
    await cancel(await b.waiting())
    assert len(b.calls) == 2


@pytest.mark.parametrize(("age", "stands_in"), [(30, True), (31, False)])
async def test_an_older_value_of_a_tier_stands_in_for_a_failed_load_within_its_window_alone(
    age: float, stands_in: bool
) -> None:
    """Its callers wait already when it comes, however long it might be refreshed behind."""
    clock = FakeClock()

    async def load(key: str) -> str:
        in_flight = current_load.get()
        assert in_flight is not None
        cache.adopt(in_flight, key, "older", sent_at=clock() - age, jitter=0.0)
        raise Unwell

    policy = CachePolicy(ttl=10, stale_while_revalidate=60, stale_if_error=20)
    cache: LoadingCache[str, str] = LoadingCache(load, policy=policy, clock=clock)
    if stands_in:
        assert await cache.get("a") == "older"
    else:
        with pytest.raises(Unwell):
            await cache.get("a")
    await cache.aclose()

"""How much is held, and how little work it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from upstream import Unwell, bench, settle, soon

from wolf_async.cache.store import MAX_CHANCES, MAX_EVICTIONS, Entry, EntryStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from upstream import Bench


async def fill(b: Bench, keys: range) -> None:
    b.upstream.always = ...
    for key in keys:
        await b.cache.get(key)


def held(b: Bench, keys: range) -> list[int]:
    return [key for key in keys if b.cache.held(key) is not None]


async def test_at_most_max_entries_are_held_and_the_oldest_leave_first() -> None:
    b = bench(max_entries=10)
    for key in range(30):
        await fill(b, range(key, key + 1))
        assert b.cache.stats().entries == min(key + 1, 10)
    assert held(b, range(30)) == list(range(20, 30))
    assert b.cache.stats().evictions == 20


async def test_one_entry_may_be_the_bound() -> None:
    b = bench(max_entries=1)
    await fill(b, range(3))
    assert held(b, range(3)) == [2]


async def test_a_refreshed_answer_crowds_nothing_out() -> None:
    b = bench(max_entries=3)
    await fill(b, range(3))
    b.clock.advance(31)
    await fill(b, range(2, 3))
    assert held(b, range(3)) == [0, 1, 2]
    assert b.cache.stats().evictions == 0


@pytest.mark.parametrize("how", ["hit", "hit with max_age", "stale hit"])
async def test_an_answer_that_was_used_outlives_one_that_was_not(how: str) -> None:
    b = bench(max_entries=3, ttl=10, stale_while_revalidate=1000, refresh_backoff=500)
    await fill(b, range(3))
    if how == "stale hit":
        b.clock.advance(11)
        b.upstream.always = Unwell
    assert await b.at_once(0, max_age=5 if how == "hit with max_age" else None) == "0#1"
    await fill(b, range(3, 4))
    assert held(b, range(4)) == [0, 2, 3]
    await fill(b, range(4, 6))
    assert held(b, range(6)) == [3, 4, 5], "one use is one chance"


async def test_max_bytes_bounds_what_is_held() -> None:
    b = bench(max_bytes=100, sizeof=len)
    for key in range(20):
        await b.hold(key, "x" * 30)
        assert b.cache.stats().entries == min(key + 1, 3)
    assert held(b, range(20)) == [17, 18, 19]
    await b.hold("big", "x" * 90)
    assert held(b, range(20)) == []
    assert b.cache.held("big") is not None
    await b.hold("fits", "x" * 10)
    assert b.cache.held("big") is not None


async def test_what_is_larger_than_all_that_may_be_held_is_returned_and_not_kept() -> None:
    b = bench(max_bytes=100, sizeof=len)
    await b.hold("small", "x" * 50)
    assert await b.hold("huge", "x" * 101) == "x" * 101
    assert b.cache.held("huge") is None
    assert b.cache.held("small") is not None
    await b.hold("full", "x" * 100)
    assert b.cache.held("full") is not None


async def test_bytes_are_given_back_by_whatever_removes_an_answer() -> None:
    b = bench(max_bytes=100, sizeof=len, ttl=10)
    for _ in range(3):
        await b.hold("replaced", "x" * 100)
        b.clock.advance(11)
    b.cache.invalidate("replaced")
    await b.hold("cleared", "x" * 100)
    b.cache.clear()
    await b.hold("expired", "x" * 100)
    b.clock.advance(11)
    await b.hold("last", "x" * 100)
    assert b.cache.held("last") is not None
    assert b.cache.stats().evictions == 0


async def test_an_answer_that_grew_too_large_is_not_kept_in_its_old_form() -> None:
    b = bench(max_bytes=100, sizeof=len)
    await b.hold("a", "x" * 50)
    b.upstream.always = None
    caller = await b.waiting("a", max_age=0)
    b.calls[-1].answer("y" * 200)
    await settle()
    assert caller.result() == "y" * 200
    assert b.cache.peek("a") is None


async def test_remembered_failures_are_bounded_too() -> None:
    b = bench(max_entries=5, error_ttl=60)
    b.upstream.always = Unwell
    for key in range(20):
        with pytest.raises(Unwell):
            await soon(b.cache.get(key))
    assert b.cache.stats().entries == 5


async def test_what_has_expired_stays_until_its_place_is_needed_and_is_no_eviction() -> None:
    b = bench(ttl=10, max_entries=100)
    await fill(b, range(100))
    b.clock.advance(11)
    await fill(b, range(100, 150))
    assert b.cache.stats().entries == 100
    assert held(b, range(150)) == list(range(50, 150))
    assert b.cache.stats().evictions == 0
    await fill(b, range(150, 201))
    assert b.cache.stats().evictions == 1


async def test_what_can_still_stand_in_counts_as_evicted() -> None:
    b = bench(ttl=10, stale_if_error=20, max_entries=1)
    await fill(b, range(1))
    b.clock.advance(30)
    await fill(b, range(1, 2))
    assert b.cache.stats().evictions == 1


class Counted:
    """A key that counts how often any key is hashed or compared, that is, looked at."""

    touched = 0

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        Counted.touched += 1
        return hash(self.number)

    def __eq__(self, other: object) -> bool:
        Counted.touched += 1
        return isinstance(other, Counted) and self.number == other.number


async def counted(size: int, age: float, used: bool, failing: bool = False) -> dict[str, int]:
    """Tell how often keys are touched by each thing that can be done to a full cache."""
    b = bench(ttl=10, stale_while_revalidate=10, max_entries=size, error_ttl=60)
    b.upstream.always = ...
    keys = [Counted(number) for number in range(size)]
    for key in keys:
        await b.cache.get(key)
        if used:
            await b.cache.get(key)
    b.calls.clear()
    b.clock.advance(age)
    if failing:
        b.upstream.always = Unwell
    touched: dict[str, int] = {}

    async def load(key: Any) -> None:
        try:
            await soon(b.cache.get(key))
        except Unwell:
            assert failing

    async def count(what: str, step: Callable[[], Any]) -> None:
        b.calls.clear()
        Counted.touched = 0
        result = step()
        if asyncio.iscoroutine(result):
            await result
        touched[what] = Counted.touched

    await count("get", lambda: load(keys[size // 2]))
    await count("miss", lambda: load(Counted(size)))
    await count("peek", lambda: b.cache.peek(keys[size // 3]))
    await count("invalidate", lambda: b.cache.invalidate(keys[size // 3]))
    await count("stats", b.cache.stats)
    await count("repr", lambda: repr(b.cache))
    return touched


@pytest.mark.parametrize("failing", [False, True], ids=["answers", "failures"])
@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
@pytest.mark.parametrize("age", [0, 15, 25], ids=["fresh", "stale", "gone"])
async def test_no_operation_works_in_proportion_to_the_number_of_entries(
    age: float, used: bool, failing: bool
) -> None:
    few, many = await counted(50, age, used, failing), await counted(1000, age, used, failing)
    assert few["stats"] == many["stats"] == few["repr"] == many["repr"] == 0
    for what, touched in many.items():
        # hash values of neighbours may collide in a small table
        assert touched <= few[what] + 10
    assert max(many.values()) < 20 * (2 + MAX_CHANCES)


def entry(size: int = 0, used: bool = False, expires: float = 100.0) -> Entry[str]:
    made = Entry("value", sent_at=0.0, fresh_until=expires, size=size)
    made.used = used
    return made


def test_an_eviction_gives_a_bounded_number_of_chances() -> None:
    store: EntryStore[int, str] = EntryStore(100, None)
    for key in range(100):
        store.put(key, entry(used=True), now=0.0)
    store.put(100, entry(), now=0.0)
    assert store.evictions == 1
    assert sum(not held.used for held in store.values()) == MAX_CHANCES + 1
    assert MAX_CHANCES not in store, "the oldest one after those that were passed over"
    assert len(store) == 100


def test_an_eviction_from_a_store_smaller_than_the_chances_takes_the_oldest() -> None:
    store: EntryStore[int, str] = EntryStore(2, None)
    for key in range(2):
        store.put(key, entry(used=True), now=0.0)
    store.put(2, entry(), now=0.0)
    assert list(store) == [1, 2]


def test_a_store_says_in_one_line_what_it_holds() -> None:
    store: EntryStore[str, str] = EntryStore(10, 1000)
    store.put("a", entry(size=7), now=0.0)
    assert repr(store) == "<EntryStore: 1 of 10 entries, 7 bytes>"
    store.discard("a")
    assert repr(store) == "<EntryStore: 0 of 10 entries, 0 bytes>"


def test_what_was_put_again_stands_at_the_end_and_is_the_last_to_leave() -> None:
    store: EntryStore[int, str] = EntryStore(3, None)
    for key in (0, 1, 2, 0, 3):
        store.put(key, entry(), now=0.0)
    assert list(store) == [2, 0, 3]


def test_dropping_tells_whether_it_was_there() -> None:
    store: EntryStore[int, str] = EntryStore(3, None)
    store.put(0, entry(), now=0.0)
    assert store.discard(0)
    assert not store.discard(0)


def test_one_large_value_drops_a_bounded_number_of_small_ones_at_a_time() -> None:
    store: EntryStore[int, str] = EntryStore(max_entries=10_000, max_bytes=1_000)
    for key in range(1_000):
        store.put(key, Entry("small", sent_at=0, fresh_until=1, size=1), 0)
    large = Entry("large", sent_at=0, fresh_until=1, size=MAX_EVICTIONS + 1)
    store.put(-1, large, 0)
    assert store.find(-1) is None
    assert len(store) == 1_000 - MAX_EVICTIONS
    store.put(-1, large, 0)  # the next try finds the room that the first one made
    assert store.find(-1) is large
    assert len(store) == 1_000 - MAX_EVICTIONS - 1 + 1


def test_room_that_the_last_eviction_makes_is_used() -> None:
    store: EntryStore[int, str] = EntryStore(max_entries=10_000, max_bytes=MAX_EVICTIONS)
    for key in range(MAX_EVICTIONS):
        store.put(key, Entry("small", sent_at=0, fresh_until=1, size=1), 0)
    large = Entry("large", sent_at=0, fresh_until=1, size=MAX_EVICTIONS)
    store.put(-1, large, 0)
    assert store.find(-1) is large

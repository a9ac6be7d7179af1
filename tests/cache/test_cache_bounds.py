"""How much is held, and how little work it is."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import pytest
from upstream import Unwell, bench, settle, soon

from wolf_async.cache.store import CHANCES, EVICTED, SWEPT, Entry, Store

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    assert held(b, range(3)) in ([0, 1, 2], [2])  # the expired ones may have been reclaimed
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


async def test_one_new_answer_reclaims_at_most_a_few_expired_ones() -> None:
    b = bench(ttl=10)
    await fill(b, range(1000))
    b.clock.advance(11)
    entries = b.cache.stats().entries
    for key in range(1000, 1500):
        await fill(b, range(key, key + 1))
        now = b.cache.stats().entries
        assert entries + 1 - SWEPT <= now <= entries + 1
        entries = now
    assert entries == 500, "the expired ones are all gone in the end"
    assert b.cache.stats().evictions == 0


async def test_only_what_nobody_can_use_any_more_is_reclaimed() -> None:
    b = bench(ttl=10, stale_if_error=20)
    await fill(b, range(3))
    b.clock.advance(30)
    await fill(b, range(3, 4))
    assert held(b, range(4)) == [0, 1, 2, 3]
    b.clock.advance(0.125)
    await fill(b, range(4, 5))
    assert held(b, range(5)) == [2, 3, 4]


class Counting(OrderedDict[Any, Entry[Any]]):
    """Entries that count how often they are touched."""

    touched = 0

    def __getitem__(self, key: Any) -> Entry[Any]:
        self.touched += 1
        return super().__getitem__(key)

    def get(self, key: Any, default: Any = None) -> Any:
        self.touched += 1
        return super().get(key, default)

    def __setitem__(self, key: Any, value: Entry[Any]) -> None:
        self.touched += 1
        super().__setitem__(key, value)

    def __delitem__(self, key: Any) -> None:
        self.touched += 1
        super().__delitem__(key)

    def pop(self, key: Any, default: Any = None) -> Any:
        self.touched += 1
        return super().pop(key, default)

    def popitem(self, last: bool = True) -> tuple[Any, Entry[Any]]:
        self.touched += 1
        return super().popitem(last)

    def move_to_end(self, key: Any, last: bool = True) -> None:
        self.touched += 1
        super().move_to_end(key, last)

    def __iter__(self) -> Iterator[Any]:
        for key in super().__iter__():
            self.touched += 1
            yield key

    def items(self) -> Iterator[tuple[Any, Entry[Any]]]:  # type: ignore[override]
        for key in self:
            yield key, super().__getitem__(key)


async def counted(size: int, age: float, used: bool, failing: bool = False) -> dict[str, int]:
    """How often entries are touched by each thing that can be done to a full cache of that size."""
    b = bench(ttl=10, stale_while_revalidate=10, max_entries=size, error_ttl=60)
    await fill(b, range(size))
    if used:
        for key in range(size):
            await b.cache.get(key)
    store = b.cache._store  # pyright: ignore[reportPrivateUsage]
    counting = store.entries = b.cache._entries = Counting(store.entries)  # pyright: ignore[reportPrivateUsage]
    b.clock.advance(age)
    if failing:
        b.upstream.always = Unwell

    async def load(key: Any) -> None:
        try:
            await soon(b.cache.get(key))
        except Unwell:
            assert failing

    touched: dict[str, int] = {}

    def count(what: str) -> None:
        touched[what] = counting.touched
        counting.touched = 0

    counting.touched = 0
    await load(size // 2)
    count("get")
    await load("new")
    count("miss")
    b.cache.peek(size // 3)
    count("peek")
    b.cache.invalidate(size // 3)
    count("invalidate")
    b.cache.stats()
    count("stats")
    repr(b.cache)
    count("repr")
    return touched


@pytest.mark.parametrize("failing", [False, True], ids=["answers", "failures"])
@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
@pytest.mark.parametrize("age", [0, 15, 25], ids=["fresh", "stale", "gone"])
async def test_no_operation_works_in_proportion_to_the_number_of_entries(
    age: float, used: bool, failing: bool
) -> None:
    few, many = await counted(50, age, used, failing), await counted(1000, age, used, failing)
    assert few == many
    assert max(many.values()) < 12 + 3 * (SWEPT + CHANCES)


def entry(size: int = 0, used: bool = False, gone_at: float = 100.0) -> Entry[str]:
    made = Entry("value", sent_at=0.0, gone_at=gone_at, fresh_until=gone_at, size=size)
    made.used = used
    return made


def test_an_eviction_gives_a_bounded_number_of_chances() -> None:
    store: Store[int, str] = Store(100, None)
    for key in range(100):
        store.put(key, entry(used=True), now=0.0)
    store.put(100, entry(), now=0.0)
    assert store.evictions == 1
    assert sum(not held.used for held in store.entries.values()) == CHANCES + 1
    assert CHANCES not in store.entries, "the oldest one after those that were passed over"
    assert len(store) == 100


def test_an_eviction_from_a_store_smaller_than_the_chances_takes_the_oldest() -> None:
    store: Store[int, str] = Store(2, None)
    for key in range(2):
        store.put(key, entry(used=True), now=0.0)
    store.put(2, entry(), now=0.0)
    assert list(store.entries) == [1, 2]


def test_a_store_says_in_one_line_what_it_holds() -> None:
    store: Store[str, str] = Store(10, 1000)
    store.put("a", entry(size=7), now=0.0)
    assert repr(store) == "<Store: 1 of 10 entries, 7 bytes>"
    store.drop("a")
    assert repr(store) == "<Store: 0 of 10 entries, 0 bytes>"


def test_what_was_put_again_stands_at_the_end_and_is_the_last_to_leave() -> None:
    store: Store[int, str] = Store(3, None)
    for key in (0, 1, 2, 0, 3):
        store.put(key, entry(), now=0.0)
    assert list(store.entries) == [2, 0, 3]


def test_dropping_tells_whether_it_was_there() -> None:
    store: Store[int, str] = Store(3, None)
    store.put(0, entry(), now=0.0)
    assert store.drop(0)
    assert not store.drop(0)


def test_one_large_value_drops_a_bounded_number_of_small_ones_at_a_time() -> None:
    store: Store[int, str] = Store(max_entries=10_000, max_bytes=1_000)
    for key in range(1_000):
        store.put(key, Entry("small", sent_at=0, gone_at=1, size=1), 0)
    large = Entry("large", sent_at=0, gone_at=1, size=EVICTED + 1)
    store.put(-1, large, 0)
    assert store.get(-1) is None
    assert len(store) == 1_000 - EVICTED
    store.put(-1, large, 0)  # the next try finds the room that the first one made
    assert store.get(-1) is large
    assert len(store) == 1_000 - EVICTED - 1 + 1


def test_room_that_the_last_eviction_makes_is_used() -> None:
    store: Store[int, str] = Store(max_entries=10_000, max_bytes=EVICTED)
    for key in range(EVICTED):
        store.put(key, Entry("small", sent_at=0, gone_at=1, size=1), 0)
    large = Entry("large", sent_at=0, gone_at=1, size=EVICTED)
    store.put(-1, large, 0)
    assert store.get(-1) is large

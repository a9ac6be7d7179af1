"""Invalidation beats what is in flight."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from upstream import Refused, Unwell, bench, cancel, error_of, is_unwell, outcome, settle, values

if TYPE_CHECKING:
    from collections.abc import Callable

    from upstream import Bench

    from wolf_async.cache import LoadingCache

TTL = 10.0


def invalidate(cache: LoadingCache[Any, Any]) -> None:
    assert cache.invalidate("a")


def clear(cache: LoadingCache[Any, Any]) -> None:
    cache.clear()


both_ways = pytest.mark.parametrize("forget", [invalidate, clear])
both_kinds = pytest.mark.parametrize("background", [False, True], ids=["load", "refresh"])
both_orders = pytest.mark.parametrize("first_to_end", ["old", "new"])


async def begin(background: bool, **policy: Any) -> tuple[Bench, asyncio.Task[Any] | None]:
    """Return a cache with a load of "a" under way, and its waiter; a refresh has none."""
    b = bench(
        ttl=TTL, stale_while_revalidate=100, stale_if_error=100, is_unwell=is_unwell, **policy
    )
    if not background:
        return b, await b.waiting()
    await b.hold(value="stale")
    b.clock.advance(TTL + 1)
    assert await b.at_once() == "stale"
    b.calls.pop(0)
    return b, None


@both_orders
@both_kinds
@both_ways
async def test_a_call_after_it_loads_anew_and_the_newer_answer_stays(
    forget: Callable[[Any], None], background: bool, first_to_end: str
) -> None:
    """Identity tells the two loads apart, even while the clock stands still."""
    b, first = await begin(background)
    forget(b.cache)
    second = await b.waiting()
    old, new = b.calls
    endings = [(old, "old"), (new, "new")]
    for call, value in endings if first_to_end == "old" else endings[::-1]:
        call.answer(value)
        await settle()
    if first is not None:
        assert outcome(first) == "old"
    assert outcome(second) == "new"
    assert b.cache.peek("a") == "new"
    assert await b.at_once() == "new"
    assert b.cache.stats().superseded == 1
    b.assert_balanced(values=2 + background)


@both_kinds
@both_ways
async def test_a_call_after_it_never_joins_the_old_load(
    forget: Callable[[Any], None], background: bool
) -> None:
    """Even a caller who would take an older answer waits for the newer load."""
    b, first = await begin(background)
    forget(b.cache)
    callers = [await b.waiting(max_age=age) for age in (None, 1000.0, 0.0)]
    b.calls[0].answer("old")
    await settle()
    assert not any(caller.done() for caller in callers)
    b.calls[1].answer("new")
    await settle()
    b.calls[2].answer("newest")
    await settle()
    assert values(callers) == ["new", "new", "newest"]
    if first is not None:
        assert outcome(first) == "old"


@both_kinds
@both_ways
async def test_without_a_second_call_nothing_is_stored(
    forget: Callable[[Any], None], background: bool
) -> None:
    """The old load answers its own callers, and the cache stays empty."""
    b, first = await begin(background)
    forget(b.cache)
    b.calls[0].answer("old")
    await settle()
    if first is not None:
        assert outcome(first) == "old"
    assert b.cache.peek("a") is None
    assert b.cache.held("a") is None
    stats = b.cache.stats()
    assert (stats.entries, stats.in_flight, stats.superseded) == (0, 0, 1)
    later = await b.waiting()
    b.calls[1].answer("new")
    await settle()
    assert outcome(later) == "new"


@pytest.mark.parametrize("ending", ["unwell", "refused", "cancelled", "left"])
@both_kinds
@both_ways
async def test_the_newer_load_is_untouched_by_an_old_one_that_goes_wrong(
    forget: Callable[[Any], None], background: bool, ending: str
) -> None:
    """A load begun before the invalidation may fail or be cancelled: it touches nothing newer."""
    b, first = await begin(background, error_ttl=60)
    forget(b.cache)
    second = await b.waiting()
    old, new = b.calls
    if ending == "unwell":
        old.fail(Unwell())
    elif ending == "refused":
        old.fail(Refused())
    elif ending == "cancelled" or first is None:
        old.cancel_itself()
    else:
        await cancel(first)
    await settle()
    third = await b.waiting()
    assert len(b.calls) == 2
    new.answer("new")
    await settle()
    assert values([second, third]) == ["new", "new"]
    assert await b.at_once() == "new"
    if first is not None:
        assert first.cancelled() if ending == "left" else isinstance(error_of(first), Exception)


@pytest.mark.parametrize("error", [Unwell(), Refused()], ids=["unwell", "refused"])
@both_kinds
@both_ways
async def test_the_newer_answer_is_untouched_by_an_old_load_that_fails_late(
    forget: Callable[[Any], None], background: bool, error: Exception
) -> None:
    """The late failure brings no stale answer, no drop, no back-off and nothing to remember."""
    b, first = await begin(background, error_ttl=60)
    forget(b.cache)
    second = await b.waiting()
    old, new = b.calls
    new.answer("new")
    await settle()
    old.fail(error)
    await settle()
    if first is not None:
        assert isinstance(error_of(first), type(error))
    assert outcome(second) == "new"
    assert await b.at_once() == "new"
    b.clock.advance(TTL + 0.5)
    assert await b.at_once() == "new"
    assert len(b.calls) == 3, "a refresh that the old failure must not put off"
    b.calls[2].answer("newest")
    await settle()
    assert b.cache.peek("a") == "newest"


@both_kinds
@both_ways
async def test_the_newer_answer_lives_its_full_time(
    forget: Callable[[Any], None], background: bool
) -> None:
    """The age of the older load shortens no entry of the newer one."""
    b, _ = await begin(background)
    b.clock.advance(4)
    forget(b.cache)
    await b.waiting()
    old, new = b.calls
    b.clock.advance(1)
    old.answer("old")
    await settle()
    new.answer("new")
    await settle()
    b.clock.advance(TTL - 1)
    assert b.cache.peek("a", max_age=1000) == "new"
    b.clock.advance(0.5)
    assert b.cache.peek("a", max_age=1000) is None
    assert b.cache.peek("a") == "new"


@both_ways
async def test_a_third_load_may_supersede_the_second(forget: Callable[[Any], None]) -> None:
    """Each caller gets the answer of its own load, in whatever order three of them end."""
    b = bench()
    callers: list[asyncio.Task[Any]] = []
    for _ in range(3):
        callers.append(await b.waiting())
        if len(callers) < 3:
            forget(b.cache)
    assert b.cache.stats().in_flight == 3
    for number in (1, 2, 0):
        b.calls[number].answer()
        await settle()
    assert values(callers) == ["a#1", "a#2", "a#3"]
    assert b.cache.peek("a") == "a#3"
    assert b.cache.stats().superseded == 2


async def test_it_tells_whether_there_was_anything_to_forget() -> None:
    b = bench()
    assert not b.cache.invalidate("a")
    await b.hold()
    assert b.cache.invalidate("a")
    assert not b.cache.invalidate("a")
    caller = await b.waiting()
    assert b.cache.invalidate("a")
    assert not b.cache.invalidate("a")
    b.calls[1].answer()
    await settle()
    assert outcome(caller) == "a#2"
    assert not b.cache.invalidate("a")


async def test_it_forgets_one_key_and_a_clear_all_of_them() -> None:
    b = bench()
    b.upstream.always = ...
    for key in "abc":
        await b.at_once(key)
    assert b.cache.invalidate("b")
    assert [b.cache.peek(key) for key in "abc"] == ["a#1", None, "c#1"]
    b.cache.clear()
    assert [b.cache.peek(key) for key in "abc"] == [None] * 3
    assert b.cache.stats().entries == 0
    assert b.cache.stats().superseded == 0


async def test_a_clear_supersedes_all_loads() -> None:
    b = bench()
    callers = [await b.waiting(key) for key in "abc"]
    b.cache.clear()
    callers += [await b.waiting(key) for key in "abc"]
    for call in b.calls:
        call.answer()
    await settle()
    assert values(callers) == ["a#1", "b#1", "c#1", "a#2", "b#2", "c#2"]
    assert [b.cache.peek(key) for key in "abc"] == ["a#2", "b#2", "c#2"]
    assert b.cache.stats().superseded == 3


@both_ways
async def test_who_waits_for_the_next_load_gets_it_at_once(forget: Callable[[Any], None]) -> None:
    b = bench()
    first = await b.waiting()
    queued = await b.waiting(max_age=0)
    assert len(b.calls) == 1
    forget(b.cache)
    newcomer = await b.waiting()
    assert len(b.calls) == 2
    b.calls[1].answer()
    await settle()
    assert values([queued, newcomer]) == ["a#2", "a#2"]
    b.calls[0].answer()
    await settle()
    assert outcome(first) == "a#1"
    assert b.cache.peek("a") == "a#2"


@both_ways
async def test_between_the_end_of_a_load_and_the_telling_it_still_counts(
    forget: Callable[[Any], None],
) -> None:
    """At whatever point the load is as it ends, nobody gets its answer after an invalidation."""
    for turns in range(6):
        b = bench()
        first = await b.waiting()
        b.calls[0].answer("old")
        for _ in range(turns):
            await asyncio.sleep(0)
        if b.cache.stats().in_flight or b.cache.peek("a") is not None:
            forget(b.cache)
        await settle()
        assert outcome(first) == "old"
        assert b.cache.peek("a") is None
        second = await b.waiting()
        b.calls[1].answer("new")
        await settle()
        assert outcome(second) == "new"


@both_ways
async def test_a_loader_may_forget_what_it_loads(forget: Callable[[Any], None]) -> None:
    """The waiters get its value, which is not stored."""

    async def load(key: str) -> str:
        forget(b.cache)
        return key

    b = bench(load)
    assert await b.at_once() == "a"
    assert b.cache.peek("a") is None
    assert await b.at_once() == "a"
    assert b.cache.stats().loads == 2


@both_ways
async def test_a_stale_answer_that_was_forgotten_never_stands_in(
    forget: Callable[[Any], None],
) -> None:
    b = bench(ttl=TTL, stale_if_error=100)
    await b.hold()
    b.clock.advance(TTL + 1)
    caller = await b.waiting()
    forget(b.cache)
    b.calls[1].fail(Unwell())
    await settle()
    assert isinstance(error_of(caller), Unwell)

"""Closing refuses new calls, tells those who wait, and returns when nothing is under way."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import Any

import pytest
from upstream import Unwell, bench, cancel, error_of, outcome, settle, soon

from wolf_async.errors import WolfClosedError


async def test_closing_tells_all_who_wait_and_ends_their_loads() -> None:
    """Nobody hangs: callers of each kind get an error of their own, and each load ends."""
    b = bench(ttl=10, stale_while_revalidate=100)
    await b.hold("stale")
    b.clock.advance(11)
    await b.at_once("stale")
    callers = [await b.waiting("superseded")]
    b.cache.invalidate("superseded")
    callers += [
        await b.waiting("superseded"),
        await b.waiting(),
        await b.waiting(),
        await b.waiting(max_age=0),
    ]
    assert b.cache.stats().in_flight == 4
    await soon(b.cache.aclose())
    await settle()
    errors = [error_of(caller) for caller in callers]
    assert all(isinstance(error, WolfClosedError) for error in errors)
    assert len({id(error) for error in errors}) == len(errors)
    assert all(call.ended for call in b.calls)
    stats = b.cache.stats()
    assert (stats.in_flight, stats.entries, stats.failures, stats.abandoned) == (0, 0, 0, 4)
    assert len(b.calls) == 5, "the next load is not made any more"
    b.assert_balanced(values=1)


async def test_who_begins_a_load_that_closes_the_cache_at_once_is_told() -> None:
    """As a load may that an eager task factory runs before its task is there."""
    b = bench()
    loop = asyncio.get_running_loop()

    def closing(loop: asyncio.AbstractEventLoop, load: Any, **settings: Any) -> asyncio.Task[Any]:
        with contextlib.suppress(StopIteration):
            b.cache.aclose().send(None)
        return asyncio.Task(load, loop=loop, **settings)

    loop.set_task_factory(closing)
    try:
        with pytest.raises(WolfClosedError, match="closed while"):
            async with asyncio.timeout(5):
                await b.cache.get("a")
    finally:
        loop.set_task_factory(None)
    await settle()
    assert b.cache.stats().in_flight == 0


async def test_a_closed_cache_refuses_calls_and_holds_nothing() -> None:
    """A closed cache answers questions about what it holds with "nothing"."""
    b = bench()
    await b.hold()
    await b.cache.aclose()
    for max_age in (None, 0.0, 5.0):
        with pytest.raises(WolfClosedError):
            await soon(b.cache.get("a", max_age=max_age))
    assert b.cache.peek("a") is None
    assert b.cache.held("a") is None
    assert not b.cache.invalidate("a")
    b.cache.clear()
    assert len(b.calls) == 1
    assert b.cache.stats().entries == 0
    assert "closed" in repr(b.cache)


async def test_closing_twice_is_closing_once() -> None:
    """Closing again changes nothing and raises nothing."""
    b = bench()
    caller = await b.waiting()
    await b.cache.aclose()
    before = b.cache.stats()
    await soon(b.cache.aclose())
    assert b.cache.stats() == before
    assert isinstance(error_of(caller), WolfClosedError)


def test_closing_a_cache_that_was_never_used_does_nothing() -> None:
    asyncio.run(bench().cache.aclose())


async def test_closing_returns_when_the_loads_have_cleaned_up_and_callers_before_that() -> None:
    """Callers learn at once of the closing, which itself waits for the loads to end."""
    b = bench()
    b.upstream.clean_up = asyncio.Event()
    caller = await b.waiting()
    closing = asyncio.create_task(b.cache.aclose())
    await settle()
    assert isinstance(error_of(caller), WolfClosedError)
    assert b.calls[0].cancelled
    assert not closing.done()
    with pytest.raises(WolfClosedError):
        await b.at_once()
    b.upstream.clean_up.set()
    await settle()
    assert b.calls[0].ended
    outcome(closing)


async def test_a_second_closing_waits_as_well_and_does_not_interrupt_the_clean_up() -> None:
    """Whoever closes the cache can rely on it that the loads have ended."""
    b = bench()
    b.upstream.clean_up = asyncio.Event()
    caller = await b.waiting()
    closings: list[asyncio.Task[None]] = []
    for _ in range(3):
        closings.append(asyncio.create_task(b.cache.aclose()))
        await settle()
    assert isinstance(error_of(caller), WolfClosedError)
    assert not b.calls[0].ended
    assert not any(closing.done() for closing in closings)
    b.upstream.clean_up.set()
    await settle()
    for closing in closings:
        outcome(closing)


async def test_closing_does_not_interrupt_the_clean_up_of_a_load_that_was_left() -> None:
    b = bench()
    b.upstream.clean_up = asyncio.Event()
    await cancel(await b.waiting())
    closing = asyncio.create_task(b.cache.aclose())
    await settle()
    assert not b.calls[0].ended
    assert not closing.done()
    b.upstream.clean_up.set()
    await settle()
    outcome(closing)


async def test_a_closing_that_is_cancelled_has_closed_all_the_same() -> None:
    b = bench()
    b.upstream.clean_up = asyncio.Event()
    caller = await b.waiting()
    closing = asyncio.create_task(b.cache.aclose())
    await settle()
    await cancel(closing)
    assert isinstance(error_of(caller), WolfClosedError)
    with pytest.raises(WolfClosedError):
        await b.at_once()
    b.upstream.clean_up.set()
    await soon(b.cache.aclose())
    assert b.cache.stats().in_flight == 0


@pytest.mark.parametrize("ending", ["answers", "fails"])
async def test_a_load_that_ends_otherwise_after_closing_leaves_nothing(ending: str) -> None:
    async def stubborn(key: str) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if ending == "fails":
                raise Unwell from None
        return "too late"

    b = bench(stubborn, error_ttl=60)
    caller = await b.waiting()
    await soon(b.cache.aclose())
    assert isinstance(error_of(caller), WolfClosedError)
    assert b.cache.stats().entries == 0
    assert b.cache.stats().in_flight == 0


async def test_a_loader_may_close_the_cache() -> None:
    async def load(key: str) -> Any:
        await b.cache.aclose()
        return key

    b = bench(load)
    callers = [b.get(), b.get()]
    await settle()
    assert all(isinstance(error_of(caller), WolfClosedError) for caller in callers)
    assert b.cache.stats().in_flight == 0


async def test_a_load_that_was_left_may_close_the_cache_as_it_cleans_up() -> None:
    async def load(key: str) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            await b.cache.aclose()

    b = bench(load)
    await cancel(await b.waiting())
    assert b.cache.stats().in_flight == 0
    assert "closed" in repr(b.cache)


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("failing", [False, True])
async def test_closing_while_a_load_ends_leaves_nobody_waiting(turns: int, failing: bool) -> None:
    """At whatever point the load is as it ends, each caller gets an answer or an error."""
    b = bench(error_ttl=60)
    callers = [await b.waiting(), await b.waiting(max_age=0)]
    if failing:
        b.calls[0].fail(Unwell())
    else:
        b.calls[0].answer()
    for _ in range(turns):
        await asyncio.sleep(0)
    await soon(b.cache.aclose())
    await settle()
    assert isinstance(error_of(callers[1]), WolfClosedError)
    assert callers[0].done()
    if failing or callers[0].exception() is not None:
        assert isinstance(error_of(callers[0]), (Unwell, WolfClosedError))
    else:
        assert outcome(callers[0]) == "a#1"
    stats = b.cache.stats()
    assert (stats.entries, stats.in_flight) == (0, 0)


async def test_a_caller_that_is_cancelled_while_the_cache_closes_is_cancelled() -> None:
    b = bench()
    caller, other = await b.waiting(), await b.waiting()
    caller.cancel()
    await soon(b.cache.aclose())
    assert caller.cancelled()
    assert isinstance(error_of(other), WolfClosedError)


async def test_a_cache_that_is_dropped_with_its_callers_is_freed_quietly(
    loop_reports: list[Any],
) -> None:
    b = bench()
    await cancel(await b.waiting())
    del b
    gc.collect()
    await settle()
    assert not loop_reports

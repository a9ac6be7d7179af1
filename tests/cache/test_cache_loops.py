"""A cache belongs to the event loop of its first load, and follows when that has been closed."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import pytest
from upstream import Bench, Unwell, bench, error_of, outcome, settle

from wolf_async.cache import LoadingCache
from wolf_async.errors import WolfConfigError
from wolf_async.policy import CachePolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

NewLoop: TypeAlias = "Callable[[], asyncio.AbstractEventLoop]"

PATIENCE = 10.0
"""Seconds of real time after which a test gives up; none waits for it."""


def run(new_loop: NewLoop, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run on a loop of the chosen kind; fail on anything at its exception handler."""
    reports: list[dict[str, Any]] = []

    async def main() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        return await asyncio.wait_for(coroutine, PATIENCE)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        result = runner.run(main())
    gc.collect()
    assert not reports
    return result


async def leave_in_flight(b: Bench, *max_ages: float | None) -> None:
    for max_age in max_ages:
        await b.waiting(max_age=max_age)


async def load_now(b: Bench, value: object = "now") -> Any:
    caller = b.get()
    await settle()
    b.calls[-1].answer(value)
    await settle()
    return outcome(caller)


def test_a_cache_is_made_and_looked_at_without_a_loop(new_loop: NewLoop) -> None:
    b = bench()
    assert b.cache.peek("a") is None
    assert not b.cache.invalidate("a")
    b.cache.clear()
    assert b.cache.stats().loads == 0
    assert "LoadingCache" in repr(b.cache)
    assert run(new_loop, load_now(b)) == "now"
    assert b.cache.peek("a") == "now"


def test_a_second_run_finds_the_answers_of_the_first(new_loop: NewLoop) -> None:
    """Answers outlive the loop in which they were loaded."""
    b = bench()
    assert run(new_loop, load_now(b)) == "now"
    assert run(new_loop, b.at_once()) == "now"
    assert run(new_loop, b.at_once(max_age=5)) == "now"
    assert len(b.calls) == 1
    b.clock.advance(31)
    assert run(new_loop, load_now(b, "later")) == "later"


@pytest.mark.parametrize("max_ages", [(None,), (None, 0.0), (None, 0.0, 5.0, None)])
def test_a_load_left_in_flight_by_the_first_run_does_not_hold_up_the_second(
    new_loop: NewLoop, max_ages: tuple[float | None, ...]
) -> None:
    """A new loop starts over, whether callers waited for the load or for the next one."""
    b = bench()
    run(new_loop, leave_in_flight(b, *max_ages))
    assert b.calls[0].cancelled
    assert run(new_loop, load_now(b)) == "now"
    assert len(b.calls) == 2
    stats = b.cache.stats()
    assert stats.in_flight == 0
    assert stats.loads == 1 + stats.failures + stats.abandoned


def test_a_refresh_left_in_flight_by_the_first_run_is_made_again_by_the_second(
    new_loop: NewLoop,
) -> None:
    """A refresh that died with its loop does not count as one in flight."""
    b = bench(ttl=10, stale_while_revalidate=1000)
    run(new_loop, load_now(b, "old"))
    b.clock.advance(11)
    assert run(new_loop, b.at_once()) == "old"
    b.clock.advance(60)

    async def second() -> None:
        assert await b.at_once() == "old"
        assert len(b.calls) == 3
        b.calls[2].answer("new")
        await settle()

    run(new_loop, second())
    assert b.cache.peek("a", max_age=5) == "new"


@pytest.mark.parametrize("background", [False, True], ids=["load", "refresh"])
def test_the_end_of_a_loop_is_no_failure_of_the_upstream(
    new_loop: NewLoop, background: bool
) -> None:
    """The dead load is neither remembered nor a reason to put the next refresh off."""
    b = bench(ttl=10, stale_while_revalidate=1000, error_ttl=1000, refresh_backoff=1000)
    if background:
        run(new_loop, load_now(b, "old"))
        b.clock.advance(11)
        assert run(new_loop, b.at_once()) == "old"
    else:
        run(new_loop, leave_in_flight(b, None))

    async def second() -> None:
        caller = b.get()
        await settle()
        b.calls[-1].answer("new")
        await settle()
        assert outcome(caller) == ("old" if background else "new")

    run(new_loop, second())
    assert b.cache.peek("a", max_age=5) == "new"


@pytest.mark.parametrize("max_ages", [(None,), (None, 0.0)])
def test_a_loop_that_was_closed_over_a_load_does_not_hold_up_the_next(
    new_loop: NewLoop, max_ages: tuple[float | None, ...]
) -> None:
    """A loop that was closed without ending its tasks blocks nobody."""
    b = bench()
    loop = new_loop()
    loop.run_until_complete(leave_in_flight(b, *max_ages))
    left = asyncio.all_tasks(loop)
    for task in left:  # nothing but this test is to blame for them
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    assert run(new_loop, load_now(b)) == "now"
    stats = b.cache.stats()
    assert stats.in_flight == 0
    assert stats.loads == 1 + stats.failures + stats.abandoned
    left.clear()
    gc.collect()
    assert run(new_loop, b.at_once()) == "now"
    assert b.cache.stats() == msgspec.structs.replace(stats, hits=stats.hits + 1)


def test_a_cache_in_use_on_a_loop_that_is_open_refuses_another(new_loop: NewLoop) -> None:
    """The error says what is wrong, and the load on the first loop goes on."""
    b = bench()
    first = new_loop()
    caller = first.run_until_complete(b.waiting())

    async def elsewhere() -> None:
        for call in (
            b.cache.get("a"),
            b.cache.get("b"),
            b.cache.get("a", max_age=0),
            b.cache.aclose(),
        ):
            with pytest.raises(WolfConfigError, match="another event loop"):
                await call

    try:
        run(new_loop, elsewhere())
        b.calls[0].answer()
        first.run_until_complete(settle())
        assert outcome(caller) == "a#1"
    finally:
        first.close()
    assert run(new_loop, b.at_once()) == "a#1"


@pytest.mark.parametrize("max_age", [None, 20])
def test_a_fresh_value_is_served_on_any_loop(new_loop: NewLoop, max_age: float | None) -> None:
    b = bench(ttl=100)
    first = new_loop()
    try:
        assert first.run_until_complete(b.hold()) == "a#1"
        b.clock.advance(10)
        assert run(new_loop, b.at_once(max_age=max_age)) == "a#1"
    finally:
        first.close()
    assert b.cache.stats().hits == 1


def test_two_loops_in_two_threads_get_an_answer_or_one_clear_error(new_loop: NewLoop) -> None:
    """Two threads cannot make each other hang or share a load by accident."""
    b = bench()
    loading, refused = threading.Event(), threading.Event()
    outcomes: list[Any] = []

    async def first() -> None:
        caller = await b.waiting()
        loading.set()
        await asyncio.to_thread(refused.wait, PATIENCE)
        b.calls[0].answer()
        await settle()
        outcomes.append(outcome(caller))

    thread = threading.Thread(target=lambda: run(new_loop, first()), daemon=True)
    thread.start()
    assert loading.wait(PATIENCE)
    with pytest.raises(WolfConfigError, match="another event loop"):
        run(new_loop, b.cache.get("a"))
    refused.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert outcomes == ["a#1"]
    assert run(new_loop, b.at_once()) == "a#1"


def test_a_cache_can_be_closed_on_a_later_loop(new_loop: NewLoop) -> None:
    b = bench()
    run(new_loop, leave_in_flight(b, None))
    run(new_loop, b.cache.aclose())
    run(new_loop, b.cache.aclose())


def test_a_remembered_failure_is_known_in_the_next_run(new_loop: NewLoop) -> None:
    b = bench(error_ttl=60)

    async def fail() -> None:
        b.upstream.always = Unwell
        assert isinstance(error_of(await ended(b)), Unwell)

    run(new_loop, fail())
    run(new_loop, fail())
    assert len(b.calls) == 1


async def ended(b: Bench) -> asyncio.Task[Any]:
    caller = b.get()
    await settle()
    return caller


def test_a_run_that_ends_with_callers_waiting_is_quiet(
    new_loop: NewLoop, asyncio_errors: list[str]
) -> None:
    """Callers and load are cancelled in one go, in any order, without a word in the log."""
    for _ in range(20):
        b = bench()
        run(new_loop, leave_in_flight(b, *[None] * 5, *[0.0] * 5))
        assert b.cache.stats().in_flight == 0
    assert not asyncio_errors


def test_a_cache_that_keeps_nothing_follows_too(new_loop: NewLoop) -> None:
    calls: list[str] = []

    async def load(key: str) -> int:
        calls.append(key)
        return len(calls)

    cache: LoadingCache[str, int] = LoadingCache(load, policy=None)
    assert [run(new_loop, cache.get("a")) for _ in range(3)] == [1, 2, 3]
    kept: LoadingCache[str, int] = LoadingCache(load, policy=CachePolicy())
    assert [run(new_loop, kept.get("a")) for _ in range(3)] == [4, 4, 4]

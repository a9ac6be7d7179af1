"""A caller that is cancelled or times out leaves alone."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING, Any, Final

import pytest
from upstream import Unwell, bench, cancel, error_of, outcome, settle, turn_until, values

from wolf_async.errors import WolfClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from upstream import Bench, Call

CROWD: Final = 64


@pytest.mark.parametrize("who", range(5))
async def test_a_cancelled_caller_leaves_alone(who: int) -> None:
    """The caller who began the load may leave like every other one."""
    b = bench()
    callers = [await b.waiting() for _ in range(5)]
    leaver = callers.pop(who)
    await cancel(leaver)
    assert not any(caller.done() for caller in callers)
    assert not b.calls[0].cancelled
    b.calls[0].answer()
    await settle()
    assert values(callers) == ["a#1"] * 4
    assert await b.at_once() == "a#1"
    assert len(b.calls) == 1


async def test_all_but_one_may_leave() -> None:
    """One caller who stays is enough to keep the load going."""
    b = bench()
    callers = [await b.waiting() for _ in range(5)]
    await cancel(*callers[:4])
    b.calls[0].answer()
    await settle()
    assert outcome(callers[4]) == "a#1"
    assert len(b.calls) == 1


async def test_a_timeout_around_one_caller_is_its_own() -> None:
    """A caller who runs out of time takes nobody else along."""
    b = bench()

    async def hurried() -> object:
        async with asyncio.timeout(0):
            return await b.cache.get("a")

    callers = [await b.waiting(), await b.waiting()]
    impatient = asyncio.create_task(hurried())
    await settle()
    assert isinstance(error_of(impatient), TimeoutError)
    assert not any(caller.done() for caller in callers)
    b.calls[0].answer()
    await settle()
    assert values(callers) == ["a#1", "a#1"]
    assert len(b.calls) == 1


@pytest.mark.parametrize("at_once", [True, False])
async def test_when_all_callers_are_cancelled_the_load_is_cancelled_and_nothing_is_left(
    at_once: bool,
) -> None:
    """The last one to leave ends the load, and nothing counts as a failure."""
    b = bench()
    callers = [await b.waiting() for _ in range(20)]
    if at_once:
        await cancel(*callers)
    else:
        for caller in callers:
            assert not b.calls[0].cancelled
            await cancel(caller)
    assert b.calls[0].cancelled
    assert b.calls[0].ended
    stats = b.cache.stats()
    assert (stats.in_flight, stats.entries, stats.failures, stats.abandoned) == (0, 0, 0, 1)


async def test_a_load_that_nobody_waits_for_before_it_has_begun_never_begins() -> None:
    """A caller who is closed in the tick in which it asked costs no upstream call."""
    b = bench(error_ttl=60)
    call = b.cache.get("a")
    call.send(None)
    call.close()
    await settle()
    assert not b.calls
    assert b.cache.stats().in_flight == 0
    b.upstream.always = ...
    assert await b.at_once() == "a#1"


async def test_a_caller_in_the_same_tick_after_the_last_cancellation_gets_an_answer() -> None:
    """Nobody is given the cancellation of others as the end of its own call."""
    b = bench()
    last = await b.waiting()
    last.cancel()
    newcomer = b.get()
    await settle()
    assert last.cancelled()
    assert b.calls[0].cancelled
    b.calls[1].answer()
    await settle()
    assert outcome(newcomer) == "a#2"


async def test_a_caller_in_the_same_tick_before_the_last_cancellation_keeps_the_load_going() -> (
    None
):
    """A caller who comes just before the last one leaves gets the answer of that load."""
    b = bench()
    last = await b.waiting()
    newcomer = b.get()
    last.cancel()
    await settle()
    assert last.cancelled()
    assert not b.calls[0].cancelled
    b.calls[0].answer()
    await settle()
    assert outcome(newcomer) == "a#1"


@pytest.mark.parametrize("turns", range(6))
async def test_a_caller_some_turns_after_the_last_cancellation_gets_an_answer(turns: int) -> None:
    """Whatever point the cancelled load has come to, a new caller gets an answer."""
    b = bench()
    last = await b.waiting()
    last.cancel()
    for _ in range(turns):
        await asyncio.sleep(0)
    newcomer = b.get()
    await settle()
    b.calls[-1].answer()
    await settle()
    assert outcome(newcomer) == "a#2"
    assert await b.at_once() == "a#2"


@pytest.mark.parametrize("ending", ["answers", "fails", "is cancelled"])
@pytest.mark.parametrize("first_to_end", ["old", "new"])
async def test_a_caller_during_slow_clean_up_gets_a_load_of_its_own(
    ending: str, first_to_end: str
) -> None:
    """However and whenever the cancelled load ends, the newer one is untouched."""
    tidied = asyncio.Event()
    begun: list[str] = []
    answer = asyncio.Event()

    async def load(key: str) -> str:
        begun.append(key)
        if len(begun) > 1:
            await answer.wait()
            return "new"
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await tidied.wait()
            if ending == "is cancelled":
                raise
        if ending == "fails":
            raise Unwell
        return "old"

    b = bench(load, error_ttl=60)
    await cancel(await b.waiting())
    assert b.cache.stats().in_flight == 1
    newcomer = await b.waiting()
    assert len(begun) == 2
    joiners: list[asyncio.Task[Any]] = []
    for event in (tidied, answer) if first_to_end == "old" else (answer, tidied):
        event.set()
        await settle()
        joiners.append(b.get())
        await settle()
    assert values([newcomer, *joiners]) == ["new"] * 3
    assert b.cache.peek("a") == "new"
    assert len(begun) == 2
    assert b.cache.stats().in_flight == 0
    b.assert_balanced(values=1)


@pytest.mark.parametrize("ending", ["answers", "fails"])
async def test_a_cancelled_load_that_ends_otherwise_leaves_nothing(ending: str) -> None:
    async def stubborn(key: str) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if ending == "fails":
                raise Unwell from None
        return "too late"

    b = bench(stubborn, error_ttl=60)
    await cancel(await b.waiting())
    stats = b.cache.stats()
    assert (stats.in_flight, stats.entries, stats.failures, stats.abandoned) == (0, 0, 0, 1)
    assert b.cache.peek("a") is None


async def test_a_caller_cancelled_in_the_tick_of_the_answer_harms_nobody() -> None:
    b = bench()
    callers = [await b.waiting() for _ in range(3)]
    b.calls[0].answer()
    await turn_until(lambda: b.cache.peek("a") is not None)
    await cancel(callers[0])
    assert values(callers[1:]) == ["a#1", "a#1"]
    assert b.cache.peek("a") == "a#1"


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("failing", [False, True])
async def test_the_last_caller_is_cancelled_while_the_load_ends(turns: int, failing: bool) -> None:
    """A later call gets what was stored or loads anew, never the failure of that load."""
    b = bench()
    caller = await b.waiting()
    if failing:
        b.calls[0].fail(Unwell("old"))
    else:
        b.calls[0].answer()
    for _ in range(turns):
        await asyncio.sleep(0)
    caller.cancel()
    await settle()
    assert caller.done()
    if not caller.cancelled():  # for the unraisable check
        caller.exception()
    b.clock.advance(1000)
    b.upstream.always = ...
    assert await b.at_once() == "a#2"
    assert b.cache.stats().in_flight == 0


async def test_a_background_refresh_goes_on_when_those_who_joined_it_leave() -> None:
    b = bench(stale_while_revalidate=100)
    await b.hold()
    b.clock.advance(31)
    assert await b.at_once() == "a#1"
    joiners = [await b.waiting(max_age=5) for _ in range(2)]
    assert len(b.calls) == 2
    await cancel(*joiners)
    assert not b.calls[1].cancelled
    b.calls[1].answer()
    await settle()
    assert b.cache.peek("a") == "a#2"


async def test_a_caller_of_the_next_load_leaves_alone() -> None:
    b = bench()
    first = await b.waiting()
    queued = [await b.waiting(max_age=0) for _ in range(3)]
    await cancel(queued[0])
    b.calls[0].answer()
    await settle()
    assert outcome(first) == "a#1"
    b.calls[1].answer()
    await settle()
    assert values(queued[1:]) == ["a#2", "a#2"]


async def test_when_all_who_wait_for_the_next_load_have_left_it_is_never_made() -> None:
    b = bench()
    first = await b.waiting()
    await cancel(*[await b.waiting(max_age=0) for _ in range(3)])
    b.calls[0].answer()
    await settle()
    assert outcome(first) == "a#1"
    assert len(b.calls) == 1


async def test_they_may_all_leave_in_the_tick_in_which_the_next_load_starts() -> None:
    b = bench()
    first = await b.waiting()
    queued = await b.waiting(max_age=0)
    b.calls[0].answer()
    await turn_until(first.done)
    await cancel(queued)
    assert b.cache.stats().in_flight == 0
    b.upstream.always = ...
    assert await b.at_once() == "a#1"


async def test_who_waits_for_the_next_load_does_not_wait_for_the_clean_up_of_one_abandoned() -> (
    None
):
    b = bench()
    b.upstream.clean_up = asyncio.Event()
    first = await b.waiting()
    queued = await b.waiting(max_age=0)
    await cancel(first)
    assert b.calls[0].cancelled
    assert not b.calls[0].ended
    b.calls[1].answer()
    await settle()
    assert outcome(queued) == "a#2"
    b.upstream.clean_up.set()
    await settle()
    assert b.cache.peek("a") == "a#2"


async def test_a_superseded_load_is_cancelled_when_its_last_caller_leaves() -> None:
    b = bench()
    first = await b.waiting()
    b.cache.invalidate("a")
    second = await b.waiting()
    await cancel(first)
    assert b.calls[0].cancelled
    assert not b.calls[1].cancelled
    third = await b.waiting()
    assert len(b.calls) == 2
    b.calls[1].answer()
    await settle()
    assert values([second, third]) == ["a#2", "a#2"]


async def test_callers_who_come_and_go_during_a_long_load_leave_nothing_behind() -> None:
    b = bench()
    stays = await b.waiting()
    for _ in range(50):
        callers = [await b.waiting(max_age=max_age) for max_age in (None, 5.0) for _ in range(5)]
        await cancel(*callers)
        assert not b.calls[0].cancelled
    b.calls[0].answer()
    await settle()
    assert outcome(stays) == "a#1"


async def test_who_stays_while_a_crowd_leaves_in_one_tick_keeps_the_load_going() -> None:
    b = bench()
    callers = [b.get() for _ in range(CROWD)]
    await settle()
    for caller in callers[1:]:
        caller.cancel()
    await settle()
    assert not b.calls[0].cancelled
    b.calls[0].answer()
    await settle()
    assert outcome(callers[0]) == "a#1"


async def test_when_all_of_a_crowd_leave_in_one_tick_the_load_is_cancelled() -> None:
    b = bench()
    callers = [b.get() for _ in range(CROWD)]
    await settle()
    await cancel(*callers)
    assert b.calls[0].cancelled
    assert b.cache.stats().abandoned == 1


async def test_who_leaves_hears_with_what_words_it_was_cancelled() -> None:
    b = bench()
    stays, leaves = await b.waiting(), await b.waiting()
    leaves.cancel("the request was closed")
    with pytest.raises(asyncio.CancelledError, match="the request was closed"):
        await leaves
    b.calls[0].answer()
    assert await stays == "a#1"


async def test_who_is_cancelled_twice_in_one_tick_leaves_once() -> None:
    b = bench()
    stays, leaves = await b.waiting(), await b.waiting()
    leaves.cancel()
    leaves.cancel()
    await settle()
    assert leaves.cancelled()
    b.calls[0].answer()
    assert await stays == "a#1"


async def test_who_is_cancelled_before_it_waits_leaves_alone() -> None:
    b = bench()
    stays = [await b.waiting(), await b.waiting()]

    async def cancelled_already() -> object:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return await b.cache.get("a")

    leaves = asyncio.create_task(cancelled_already())
    await settle()
    assert leaves.cancelled()
    b.calls[0].answer()
    await settle()
    assert values(stays) == ["a#1", "a#1"]


async def _leaves_as_it_ends(b: Bench, end: Callable[[Call], None]) -> None:
    """Somebody is cancelled after the load's last step, and before those who wait hear of it."""
    leaver = await b.waiting()
    end(b.calls[-1])
    asyncio.get_running_loop().call_soon(leaver.cancel)
    await settle()
    assert leaver.cancelled()


async def test_who_waits_beside_one_who_leaves_as_the_load_ends_gets_the_answer() -> None:
    b = bench()
    callers = [await b.waiting(), await b.waiting()]
    await _leaves_as_it_ends(b, lambda call: call.answer())
    assert values(callers) == ["a#1", "a#1"]
    assert len(b.calls) == 1


async def test_who_waits_beside_one_who_leaves_as_the_load_fails_gets_an_error_of_its_own() -> None:
    b = bench(stale_if_error=100)
    await b.hold()
    b.clock.advance(31)
    lenient = [await b.waiting(), await b.waiting()]
    strict = [await b.waiting(max_age=100), await b.waiting(max_age=100)]
    await _leaves_as_it_ends(b, lambda call: call.fail(Unwell("down")))
    assert values(lenient) == ["a#1", "a#1"]
    errors = [error_of(caller) for caller in strict]
    assert [type(error) for error in errors] == [Unwell, Unwell]
    assert errors[0] is not errors[1]
    assert errors[0].__cause__ is errors[1].__cause__ is not None


async def test_who_waits_beside_one_who_leaves_as_the_cache_is_closed_hears_of_that() -> None:
    b = bench()
    callers = [await b.waiting(), await b.waiting()]
    leaver = await b.waiting()
    leaver.cancel()
    await b.cache.aclose()
    await settle()
    assert leaver.cancelled()
    assert [type(error_of(caller)) for caller in callers] == [WolfClosedError, WolfClosedError]


@pytest.mark.parametrize("failing", [False, True])
async def test_callers_may_be_cancelled_while_a_crowd_is_told(
    failing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler, as that of `asyncio.run`, may cancel callers at any moment."""
    leavers: list[asyncio.Task[Any]] = []

    class Interrupted(asyncio.Future[Any]):
        """Have callers cancelled right before the first of them is told."""

        def set_result(self, result: Any) -> None:
            while leavers:
                leavers.pop().cancel()
            super().set_result(result)

    loop = asyncio.get_running_loop()
    b = bench()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "create_future", lambda: Interrupted(loop=loop))
        callers = [b.get() for _ in range(CROWD)]
        await settle()
    leaving = [callers.pop(number) for number in (30, 3, 0)]
    leavers += leaving
    if failing:
        b.calls[0].fail(Unwell("down"))
    else:
        b.calls[0].answer()
    await settle()
    assert all(leaver.cancelled() for leaver in leaving)
    if failing:
        assert {type(error_of(caller)) for caller in callers} == {Unwell}
    else:
        assert set(values(callers)) == {"a#1"}
    assert not b.cache.stats().in_flight


async def test_a_load_whose_only_caller_is_dropped_is_freed_without_the_garbage_collector() -> None:
    class Key(str):
        __slots__ = ("__weakref__",)

    b = bench()
    key = Key("a")
    reference = weakref.ref(key)
    by_hand = b.cache.get(key)
    by_hand.send(None)
    await settle()
    del key
    b.calls.clear()
    gc.collect()
    gc.disable()
    try:
        by_hand.close()
        del by_hand
        await settle()
        assert b.cache.stats().abandoned == 1
        assert reference() is None
    finally:
        gc.enable()


async def test_a_caller_that_is_driven_by_hand_and_dropped_spoils_nothing() -> None:
    b = bench()
    first = await b.waiting()
    by_hand = b.cache.get("a")
    by_hand.send(None)
    others = [await b.waiting(), await b.waiting()]
    by_hand.close()
    b.calls[0].answer()
    await settle()
    assert values([first, *others]) == ["a#1"] * 3


@pytest.mark.parametrize("leaves", [False, True])
async def test_what_a_crowd_waited_for_is_freed_without_the_garbage_collector(
    leaves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    b = bench()
    made: list[weakref.ref[asyncio.Future[Any]]] = []
    create = loop.create_future

    def recorded() -> asyncio.Future[Any]:
        future = create()
        made.append(weakref.ref(future))
        return future

    with monkeypatch.context() as patch:
        patch.setattr(loop, "create_future", recorded)
        callers = [b.get() for _ in range(CROWD)]
        await settle()
    gc.collect()
    gc.disable()
    try:
        if leaves:
            await cancel(*callers)
        else:
            b.calls[0].answer()
            await settle()
        del callers
        b.calls.clear()
        assert len(made) >= CROWD
        assert [future() for future in made] == [None] * len(made)
    finally:
        gc.enable()


async def test_who_asks_after_all_have_left_the_next_load_gets_one_that_is_made() -> None:
    b = bench()
    first = await b.waiting()
    await cancel(await b.waiting(max_age=0))
    late = await b.waiting(max_age=0)
    b.calls[0].answer()
    await settle()
    b.calls[1].answer()
    await settle()
    assert [outcome(caller) for caller in (first, late)] == ["a#1", "a#2"]
    b.assert_balanced(values=2)

"""What must hold whatever comes first: scenarios on a loop that picks callbacks at random.

Each scenario runs once per seed. A failing seed is named in the error, and replays with::

    WOLF_SEED=123 python -m pytest tests/cache/test_random_order.py -k name_of_the_scenario
"""

from __future__ import annotations

import asyncio
import gc
import os
from itertools import permutations
from typing import TYPE_CHECKING, Any, Final

import pytest
from random_loop import RandomLoop
from upstream import Bench, Refused, Unwell, bench, is_unwell

from wolf_async.errors import WolfClosedError, WolfConfigError, WolfConnectionError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SEEDS: Final = [int(os.environ["WOLF_SEED"])] if "WOLF_SEED" in os.environ else range(300)


def the_loop() -> RandomLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, RandomLoop)
    return loop


async def idle() -> None:
    """Let everything that can run, run."""
    await the_loop().idle()


def soon(*actions: Callable[[], object]) -> None:
    """Have these done, in whatever order the loop likes, among all else that is ready."""
    for action in actions:
        asyncio.get_running_loop().call_soon(action)


async def ended(*callers: asyncio.Task[Any]) -> list[Any]:
    """Return what they came to once nothing moves any more: values and errors."""
    await idle()
    assert all(caller.done() for caller in callers), "a caller still waits"
    return await asyncio.gather(*callers, return_exceptions=True)


async def waiting(
    b: Bench, number: int = 1, *, key: str = "a", max_age: float | None = None
) -> list[asyncio.Task[Any]]:
    """Callers that now wait."""
    callers = [b.get(key, max_age=max_age) for _ in range(number)]
    await idle()
    assert not any(caller.done() for caller in callers)
    return callers


async def closed(b: Bench) -> None:
    """Nothing is left once a cache is closed, and all its calls are accounted for."""
    await b.cache.aclose()
    await idle()
    stats = b.cache.stats()
    assert stats.in_flight == stats.entries == 0
    assert stats.loads >= stats.failures + stats.abandoned
    assert asyncio.all_tasks() == {asyncio.current_task()}


# --- scenarios
# ------------------------------------------------------------------------------------------------


async def all_share_one_load() -> None:
    b = bench()
    callers = [b.get() for _ in range(6)]
    await idle()
    callers += [b.get() for _ in range(3)]
    soon(b.calls[0].answer)
    assert await ended(*callers) == ["a#1"] * 9
    assert len(b.calls) == 1
    b.assert_balanced(values=1)
    await closed(b)


async def who_comes_as_all_others_leave_gets_an_answer() -> None:
    b = bench()
    leavers = await waiting(b, 3)
    soon(*(leaver.cancel for leaver in leavers))
    comers = [b.get(), b.get(max_age=0), b.get(max_age=5)]
    await idle()
    b.upstream.always = ...
    soon(*(call.answer for call in b.calls))
    assert all(isinstance(answer, str) for answer in await ended(*comers))
    assert all(leaver.cancelled() for leaver in leavers)
    await closed(b)


async def who_comes_during_slow_clean_up_gets_an_answer() -> None:
    b = bench()
    b.upstream.clean_up = asyncio.Event()
    [leaver] = await waiting(b)
    leaver.cancel()
    await idle()
    comer = b.get()
    soon(b.upstream.clean_up.set)
    await idle()
    soon(b.calls[1].answer)
    assert await ended(comer) == ["a#2"]
    assert b.calls[0].cancelled
    assert b.cache.held("a") == "a#2"
    b.assert_balanced(values=1)
    await closed(b)


async def leaving_as_the_load_ends_loses_nothing_for_others() -> None:
    b = bench()
    callers = await waiting(b, 4)
    soon(b.calls[0].answer, callers[0].cancel, callers[2].cancel)
    answers = await ended(*callers)
    assert callers[0].cancelled() or answers[0] == "a#1"
    assert answers[1] == answers[3] == b.cache.held("a") == "a#1"
    assert len(b.calls) == 1
    await closed(b)


async def the_last_one_leaving_as_the_load_ends_leaves_nothing_broken() -> None:
    b = bench()
    [caller] = await waiting(b)
    end = the_loop().chance.choice([b.calls[0].answer, lambda: b.calls[0].fail(Unwell("down"))])
    soon(end, caller.cancel)
    comer = b.get()
    await idle()
    for call in b.calls[1:]:
        soon(call.answer)
    [answer] = await ended(comer)
    assert isinstance(answer, str | Unwell)
    assert len(b.calls) <= 2
    await closed(b)


async def an_invalidation_as_the_load_ends_leaves_nothing_held() -> None:
    b = bench()
    callers = await waiting(b, 2)
    soon(b.calls[0].answer, lambda: b.cache.invalidate("a"))
    assert await ended(*callers) == ["a#1", "a#1"]
    assert b.cache.held("a") is None
    await closed(b)


async def of_two_loads_around_an_invalidation_the_later_one_is_kept() -> None:
    b = bench()
    early = await waiting(b, 2)
    b.cache.invalidate("a")
    late = await waiting(b, 2)
    soon(b.calls[0].answer, b.calls[1].answer)
    latest = b.get()
    assert await ended(*early, *late, latest) == ["a#1", "a#1", "a#2", "a#2", "a#2"]
    assert b.cache.held("a") == "a#2"
    assert len(b.calls) == 2
    b.assert_balanced(values=2)
    await closed(b)


async def a_superseded_load_that_fails_or_is_left_touches_nothing() -> None:
    b = bench()
    early, left = await waiting(b), await waiting(b, key="b")
    b.cache.clear()
    late = await waiting(b) + await waiting(b, key="b")
    soon(lambda: b.calls[0].fail(Refused("no")), left[0].cancel, b.calls[2].answer)
    third = [b.get(), b.get("b")]
    await idle()
    soon(b.calls[3].answer)
    answers = await ended(*early, *late, *third)
    assert isinstance(answers[0], Refused)
    assert answers[1:] == ["a#2", "b#2", "a#2", "b#2"]
    assert (b.cache.held("a"), b.cache.held("b")) == ("a#2", "b#2")
    assert len(b.calls) == 4
    await closed(b)


async def callers_with_max_age_see_what_was_written_before_they_came() -> None:
    order: list[object] = []
    most = 0

    async def load(key: object) -> Any:
        nonlocal most
        most = max(most, 1 + sum(not call.ended for call in b.calls))
        order.append(len(b.calls) + 1)
        return await b.upstream(key)

    b = bench(load)

    async def caller(number: int) -> None:
        order.append(f"caller {number}")
        answer = await b.cache.get("a", max_age=0)
        assert order.index(int(answer[2:])) > order.index(f"caller {number}")

    callers: list[asyncio.Task[Any]] = []
    for number in range(12):
        callers.append(asyncio.create_task(caller(number)))
        if number % 3 == 2:
            callers.append(b.get())
            soon(*(call.answer for call in b.calls))
            await asyncio.sleep(0)
    while not all(caller.done() for caller in callers):
        soon(*(call.answer for call in b.calls))
        await idle()
    assert set(await ended(*callers)) <= {None, *(call.default for call in b.calls)}
    assert most == 1
    await closed(b)


async def a_crowd_behind_a_load_shares_the_next_one() -> None:
    b = bench()
    first = await waiting(b)
    crowd = await waiting(b, 5, max_age=0)
    assert len(b.calls) == 1
    b.clock.advance(10)
    soon(b.calls[0].answer, crowd[0].cancel)
    await idle()
    crowd += await waiting(b, 2, max_age=5)
    soon(b.calls[1].answer)
    answers = await ended(*first, *crowd)
    assert answers[0] == "a#1"
    assert crowd[0].cancelled()
    assert answers[2:] == ["a#2"] * 6
    assert len(b.calls) == 2
    b.assert_balanced(values=2)
    await closed(b)


async def each_waiter_gets_an_error_of_its_own() -> None:
    b = bench(is_unwell=is_unwell)
    callers = await waiting(b, 6)
    soon(lambda: b.calls[0].fail(Unwell("down")), callers[0].cancel, callers[3].cancel)
    errors = [
        error for error in await ended(*callers) if not isinstance(error, asyncio.CancelledError)
    ]
    assert len(errors) >= 4
    assert len({id(error) for error in errors}) == len(errors)
    assert {type(error) for error in errors} == {Unwell}
    assert len({id(error.__cause__) for error in errors}) == 1
    [later] = await waiting(b)
    soon(b.calls[1].answer)
    assert await ended(later) == ["a#2"]
    await closed(b)


async def a_load_that_ends_by_a_cancellation_of_its_own_cancels_nobody() -> None:
    b = bench()
    callers = await waiting(b, 3)
    soon(b.calls[0].cancel_itself, callers[1].cancel)
    comer = b.get()
    await idle()
    soon(*(call.answer for call in b.calls[1:]))
    answers = await ended(*callers, comer)
    for answer in answers[:1] + answers[2:3]:
        assert isinstance(answer, WolfConnectionError)
    assert isinstance(answers[3], str | WolfConnectionError)
    await closed(b)


async def one_refresh_serves_all_readers_of_a_stale_answer() -> None:
    b = bench(ttl=10, stale_while_revalidate=10)
    [first] = await waiting(b)
    b.calls[0].answer()
    assert await ended(first) == ["a#1"]
    b.clock.advance(15)
    readers = [b.get() for _ in range(5)]
    assert await ended(*readers) == ["a#1"] * 5
    assert len(b.calls) == 2
    soon(b.calls[1].answer)
    readers = [b.get() for _ in range(5)]
    assert set(await ended(*readers)) <= {"a#1", "a#2"}
    assert b.cache.held("a") == "a#2"
    assert len(b.calls) == 2
    assert b.cache.stats().refreshes == 1
    await closed(b)


async def a_refresh_overtaken_by_an_invalidation_is_not_kept() -> None:
    b = bench(ttl=10, stale_while_revalidate=10)
    [first] = await waiting(b)
    b.calls[0].answer()
    await ended(first)
    b.clock.advance(15)
    assert await ended(b.get()) == ["a#1"]
    soon(b.calls[1].answer, lambda: b.cache.invalidate("a"))
    await idle()
    assert b.cache.held("a") is None
    [late] = await waiting(b)
    soon(b.calls[2].answer)
    assert await ended(late) == ["a#3"]
    await closed(b)


async def readers_outlive_an_outage_on_a_stale_answer() -> None:
    b = bench(ttl=10, stale_if_error=100, is_unwell=is_unwell)
    [first] = await waiting(b)
    b.calls[0].answer()
    await ended(first)
    b.clock.advance(15)
    readers = await waiting(b, 4)
    strict = await waiting(b, 1, max_age=1)
    soon(lambda: b.calls[1].fail(Unwell("down")), readers[0].cancel)
    readers += [b.get() for _ in range(3)]
    answers = await ended(*readers, *strict)
    assert set(answers[1:-1]) == {"a#1"}
    assert isinstance(answers[-1], Unwell)
    assert len(b.calls) == 2
    await closed(b)


async def an_outage_longer_than_the_window_shows() -> None:
    """See that a pause after a failed refresh does not stretch ``stale_if_error``."""
    b = bench(ttl=10, stale_if_error=20, refresh_backoff=60, is_unwell=is_unwell)
    [first] = await waiting(b)
    b.calls[0].answer()
    await ended(first)
    b.clock.advance(15)
    [reader] = await waiting(b)
    soon(lambda: b.calls[1].fail(Unwell("down")))
    assert await ended(reader) == ["a#1"]
    b.clock.advance(15)
    assert await ended(b.get()) == ["a#1"]
    b.clock.advance(0.5)
    late = await waiting(b, 3)
    soon(lambda: b.calls[2].fail(Unwell("down")))
    assert {type(error) for error in await ended(*late)} == {Unwell}
    await closed(b)


async def closing_ends_everything() -> None:
    b = bench(ttl=10, stale_while_revalidate=10)
    [first] = await waiting(b)
    b.calls[0].answer()
    await ended(first)
    b.clock.advance(15)
    await ended(b.get())
    b.upstream.clean_up = asyncio.Event()
    callers = await waiting(b, 2, key="b") + await waiting(b, 2, key="b", max_age=0)
    [leaver] = await waiting(b, key="c")
    closers = [asyncio.create_task(b.cache.aclose()) for _ in range(2)]
    comers = [b.get("b"), b.get("d")]
    soon(
        b.calls[2].answer,
        b.calls[1].answer,
        leaver.cancel,
        b.upstream.clean_up.set,
        callers[0].cancel,
    )
    for answer in await ended(*callers, *comers, leaver):
        assert answer == "b#1" or isinstance(answer, WolfClosedError | asyncio.CancelledError)
    assert await ended(*closers) == [None, None]
    assert [type(error) for error in await ended(b.get())] == [WolfClosedError]
    await closed(b)


async def loads_that_wait_for_each_other_are_told() -> None:
    async def load(key: str) -> str:
        return str(await b.cache.get({"a": "b", "b": "c", "c": "a"}[key]))

    b = bench(load)
    callers = [b.get(key) for key in "abcabc"]
    answers = await ended(*callers)
    assert {type(answer) for answer in answers} == {WolfConfigError}
    await closed(b)


async def anything_at_all() -> None:
    """Random deeds at random moments, of which only what always holds is asked."""
    chance = the_loop().chance
    b = bench(
        ttl=4,
        stale_while_revalidate=4,
        stale_if_error=9,
        error_ttl=1,
        max_entries=2,
        is_unwell=is_unwell,
    )
    callers: list[asyncio.Task[Any]] = []
    one_load_each = chance.random() < 0.5

    def deed() -> object:
        key = chance.choice("abc")
        deeds: list[Callable[[], object]] = [
            lambda: b.clock.advance(chance.choice([1, 3, 5])),
            lambda: callers.append(b.get(key, max_age=chance.choice([None, None, 0, 2]))),
            lambda: callers.append(b.get(key)),
        ]
        if not one_load_each:
            deeds += [
                lambda: b.cache.invalidate(key),
                lambda: callers and chance.choice(callers).cancel(),
            ]
        if under_way := [call for call in b.calls if not call.ended]:
            call = chance.choice(under_way)
            deeds += [
                call.answer,
                call.answer,
                lambda: call.fail(chance.choice([Unwell, Refused])("no")),
            ]
        return chance.choice(deeds)()

    for _ in range(60):
        soon(*[deed] * chance.randrange(3))
        await asyncio.sleep(0)
        keys = [call.key for call in b.calls if not call.ended]
        assert len(keys) == len(set(keys)) or not one_load_each
        assert b.cache.stats().entries <= 2
    await closed(b)
    for answer in await ended(*callers):
        assert isinstance(answer, str | Unwell | Refused | WolfClosedError | asyncio.CancelledError)


SCENARIOS: Final[tuple[Callable[[], Awaitable[None]], ...]] = (
    all_share_one_load,
    who_comes_as_all_others_leave_gets_an_answer,
    who_comes_during_slow_clean_up_gets_an_answer,
    leaving_as_the_load_ends_loses_nothing_for_others,
    the_last_one_leaving_as_the_load_ends_leaves_nothing_broken,
    an_invalidation_as_the_load_ends_leaves_nothing_held,
    of_two_loads_around_an_invalidation_the_later_one_is_kept,
    a_superseded_load_that_fails_or_is_left_touches_nothing,
    callers_with_max_age_see_what_was_written_before_they_came,
    a_crowd_behind_a_load_shares_the_next_one,
    each_waiter_gets_an_error_of_its_own,
    a_load_that_ends_by_a_cancellation_of_its_own_cancels_nobody,
    one_refresh_serves_all_readers_of_a_stale_answer,
    a_refresh_overtaken_by_an_invalidation_is_not_kept,
    readers_outlive_an_outage_on_a_stale_answer,
    an_outage_longer_than_the_window_shows,
    closing_ends_everything,
    loads_that_wait_for_each_other_are_told,
    anything_at_all,
)


def run(scenario: Callable[[], Awaitable[None]], loop: RandomLoop) -> None:
    async def main() -> None:
        await scenario()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
    assert not loop.problems


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_in_any_order(scenario: Callable[[], Awaitable[None]]) -> None:
    loops: dict[int, RandomLoop] = {}
    for seed in SEEDS:
        loop = loops[seed] = RandomLoop(seed)
        try:
            run(scenario, loop)
        except Exception as error:
            replay = f"WOLF_SEED={seed} python -m pytest {__file__} -k {scenario.__name__}"
            raise AssertionError(f"fails with seed {seed}; to replay: {replay}") from error
    gc.collect()  # errors that nobody retrieved are reported by the collector
    assert not {seed: loop.problems for seed, loop in loops.items() if loop.problems}


# --- the loop itself
# ------------------------------------------------------------------------------------------


async def order_of_three() -> str:
    order: list[str] = []
    soon(*(lambda name=name: order.append(name) for name in "abc"))
    for _ in range(3):
        await asyncio.sleep(0)
    return "".join(order)


def order_under(loop: asyncio.AbstractEventLoop) -> str:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(order_of_three())


def test_the_random_loop_finds_orders_that_an_ordinary_one_never_does() -> None:
    assert {order_under(asyncio.new_event_loop()) for _ in range(5)} == {"abc"}
    found = {order_under(RandomLoop(seed)) for seed in range(200)}
    assert found >= {"".join(order) for order in permutations("abc")}


def test_the_same_seed_finds_the_same_order() -> None:
    orders = [order_under(RandomLoop(seed)) for seed in range(20)]
    assert orders == [order_under(RandomLoop(seed)) for seed in range(20)]
    assert len(set(orders)) > 1


def test_a_hang_is_reported() -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="nothing can become ready"):
        run(hang, RandomLoop(0))

"""Callers of one key share a load, and nothing else."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from upstream import SETTLED, Upstream, bench, cancel, error_of, outcome, settle, soon, values

from wolf_async.account import Account
from wolf_async.cache import LoadingCache
from wolf_async.errors import WolfConfigError
from wolf_async.models import TaskInit
from wolf_async.policy import CachePolicy

if TYPE_CHECKING:
    from collections.abc import Generator

USER: contextvars.ContextVar[str] = contextvars.ContextVar("USER", default="nobody")


async def test_fifty_callers_of_one_key_make_one_call_and_get_one_answer() -> None:
    """However many callers ask for a key at once, one load answers all of them."""
    b = bench()
    callers = [b.get() for _ in range(50)]
    await settle()
    assert b.upstream.keys == ["a"]
    b.calls[0].answer(["the answer"])
    await settle()
    answers = values(callers)
    assert answers == [["the answer"]] * 50
    assert all(answer is answers[0] for answer in answers)
    b.assert_balanced(values=1)


async def test_callers_who_come_one_after_the_other_during_a_load_share_it() -> None:
    b = bench()
    callers = [await b.waiting() for _ in range(5)]
    b.calls[0].answer()
    await settle()
    assert values(callers) == ["a#1"] * 5
    assert (b.cache.stats().misses, b.cache.stats().joined) == (1, 4)


async def test_who_comes_between_the_end_of_a_load_and_its_telling_makes_no_second_call() -> None:
    b = bench()
    first = await b.waiting()
    b.calls[0].answer()
    callers = [first]
    while not first.done():
        callers.append(b.get())
        await asyncio.sleep(0)
    await settle()
    assert len(callers) > 3
    assert values(callers) == ["a#1"] * len(callers)
    assert len(b.calls) == 1


@pytest.mark.parametrize(
    "keys",
    [
        ["a", "b"],
        [Account("u"), Account("u", "s"), Account("u", ""), Account("s", "u"), Account("us")],
        ["1", 1, ("1",), (1,)],
    ],
)
async def test_keys_never_share_an_answer_or_a_load(keys: list[Any]) -> None:
    """Keys that look alike, or compare close, are as apart as any other two."""
    b = bench()
    callers = [await b.waiting(key) for key in keys]
    assert b.upstream.keys == keys
    for number, call in reversed(list(enumerate(b.calls))):
        call.answer(number)
        await settle()
    assert values(callers) == list(range(len(keys)))
    assert [await b.at_once(key) for key in keys] == list(range(len(keys)))


async def test_two_caches_over_one_loader_never_share() -> None:
    """What one cache loads, holds or forgets is no concern of another one."""
    upstream = Upstream()
    one: LoadingCache[str, str] = LoadingCache(upstream)
    other: LoadingCache[str, str] = LoadingCache(upstream)
    callers = [asyncio.create_task(cache.get("a")) for cache in (one, other)]
    await settle()
    assert len(upstream.calls) == 2
    upstream.calls[0].answer("one")
    upstream.calls[1].answer("other")
    await settle()
    assert values(callers) == ["one", "other"]
    assert one.invalidate("a")
    assert other.peek("a") == "other"


async def test_a_failure_of_one_key_is_none_of_another() -> None:
    b = bench(error_ttl=60)
    bad, good = await b.waiting("bad"), await b.waiting("good")
    b.calls[0].fail(ValueError("bad"))
    b.calls[1].answer()
    await settle()
    assert isinstance(error_of(bad), ValueError)
    assert outcome(good) == "good#1"
    assert await b.at_once("good") == "good#1"


async def test_a_third_caller_joins_a_load_although_its_key_was_crowded_out() -> None:
    """Eviction takes answers away, never a load that callers may still join."""
    b = bench(max_entries=1)
    first, other = await b.waiting("a"), await b.waiting("b")
    third = await b.waiting("a")
    b.calls[1].answer()
    await settle()
    fourth = await b.waiting("a")
    assert b.upstream.keys == ["a", "b"]
    b.calls[0].answer()
    await settle()
    assert values([first, third, fourth]) == ["a#1"] * 3
    assert outcome(other) == "b#1"
    assert b.cache.stats().entries == 1


@pytest.mark.parametrize("value", [None, False, 0, 0.0, "", b"", (), [], {}], ids=repr)
async def test_falsy_values_are_kept(value: object) -> None:
    """What is kept is decided by the load having succeeded, not by the value's truth."""
    b = bench(stale_while_revalidate=10)
    assert await b.hold(value=value) is value
    assert await b.at_once() is value
    assert await b.at_once(max_age=5) is value
    b.clock.advance(31)
    assert await b.at_once() is value
    assert b.cache.stats().hits == 2
    assert b.cache.stats().stale_hits == 1
    b.calls[1].answer(value)
    await settle()


async def test_a_falsy_value_stands_in_for_a_failed_load() -> None:
    """A stale ``None`` is an answer, not the lack of one."""
    b = bench(stale_if_error=10)
    await b.hold(value=None)
    b.clock.advance(31)
    caller = await b.waiting()
    b.calls[1].fail(ValueError())
    await settle()
    assert outcome(caller) is None


async def test_a_caller_cannot_change_what_the_next_one_sees() -> None:
    """Answers are immutable, so that one object can serve everybody."""
    b = bench()
    first = await b.hold(value=TaskInit())
    with pytest.raises(AttributeError):
        first.caller_line_list = ("mine",)
    with pytest.raises(TypeError):
        first.end_actions["0"] = "mine"
    assert await b.at_once() == TaskInit()


async def test_the_load_sees_no_callers_context_variables() -> None:
    """A load runs in an empty context, whoever begins it and whatever for."""
    seen: list[str] = []

    async def load(key: str) -> str:
        seen.append(USER.get())
        USER.set("the load")
        return key

    b = bench(load, stale_while_revalidate=100)
    USER.set("first")
    await b.at_once()
    b.clock.advance(40)
    USER.set("second")
    await b.at_once()  # refreshed behind
    await asyncio.gather(b.get(max_age=0), b.get(max_age=0))
    assert seen == ["nobody"] * len(seen)
    assert len(seen) == 3
    assert USER.get() == "second"


async def test_the_next_load_sees_no_context_variables_either() -> None:
    """A load that starts when another one ends runs in an empty context too."""
    seen: list[str] = []
    upstream = Upstream()

    async def load(key: str) -> object:
        seen.append(USER.get())
        return await upstream(key)

    b = bench(load)
    USER.set("first")
    first = await b.waiting()
    USER.set("second")
    second = await b.waiting(max_age=0)
    upstream.calls[0].answer()
    await settle()
    upstream.calls[1].answer()
    await settle()
    assert values([first, second]) == ["a#1", "a#2"]
    assert seen == ["nobody", "nobody"]


async def test_a_load_within_a_load_sees_no_context_variables_of_the_outer_one() -> None:
    """Neither the caller nor the outer load leaves a mark on the inner one."""
    seen: list[str] = []

    async def load(key: str) -> str:
        seen.append(USER.get())
        USER.set(key)
        return key if key == "inner" else await b.cache.get("inner")

    b = bench(load)
    assert await b.at_once("outer") == "inner"
    assert seen == ["nobody", "nobody"]


class Forgettable:
    """An upstream whose calls only the cache keeps alive: nothing else holds what they wait for."""

    def __init__(self) -> None:
        self.pending: list[weakref.ref[asyncio.Future[str]]] = []

    async def __call__(self, key: str) -> str:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.pending.append(weakref.ref(future))
        return await future

    def answer(self, number: int, value: str) -> None:
        for _ in range(3):
            gc.collect()
        future = self.pending[number]()
        assert future is not None, "the load was collected"
        future.set_result(value)


async def test_a_background_refresh_outlives_the_garbage_collector() -> None:
    """The cache itself keeps the task of a refresh alive until it ends."""
    upstream = Forgettable()
    b = bench(upstream, stale_while_revalidate=100)
    first = await b.waiting()
    upstream.answer(0, "old")
    await settle()
    assert outcome(first) == "old"
    b.clock.advance(40)
    assert await b.at_once() == "old"
    upstream.answer(1, "new")
    await settle()
    assert b.cache.peek("a") == "new"


async def test_a_superseded_refresh_outlives_the_garbage_collector() -> None:
    """A load that nobody waits for does not vanish half-way."""
    upstream = Forgettable()
    b = bench(upstream, stale_while_revalidate=100)
    first = await b.waiting()
    upstream.answer(0, "old")
    await settle()
    outcome(first)
    b.clock.advance(40)
    await b.at_once()
    b.cache.invalidate("a")
    upstream.answer(1, "late")
    await settle()
    assert b.cache.stats().in_flight == 0


@contextmanager
def scheduled(loop: asyncio.AbstractEventLoop) -> Generator[list[str]]:
    """Names of the methods by which anything is put on the loop's list of things to do."""
    log: list[str] = []

    def logged(name: str) -> None:
        method = getattr(loop, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            log.append(name)
            return method(*args, **kwargs)

        setattr(loop, name, call)

    names = ("call_soon", "call_later", "call_at", "call_soon_threadsafe")
    for name in names:
        logged(name)
    yield log
    for name in names:
        delattr(loop, name)


async def test_idle_waiters_use_no_time_of_the_loop() -> None:
    """While forty callers wait, the loop runs only the steps of this test."""
    b = bench()
    callers = [await b.waiting() for _ in range(20)] + [
        await b.waiting(max_age=0) for _ in range(20)
    ]
    with scheduled(asyncio.get_running_loop()) as log:
        await settle()
    assert log == ["call_soon"] * SETTLED
    await cancel(*callers)


async def test_who_leaves_wakes_nobody_of_a_crowd() -> None:
    b = bench()
    callers = [b.get() for _ in range(50)]
    await settle()
    leavers = callers[16:32:3]
    for leaver in leavers:
        with scheduled(asyncio.get_running_loop()) as log:
            leaver.cancel()
            await settle()
        assert leaver.cancelled()
        assert log == ["call_soon"] * (SETTLED + 1), "only the leaver wakes"
    b.calls[0].answer()
    await settle()
    assert {caller.result() for caller in callers if caller not in leavers} == {"a#1"}


@pytest.mark.parametrize("key", [[], {}, {"a"}, ("a", [])], ids=repr)
async def test_an_unhashable_key_is_refused_and_leaves_nothing(key: Any) -> None:
    """Every method says what is wrong with the key, and nothing is loaded or counted."""
    b = bench()
    before = b.cache.stats()
    for call in (b.cache.get(key), b.cache.get(key, max_age=1)):
        with pytest.raises(WolfConfigError, match="hashable"):
            await soon(call)
    for refused in (b.cache.peek, b.cache.invalidate, b.cache.held):
        with pytest.raises(WolfConfigError, match="hashable"):
            refused(key)
    assert b.cache.stats() == before
    assert not b.calls


@pytest.mark.parametrize(
    "max_age", [-1, -0.001, float("nan"), True, "5", [], float("-inf")], ids=repr
)
@pytest.mark.parametrize("held", [True, False])
async def test_a_max_age_that_is_no_number_of_seconds_is_refused_and_leaves_nothing(
    max_age: Any, held: bool
) -> None:
    """A caller learns which numbers are allowed, whether or not an answer is held."""
    b = bench()
    if held:
        await b.hold()
    before = b.cache.stats()
    with pytest.raises(WolfConfigError, match="max_age must be a number from 0"):
        await soon(b.cache.get("a", max_age=max_age))
    with pytest.raises(WolfConfigError, match="max_age must be a number from 0"):
        b.cache.peek("a", max_age=max_age)
    assert b.cache.stats() == before


async def test_a_loader_that_raises_at_once_or_returns_nothing_to_await_is_an_error() -> None:
    def raises(key: str) -> Any:
        raise LookupError(key)

    with pytest.raises(LookupError):
        await bench(raises).at_once()
    with pytest.raises(TypeError):
        await bench(str).at_once()


async def test_without_a_policy_loads_are_shared_and_nothing_is_kept() -> None:
    upstream = Upstream()
    cache: LoadingCache[str, str] = LoadingCache(upstream, policy=None)
    callers = [asyncio.create_task(cache.get("a", max_age=age)) for age in (None, None, 5, 0)]
    await settle()
    assert len(upstream.calls) == 1
    upstream.calls[0].answer()
    await settle()
    assert values(callers) == ["a#1"] * 4
    assert cache.peek("a") is None
    assert cache.held("a") is None
    assert not cache.invalidate("a")
    assert cache.stats().entries == 0
    again = asyncio.create_task(cache.get("a"))
    await settle()
    upstream.calls[1].fail(ValueError())
    await settle()
    assert isinstance(error_of(again), ValueError)
    assert len(upstream.calls) == 2


def test_what_is_no_policy_is_refused() -> None:
    with pytest.raises(WolfConfigError, match="policy must be of type CachePolicy or None"):
        LoadingCache(Upstream(), policy=30)  # type: ignore[arg-type]
    with pytest.raises(WolfConfigError, match="max_bytes needs sizeof"):
        LoadingCache(Upstream(), policy=CachePolicy(max_bytes=1))

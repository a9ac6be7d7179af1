"""A loader that asks the cache for what it is loading gets an error at once, not a deadlock."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from upstream import Upstream, bench, error_of, outcome, settle, values

from wolf_async.cache import LoadingCache
from wolf_async.errors import WolfConfigError

if TYPE_CHECKING:
    from upstream import Bench

WHAT_IT_SAYS = "which it is loading"


def chain(links: dict[str, str], **policy: Any) -> Bench:
    """Make a cache whose loader asks it for the key that each key leads to, if any."""

    async def load(key: str) -> str:
        following = links.get(key)
        return key if following is None else key + await b.cache.get(following)

    b = bench(load, **policy)
    return b


@pytest.mark.parametrize("max_age", [None, 0.0, 5.0])
async def test_a_loader_that_asks_for_its_own_key_gets_a_clear_error(max_age: float | None) -> None:
    """The error comes at once instead of a deadlock, and names the key."""

    async def load(key: str) -> Any:
        return await b.cache.get(key, max_age=max_age)

    b = bench(load)
    callers = [b.get() for _ in range(3)]
    await settle()
    for caller in callers:
        error = error_of(caller)
        assert isinstance(error, WolfConfigError)
        assert WHAT_IT_SAYS in str(error)
        assert "'a'" in str(error)
    assert b.cache.stats().loads == 1
    assert b.cache.stats().in_flight == 0


async def test_the_loader_may_go_on_after_that_error() -> None:
    async def load(key: str) -> str:
        with pytest.raises(WolfConfigError, match=WHAT_IT_SAYS):
            await b.cache.get(key)
        return "an answer"

    b = bench(load)
    assert await b.at_once() == "an answer"


@pytest.mark.parametrize(
    "links", [{"a": "b", "b": "a"}, {"a": "b", "b": "c", "c": "a"}, {"a": "b", "b": "c", "c": "b"}]
)
async def test_a_circle_of_loads_gets_a_clear_error(links: dict[str, str]) -> None:
    """The circle is found by way of other keys too, whoever began which load."""
    b = chain(links)
    callers = [b.get(), b.get()]
    await settle()
    assert all(WHAT_IT_SAYS in str(error_of(caller)) for caller in callers)
    assert b.cache.stats().in_flight == 0


async def test_loads_that_ask_for_other_keys_are_no_circle() -> None:
    b = chain({"a": "b", "b": "c", "d": "c"})
    callers = [b.get("a"), b.get("d"), b.get("b")]
    await settle()
    assert values(callers) == ["abc", "dc", "bc"]
    assert b.cache.stats().loads == 4


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
async def test_two_loads_that_come_to_wait_for_each_other_get_a_clear_error(
    order: tuple[str, str],
) -> None:
    """The circle is found although neither load began the other one."""
    other = {"a": "b", "b": "a"}
    go = {key: asyncio.Event() for key in other}

    async def load(key: str) -> Any:
        await go[key].wait()
        return await b.cache.get(other[key])

    b = bench(load)
    callers = [await b.waiting(key) for key in "ab"]
    assert b.cache.stats().loads == 2
    for key in order:
        go[key].set()
        await settle()
    assert all(WHAT_IT_SAYS in str(error_of(caller)) for caller in callers)
    assert b.cache.stats().in_flight == 0


async def test_two_loads_that_wait_for_each_other_by_way_of_the_next_load_get_a_clear_error() -> (
    None
):
    """Here "a" waits for the load of "b" that comes next, and that of "b" for "a"."""
    go = {key: asyncio.Event() for key in "ab"}

    async def load(key: str) -> Any:
        await go[key].wait()
        return await (b.cache.get("b", max_age=0) if key == "a" else b.cache.get("a"))

    b = bench(load)
    callers = [await b.waiting(key) for key in "ab"]
    go["a"].set()
    await settle()
    go["b"].set()
    await settle()
    assert WHAT_IT_SAYS in str(error_of(callers[1]))
    assert WHAT_IT_SAYS in str(error_of(callers[0]))
    assert b.cache.stats().in_flight == 0


async def test_waiting_for_the_next_load_of_a_superseded_one_is_no_circle() -> None:
    """The next load has begun, so the superseded one waits for nothing that waits for it."""
    upstream = Upstream()
    go = asyncio.Event()

    async def load(key: str) -> Any:
        if key == "a":
            return "a" + await b.cache.get("b", max_age=0)
        if not upstream.calls:
            await go.wait()
            b_first = await upstream("first b")
            return b_first + await b.cache.get("a")
        return await upstream("next b")

    b = bench(load)
    first_b = await b.waiting("b")
    go.set()
    await settle()
    a = await b.waiting("a")  # waits for the next load of b
    b.cache.invalidate("b")  # which starts now
    await settle()
    upstream.calls[0].answer("first")
    await settle()
    upstream.calls[1].answer("next")
    await settle()
    assert outcome(a) == "anext"
    assert outcome(first_b) == "firstanext"


@pytest.mark.parametrize("everything", [False, True])
async def test_a_loader_that_forgets_its_key_and_asks_for_it_gets_a_clear_error(
    everything: bool,
) -> None:
    """Without the error each load would begin another one for ever."""

    async def load(key: str) -> Any:
        if everything:
            b.cache.clear()
        else:
            b.cache.invalidate(key)
        return await b.cache.get(key)

    b = bench(load)
    caller = b.get()
    await settle()
    assert WHAT_IT_SAYS in str(error_of(caller))
    assert b.cache.stats().loads == 1


async def test_a_loader_that_asks_in_a_task_of_its_own_gets_a_clear_error() -> None:
    """A load's circle is seen through the tasks that it starts."""

    async def load(key: str) -> Any:
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(b.cache.get(key))
        return asked.result()

    b = bench(load)
    caller = b.get()
    await settle()
    with pytest.raises(ExceptionGroup) as group:
        raise error_of(caller)
    assert group.group_contains(WolfConfigError, match=WHAT_IT_SAYS)


async def test_a_circle_through_two_caches_gets_a_clear_error() -> None:
    """A circle is found although none of its caches sees all of its loads."""

    async def ask_two(key: str) -> Any:
        return await two.get(key)

    async def ask_one(key: str) -> Any:
        return await b.cache.get(key)

    b = bench(ask_two)
    two: LoadingCache[str, Any] = LoadingCache(ask_one, clock=b.clock)
    caller = b.get()
    await settle()
    assert WHAT_IT_SAYS in str(error_of(caller))


async def test_one_cache_may_ask_another_for_the_same_key() -> None:
    below = bench()

    async def load(key: str) -> Any:
        return await below.cache.get(key)

    b = bench(load)
    callers = [await b.waiting(), await b.waiting()]
    below.calls[0].answer()
    await settle()
    assert values(callers) == ["a#1", "a#1"]


async def test_a_task_that_a_load_left_behind_may_ask_for_its_key() -> None:
    left: list[asyncio.Task[Any]] = []
    go = asyncio.Event()

    async def later() -> Any:
        await go.wait()
        return await b.cache.get("a")

    async def load(key: str) -> str:
        if not left:
            left.append(asyncio.create_task(later()))
        return f"answer {b.cache.stats().loads}"

    b = bench(load)
    assert await b.at_once() == "answer 1"
    b.cache.clear()
    go.set()
    await settle()
    assert outcome(left[0]) == "answer 2"


async def test_a_load_begun_by_a_task_that_another_load_left_behind_may_ask_for_that_ones_key() -> (
    None
):
    left: list[asyncio.Task[Any]] = []
    go = asyncio.Event()

    async def later() -> Any:
        await go.wait()
        return await b.cache.get("b")

    async def load(key: str) -> str:
        if key == "b":
            return f"b{await b.cache.get('a')}"
        if not left:
            left.append(asyncio.create_task(later()))
        return "a"

    b = bench(load)
    assert await b.at_once("a") == "a"
    b.cache.clear()
    go.set()
    await settle()
    assert outcome(left[0]) == "ba"


async def test_what_waited_within_a_load_and_left_is_not_taken_for_a_waiter() -> None:
    """The load of "a" gave up on "b", so "b" may ask for "a"."""
    upstream = Upstream()
    go = asyncio.Event()

    async def load(key: str) -> Any:
        if key == "b":
            await go.wait()
            return "b" + await b.cache.get("a")
        try:
            async with asyncio.timeout(0):
                await b.cache.get("b")
        except TimeoutError:
            pass
        return await upstream(key)

    b = bench(load)
    callers = [await b.waiting("b"), await b.waiting("a")]
    go.set()
    await settle()
    upstream.calls[0].answer("a")
    await settle()
    assert values(callers) == ["ba", "a"]


@pytest.mark.parametrize("end", ["answered", "closed"])
async def test_what_a_load_leaves_behind_keeps_neither_the_cache_nor_the_answer(end: str) -> None:
    """A connection or a task that outlives the load in which it began keeps that load's context."""
    contexts: list[contextvars.Context] = []
    go = asyncio.Event()

    class Answer:
        pass

    async def load(key: str) -> Answer:
        contexts.append(contextvars.copy_context())
        await go.wait()
        return Answer()

    async def use() -> list[weakref.ref[Any]]:
        cache = LoadingCache(load, policy=None)
        callers = [asyncio.create_task(cache.get("a", max_age=age)) for age in (None, 0)]
        await settle()
        callers.append(asyncio.create_task(cache.get("a", max_age=0)))  # waits for the next load
        await settle()
        if end == "closed":
            await cache.aclose()
        go.set()
        outcomes = await asyncio.gather(*callers, return_exceptions=True)
        return [weakref.ref(cache), *map(weakref.ref, outcomes)]

    seen = await use()
    await settle()
    gc.collect()
    assert [thing() for thing in seen] == [None] * 4
    assert len(contexts) == (2 if end == "answered" else 1)


async def test_a_task_that_a_load_left_behind_may_ask_for_the_load_that_waited_for_that_one() -> (
    None
):
    """Also in the tick in which "b" has ended, and "a" has not heard of it yet."""
    left_behind: list[asyncio.Task[Any]] = []

    async def load(key: str) -> Any:
        if key == "a":
            return "a" + await b.cache.get("b")
        left_behind.append(asyncio.create_task(ask_for_a()))
        return "b"

    async def ask_for_a() -> Any:
        while b.cache.stats().in_flight == 2:  # noqa: ASYNC110 (an event would come a tick too late)
            await asyncio.sleep(0)
        assert b.cache.stats().in_flight == 1
        return await b.cache.get("a")

    b = bench(load)
    assert await b.get("a") == "ab"
    assert await left_behind[0] == "ab"
    assert b.cache.stats().joined == 1


async def test_a_load_that_such_a_task_waits_for_may_ask_for_it_too() -> None:
    """In one tick what "b" left behind waits for "c", and "a" still seems to wait for "b"."""
    left_behind: list[asyncio.Task[Any]] = []

    async def load(key: str) -> Any:
        if key == "a":
            return "a" + await b.cache.get("b")
        if key == "b":
            left_behind.append(asyncio.create_task(b.cache.get("c")))
            await settle()
            return "b"
        while b.cache.stats().in_flight == 3:  # noqa: ASYNC110 (an event would come a tick too late)
            await asyncio.sleep(0)
        assert b.cache.stats().in_flight == 2
        return "c" + await b.cache.get("a")

    b = bench(load)
    assert await b.get("a") == "ab"
    assert await left_behind[0] == "cab"

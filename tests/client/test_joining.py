"""Callers who are answered with a hit, and those who join a load under way."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import pytest

from wolf_async import (
    Account,
    CachePolicy,
    RawResponse,
    TaskInit,
    WolfClient,
    WolfConfigError,
    WolfConnectionError,
)
from wolf_async.cache import mark_sent
from wolf_async.testing import FakeClock

from .conftest import TOKEN, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from wolf_async.testing import Sandbox

    from .conftest import MakeClient, NewLoop

T = TypeVar("T")

BODY = msgspec.json.encode(
    {
        "code": 200,
        "status": "success",
        "data": {"max_recycle_limit": 3, "end_actions": {"0": "nothing"}},
    }
)


class GatedClient(WolfClient):
    """A client that waits for a gate, one a load, where a request would be sent."""

    def __init__(self, **settings: Any) -> None:
        self.now = FakeClock()
        super().__init__(TOKEN, clock=self.now, **settings)
        self.gates: list[asyncio.Future[bytes]] = []
        self._sender.send = self._answer_at_the_gate  # type: ignore[assignment,method-assign]

    async def _answer_at_the_gate(
        self, account: Account, url: object, read: Callable[[RawResponse], T], *, redacts: bool
    ) -> tuple[RawResponse, T]:
        sent_at = self.now()
        mark_sent(sent_at)
        self.gates.append(asyncio.get_running_loop().create_future())
        response = RawResponse(200, {}, await self.gates[-1], sent_at)
        return response, read(response)

    def ask(self, max_age: float | None = None) -> asyncio.Task[TaskInit]:
        return asyncio.create_task(self.task_init("user", "sub", max_age=max_age))


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def crowd(client: GatedClient, size: int = 3) -> list[asyncio.Task[TaskInit]]:
    """Return callers of whom the first has begun a load, and the others have joined it."""
    callers = [client.ask() for _ in range(size)]
    await settle()
    return callers


async def refused(client: GatedClient) -> None:
    """Call on another loop than that of the load under way, in vain."""
    with pytest.raises(WolfConfigError, match="another event loop"):
        await client.task_init("user", "sub")


async def serve_one(client: GatedClient) -> None:
    """Have one call end well, of which nothing is left."""
    caller = client.ask()
    await settle()
    client.gates[0].set_result(BODY)
    await caller
    client.clear()


async def test_all_who_join_get_the_same_answer_and_are_counted() -> None:
    client = GatedClient()
    callers = await crowd(client, 50)
    client.gates[0].set_result(BODY)
    answers = await asyncio.gather(*callers)
    assert all(answer is answers[0] for answer in answers)
    assert len(client.gates) == 1
    stats = client.stats()
    assert (stats.misses, stats.joined, stats.hits, stats.loads) == (1, 49, 0, 1)
    assert "0 of 50 calls served from memory" in repr(client)


async def test_an_answer_that_is_hit_outlives_one_that_is_not() -> None:
    client = GatedClient(cache=CachePolicy(max_entries=2))

    async def get(user: str) -> None:
        caller = asyncio.create_task(client.task_init(user))
        await settle()
        if not caller.done():
            client.gates[-1].set_result(BODY)
        await caller

    for user in ("first", "second", "first", "third"):
        await get(user)
    assert [client.peek(user) is None for user in ("first", "second", "third")] == [
        False,
        True,
        False,
    ]


async def test_who_joins_while_an_answer_is_too_old_to_be_used_gets_the_new_one() -> None:
    client = GatedClient(cache=CachePolicy(ttl=10))
    callers = await crowd(client)
    client.gates[0].set_result(BODY)
    await settle()
    client.now.advance(11)
    late = await crowd(client)
    client.gates[1].set_result(BODY.replace(b"3", b"4"))
    assert [caller.result().max_recycle_limit for caller in callers] == [3] * 3
    assert [(await caller).max_recycle_limit for caller in late] == [4] * 3
    assert client.stats().joined == 4


async def test_an_answer_that_may_stand_in_does_so_for_those_who_join_too() -> None:
    client = GatedClient(cache=CachePolicy(ttl=10, stale_if_error=100, stale_while_revalidate=1))
    first = await crowd(client, 1)
    client.gates[0].set_result(BODY)
    await settle()
    client.now.advance(12)
    callers = await crowd(client)
    strict = client.ask(max_age=100)
    await settle()
    client.gates[1].set_exception(WolfConnectionError("refused"))
    assert [await caller for caller in callers] == [first[0].result()] * 3
    with pytest.raises(WolfConnectionError):
        await strict


async def test_a_stale_answer_is_served_at_once_while_its_refresh_is_under_way() -> None:
    client = GatedClient(cache=CachePolicy(ttl=10, stale_while_revalidate=100))
    first = await crowd(client, 1)
    client.gates[0].set_result(BODY)
    await settle()
    client.now.advance(12)
    callers = await crowd(client)
    assert [caller.result() for caller in callers] == [first[0].result()] * 3
    await client.aclose()


async def test_who_wants_a_newer_answer_does_not_join_a_load_that_was_sent_before() -> None:
    client = GatedClient()
    callers = await crowd(client)
    newer = [client.ask(max_age=0), client.ask(max_age=0)]
    await settle()
    client.gates[0].set_result(BODY)
    await settle()
    assert [caller.done() for caller in callers + newer] == [True] * 3 + [False] * 2
    assert len(client.gates) == 2
    client.gates[1].set_result(BODY)
    await asyncio.gather(*newer)


@pytest.mark.parametrize("failing", [False, True])
async def test_who_joins_waits_on_when_another_leaves(failing: bool) -> None:
    client = GatedClient()
    callers = await crowd(client, 5)
    for leaver in (callers.pop(3), callers.pop(0)):
        leaver.cancel()
        await settle()
    assert not any(caller.done() for caller in callers)
    callers += await crowd(client, 1)
    if failing:
        client.gates[0].set_exception(WolfConnectionError("refused"))
    else:
        client.gates[0].set_result(BODY)
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {WolfConnectionError if failing else TaskInit}
    assert len({id(outcome) for outcome in outcomes}) == (4 if failing else 1)
    stats = client.stats()
    assert (stats.misses, stats.joined, stats.loads) == (1, 5, 1)


async def test_each_gets_an_error_of_its_own() -> None:
    client = GatedClient()
    callers = await crowd(client)
    original = WolfConnectionError("refused")
    client.gates[0].set_exception(original)
    errors = await asyncio.gather(*callers, return_exceptions=True)
    assert len({id(error) for error in errors} | {id(original)}) == 4
    assert all(
        isinstance(error, WolfConnectionError) and error.__cause__ is original for error in errors
    )


@pytest.mark.usefixtures("loop_reports", "asyncio_errors")
async def test_who_leaves_in_the_tick_of_a_failure_makes_no_noise() -> None:
    client = GatedClient()
    callers = await crowd(client)
    client.gates[0].set_exception(WolfConnectionError("refused"))
    # until the load has ended, and told those who wait, none of whom has run since
    while client.stats().failures == 0:  # noqa: ASYNC110 (an event would come a tick too late)
        await asyncio.sleep(0)
    for caller in callers[1:]:
        caller.cancel()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [WolfConnectionError] + [
        asyncio.CancelledError
    ] * 2
    del outcomes, callers
    gc.collect()


async def test_the_load_is_cancelled_when_the_last_has_left() -> None:
    client = GatedClient()
    callers = await crowd(client)
    for caller in callers[:2]:
        caller.cancel()
    await settle()
    assert not client.gates[0].cancelled()
    callers[2].cancel()
    await settle()
    assert client.gates[0].cancelled()
    assert client.stats().abandoned == 1


class TracedError(WolfConnectionError):
    """An error that tells when it is freed."""


async def test_an_error_is_freed_without_the_garbage_collector() -> None:
    """A cycle through frames would keep what those hold alive."""
    client = GatedClient()
    callers = await crowd(client)
    gc.collect()
    gc.disable()
    try:
        client.gates.pop().set_exception(TracedError("refused"))
        await settle()
        references = [weakref.ref(caller.exception()) for caller in callers]
        callers.clear()
        assert [reference() for reference in references] == [None] * 3
    finally:
        gc.enable()


@pytest.mark.parametrize("ids", [([],), ({}, "sub"), ("user", ["sub"])], ids=repr)
async def test_an_id_that_cannot_be_hashed_is_refused_like_any_other_that_is_no_text(
    ids: Any,
) -> None:
    """A caller learns which of the ids is wrong, and nothing is loaded."""
    client = GatedClient()
    for call in (client.task_init, client.answer, client.raw_task_init):
        with pytest.raises(WolfConfigError, match=r"user_id must be a str, not (list|dict)"):
            await call(*ids)
    assert not client.gates


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
async def test_a_process_that_was_forked_does_not_join_a_load_of_the_one_it_came_from() -> None:
    """As a worker that multiprocessing starts from within a coroutine, with a global client."""
    client = GatedClient()
    callers = await crowd(client)
    child = os.fork()
    if not child:
        try:
            asyncio.run(refused(client))
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    client.gates[0].set_result(BODY)
    await asyncio.gather(*callers)
    assert status == 0


def test_a_load_of_a_loop_that_is_open_is_not_joined_from_another(new_loop: NewLoop) -> None:
    """The error is clear, and the load goes on for those who wait on its own loop."""
    client = GatedClient()
    first = new_loop()
    callers = first.run_until_complete(crowd(client))
    before = client.stats()

    try:
        run(refused(client), new_loop)
        assert client.stats() == before
        callers += first.run_until_complete(crowd(client))
        client.gates[0].set_result(BODY)
        first.run_until_complete(settle())
        assert [caller.result().max_recycle_limit for caller in callers] == [3] * 6
    finally:
        first.close()


def test_a_load_of_a_loop_that_went_on_in_another_thread_is_not_joined_from_the_first_one(
    new_loop: NewLoop,
) -> None:
    """As where a program begins on a loop, and then lets it run behind."""
    client = GatedClient()
    behind = new_loop()
    behind.run_until_complete(serve_one(client))
    thread = threading.Thread(target=behind.run_forever)
    thread.start()
    try:
        callers = asyncio.run_coroutine_threadsafe(crowd(client), behind).result(10)
        run(refused(client), new_loop)
        behind.call_soon_threadsafe(client.gates[1].set_result, BODY)
        ended = asyncio.run_coroutine_threadsafe(asyncio.wait(callers), behind)
        assert len(ended.result(10)[0]) == 3
    finally:
        behind.call_soon_threadsafe(behind.stop)
        thread.join()
        behind.close()


def test_a_load_that_another_loop_has_asked_for_ends_when_its_own_callers_have_left(
    new_loop: NewLoop,
) -> None:
    client = GatedClient()

    async def leave(callers: list[asyncio.Task[TaskInit]]) -> None:
        for caller in callers:
            caller.cancel()
        await settle()

    first = new_loop()
    try:
        callers = first.run_until_complete(crowd(client))
        run(refused(client), new_loop)
        first.run_until_complete(leave(callers))
        assert client.gates[0].cancelled()
        assert client.stats().abandoned == 1
    finally:
        first.close()


def test_a_call_from_another_loop_that_comes_before_the_first_caller_waits_does_no_harm(
    new_loop: NewLoop,
) -> None:
    """Another thread's call may come between a load's beginning and its first caller's wait."""
    client = GatedClient()

    async def here() -> TaskInit:
        def factory(
            loop: asyncio.AbstractEventLoop, coro: Any, context: Context | None = None
        ) -> asyncio.Task[Any]:
            loop.set_task_factory(None)  # once, for the load's task
            thread = threading.Thread(target=run, args=(refused(client), new_loop))
            thread.start()
            thread.join()
            return asyncio.Task(coro, loop=loop, context=context)

        caller = client.ask()
        asyncio.get_running_loop().set_task_factory(factory)
        await settle()
        client.gates[0].set_result(BODY)
        return await caller

    assert run(here(), new_loop).max_recycle_limit == 3
    stats = client.stats()
    assert (stats.loads, stats.abandoned, stats.misses, stats.joined) == (1, 0, 1, 0)


def test_a_load_that_a_closed_loop_has_left_is_made_again(new_loop: NewLoop) -> None:
    """A loop that was closed without ending its tasks leaves no load to wait for."""
    client = GatedClient()
    loop = new_loop()
    loop.run_until_complete(crowd(client))
    left = asyncio.all_tasks(loop)
    for task in left:  # nothing but this test is to blame for them
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()

    async def again() -> list[TaskInit]:
        callers = await crowd(client)
        client.gates[1].set_result(BODY)
        return await asyncio.gather(*callers)

    assert [answer.max_recycle_limit for answer in run(again(), new_loop)] == [3] * 3
    left.clear()
    gc.collect()
    stats = client.stats()
    assert (stats.loads, stats.abandoned, stats.misses, stats.joined) == (2, 1, 2, 4)


@pytest.mark.usefixtures("asyncio_errors")
def test_a_loop_that_is_closed_in_the_tick_of_a_failure_makes_no_noise(new_loop: NewLoop) -> None:
    """Errors that have just been handed out need nobody to see them."""
    client = GatedClient()
    loop = new_loop()
    callers = loop.run_until_complete(crowd(client))
    client.gates[0].set_exception(WolfConnectionError("refused"))
    while client.stats().failures == 0:
        loop.call_soon(loop.stop)
        loop.run_forever()  # one tick
    assert not any(caller.done() for caller in callers)
    for caller in callers:  # nothing but this test is to blame for them
        caller._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    callers.clear()
    gc.collect()


async def test_a_fresh_answer_that_is_older_than_max_age_is_asked_for_again(
    box: Sandbox, client: MakeClient
) -> None:
    clock = FakeClock()
    wolf = client(box.base_url, clock=clock, cache=CachePolicy(ttl=30))
    user = box.users[0]
    await wolf.task_init(user)
    clock.advance(5)
    await wolf.task_init(user, max_age=5)
    assert len(box.calls) == 1
    await wolf.task_init(user, max_age=4)
    assert len(box.calls) == 2

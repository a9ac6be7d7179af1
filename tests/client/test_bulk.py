"""Many accounts in one stream."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tracemalloc
import weakref
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from wolf_async import (
    Account,
    AccountResult,
    TaskInit,
    WolfClosedError,
    WolfConfigError,
    WolfError,
    WolfNotFoundError,
)
from wolf_async.answer import CachedAnswer
from wolf_async.bulk import results
from wolf_async.cache.inflight import Served
from wolf_async.testing import hold

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from wolf_async.answer import Ask
    from wolf_async.bulk import Accounts
    from wolf_async.testing import Sandbox

    from .conftest import MakeClient

INIT = TaskInit()
ANSWER = Served(CachedAnswer(INIT, digest=b"", body_size=0, fetched_at=0.0), sent_at=0.0)


class Calm:
    """An upstream with which nothing is ever wrong."""

    is_failing = False
    breaker_opened = 0
    said_no = 0

    def is_shut(self) -> bool:
        return False

    def opens_in(self) -> float:
        return 0.0

    def refusal(self) -> WolfError:
        raise AssertionError("nothing is shut")

    async def wait_for_change(self, seconds: float) -> None:
        await asyncio.sleep(0)

    def is_held_up(self, error: BaseException) -> bool:
        return False


async def ask_at_once(account: Account, max_age: float | None) -> Served[CachedAnswer]:
    return ANSWER


def stream(
    accounts: Accounts, concurrency: int, ask: Ask = ask_at_once
) -> AsyncGenerator[AccountResult, None]:
    return results(
        accounts,
        ask,
        concurrency=concurrency,
        max_age=None,
        patience=60,
        upstream=Calm(),
        clock=lambda: 0.0,
    )


async def test_every_account_has_one_result_with_its_own_answer(
    box: Sandbox, client: MakeClient
) -> None:
    wolf = client(box.base_url)
    found = {
        result.account: result async for result in wolf.task_init_many(box.accounts, concurrency=5)
    }
    assert set(found) == set(box.accounts)
    for account, result in found.items():
        assert result.error is None
        assert result.init is not None
        assert {group.user_id for group in result.init.task_dial_times} == {
            account[1] or account[0]
        }
    assert box.concurrency_peak <= 5


async def test_results_come_as_they_complete(box: Sandbox, client: MakeClient) -> None:
    slow, fast = box.users[:2]
    gate = asyncio.Event()
    box.script(Account(slow), hold(gate))
    order: list[str] = []
    async for result in client(box.base_url).task_init_many([slow, fast]):
        order.append(result.account.user_id)
        gate.set()
    assert order == [fast, slow]


async def test_one_bad_account_stops_nothing(box: Sandbox, client: MakeClient) -> None:
    good = box.users[0]
    accounts: list[Any] = ["nobody", "..", 7, ("a", "b", "c"), (good, None)]
    found = [result async for result in client(box.base_url).task_init_many(accounts)]
    assert sorted(type(result.error).__name__ for result in found) == [
        "NoneType",
        "WolfConfigError",
        "WolfConfigError",
        "WolfConfigError",
        "WolfNotFoundError",
    ]
    assert all((result.init is None) != (result.error is None) for result in found)
    assert all(
        result.error.account == result.account for result in found if result.error is not None
    )


async def test_accounts_named_twice_share_one_request(box: Sandbox, client: MakeClient) -> None:
    user = box.users[0]
    found = [result.init async for result in client(box.base_url).task_init_many([user] * 50)]
    assert len(found) == 50
    assert all(init is found[0] for init in found)
    assert len(box.calls) == 1


async def test_max_age_reaches_the_cache(box: Sandbox, client: MakeClient) -> None:
    wolf = client(box.base_url)
    await wolf.task_init(box.users[0])
    _ = [result async for result in wolf.task_init_many(box.users[:1], max_age=0)]
    assert len(box.calls) == 2


async def test_leaving_early_leaves_no_task(box: Sandbox, client: MakeClient) -> None:
    gate = asyncio.Event()
    box.always(hold(gate))
    box.script(Account(box.users[3]), hold(gate))
    wolf = client(box.base_url)
    await wolf.task_init_many([]).aclose()
    before = asyncio.all_tasks()
    async with aclosing(wolf.task_init_many(box.accounts, concurrency=7)) as stream:
        first = asyncio.ensure_future(anext(stream))
        await box.wait_for_calls(7)
        first.cancel()
        await asyncio.wait([first])
    await box.wait_until_idle()
    started = [task.get_coro() for task in asyncio.all_tasks() - before]
    assert [coro for coro in started if getattr(coro, "__name__", "") == "_work"] == []
    assert wolf.stats().in_flight == 0
    assert len(box.calls) == 7


async def test_the_source_is_read_no_faster_than_results_are_taken(
    box: Sandbox, client: MakeClient
) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield box.users[read % 20]

    taken = 0
    async with aclosing(client(box.base_url).task_init_many(endless(), concurrency=4)) as stream:
        async for _ in stream:
            taken += 1
            assert read <= taken + 2 * 4 + 1
            if taken == 300:
                break


async def test_an_asynchronous_source_that_waits_holds_no_result_up(
    box: Sandbox, client: MakeClient
) -> None:
    taken = asyncio.Event()

    async def trickle() -> AsyncIterator[str]:
        yield box.users[0]
        await taken.wait()
        yield box.users[1]

    found: list[AccountResult] = []
    async for result in client(box.base_url).task_init_many(trickle()):
        found.append(result)
        taken.set()
    assert [result.account.user_id for result in found] == list(box.users[:2])


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_an_error_of_the_source_comes_after_what_was_under_way(
    box: Sandbox, client: MakeClient, kind: str
) -> None:
    def broken() -> Iterator[str]:
        yield box.users[0]
        raise ZeroDivisionError

    async def abroken() -> AsyncIterator[str]:
        yield box.users[0]
        raise ZeroDivisionError

    found: list[AccountResult] = []
    stream = client(box.base_url).task_init_many(broken() if kind == "sync" else abroken())
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 (what came before it counts)
        async for result in stream:
            found.append(result)
    assert [result.account.user_id for result in found] == [box.users[0]]


class NoException(BaseException):
    pass


@pytest.mark.parametrize(
    ("raised", "expected"), [(asyncio.CancelledError, WolfError), (NoException, NoException)]
)
async def test_a_source_that_ends_by_no_exception_ends_the_stream(
    box: Sandbox, client: MakeClient, raised: type[BaseException], expected: type[BaseException]
) -> None:
    async def source() -> AsyncIterator[str]:
        yield box.users[0]
        raise raised

    found: list[AccountResult] = []
    async with asyncio.timeout(5):
        with pytest.raises(expected) as caught:  # noqa: PT012 (what came before it counts)
            async for result in client(box.base_url).task_init_many(source(), concurrency=3):
                found.append(result)
    assert type(caught.value) is expected
    assert [result.account.user_id for result in found] == [box.users[0]]


@pytest.mark.parametrize("kind", ["timeout", "group"])
async def test_a_source_that_cancels_who_reads_it_ends_the_stream(kind: str) -> None:
    fail, gate = asyncio.Event(), asyncio.Event()

    async def failing() -> None:
        await fail.wait()
        raise ZeroDivisionError

    # either one belongs to the task that asks for the first account, and then waits for its answer

    async def timed() -> AsyncIterator[str]:
        async with asyncio.timeout(None) as limit:
            yield "a"
            yield "b"
            limit.reschedule(0)
            yield "c"

    async def grouped() -> AsyncIterator[str]:
        async with asyncio.TaskGroup() as group:
            group.create_task(failing())
            yield "a"
            yield "b"
            fail.set()
            yield "c"

    async def ask(account: Account, max_age: float | None) -> Served[CachedAnswer]:
        await gate.wait()
        return ANSWER

    async def collect() -> None:
        async for result in stream(timed() if kind == "timeout" else grouped(), 3, ask):
            found.append(result.account.user_id)

    found: list[str] = []
    collecting = asyncio.ensure_future(collect())
    for _ in range(20):
        await asyncio.sleep(0)
    gate.set()
    with pytest.raises(WolfError, match="the source of the accounts was cancelled"):
        await asyncio.wait_for(collecting, 5)
    assert sorted(found) == ["b", "c"]


async def test_an_error_of_the_source_is_freed_without_the_collector(
    box: Sandbox, client: MakeClient
) -> None:
    class Mine(Exception):  # noqa: N818
        pass

    alive: list[weakref.ref[Mine]] = []

    def source() -> Iterator[str]:
        yield box.users[0]
        error = Mine()
        alive.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(Mine):
            async for _ in client(box.base_url).task_init_many(source()):
                pass
        await asyncio.sleep(0)
        assert [ref() for ref in alive] == [None]
    finally:
        gc.enable()


async def test_a_closed_client_ends_the_stream(box: Sandbox, client: MakeClient) -> None:
    wolf = client(box.base_url)

    def endless() -> Iterator[str]:
        while True:
            yield from box.users

    taken = 0
    with pytest.raises(WolfClosedError):  # noqa: PT012 (closed while it is read)
        async for _ in wolf.task_init_many(endless(), concurrency=3):
            taken += 1
            if taken == 5:
                await wolf.aclose()
    assert taken < 20


@pytest.mark.parametrize("accounts", ["one-user", b"x", Account("one-user"), 7, None])
async def test_what_is_no_collection_of_accounts_is_refused_at_once(
    client: MakeClient, accounts: Any
) -> None:
    with pytest.raises(WolfConfigError, match="iterable of accounts"):
        client("http://127.0.0.1:9").task_init_many(accounts)


@pytest.mark.parametrize(
    "settings", [{"concurrency": 0}, {"concurrency": True}, {"max_age": -1}, {"patience": -1}]
)
async def test_settings_that_make_no_sense_are_refused_at_once(
    client: MakeClient, settings: Any
) -> None:
    with pytest.raises(WolfConfigError):
        client("http://127.0.0.1:9").task_init_many([], **settings)


async def test_cached_accounts_cost_no_task_and_no_memory() -> None:
    made = 0
    loop = asyncio.get_running_loop()
    make = loop.create_task

    def counted(*args: Any, **kwargs: Any) -> asyncio.Task[Any]:
        nonlocal made
        made += 1
        return make(*args, **kwargs)

    loop.create_task = counted  # type: ignore[method-assign]
    tracemalloc.start()
    try:
        peaks: list[int] = []
        for count in (1_000, 10_000):
            tracemalloc.reset_peak()
            base = tracemalloc.get_traced_memory()[0]
            seen = 0
            async for result in stream((f"user-{n}" for n in range(count)), 8):
                seen += result.init is INIT
            assert seen == count
            peaks.append(tracemalloc.get_traced_memory()[1] - base)
    finally:
        tracemalloc.stop()
        loop.create_task = make  # type: ignore[method-assign]
    assert made == 2 * 8
    assert peaks[1] < 2 * peaks[0]


async def test_a_long_run_of_hits_lets_other_tasks_run() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    async for _ in stream((f"user-{n}" for n in range(1_000)), 10):
        pass
    task.cancel()
    await asyncio.wait([task])
    assert turns >= 50


async def test_an_error_in_a_result_names_its_account(box: Sandbox, client: MakeClient) -> None:
    (result,) = [result async for result in client(box.base_url).task_init_many(["nobody"])]
    assert isinstance(result.error, WolfNotFoundError)
    assert result.error.account == result.account == Account("nobody")
    assert result.error.attempts == 1

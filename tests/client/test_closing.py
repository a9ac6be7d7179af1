"""Closing a client, dropping one, and moving one from loop to loop."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from wolf_async import (
    CachePolicy,
    Timeouts,
    WolfClient,
    WolfClosedError,
    WolfConfigError,
    WolfError,
)
from wolf_async.testing import Sandbox, hold

from .conftest import ONCE, TOKEN, Canary, MakeClient, descriptors, run

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from .conftest import NewLoop


async def test_a_client_that_was_never_used_has_nothing_to_close(client: MakeClient) -> None:
    wolf = client("http://127.0.0.1:1")
    await wolf.aclose()
    async with client("http://127.0.0.1:1"):
        pass


async def test_closing_twice_is_closing_once(box: Sandbox, client: MakeClient) -> None:
    wolf = client(box.base_url)
    await wolf.task_init(box.users[0])
    await wolf.aclose()
    await wolf.aclose()
    other = client(box.base_url)
    await other.task_init(box.users[0])
    await asyncio.gather(other.aclose(), other.aclose(), other.aclose())


async def test_a_closed_client_refuses_calls(box: Sandbox, client: MakeClient) -> None:
    wolf = client(box.base_url)
    await wolf.task_init(box.users[0])
    await wolf.aclose()
    box.reset_calls()
    for call in (
        wolf.task_init(box.users[0]),
        wolf.task_init(box.users[1]),
        wolf.task_init(box.users[0], max_age=0),
        wolf.raw_task_init(box.users[0]),
    ):
        with pytest.raises(WolfClosedError):
            await call
    assert wolf.peek(box.users[0]) is None
    assert not box.calls
    assert wolf.stats().requests == 1


async def test_a_client_closed_before_its_first_call_refuses_calls(
    box: Sandbox, client: MakeClient
) -> None:
    wolf = client(box.base_url)
    await wolf.aclose()
    with pytest.raises(WolfClosedError):
        await wolf.task_init(box.users[0])
    with pytest.raises(WolfClosedError):
        await wolf.raw_task_init(box.users[0])


async def test_closing_tells_all_who_wait(box: Sandbox, client: MakeClient) -> None:
    async def provider() -> str:
        await asyncio.Event().wait()
        return TOKEN

    box.always(hold(asyncio.Event()))
    wolf = client(box.base_url, max_concurrency=3)
    without_token = client(box.base_url, token=provider)
    calls = [
        *(wolf.task_init(user) for user in box.users),
        *(wolf.task_init(box.users[0], max_age=0) for _ in range(3)),
        *(wolf.raw_task_init(user) for user in box.users[:3]),
        *(without_token.task_init(user) for user in box.users[:3]),
    ]
    waiting = asyncio.gather(*calls, return_exceptions=True)
    await box.wait_for_calls(3)
    await wolf.aclose()
    await without_token.aclose()
    assert {type(outcome) for outcome in await waiting} == {WolfClosedError}
    await box.wait_until_idle()


async def test_a_call_that_comes_while_closing_ends_loads_sends_nothing(
    box: Sandbox, client: MakeClient
) -> None:
    wolf = client(box.base_url)
    await asyncio.gather(*map(wolf.task_init, box.users[:2]))  # two connections are kept
    box.script(box.users[2], hold(asyncio.Event()))
    load = asyncio.ensure_future(wolf.task_init(box.users[2]))
    await box.wait_for_calls(3)
    closing = asyncio.ensure_future(wolf.aclose())
    await asyncio.sleep(0)  # it waits for the load to end
    for call in (wolf.raw_task_init, wolf.task_init):
        with pytest.raises(WolfClosedError):
            await call(box.users[0])
    await closing
    with pytest.raises(WolfClosedError):
        await load
    assert wolf.stats().requests == 3


async def test_closing_that_is_cancelled_leaves_nothing_open(
    box: Sandbox, client: MakeClient, made: list[aiohttp.ClientSession]
) -> None:
    box.always(hold(asyncio.Event()))
    wolf = client(box.base_url)
    call = asyncio.ensure_future(wolf.task_init(box.users[0]))
    await box.wait_for_calls(1)
    closing = asyncio.ensure_future(wolf.aclose())
    await asyncio.sleep(0)  # it waits for the load to end
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert [session.closed for session in made] == [True]
    with pytest.raises(WolfClosedError):
        await call


async def test_closing_ends_a_refresh_behind(box: Sandbox, client: MakeClient) -> None:
    wolf = client(box.base_url, cache=CachePolicy(ttl=1e-9, stale_while_revalidate=60))
    await wolf.task_init(box.users[0])
    box.always(hold(asyncio.Event()))
    await wolf.task_init(box.users[0])
    await box.wait_for_calls(2)
    await wolf.aclose()
    assert wolf.stats().in_flight == 0
    await box.wait_until_idle()


async def test_closing_ends_a_pause_between_attempts(box: Sandbox, client: MakeClient) -> None:
    from wolf_async.testing import respond

    box.always(respond(503, headers={"Retry-After": "20"}))
    wolf = client(box.base_url)
    call = asyncio.ensure_future(wolf.task_init(box.users[0]))
    await box.wait_for_calls(1)
    await box.wait_until_idle()
    async with asyncio.timeout(5):
        await wolf.aclose()
        with pytest.raises(WolfClosedError):
            await call


@pytest.mark.parametrize("used", [False, True])
async def test_a_client_dropped_unclosed_warns_if_it_was_used(
    box: Sandbox, canary: Canary, loop_reports: list[dict[str, Any]], used: bool
) -> None:
    wolf = WolfClient(TOKEN, base_url=box.base_url)
    if used:
        await wolf.task_init(box.users[0])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del wolf
        for _ in range(5):
            gc.collect()
            await asyncio.sleep(0)
    messages = [f"{warning.category.__name__}: {warning.message}" for warning in caught]
    # aiohttp has a word for its session as well, to the loop's exception handler too
    own = [
        message
        for message in messages
        if "nclosed client session" not in message and "connector" not in message
    ]
    assert len(own) == used
    for message in messages:
        assert message.startswith(
            ("ResourceWarning: unclosed <WolfClient for http", "ResourceWarning: Unclosed")
        )
        canary.check("warning", message)
    loop_reports.clear()


async def test_a_client_that_could_not_be_made_is_dropped_in_silence() -> None:
    for settings in ({"max_concurrency": 0}, {"token": ""}, {"base_url": "ftp://a"}):
        with pytest.raises(WolfConfigError):
            WolfClient(**{"token": TOKEN, **settings})  # type: ignore[arg-type]
    gc.collect()


async def test_nothing_is_left_after_closing(box: Sandbox, client: MakeClient) -> None:
    await client(box.base_url).task_init(
        box.users[0]
    )  # what the sandbox keeps open is there from now on
    before = descriptors()
    for _ in range(5):
        async with client(box.base_url) as wolf:
            await asyncio.gather(*(wolf.task_init(user) for user in box.users))
    for _ in range(20):
        await asyncio.sleep(0.01)
        if descriptors() <= before:
            return
    assert descriptors() <= before


@pytest.mark.parametrize("total", [30.0, 5.0], ids=["attempt", "what is left in total"])
async def test_no_timer_is_left_after_closing(
    box: Sandbox, client: MakeClient, total: float
) -> None:
    async with client(box.base_url, timeouts=Timeouts(total=total, attempt=10.0)) as wolf:
        await asyncio.gather(*(wolf.task_init(user) for user in box.users))
    # there is nothing of the kind to look at in uvloop
    handles: list[Any] = getattr(asyncio.get_running_loop(), "_scheduled", [])
    assert [
        handle for handle in handles if "Timer._ring" in repr(handle) and not handle.cancelled()
    ] == []


# --- loops ----------------------------------------------------------------------------------------


class Served:
    """A sandbox that runs in a thread of its own, for clients on loops of their own."""

    def __init__(self, new_loop: NewLoop) -> None:
        self.box = Sandbox(token=TOKEN)
        self.gate: asyncio.Event | None = None
        self._loop = new_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.do(self.box.start())

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def close(self) -> None:
        self.do(self.box.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


@pytest.fixture
def served(new_loop: NewLoop) -> Iterator[Served]:
    far = Served(new_loop)
    yield far
    far.close()


def test_a_second_run_keeps_the_answers(served: Served, new_loop: NewLoop) -> None:
    box = served.box
    wolf = WolfClient(TOKEN, base_url=box.base_url, cache=CachePolicy(ttl=600))
    first = run(wolf.task_init(box.users[0]), new_loop)

    async def again() -> None:
        assert await wolf.task_init(box.users[0]) is first
        assert wolf.peek(box.users[0]) is first
        assert (await wolf.task_init(box.users[1])).caller_line_list
        await wolf.raw_task_init(box.users[0])

    run(again(), new_loop)
    run(again(), new_loop)
    assert len(box.calls) == 4
    run(wolf.aclose(), new_loop)
    gc.collect()


def test_a_run_that_leaves_a_call_in_flight_harms_no_later_one(
    served: Served, new_loop: NewLoop
) -> None:
    box = served.box
    never = asyncio.Event()
    box.script(box.users[0], hold(never))
    wolf = WolfClient(TOKEN, base_url=box.base_url)

    async def leave() -> None:
        calls = [asyncio.ensure_future(wolf.task_init(box.users[0])) for _ in range(3)]
        while not box.calls:  # noqa: ASYNC110 (an event would belong to another loop)
            await asyncio.sleep(0.001)
        assert not any(call.done() for call in calls)

    run(leave(), new_loop)
    assert run(wolf.task_init(box.users[0]), new_loop).caller_line_list
    run(wolf.aclose(), new_loop)
    gc.collect()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # what the closed loop has left
def test_calls_that_a_closed_loop_has_left_make_no_room_for_more_on_the_next(
    served: Served, new_loop: NewLoop, asyncio_errors: list[str]
) -> None:
    """They are dropped at any later time, by the garbage collector."""
    box = served.box
    box.always(hold(asyncio.Event()))
    wolf = WolfClient(TOKEN, base_url=box.base_url, max_concurrency=2)

    async def ask() -> list[asyncio.Task[Any]]:
        calls = [asyncio.ensure_future(wolf.task_init(user)) for user in box.users[:6]]
        for _ in range(20):
            await asyncio.sleep(0)
        return [*calls, *(asyncio.all_tasks() - {asyncio.current_task()})]

    def ask_on_a_loop_that_is_closed() -> list[asyncio.Task[Any]]:
        loop = new_loop()
        left = loop.run_until_complete(ask())
        for task in left:  # nothing but this test is to blame for them
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()
        return left

    left = ask_on_a_loop_that_is_closed()
    assert wolf.stats().requests == 2

    async def ask_again() -> None:
        await ask()
        left.clear()
        gc.collect()
        asyncio_errors.clear()  # aiohttp's, of the session that the closed loop has left
        await ask()

    run(ask_again(), new_loop)
    assert wolf.stats().requests == 4
    run(wolf.aclose(), new_loop)
    gc.collect()


def test_a_token_of_a_provider_is_kept_from_loop_to_loop(served: Served, new_loop: NewLoop) -> None:
    calls = 0

    async def provider() -> str:
        nonlocal calls
        calls += 1
        return TOKEN

    wolf = WolfClient(provider, base_url=served.box.base_url)
    for user in served.box.users[:3]:
        run(wolf.task_init(user), new_loop)
    assert calls == 1
    run(wolf.aclose(), new_loop)


def test_closing_after_the_loop_has_ended_is_quiet(served: Served, new_loop: NewLoop) -> None:
    wolf = WolfClient(TOKEN, base_url=served.box.base_url)
    run(wolf.task_init(served.box.users[0]), new_loop)
    run(wolf.aclose(), new_loop)
    with pytest.raises(WolfClosedError):
        run(wolf.task_init(served.box.users[0]), new_loop)
    gc.collect()


@pytest.mark.parametrize("first", ["task_init", "raw_task_init"])
@pytest.mark.parametrize("second", ["task_init", "raw_task_init"])
def test_a_second_loop_in_another_thread_is_one_clear_error(
    served: Served, new_loop: NewLoop, first: str, second: str
) -> None:
    box = served.box
    wolf = WolfClient(TOKEN, base_url=box.base_url)
    outcomes: list[object] = []

    async def ask(what: str, user: str) -> object:
        try:
            return await getattr(wolf, what)(user)
        except WolfError as error:
            return error

    def elsewhere() -> None:
        outcomes.append(run(ask(second, box.users[1]), new_loop))
        outcomes.append(run(ask("task_init", box.users[0]), new_loop))

    async def main() -> None:
        outcomes.append(await ask(first, box.users[0]))
        await asyncio.to_thread(elsewhere)
        outcomes.append(await ask(second, box.users[2]))
        await wolf.aclose()

    run(main(), new_loop)
    here, there, hit, again = outcomes
    assert not isinstance(here, WolfError)
    assert isinstance(there, WolfConfigError)
    assert "another event loop" in str(there)
    # an answer that is held touches no loop
    assert isinstance(hit, WolfError) == (first == "raw_task_init")
    assert not isinstance(again, WolfError)


def test_a_client_in_use_elsewhere_is_not_closed_from_here(
    served: Served, new_loop: NewLoop
) -> None:
    wolf = WolfClient(TOKEN, base_url=served.box.base_url)
    user = served.box.users[0]
    first = new_loop()
    try:
        first.run_until_complete(wolf.raw_task_init(user))
        with pytest.raises(WolfConfigError, match="another event loop"):
            run(wolf.aclose(), new_loop)
        assert first.run_until_complete(wolf.raw_task_init(user)).status == 200
        assert first.run_until_complete(wolf.task_init(user))
        first.run_until_complete(wolf.aclose())
    finally:
        first.close()


def test_building_a_client_touches_no_loop() -> None:
    wolf = WolfClient(TOKEN, rate_limit=5.0, cache=None, retry=ONCE)
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    assert wolf.stats().requests == 0
    assert "0 requests" in repr(wolf)


async def test_errors_that_no_request_has_caused_name_the_account_too(
    box: Sandbox, client: MakeClient
) -> None:
    wolf, account = client(box.base_url), box.accounts[-1]
    box.script(account, hold(asyncio.Event()))
    waiting = asyncio.create_task(wolf.task_init(*account))
    await box.wait_for_calls(1)
    await wolf.aclose()
    calls = (
        waiting,
        wolf.task_init(*account),
        wolf.answer(*account),
        wolf.raw_task_init(*account),
    )
    for call in calls:
        with pytest.raises(WolfClosedError, match=f"account {account.user_id}, sub-account ") as e:
            await call
        assert e.value.account == account

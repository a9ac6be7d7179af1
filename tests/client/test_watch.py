"""The answer of one account over time."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from wolf_async import (
    Account,
    CachePolicy,
    TaskInit,
    WolfClosedError,
    WolfConfigError,
    WolfNotFoundError,
    WolfServerError,
)
from wolf_async.testing import FakeClock, Sandbox, error, respond

from .conftest import ONCE, TOKEN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from wolf_async import WolfClient

    from .conftest import MakeClient


class Bench:
    """A client whose watchers sleep on a clock that the test moves."""

    def __init__(
        self, box: Sandbox, clock: FakeClock, client: MakeClient, policy: CachePolicy | None
    ) -> None:
        self.box = box
        self.clock = clock
        self.user = box.users[0]
        self.wolf: WolfClient = client(box.base_url, cache=policy, clock=clock, retry=ONCE)
        self._asleep: list[tuple[float, asyncio.Event]] = []
        self.wolf._sleep = self  # type: ignore[assignment]

    def close(self) -> None:
        """Do nothing when the client is closed: nobody sleeps here any more at that time."""

    async def __call__(self, seconds: float) -> None:
        event = asyncio.Event()
        self._asleep.append((self.clock() + seconds, event))
        await event.wait()

    async def until_asleep(self, watchers: int = 1) -> None:
        for _ in range(10_000):
            if len(self._asleep) == watchers:
                return
            await asyncio.sleep(0)
        raise AssertionError(f"{len(self._asleep)} of {watchers} watchers sleep")

    async def advance(self, seconds: float, watchers: int = 1) -> None:
        """Let that time pass, wake who is due, and wait until all sleep again."""
        await self.until_asleep(watchers)
        self.clock.advance(seconds)
        due = [sleeper for sleeper in self._asleep if sleeper[0] <= self.clock()]
        self._asleep = [sleeper for sleeper in self._asleep if sleeper not in due]
        for _, event in due:
            event.set()

    async def collect(self, into: list[Any], every: float = 10.0) -> None:
        try:
            async with aclosing(self.wolf.watch(self.user, every=every)) as answers:
                async for init in answers:
                    into.append(init)
        except Exception as failure:
            into.append(failure)


@pytest.fixture
async def clock() -> FakeClock:
    return FakeClock(1000.0)


@pytest.fixture
async def still_box(clock: FakeClock) -> AsyncIterator[Sandbox]:
    async with Sandbox(accounts=2, token=TOKEN, clock=clock, period=1e9) as sandbox:
        yield sandbox


async def until_asleep(wolf: WolfClient) -> None:
    for _ in range(10_000):
        if wolf._sleep._sleeping:
            return
        await asyncio.sleep(0)
    raise AssertionError("no watcher sleeps")


def change(bench: Bench, residue: int) -> None:
    data = bench.box.data_for(Account(bench.user))
    data["caller_line_list"][0]["residue"] = residue
    bench.box.set_data(Account(bench.user), data)


async def sees_a_change_next(bench: Bench, seen: list[Any]) -> None:
    change(bench, 5)
    await bench.advance(10)
    await bench.until_asleep()
    assert [init.caller_line_list[0].residue for init in seen][1:] == [5]


async def test_a_watch_yields_the_first_answer_and_then_each_change(
    still_box: Sandbox, clock: FakeClock, client: MakeClient
) -> None:
    bench = Bench(still_box, clock, client, CachePolicy(ttl=30))
    seen: list[Any] = []
    task = asyncio.create_task(bench.collect(seen))
    await bench.until_asleep()
    assert len(seen) == 1
    await bench.advance(10)  # asked again: the same answer is no change
    await bench.until_asleep()
    assert len(seen) == 1
    assert len(still_box.calls) == 2
    change(bench, 77)
    await bench.advance(10)
    await bench.until_asleep()
    assert [init.caller_line_list[0].residue for init in seen][1:] == [77]
    assert len(still_box.calls) == 3
    task.cancel()
    await asyncio.wait([task])


async def test_one_request_a_period_serves_all_watchers_of_an_account(
    still_box: Sandbox, clock: FakeClock, client: MakeClient
) -> None:
    bench = Bench(still_box, clock, client, CachePolicy(ttl=30))
    seen: list[list[Any]] = [[] for _ in range(20)]
    tasks: list[asyncio.Task[None]] = []
    for answers in seen:  # they begin at different times within the first period
        tasks.append(asyncio.create_task(bench.collect(answers)))
        await bench.until_asleep(len(tasks))
        clock.advance(0.25)
    for period in range(1, 6):
        change(bench, period)
        await bench.advance(10, watchers=20)
        await bench.until_asleep(20)
        assert len(still_box.calls) == 1 + period
    assert all(
        [init.caller_line_list[0].residue for init in answers][1:] == [1, 2, 3, 4, 5]
        for answers in seen
    )
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_a_watch_survives_errors_within_the_stale_window_and_raises_beyond_it(
    still_box: Sandbox, clock: FakeClock, client: MakeClient
) -> None:
    bench = Bench(still_box, clock, client, CachePolicy(ttl=15, stale_if_error=20))
    seen: list[Any] = []
    task = asyncio.create_task(bench.collect(seen))
    await bench.until_asleep()
    still_box.always(respond(503))
    for _ in range(3):  # ages 10, 20, 30
        await bench.advance(10)
        await bench.until_asleep()
        assert len(seen) == 1
    await bench.advance(10)  # age 40, beyond 35
    await asyncio.wait([task])
    assert isinstance(seen[1], WolfServerError)
    assert len(still_box.calls) == 5


async def test_a_watch_goes_on_when_the_upstream_is_well_again(
    still_box: Sandbox, clock: FakeClock, client: MakeClient
) -> None:
    bench = Bench(still_box, clock, client, CachePolicy(ttl=15, stale_if_error=20))
    seen: list[Any] = []
    task = asyncio.create_task(bench.collect(seen))
    await bench.until_asleep()
    still_box.always(respond(503))
    await bench.advance(10)
    await bench.until_asleep()
    still_box.heal()
    await sees_a_change_next(bench, seen)
    task.cancel()
    await asyncio.wait([task])


async def test_a_watch_ends_at_once_when_the_server_says_no(
    still_box: Sandbox, clock: FakeClock, client: MakeClient
) -> None:
    bench = Bench(still_box, clock, client, CachePolicy(ttl=15, stale_if_error=1000))
    seen: list[Any] = []
    task = asyncio.create_task(bench.collect(seen))
    await bench.until_asleep()
    still_box.always(error(code=404, status=404))
    await bench.advance(10)
    await asyncio.wait([task])
    assert isinstance(seen[1], WolfNotFoundError)


async def test_closing_the_client_wakes_and_ends_a_watch(
    still_box: Sandbox, client: MakeClient
) -> None:
    wolf = client(still_box.base_url)
    stream = wolf.watch(still_box.users[0], every=3600)
    assert isinstance(await anext(stream), TaskInit)
    waiting = asyncio.ensure_future(anext(stream))
    await until_asleep(wolf)
    await wolf.aclose()
    with pytest.raises(WolfClosedError):
        await waiting


async def test_a_watch_of_a_closed_client_does_not_fall_asleep(
    still_box: Sandbox, client: MakeClient
) -> None:
    wolf = client(still_box.base_url)
    stream = wolf.watch(still_box.users[0], every=3600)
    await anext(stream)
    await wolf.aclose()
    async with asyncio.timeout(5):
        with pytest.raises(WolfClosedError):
            await anext(stream)


@pytest.mark.parametrize("policy", [CachePolicy(ttl=1), CachePolicy(max_entries=1), None])
async def test_an_equal_answer_is_no_change_although_the_older_one_is_no_longer_held(
    still_box: Sandbox, clock: FakeClock, client: MakeClient, policy: CachePolicy | None
) -> None:
    bench = Bench(still_box, clock, client, policy)
    seen: list[Any] = []
    task = asyncio.create_task(bench.collect(seen))
    for _ in range(3):
        await bench.until_asleep()
        # takes the place of the watched account's answer
        await bench.wolf.task_init(still_box.users[1], max_age=0)
        await bench.advance(10)
    await bench.until_asleep()
    assert len(seen) == 1
    await sees_a_change_next(bench, seen)
    task.cancel()
    await asyncio.wait([task])


async def test_leaving_a_watch_leaves_no_task_and_no_timer(
    still_box: Sandbox, client: MakeClient
) -> None:
    wolf = client(still_box.base_url)
    async with aclosing(wolf.watch(still_box.users[0], every=3600)) as stream:
        await anext(stream)
        waiting = asyncio.ensure_future(anext(stream))
        await until_asleep(wolf)
        waiting.cancel()
        await asyncio.wait([waiting])
    assert not wolf._sleep._sleeping


@pytest.mark.parametrize("every", [0, -1, float("nan"), float("inf"), True, "5"])
async def test_a_period_that_makes_no_sense_is_refused_at_once(
    client: MakeClient, every: Any
) -> None:
    with pytest.raises(WolfConfigError, match="every"):
        client("http://127.0.0.1:9").watch("user", every=every)

"""The answer of one account over time: real servers on loopback, in virtual time."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from wolf_async import (
    CachePolicy,
    TaskInit,
    WolfClient,
    WolfClosedError,
    WolfConfigError,
    WolfError,
    WolfNotFoundError,
    WolfServerError,
)
from wolf_async.testing import Sandbox, error, respond

from . import virtual_time
from .conftest import ONCE, TOKEN

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

EVERY = 10.0
DEFAULT = CachePolicy()


class Bench:
    """A client and its server, and what watchers of the first account have seen."""

    def __init__(self, box: Sandbox, wolf: WolfClient) -> None:
        self.box = box
        self.wolf = wolf
        self.user = box.users[0]
        self.seen: list[int | type[Exception]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def watch(self) -> None:
        self._tasks.append(asyncio.create_task(self._watch()))

    async def _watch(self) -> None:
        try:
            async with aclosing(self.wolf.watch(self.user, every=EVERY)) as answers:
                async for init in answers:
                    self.seen.append(init.max_recycle_limit or 0)
        except WolfError as failure:
            self.seen.append(type(failure))

    def change(self, number: int) -> None:
        data = self.box.data_for(self.user)
        self.box.set_data(self.user, {**data, "max_recycle_limit": number})

    def new(self) -> list[int | type[Exception]]:
        """Return what was seen since the last time."""
        new, self.seen = self.seen, []
        return new

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)


@asynccontextmanager
async def bench(policy: CachePolicy | None = DEFAULT) -> AsyncGenerator[Bench]:
    now = asyncio.get_running_loop().time
    async with (
        Sandbox(accounts=2, token=TOKEN, clock=now, period=1e9) as box,
        WolfClient(TOKEN, base_url=box.base_url, cache=policy, clock=now, retry=ONCE) as wolf,
    ):
        watching = Bench(box, wolf)
        watching.change(0)
        yield watching


def test_a_watch_yields_the_first_answer_and_then_each_change() -> None:
    async def main() -> None:
        async with bench() as b:
            b.watch()
            await asyncio.sleep(1)
            assert b.new() == [0]
            await asyncio.sleep(EVERY)  # asked again: the same answer is no change
            assert b.new() == []
            assert len(b.box.calls) == 2
            b.change(77)
            await asyncio.sleep(EVERY)
            assert b.new() == [77]
            assert len(b.box.calls) == 3
            await b.leave()

    virtual_time.run(main())


def test_one_request_a_period_serves_all_watchers_of_an_account() -> None:
    async def main() -> None:
        async with bench() as b:
            for _ in range(20):  # they begin at different times within the first period
                b.watch()
                await asyncio.sleep(0.25)
            assert b.new() == [0] * 20
            for period in range(1, 6):
                b.change(period)
                await asyncio.sleep(EVERY)
                assert b.new() == [period] * 20
                assert len(b.box.calls) == 1 + period
            await b.leave()

    virtual_time.run(main())


def test_what_another_caller_has_just_asked_for_is_not_asked_for_again() -> None:
    async def main() -> None:
        async with bench() as b:
            b.watch()
            await asyncio.sleep(7)
            b.change(5)
            await b.wolf.task_init(b.user, max_age=0)
            await asyncio.sleep(EVERY - 1)  # in the middle of that the watch looks
            assert b.new() == [0, 5]
            assert len(b.box.calls) == 2
            await asyncio.sleep(2)
            assert len(b.box.calls) == 3
            await b.leave()

    virtual_time.run(main())


def test_a_watch_survives_errors_within_the_stale_window_and_raises_beyond_it() -> None:
    async def main() -> None:
        async with bench(CachePolicy(ttl=15, stale_if_error=20)) as b:
            b.watch()
            await asyncio.sleep(1)
            assert b.new() == [0]
            b.box.always(respond(503))
            await asyncio.sleep(3 * EVERY)  # ages 10, 20, 30
            assert b.new() == []
            await asyncio.sleep(EVERY)  # age 40, beyond 35
            assert b.new() == [WolfServerError]
            assert len(b.box.calls) == 5
            await b.leave()

    virtual_time.run(main())


def test_a_watch_goes_on_when_the_upstream_is_well_again() -> None:
    async def main() -> None:
        async with bench(CachePolicy(ttl=15, stale_if_error=20)) as b:
            b.watch()
            await asyncio.sleep(1)
            b.box.always(respond(503))
            await asyncio.sleep(EVERY)
            b.box.heal()
            b.change(5)
            await asyncio.sleep(EVERY)
            assert b.new() == [0, 5]
            await b.leave()

    virtual_time.run(main())


def test_a_watch_ends_at_once_when_the_server_says_no() -> None:
    async def main() -> None:
        async with bench(CachePolicy(ttl=15, stale_if_error=1000)) as b:
            b.watch()
            await asyncio.sleep(1)
            b.box.always(error(code=404, status=404))
            await asyncio.sleep(EVERY)
            assert b.new() == [0, WolfNotFoundError]
            await b.leave()

    virtual_time.run(main())


def test_closing_the_client_wakes_and_ends_a_watch() -> None:
    async def main() -> None:
        async with bench() as b:
            b.watch()
            await asyncio.sleep(1)
            begun = asyncio.get_running_loop().time()
            await b.wolf.aclose()
            await asyncio.sleep(0.1)
            assert b.new() == [0, WolfClosedError]
            assert asyncio.get_running_loop().time() - begun < 1
            await b.leave()

    virtual_time.run(main())


def test_a_watch_of_a_closed_client_does_not_fall_asleep() -> None:
    async def main() -> None:
        async with bench() as b:
            stream = b.wolf.watch(b.user, every=3600)
            assert isinstance(await anext(stream), TaskInit)
            await b.wolf.aclose()
            async with asyncio.timeout(5):
                with pytest.raises(WolfClosedError, match=b.user):
                    await anext(stream)

    virtual_time.run(main())


@pytest.mark.parametrize("policy", [CachePolicy(ttl=1), CachePolicy(max_entries=1), None])
def test_an_equal_answer_is_no_change_although_the_older_one_is_no_longer_held(
    policy: CachePolicy | None,
) -> None:
    async def main() -> None:
        async with bench(policy) as b:
            b.watch()
            for _ in range(3):
                await asyncio.sleep(1)
                # takes the place of the watched account's answer
                await b.wolf.task_init(b.box.users[1], max_age=0)
                await asyncio.sleep(EVERY - 1)
            assert b.new() == [0]
            b.change(5)
            await asyncio.sleep(EVERY)
            assert b.new() == [5]
            await b.leave()

    virtual_time.run(main())


def test_leaving_a_watch_while_it_sleeps_leaves_no_task() -> None:
    async def main() -> None:
        async with bench() as b:
            stream = b.wolf.watch(b.user, every=3600)
            await anext(stream)
            serving = asyncio.all_tasks()
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(1)
            waiting.cancel()
            await asyncio.wait([waiting])
            await stream.aclose()
            assert asyncio.all_tasks() <= {asyncio.current_task()} | serving

    virtual_time.run(main())


@pytest.mark.parametrize("every", [0, -1, float("nan"), float("inf"), True, "5"])
def test_a_period_that_makes_no_sense_is_refused_at_once(every: Any) -> None:
    with pytest.raises(WolfConfigError, match="every"):
        WolfClient(TOKEN).watch("user", every=every)

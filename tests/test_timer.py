"""The time that each attempt has, on a loop whose clock jumps."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from client.virtual_time import run

from wolf_async.upstream.deadline import Timer


async def sleeper(timer: Timer, seconds: float) -> float:
    """Sleep under the timer; gives the moment at which that ended, negative if the timer ended it."""
    loop = asyncio.get_running_loop()
    try:
        with timer.timing():
            await asyncio.sleep(seconds)
    except TimeoutError:
        return -loop.time()
    return loop.time()


def test_each_block_has_the_same_time_from_its_own_beginning() -> None:
    async def main() -> list[float]:
        timer = Timer(asyncio.get_running_loop(), 10)
        tasks: list[asyncio.Task[float]] = []
        for seconds in (100, 4, 100, 10.5, 9.5):
            tasks.append(asyncio.create_task(sleeper(timer, seconds)))
            await asyncio.sleep(1)
        await asyncio.sleep(50)
        # long after the others, and on a timer that had nothing left to do
        tasks.append(asyncio.create_task(sleeper(timer, 100)))
        return await asyncio.gather(*tasks)

    assert run(main()) == [-10, 5, -12, -13, 13.5, -65]


def test_blocks_that_begin_together_end_together() -> None:
    async def main() -> list[float]:
        timer = Timer(asyncio.get_running_loop(), 10)
        return await asyncio.gather(*(sleeper(timer, 100) for _ in range(1000)))

    assert run(main()) == [-10] * 1000


@pytest.mark.parametrize(("seconds", "timers"), [(10, 1), (math.inf, 0)])
def test_one_timer_of_the_loop_serves_all(
    monkeypatch: pytest.MonkeyPatch, seconds: float, timers: int
) -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        timer = Timer(loop, seconds)
        call_at, calls = loop.call_at, 0

        def counted(*args: Any, **kwargs: Any) -> asyncio.TimerHandle:
            nonlocal calls
            calls += 1
            return call_at(*args, **kwargs)

        monkeypatch.setattr(loop, "call_at", counted)
        for _ in range(100):
            with timer.timing():
                pass
        return calls

    assert run(main()) == timers


def test_without_a_limit_there_is_no_end() -> None:
    async def main() -> float:
        return await sleeper(Timer(asyncio.get_running_loop(), math.inf), 1e6)

    assert run(main()) == 1e6


@pytest.mark.parametrize("first", ["timer", "caller"])
def test_a_cancellation_from_elsewhere_in_the_same_tick_is_one(first: str) -> None:
    """As `asyncio.timeout` has it: who cancelled the task must see it end in that."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(sleeper(Timer(loop, 10), 100))
        if first == "caller":
            loop.call_at(10, task.cancel)
        await asyncio.sleep(0)
        if first == "timer":
            loop.call_at(10, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelling() == 1

    run(main())


def test_an_error_of_the_block_is_its_own_even_when_the_time_is_over() -> None:
    async def block() -> None:
        with Timer(asyncio.get_running_loop(), 10).timing():
            try:
                await asyncio.sleep(100)
            finally:
                raise ZeroDivisionError

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await block()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run(main())


def test_a_block_within_another_ends_first() -> None:
    async def block() -> None:
        loop = asyncio.get_running_loop()
        with Timer(loop, 10).timing():
            assert await sleeper(Timer(loop, 3), 100) == -3
            await asyncio.sleep(100)

    async def main() -> float:
        with pytest.raises(TimeoutError):
            await block()
        return asyncio.get_running_loop().time()

    assert run(main()) == 10


def test_a_timer_that_is_closed_leaves_none_to_the_loop_and_can_be_used_again() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        timer = Timer(loop, 10)
        ended: list[float] = []
        for _ in range(2):
            ended.append(await sleeper(timer, 1))
            timer.close()
            timer.close()
            handles: list[Any] = vars(loop)["_scheduled"]
            assert all(handle.cancelled() for handle in handles)
        return [*ended, await sleeper(timer, 100)]

    assert run(main()) == [1, 2, -12]

"""Work that must not be broken off goes on to its end, whatever stops the run meanwhile."""

from __future__ import annotations

import asyncio
import gc

import pytest

from wolf_async.cli.threads import to_the_end


class Work:
    """Something that fails once it is let go on."""

    def __init__(self, error: Exception) -> None:
        self.gate, self.ended = asyncio.Event(), asyncio.Event()
        self._error = error

    async def run(self) -> None:
        await self.gate.wait()
        self.ended.set()
        raise self._error


async def test_work_goes_on_after_the_cancellation_and_its_failure_is_told_nobody(
    asyncio_errors: list[str],
) -> None:
    work = Work(OSError("the disk is full"))
    waiting = asyncio.create_task(to_the_end(work.run()))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done(), "it waits for the end of the work"
    work.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert work.ended.is_set()
    gc.collect()
    assert asyncio_errors == []


async def test_who_may_not_wait_for_long_leaves_the_work_behind_and_hears_nothing_of_it(
    asyncio_errors: list[str],
) -> None:
    work = Work(BrokenPipeError())
    waiting = asyncio.create_task(to_the_end(work.run(), timeout=0))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not work.ended.is_set()
    work.gate.set()
    await work.ended.wait()
    await asyncio.sleep(0)
    gc.collect()
    assert asyncio_errors == []


async def test_what_the_work_returns_or_raises_is_its_callers() -> None:
    async def work(error: Exception | None) -> int:
        if error is not None:
            raise error
        return 7

    assert await to_the_end(work(None)) == 7
    with pytest.raises(BrokenPipeError):
        await to_the_end(work(BrokenPipeError()))

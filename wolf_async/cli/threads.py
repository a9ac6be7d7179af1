"""Wait for a call that blocks, or for work that must not be broken off."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["in_thread", "retrieve", "to_the_end"]

T = TypeVar("T")


async def in_thread(call: Callable[[], T]) -> T:
    """Return what ``call`` does, made in a thread of its own.

    Nobody waits for the thread at the end, unlike for one of the loop's executor: a read of a
    terminal, or a write to a reader who pauses, must not keep Ctrl-C waiting.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(error: BaseException | None, result: T | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        else:
            done.set_exception(error)

    def run() -> None:
        result, failure = None, None
        try:
            result = call()
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
            loop.call_soon_threadsafe(tell, failure, result)

    threading.Thread(target=run, daemon=True).start()
    return await done


async def to_the_end(work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
    """Return what ``work`` does, which goes on if this is cancelled meanwhile.

    Then wait for its end, but no longer than ``timeout`` seconds, and do not tell what goes wrong
    after that: the run ends with what stopped it.
    """
    task = asyncio.ensure_future(work)
    try:
        # no shield, which logs on Python 3.14 what goes wrong after the cancellation
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.add_done_callback(retrieve)
        await asyncio.wait([task], timeout=timeout)
        raise
    return task.result()


def retrieve(task: asyncio.Future[Any]) -> None:
    """Mark the error of a task as seen, which nobody may be left to see."""
    if not task.cancelled():
        task.exception()

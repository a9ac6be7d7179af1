"""Wait for a call that blocks, without keeping the loop or the end of the process waiting."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["in_thread"]

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

"""Ask for all accounts while anybody looks, and publish what changes."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from wolf_async.logs import logger

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from wolf_async.dashboard.events import EventLog
    from wolf_async.dashboard.rows import Rows
    from wolf_async.watch import AccountUpdate

__all__ = ["Feed"]

_SOONEST: Final = 0.25
"""Seconds for which changes are collected at most."""
_AGAIN: Final = 5.0
"""Seconds after which asking begins again that has ended by itself."""


class Feed:
    """Run from the first viewer until ``idle`` seconds after the last one has left.

    ``updates`` begins to ask for all accounts, each ``every`` seconds. `_task` is the state: it is
    there while accounts are asked for.
    """

    __slots__ = (
        "_ending",
        "_every",
        "_idle",
        "_log",
        "_rows",
        "_task",
        "_timer",
        "_updates",
        "_viewers",
    )

    def __init__(
        self,
        updates: Callable[[], AsyncGenerator[AccountUpdate, None]],
        rows: Rows,
        log: EventLog,
        *,
        every: float,
        idle: float,
    ) -> None:
        self._updates = updates
        self._rows = rows
        self._log = log
        self._every = every
        self._idle = idle
        self._viewers = 0
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def viewer(self) -> Generator[None]:
        """Keep the feed running as long as the block lasts."""
        self._viewers += 1
        self._start()
        try:
            yield
        finally:
            self._viewers -= 1
            if not self._viewers and not self._log.closed:
                self._timer = asyncio.get_running_loop().call_later(self._idle, self._stop)

    def _start(self) -> None:
        self._cancel_timer()
        if self._task is None and not self._log.closed:
            self._rows.begin()
            self._publish_changes()  # before a snapshot shows old answers as they were
            self._task = asyncio.create_task(self._run())

    def _stop(self) -> None:
        self._cancel_timer()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def aclose(self) -> None:
        """Stop asking, for good if the log is closed."""
        self._stop()
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._publish())

    async def _listen(self) -> None:
        while True:
            try:
                async with aclosing(self._updates()) as updates:
                    async for update in updates:
                        self._rows.hear(update)
            except Exception as error:
                # a closed client, or a fault of this package: the page has to say so
                self._rows.fail_all(error)
                logger.warning("the dashboard cannot ask: %s: %s", type(error).__name__, error)
            await asyncio.sleep(_AGAIN)

    async def _publish(self) -> None:
        """Publish changes soon, points every 15 seconds, and a tick once a period."""
        loop = asyncio.get_running_loop()
        next_tick = loop.time()
        while True:
            self._publish_changes()
            if (points := self._rows.points()) is not None:
                self._log.add("points", points)
            if loop.time() >= next_tick:
                self._log.add("tick", self._rows.tick())
                next_tick = max(next_tick + self._every, loop.time())
            await asyncio.sleep(min(_SOONEST, self._every))

    def _publish_changes(self) -> None:
        if changes := self._rows.changes():
            self._log.add("changes", changes)

"""Keep a log of server-sent events, from which every browser reads at its own pace.

A browser that is slow, or was away, reads on where it was while that is still kept; otherwise it
gets a snapshot. So nothing is buffered for anybody, and an event is encoded once for all.

Source: the HTML standard, *Server-sent events*.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["KEPT", "EventLog"]

KEPT: Final = 64
"""Events that are kept: of five events a second, those of a dozen seconds."""


class EventLog:
    """The newest events, numbered. ``snapshot`` gives what somebody needs who has none of them.

    Only `add` changes the events, and only `close` ends the log.
    """

    __slots__ = ("_closed", "_epoch", "_events", "_news", "_next", "_snapshot", "_snapshot_of")

    def __init__(self, snapshot: Callable[[], Any], *, keep: int = KEPT) -> None:
        self._epoch = secrets.token_hex(4)  # numbers of a server that has gone mean nothing here
        self._events: deque[bytes] = deque(maxlen=keep)
        self._next = 0
        self._snapshot_of = snapshot
        self._snapshot: tuple[int, bytes] = (-1, b"")
        self._news = asyncio.Event()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether there will be no more events."""
        return self._closed

    def add(self, name: str, data: Any) -> None:
        """Append an event, whose data is written as JSON."""
        self._events.append(self._encode(name, data, self._next))
        self._next += 1
        self._wake()

    def after(self, number: int | None) -> tuple[bytes, int]:
        """Give what comes after that event, or a snapshot, and the newest number."""
        newest = self._next - 1
        if number is None or not newest - len(self._events) <= number <= newest:
            return self._current_snapshot(newest), newest
        missed = newest - number
        return b"".join(list(self._events)[len(self._events) - missed :]), newest

    def number_of(self, id: str | None) -> int | None:
        """Read an event's id as a browser sends it back; ``None`` if it is not of this log."""
        epoch, _, number = (id or "").partition("-")
        known = epoch == self._epoch and number.isdecimal() and len(number) < 16
        return int(number) if known else None

    async def wait(self) -> None:
        """Return at the next event, or when the log is closed."""
        await self._news.wait()

    def close(self) -> None:
        """End the log; who waits is woken."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news.clear()  # whoever waits now has been woken already

    def _current_snapshot(self, newest: int) -> bytes:
        if self._snapshot[0] != newest or newest < 0:
            encoded = self._encode("snapshot", self._snapshot_of(), newest)
            self._snapshot = (newest, encoded)
        return self._snapshot[1]

    def _encode(self, name: str, data: Any, number: int) -> bytes:
        head = f"id: {self._epoch}-{number}\nevent: {name}\ndata: ".encode()
        return head + msgspec.json.encode(data) + b"\n\n"

"""Turns to create tasks: one at a time for a main account, first come, first served."""

from __future__ import annotations

import asyncio
from typing import Protocol

__all__ = ["LocalTurns", "Turn", "Turns"]


class Turn(Protocol):
    """The right to create for one main account, for one creation at a time."""

    async def acquire(self) -> None:
        """Wait for the turn; first come, first served."""
        ...

    async def still_mine(self) -> bool:
        """Tell whether nobody else has got the turn meanwhile."""
        ...

    async def release(self) -> None:
        """Give the turn on; who has not got it gives nothing."""
        ...


class Turns(Protocol):
    """Where turns come from: this process, or a tier that several processes share."""

    def turn(self, user_id: str) -> Turn:
        """Return a turn, not acquired yet, for a main account and all its sub-accounts."""
        ...


class LocalTurns:
    """Turns among the callers of one client."""

    __slots__ = ("_locks", "_loop")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._locks: dict[str, _SharedLock] = {}

    def turn(self, user_id: str) -> Turn:
        """Return a turn for a main account and all its sub-accounts."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # on a loop that was closed in the middle of a creation, nobody gives the turn on
            self._loop, self._locks = loop, {}
        return _LocalTurn(self._locks, user_id)


class _SharedLock:
    """A lock, kept for as long as somebody has it or waits for it."""

    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class _LocalTurn:
    __slots__ = ("_has_it", "_locks", "_user_id")

    def __init__(self, locks: dict[str, _SharedLock], user_id: str) -> None:
        self._locks = locks
        self._user_id = user_id
        self._has_it = False

    async def acquire(self) -> None:
        shared = self._locks.setdefault(self._user_id, _SharedLock())
        shared.users += 1
        try:
            self._has_it = await shared.lock.acquire()
        except BaseException:
            self._forget(shared)
            raise

    async def still_mine(self) -> bool:
        return self._has_it

    async def release(self) -> None:
        if self._has_it:
            self._has_it = False
            shared = self._locks[self._user_id]
            shared.lock.release()
            self._forget(shared)

    def _forget(self, shared: _SharedLock) -> None:
        shared.users -= 1
        if not shared.users:
            del self._locks[self._user_id]

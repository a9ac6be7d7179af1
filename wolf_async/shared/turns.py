"""Turns to create tasks, one at a time for a main account, among all processes of a namespace."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from wolf_async.shared.codec import encode_key
from wolf_async.shared.link import LinkError
from wolf_async.shared.scripts import RENEW

if TYPE_CHECKING:
    from wolf_async.shared.loads import Lease, RedisLoads
    from wolf_async.turns import Turn, Turns

__all__ = ["SharedTurns"]

_PART: Final = "turn"
"""Where an epoch stands in the names of accounts: a clear takes no turn away."""
_NO_VALUE: Final = (0, 0, 0.0, -1, 0, 0, 0, "")
"""What the script that gives leases is told where there is no value to be had."""
_POLL: Final = 1.0
_LONGEST: Final = 600.0


class SharedTurns:
    """Turns among the callers of all clients of a namespace; with the tier down, of this one alone.

    ``local`` gives the turns of this client. A turn is lost after ``lease`` seconds in which its
    process does not renew it.
    """

    def __init__(self, loads: RedisLoads[Any, Any], local: Turns, lease: float) -> None:
        self._loads = loads
        self._local = local
        self._lease = min(lease, _LONGEST)

    def turn(self, user_id: str) -> SharedTurn:
        """Return a turn, not acquired yet, for a main account and all its sub-accounts."""
        return SharedTurn(self._loads, self._local.turn(user_id), user_id, self._lease)


class SharedTurn:
    """The right to create for one main account."""

    def __init__(
        self, loads: RedisLoads[Any, Any], local: Turn, user_id: str, seconds: float
    ) -> None:
        self._loads = loads
        self._local = local
        self._wire = encode_key((_PART, user_id, None))
        self._seconds = seconds
        self._lease: Lease | None = None
        self._renewing: asyncio.Task[None] | None = None

    async def acquire(self) -> None:
        """Wait for the turn in this client, and then among all."""
        await self._local.acquire()
        woken = asyncio.Event()
        with self._loads.woken_by(self._wire, woken), suppress(LinkError):
            while await self._loads.is_up():
                woken.clear()
                lease = self._loads.new_lease(_PART, self._wire)
                kind, *rest = await self._loads.take(lease, round(self._seconds * 1000), *_NO_VALUE)
                if kind == b"grant":
                    self._lease = lease
                    self._renewing = self._loads.spawn(self._loads.renew(lease, self._seconds))
                    return
                await self._wait(woken, rest[1] / 1e6)
        self._loads.warn("turn", "the shared tier is away: others may promise the same lines")

    async def _wait(self, woken: asyncio.Event, left: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(min(left, _POLL * random.uniform(0.8, 1.2))):
                await woken.wait()

    async def still_mine(self) -> bool:
        """Tell whether nobody else has got the turn.

        With the tier down, tell whether nobody else in this process has.
        """
        lease = self._lease
        if lease is not None:
            with suppress(LinkError):
                milliseconds = round(self._seconds * 1000)
                if not await self._loads.run(RENEW, lease.name, lease.token, milliseconds):
                    return False
        return await self._local.still_mine()

    async def release(self) -> None:
        """Give the turn on; who has not got it gives nothing."""
        if self._renewing is not None:
            self._renewing.cancel()
        if self._lease is not None:
            self._loads.give_back(self._lease)
            self._lease = None
        await self._local.release()

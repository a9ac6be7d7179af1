"""What is measured: the documented sample, the client with and without a network, and the limit's own decoder."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from copy import copy
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from wolf_async import Account, CachePolicy, RawResponse, TaskInit, WolfClient
from wolf_async.models import dec_hook

__all__ = [
    "ESCAPED",
    "KEEP",
    "SAMPLE",
    "SUB",
    "TINY",
    "USER",
    "Envelope",
    "OfflineClient",
    "TinyClient",
    "decoder",
    "envelope_of",
    "request_url",
]

T = TypeVar("T")

_FILE = Path(__file__).parent.parent / "tests" / "data" / "task-init.sample.json"
USER = "b6d94bef-5ac2-4c6e-ba13-d2f8f124862b"
SUB = "9f2c1d7e-03b4-4a58-8c61-5e7a90d2f314"
KEEP = CachePolicy(ttl=86_400)
"""Keeps answers for longer than any run, so that none expires where expiry is not what is measured."""


def _escaped(text: str) -> bytes:
    # outside ASCII there is nothing in the sample that is more than one UTF-16 unit
    return "".join(char if char.isascii() else f"\\u{ord(char):04x}" for char in text).encode()


_DOCUMENT: dict[str, Any] = msgspec.json.decode(_FILE.read_bytes())
SAMPLE: bytes = msgspec.json.encode(_DOCUMENT)
"""The documented answer as compact JSON in UTF-8."""
ESCAPED: bytes = _escaped(SAMPLE.decode())
"""The same with ``\\u`` escapes for all that is not ASCII, as PHP writes it by default."""


def envelope_of(size: int) -> bytes:
    """An answer of about ``size`` bytes: the sample with the items of each section repeated."""
    times = max(1, round(size / len(SAMPLE)))
    sections: dict[str, list[Any] | dict[str, Any]] = _DOCUMENT["data"]
    data = {
        key: section * times if isinstance(section, list) else section
        for key, section in sections.items()
    }
    return msgspec.json.encode({**_DOCUMENT, "data": data})


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """The whole answer, for one typed decode."""

    code: int
    status: str
    data: TaskInit


decoder: msgspec.json.Decoder[Envelope] = msgspec.json.Decoder(Envelope, dec_hook=dec_hook)
"""The limit for a decode: what the project decodes with, and nothing else."""


def request_url(base_url: str, user_id: str) -> str:
    return f"{base_url}/agent-api/new/user/{user_id}/task/create"


class OfflineClient(WolfClient):
    """The client with a coroutine function in place of retries, transport and network; all else is its own."""

    def __init__(
        self,
        upstream: Callable[[Account], Awaitable[bytes]],
        *,
        cache: CachePolicy = KEEP,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("token", cache=cache, clock=clock)
        self._upstream = upstream

    async def _ask(
        self, account: Account, read: Callable[[RawResponse], T]
    ) -> tuple[RawResponse, T]:
        sent_at = self._clock()
        response = RawResponse(200, {}, await self._upstream(account), sent_at)
        return response, read(response)

    read = WolfClient._read  # pyright: ignore[reportPrivateUsage]


TINY = msgspec.json.encode(
    {
        "code": 200,
        "status": "success",
        "data": {"background": [{"id": 1, "name": "a", "created_at": None}]},
    }
)
"""An answer whose decode costs next to nothing."""


class TinyClient(OfflineClient):
    """A client whose every answer is at once there and small, to hold a million of them."""

    def __init__(self, *, cache: CachePolicy, clock: Callable[[], float]) -> None:
        super().__init__(self._answer, cache=cache, clock=clock)

    async def _answer(self, account: Account) -> bytes:
        return TINY

    async def fill(self, users: Iterable[str]) -> None:
        """Hold an answer for each user as a load would leave it; a million loads would take minutes."""
        await self.task_init(USER)
        entry, now = self._held[USER][None], self._clock()
        self.invalidate(USER)
        for user in users:
            self._cache._store.put((user, None), copy(entry), now)  # pyright: ignore[reportPrivateUsage]

"""Provide what is measured: the documented sample, the client without a network, a bare decoder."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from wolf_async import Account, CachePolicy, RawResponse, TaskInit, WolfClient
from wolf_async.clock import system_clock
from wolf_async.models import dec_hook

T = TypeVar("T")

_FILE = Path(__file__).parent.parent / "tests" / "data" / "task-init.sample.json"
USER = "b6d94bef-5ac2-4c6e-ba13-d2f8f124862b"
SUB = "9f2c1d7e-03b4-4a58-8c61-5e7a90d2f314"
TOKEN = "sk-4f1d0c7be2a9468d9b35a0e7c6f81d22"
"""As long as real ones are, so that looking for it in a body costs what it does for them."""
KEEP = CachePolicy(ttl=86_400)
"""Keeps answers for longer than any run: none expires where expiry is not what is measured."""


_DOCUMENT: dict[str, Any] = msgspec.json.decode(_FILE.read_bytes())
SAMPLE: bytes = msgspec.json.encode(_DOCUMENT)
"""The documented answer as compact JSON in UTF-8."""


@cache
def envelope_of(size: int) -> bytes:
    """Repeat the items of each section of the sample, to about ``size`` bytes."""
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


TINY = b'{"code":200,"status":"success","data":{"background":[{"id":1,"name":"a"}]}}'
"""An answer whose decode costs next to nothing."""


async def tiny(account: Account) -> bytes:
    """Answer with it, as an upstream."""
    return TINY


async def sample(account: Account) -> bytes:
    """Answer with the documented sample, each time as another object, as from the wire."""
    return bytes(memoryview(SAMPLE))


class OfflineClient(WolfClient):
    """The client with a coroutine function in place of what sends; all else is its own."""

    def __init__(
        self,
        upstream: Callable[[Account], Awaitable[bytes]],
        *,
        cache: CachePolicy = KEEP,
        clock: Callable[[], float] = system_clock,
    ) -> None:
        super().__init__("token", cache=cache, clock=clock)
        self.read: Callable[[RawResponse], object]
        """What the client made of its last response: from bytes to what is kept."""

        async def send(
            account: Account, url: object, read: Callable[[RawResponse], T], **others: object
        ) -> tuple[RawResponse, T]:
            self.read = read
            sent_at = clock()
            response = RawResponse(200, {}, await upstream(account), sent_at)
            return response, read(response)

        self._sender.send = send  # type: ignore[method-assign]

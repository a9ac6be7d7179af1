"""A client and a server that a test scripts, over loopback, on a clock that jumps."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from wolf_async import RetryPolicy, TaskInit, WolfClient, WolfError

from .conftest import TOKEN
from .raw_server import Line, RawServer, http, success
from .virtual_time import run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

__all__ = ["OK", "Scene", "ask_all", "play", "refused", "unavailable"]

T = TypeVar("T")

OK = http(success())


def refused(retry_after: float | None = None) -> bytes:
    """Return a 429."""
    headers = {} if retry_after is None else {"Retry_After": f"{retry_after:g}"}
    return http(b"", "429 Too Many Requests", **headers)


def unavailable(retry_after: float | None = None) -> bytes:
    """Return a 503."""
    headers = {} if retry_after is None else {"Retry_After": f"{retry_after:g}"}
    return http(b"", "503 Service Unavailable", **headers)


class Scene:
    """A client, and a server that answers each request as ``answer`` says.

    It answers after ``latency`` seconds. ``answer`` gets the number of the request, from 1;
    what is no bytes breaks the connection off.
    """

    def __init__(self, answer: Callable[[int], bytes | None], *, latency: float = 0.02) -> None:
        self.answer = answer
        self.latency = latency
        self.sent: list[float] = []
        """When each request arrived."""
        self.replies: list[bytes | None] = []
        self.asked: list[str] = []
        """The path of each request."""
        self.hold: asyncio.Event | None = None
        """If set, what each request waits for before its answer."""

    async def serve(self, line: Line) -> None:
        while True:
            head = await line.request()
            self.asked.append(head.split(b" ", 2)[1].decode())
            self.sent.append(asyncio.get_running_loop().time())
            reply = self.answer(len(self.sent))
            self.replies.append(reply)
            if self.hold is not None:
                await self.hold.wait()
            await asyncio.sleep(self.latency)
            if reply is None:
                return
            await line.send(reply)

    @asynccontextmanager
    async def client(self, **settings: Any) -> AsyncGenerator[WolfClient]:
        settings = {"retry": RetryPolicy(backoff=0), "cache": None, **settings}
        async with (
            RawServer(self.serve) as server,
            WolfClient(TOKEN, base_url=server.base_url, **settings) as wolf,
        ):
            yield wolf

    @property
    def refusals(self) -> int:
        return sum(b" 429 " in (reply or b"") for reply in self.replies)


async def ask_all(
    wolf: WolfClient, users: Iterable[str], concurrency: int
) -> dict[str, TaskInit | WolfError]:
    """Ask for each, as so many workers would."""
    results: dict[str, TaskInit | WolfError] = {}
    left = iter(users)

    async def work() -> None:
        for user in left:
            try:
                results[user] = await wolf.task_init(user)
            except WolfError as error:
                results[user] = error

    await asyncio.gather(*(work() for _ in range(concurrency)))
    return results


def play(scene: Scene, act: Callable[[WolfClient], Awaitable[T]], **settings: Any) -> T:
    """Run ``act`` with a client of the scene, in virtual time."""

    async def main() -> T:
        async with scene.client(**settings) as wolf:
            return await act(wolf)

    return run(main())

"""Processes of their own, each with a `WolfClient` that the test commands over a socket.

One process imports everything and then makes the others by forking,
so that a new one does not have to import anything.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec
import redis.asyncio  # here, not in each process

import wolf_async
from wolf_async import CachePolicy, RetryPolicy, WolfClient
from wolf_async.shared import RedisTier

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parent.parent


class Failed(Exception):  # noqa: N818
    """What a call raised in its process."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind = kind


class Answer(msgspec.Struct, frozen=True):
    """What a call returned in its process, with when it began and ended on the machine's clock."""

    serial: int
    began: float
    ended: float


# --- the test's side ------------------------------------------------------------------------------


class Forks:
    """The process that makes processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        command = [sys.executable, "-m", "shared.worker"]
        path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
        )

    def fork(self) -> tuple[int, Path]:
        """Return the id of a new process, and the socket at which it listens."""
        path = self._folder / f"{next(self._numbers)}"
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{path}\n".encode())
        self._process.stdin.flush()
        return int(self._process.stdout.readline()), path

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


class Worker:
    """A process of its own with one client."""

    def __init__(self, forks: Forks, options: dict[str, Any]) -> None:
        self._forks = forks
        self._options = options
        self._numbers = itertools.count()
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self.pid = 0

    async def __aenter__(self) -> Self:
        self.pid, path = self._forks.fork()
        self._reader, self._writer = await _connect(path)
        self._reading = asyncio.create_task(self._read())
        await self.call("open", **self._options)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.signal(signal.SIGCONT)
        self._writer.close()
        await asyncio.wait((self._reading,), timeout=5)
        self.signal(signal.SIGKILL)

    async def _read(self) -> None:
        with suppress(OSError):  # it was killed
            await self._read_all()
        for reply in self._replies.values():
            reply.cancel()

    async def _read_all(self) -> None:
        while line := await self._reader.readline():
            number, kind, value = msgspec.json.decode(line)
            reply = self._replies.pop(number)
            if reply.done():
                continue
            if kind == "error":
                reply.set_exception(Failed(*value))
            else:
                reply.set_result(value)

    def send(self, op: str, **options: Any) -> tuple[int, asyncio.Future[Any]]:
        number = next(self._numbers)
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        self._writer.write(msgspec.json.encode([number, op, options]) + b"\n")
        return number, reply

    async def call(self, op: str, **options: Any) -> Any:
        number, reply = self.send(op, **options)
        try:
            return await reply
        except asyncio.CancelledError:
            self.send("cancel", number=number)
            raise

    async def get(self, user: str = "u1", *, max_age: float | None = None) -> Answer:
        return Answer(*await self.call("get", user=user, max_age=max_age))

    async def crowd(
        self, users: list[str], size: int, *, max_age: float | None = None
    ) -> list[Answer]:
        """Let ``size`` callers ask for each of these accounts, all at once."""
        found = await self.call("crowd", users=users, size=size, max_age=max_age)
        return [Answer(*one) for one in found]

    async def stats(self) -> dict[str, int]:
        found: dict[str, int] = await self.call("stats")
        return found

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


async def _connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(20):
        while True:
            try:
                return await asyncio.open_unix_connection(str(path))
            except (FileNotFoundError, ConnectionRefusedError):  # it does not listen yet
                await asyncio.sleep(0.01)


# --- the process's side ---------------------------------------------------------------------------


class Service:
    """What a process does as it is told."""

    def __init__(self) -> None:
        self._wolf: WolfClient | None = None
        self._tier: RedisTier | None = None
        self._told: list[str] = []
        handler = logging.Handler(logging.WARNING)
        handler.emit = lambda record: self._told.append(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger("wolf_async").addHandler(handler)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self.done = asyncio.Event()

    @property
    def wolf(self) -> WolfClient:
        assert self._wolf is not None
        return self._wolf

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            number, op, options = msgspec.json.decode(line)
            self._tasks[number] = asyncio.create_task(self._answer(number, op, options, writer))
        if self._wolf is not None:
            await self._wolf.aclose()
        writer.close()
        self.done.set()

    async def _answer(
        self, number: int, op: str, options: dict[str, Any], writer: asyncio.StreamWriter
    ) -> None:
        try:
            reply: Any = [number, "value", await getattr(self, op)(**options)]
        except asyncio.CancelledError:
            reply = [number, "error", ["CancelledError", ""]]
        except Exception as error:
            reply = [number, "error", [type(error).__name__, str(error)]]
        writer.write(msgspec.json.encode(reply) + b"\n")
        self._tasks.pop(number, None)

    async def open(
        self,
        base_url: str,
        url: str | None,
        token: str,
        policy: dict[str, Any],
        tier: dict[str, Any],
        skew: float = 0.0,
    ) -> None:
        self._tier = None if url is None else RedisTier(url, **tier)
        self._wolf = WolfClient(
            token,
            base_url=base_url,
            cache=CachePolicy(**policy),
            retry=RetryPolicy(attempts=1),
            clock=lambda: time.monotonic() + skew,
            shared=self._tier,
        )

    async def get(self, user: str, max_age: float | None) -> tuple[int, float, float]:
        began = time.monotonic()
        init = await self.wolf.task_init(user, max_age=max_age)
        assert init.max_recycle_limit is not None
        return init.max_recycle_limit, began, time.monotonic()

    async def crowd(
        self, users: list[str], size: int, max_age: float | None
    ) -> list[tuple[int, float, float]]:
        return await asyncio.gather(*(self.get(user, max_age) for user in users * size))

    async def peek(self, user: str) -> int | None:
        init = self.wolf.peek(user)
        return None if init is None else init.max_recycle_limit

    async def invalidate(self, user: str, *, then_get: bool = False) -> Any:
        self.wolf.invalidate(user)
        return await self.get(user, None) if then_get else None

    async def clear(self) -> None:
        self.wolf.clear()

    async def settled(self) -> bool:
        return await self.wolf.settled()

    async def is_up(self) -> bool:
        assert self._tier is not None
        return repr(self._tier).endswith(": up>")

    async def warnings(self) -> list[str]:
        return self._told

    async def stats(self) -> dict[str, int]:
        return msgspec.structs.asdict(self.wolf.stats())

    async def cancel(self, number: int) -> None:
        task = self._tasks.get(number)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        await self.wolf.aclose()


async def _run(path: str) -> None:
    service = Service()
    server = await asyncio.start_unix_server(service.serve, path)
    async with server:
        await service.done.wait()


def _forks() -> Iterator[str]:
    yield from map(str.strip, sys.stdin)


def main() -> None:
    """Fork once for each line, which names a socket; print the new process's id."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for path in _forks():
        pid = os.fork()
        if pid == 0:
            os.close(0)
            asyncio.run(_run(path))
            os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    assert wolf_async.__version__
    assert redis.asyncio.__name__
    main()

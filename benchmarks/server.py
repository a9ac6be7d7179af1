"""An upstream in a process of its own, so that what it does is on nobody's bill: ``python -m benchmarks.server``.

It answers every request with the documented sample: under ``/escaped`` as PHP writes it by default, under ``/slow``
after a pause, and under ``/calls`` with how many it has answered. It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager

from benchmarks.subjects import ESCAPED, SAMPLE

__all__ = ["calls_of", "upstream"]

SLOW = 0.02
"""Seconds that an answer under ``/slow`` takes."""


def _response(body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Connection(asyncio.Protocol):
    calls = 0
    plain = _response(SAMPLE)
    escaped = _response(ESCAPED)

    def __init__(self) -> None:
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        *requests, self.received = (self.received + data).split(b"\r\n\r\n")
        for request in requests:
            self.answer(request.split(b" ", 2)[1])

    def answer(self, path: bytes) -> None:
        if path == b"/calls":
            self.transport.write(_response(str(_Connection.calls).encode()))
            return
        _Connection.calls += 1
        response = self.escaped if path.startswith(b"/escaped") else self.plain
        if path.startswith(b"/slow"):
            asyncio.get_running_loop().call_later(SLOW, self.transport.write, response)
        else:
            self.transport.write(response)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(
        _Connection, "127.0.0.1", 0, backlog=1000
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


@contextmanager
def upstream() -> Generator[str]:
    """The base URL of an upstream that lives as long as the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.communicate()


def calls_of(url: str) -> int:
    """How many requests an upstream has answered."""
    with urllib.request.urlopen(f"{url}/calls") as response:
        return int(response.read())


if __name__ == "__main__":
    asyncio.run(_serve())

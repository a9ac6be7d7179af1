"""Serve as upstream from a process of its own, so that its work is nobody's cost.

``python -m benchmarks.server`` answers every request with the documented sample: under
``/slow`` after a pause, under ``/changing`` with other free concurrency in every second, and
under ``/bytes/N`` in about N bytes. It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache

from benchmarks.subjects import SAMPLE, envelope_of

SLOW = 0.02
"""Seconds that an answer under ``/slow`` takes."""


@cache
def _response(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


class _Connection(asyncio.Protocol):
    received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        *requests, self.received = (self.received + data).split(b"\r\n\r\n")
        for request in requests:
            self.answer(*request.split(b" ", 2)[1].split(b"/", 3)[1:3])

    def answer(self, first: bytes, second: bytes) -> None:
        if first == b"slow":
            loop = asyncio.get_running_loop()
            loop.call_later(SLOW, self.transport.write, _response(SAMPLE))
        elif first == b"changing":
            free = b'"residue":%d' % (int(time.monotonic()) % 2)
            self.transport.write(_response(SAMPLE.replace(b'"residue":1', free)))
        else:
            body = envelope_of(int(second)) if first == b"bytes" else SAMPLE
            self.transport.write(_response(body))


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


@contextmanager
def upstream() -> Generator[str]:
    """Give the base URL of an upstream that lives as long as the block."""
    command = [sys.executable, "-m", "benchmarks.server"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.communicate()


if __name__ == "__main__":
    asyncio.run(_serve())

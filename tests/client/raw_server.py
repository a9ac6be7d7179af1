"""A server on loopback that sends whatever bytes a test writes by hand, right or wrong."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Self

import msgspec

if TYPE_CHECKING:
    import ssl

__all__ = ["Line", "RawServer", "Script", "chunked", "http", "in_turn", "success"]


class Line:
    """One connection to a `RawServer`, as its script sees it."""

    def __init__(
        self, server: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer

    async def request(self) -> bytes:
        """Return the next request's head, or raise `asyncio.IncompleteReadError` at the end."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        self._server.requests.append(head)
        self._server.arrived.set()
        return head

    async def send(self, data: bytes) -> None:
        """Send bytes; raises `ConnectionError` when the client has left."""
        self._writer.write(data)
        await self._writer.drain()

    async def drip(self, data: bytes, pause: float, size: int = 1) -> None:
        """Send bytes in pieces, with seconds of real time between them."""
        for at in range(0, len(data), size):
            await self.send(data[at : at + size])
            await asyncio.sleep(pause)

    async def gone(self) -> None:
        """Wait until the client has left."""
        while await self._reader.read(65_536):
            pass

    def reset(self) -> None:
        """Break the connection off without a word."""
        self._writer.transport.abort()


Script = Callable[[Line], Awaitable[None]]
"""What is done with a connection, which is closed when the script ends."""


class RawServer:
    """A server that runs a script for each connection."""

    def __init__(self, script: Script, *, ssl: ssl.SSLContext | None = None) -> None:
        self.requests: list[bytes] = []
        """The heads of all requests, in order of arrival."""
        self.connections = 0
        self.arrived = asyncio.Event()
        """Set at each request; a test that waits for the next one clears it."""
        self._script = script
        self._ssl = ssl
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def base_url(self) -> str:
        return f"{'https' if self._ssl else 'http'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", 0, ssl=self._ssl, backlog=1024
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._server is not None
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await self._script(Line(self, reader, writer))
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def in_turn(*replies: bytes) -> Script:
    """Give each request the next reply, and the last one to all after it.

    The connection is closed after a reply that is no complete answer (see `http`).
    """
    left = list(replies)

    async def script(line: Line) -> None:
        while True:
            await line.request()
            reply = left.pop(0) if len(left) > 1 else left[0]
            await line.send(reply)
            if not reply.startswith(b"HTTP/1.1 ") or b"\r\nConnection: close\r\n" in reply:
                return
            if not _is_complete(reply):
                return

    return script


def _is_complete(reply: bytes) -> bool:
    head, end, body = reply.partition(b"\r\n\r\n")
    return bool(end) and f"\r\nContent-Length: {len(body)}".encode() in head


def http(body: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    """Return an answer with its right Content-Length, unless ``headers`` say otherwise."""
    lines = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    lines.update({name.replace("_", "-"): value for name, value in headers.items()})
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode("latin-1") + body


def chunked(*chunks: bytes, **headers: str) -> bytes:
    """Return a complete answer in chunks, without a Content-Length."""
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
    return f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{head}\r\n".encode() + body


def success(marker: str = "somebody") -> bytes:
    """Return the body of an answer with one background, which is named ``marker``."""
    data = {"background": [{"id": 1, "name": marker, "created_at": None}]}
    return msgspec.json.encode({"code": 200, "status": "success", "message": "", "data": data})

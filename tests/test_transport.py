"""One exchange alone: a response of any kind, or a named error; nothing is left open."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from client.raw_server import Line, RawServer, Script, chunked, http, in_turn

import wolf_async
from wolf_async import (
    Timeouts,
    WolfClosedError,
    WolfConnectionError,
    WolfDecodeError,
    WolfTimeoutError,
)
from wolf_async.testing import FakeClock
from wolf_async.upstream.auth import Credential
from wolf_async.upstream.deadline import Deadline
from wolf_async.upstream.transport import Transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from wolf_async import RawResponse

HEADERS = Credential("sesame").headers


class Wire:
    """A transport, and a raw server at its other end."""

    def __init__(self) -> None:
        self.clock = FakeClock(100.0)
        self.server = RawServer(in_turn(http(b"{}")))

    def transport(
        self, *, timeouts: Timeouts | None = None, max_body: int = 1000, **settings: Any
    ) -> Transport:
        return Transport(
            self.server.base_url,
            timeouts or Timeouts(),
            clock=self.clock,
            max_body=max_body,
            **settings,
        )

    async def get(self, transport: Transport, *, total: float = 30.0) -> RawResponse:
        deadline = Deadline(asyncio.get_running_loop(), total)
        return await transport.get(
            urlsplit(self.server.base_url + "/path?a=%2Fb"), HEADERS, deadline
        )

    async def serve(self, script: Script) -> None:
        await self.server.__aexit__()
        self.server = await RawServer(script).__aenter__()


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    wire = Wire()
    await wire.server.__aenter__()
    yield wire
    await wire.server.__aexit__()


async def test_a_response_comes_as_it_is(wire: Wire) -> None:
    await wire.serve(in_turn(http(b"teapot", "418 Teapot", X_Kind="short")))
    transport = wire.transport()
    response = await wire.get(transport)
    assert (response.status, response.body, response.headers["x-kind"]) == (418, b"teapot", "short")
    assert (response.sent_at, response.attempts) == (100.0, 1)
    head = wire.server.requests[0].lower()
    assert head.startswith(b"get /path?a=%2fb http/1.1\r\n")
    assert b"\r\nauthorization: bearer sesame\r\n" in head
    await transport.close()


@pytest.mark.parametrize("handed_in", [False, True], ids=["own session", "handed in"])
async def test_every_request_says_what_it_sends_and_accepts(wire: Wire, handed_in: bool) -> None:
    async with aiohttp.ClientSession(headers={"Accept": "text/html", "X-Own": "yes"}) as session:
        transport = wire.transport(session=session if handed_in else None)
        await wire.get(transport)
        await transport.close()
    lines = wire.server.requests[0].decode().splitlines()[1:]
    sent = [tuple(line.split(": ", 1)) for line in lines if line]
    assert sorted(sent) == sorted(
        [
            ("Host", wire.server.base_url.removeprefix("http://")),
            ("Authorization", "Bearer sesame"),
            ("Accept", "application/json"),
            ("Accept-Encoding", "gzip, deflate"),
            ("Content-Type", "application/json"),
            ("User-Agent", f"wolf-async/{wolf_async.__version__}"),
            *([("X-Own", "yes")] if handed_in else []),
        ]
    )


async def test_sent_at_is_before_the_exchange(wire: Wire) -> None:
    async def script(line: Line) -> None:
        await line.request()
        wire.clock.advance(5)
        await line.send(http(b"{}"))

    await wire.serve(script)
    transport = wire.transport()
    assert (await wire.get(transport)).sent_at == 100.0
    await transport.close()


@pytest.mark.parametrize("reply", [http(b" " * 1000), chunked(b" " * 400, b" " * 600)])
async def test_a_body_of_the_limit_is_not_over_it(wire: Wire, reply: bytes) -> None:
    await wire.serve(in_turn(reply))
    transport = wire.transport(max_body=1000)
    assert len((await wire.get(transport)).body) == 1000
    await transport.close()
    transport = wire.transport(max_body=999)
    with pytest.raises(WolfDecodeError, match="larger than 999 bytes") as caught:
        await wire.get(transport)
    # neither its own cause nor kept in a circle
    assert caught.value.__cause__ is None
    await transport.close()


async def test_a_length_that_promises_too_much_is_not_waited_for(wire: Wire) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n")
        await line.gone()

    await wire.serve(script)
    transport = wire.transport()
    async with asyncio.timeout(5):
        with pytest.raises(WolfDecodeError, match="larger than 1000 bytes"):
            await wire.get(transport)
    await transport.close()


@pytest.mark.parametrize(
    ("timeouts", "total", "saying"),
    [
        (Timeouts(attempt=0.05), 9.0, "no complete answer within 0.05 s"),
        (
            Timeouts(attempt=9.0),
            0.05,
            "no answer within 0.05 s in total: time ran out while waiting for the answer",
        ),
        (Timeouts(attempt=math.inf, total=math.inf), 0.05, "no answer within 0.05 s in total"),
    ],
)
async def test_the_shorter_of_attempt_and_deadline_ends_it(
    wire: Wire, timeouts: Timeouts, total: float, saying: str
) -> None:
    async def script(line: Line) -> None:
        await line.gone()

    await wire.serve(script)
    transport = wire.transport(timeouts=timeouts)
    async with asyncio.timeout(5):
        with pytest.raises(WolfTimeoutError, match=saying) as caught:
            await wire.get(transport, total=total)
    assert isinstance(caught.value.__cause__, TimeoutError)
    await transport.close()


async def test_no_timeouts_at_all_will_do(wire: Wire) -> None:
    transport = wire.transport(
        timeouts=Timeouts(total=math.inf, attempt=math.inf, connect=math.inf)
    )
    assert (await wire.get(transport, total=math.inf)).status == 200
    await transport.close()


async def test_a_cause_holds_no_token_and_no_echo_of_it(wire: Wire) -> None:
    async def script(line: Line) -> None:
        await line.send(await line.request())

    await wire.serve(script)
    transport = wire.transport()
    with pytest.raises(
        WolfConnectionError, match=r"^the answer is not HTTP: Bad status line$"
    ) as caught:
        await wire.get(transport)
    cause = caught.value.__cause__
    assert isinstance(cause, aiohttp.ClientResponseError)
    assert not cause.request_info.headers
    assert (cause.__cause__, cause.__context__, cause.headers) == (None, None, None)
    assert "sesame" not in repr(cause) + str(cause) + repr(vars(cause))
    await transport.close()


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (
            b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Content-Length can't be present with Transfer-Encoding",
        ),
        (
            b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding can't be present with Content-Length",
        ),
        (b"X-can't\x00: can't\r\n", "Invalid header token"),
    ],
)
async def test_what_is_not_http_is_told_in_whole_words(
    wire: Wire, head: bytes, reason: str
) -> None:
    await wire.serve(in_turn(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n"))
    transport = wire.transport()
    with pytest.raises(WolfConnectionError) as caught:
        await wire.get(transport)
    assert str(caught.value) == f"the answer is not HTTP: {reason}"
    await transport.close()


async def test_a_session_of_its_own_is_closed_and_another_is_not(wire: Wire) -> None:
    own = wire.transport()
    assert repr(own) == "<Transport: own session>"
    await own.close()
    await own.close()
    assert repr(own) == "<Transport: own session, closed>"
    with pytest.raises(WolfClosedError):
        await wire.get(own)
    async with aiohttp.ClientSession() as session:
        other = wire.transport(session=session)
        assert (await wire.get(other)).status == 200
        await other.close()
        assert not session.closed
        assert repr(other) == "<Transport: a session that was handed in>"


def test_a_transport_is_closed_when_its_loop_ends() -> None:
    async def left_open() -> Transport:
        wire = Wire()
        async with wire.server:
            transport = wire.transport()
            await wire.get(transport)
            return transport

    transport = asyncio.run(left_open())
    assert repr(transport) == "<Transport: own session, closed>"

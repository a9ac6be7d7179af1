"""Whatever comes over the wire: an answer or a named error, in bounded time."""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

import asyncio
import contextlib
import gzip
import time
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import aiohttp
import pytest
from aioresponses import aioresponses

from wolf_async import (
    CachePolicy,
    Timeouts,
    WolfAPIError,
    WolfAuthError,
    WolfConnectionError,
    WolfDecodeError,
    WolfEndpointError,
    WolfError,
    WolfPermissionError,
    WolfServerError,
    WolfTimeoutError,
)
from wolf_async.testing import FakeClock, Sandbox, drip, empty, gzip_garbage, html, respond

from .conftest import AT_ONCE, ONCE
from .raw_server import Line, chunked, http, in_turn, success

if TYPE_CHECKING:
    from wolf_async.testing import Step

    from .conftest import MakeClient, Serve

BODY = success()
GZIP = gzip.compress(BODY)
HEAD = b"HTTP/1.1 200 OK\r\n"

CUT_SHORT = {
    "nothing": b"",
    "one byte": b"H",
    "half a status line": b"HTTP/1.1 2",
    "half the headers": HEAD + b"Content-Type: appl",
    "headers then a dropped body": HEAD + b"Content-Length: 10\r\n\r\n",
    "a truncated body": http(BODY[:50], Content_Length=str(len(BODY))),
    "a truncated gzip body": http(
        GZIP[:50], Content_Length=str(len(GZIP)), Content_Encoding="gzip"
    ),
    "a chunk cut short": HEAD + b"Transfer-Encoding: chunked\r\n\r\n50\r\nabc",
    "no last chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "only an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n",
}

MALFORMED = {
    "not HTTP": b"hello\r\n\r\n",
    "HTTP/0.9": BODY,
    "status out of range": b"HTTP/1.1 99999 OK\r\n\r\n",
    "a chunk size that is none": HEAD
    + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n",
    "a length that is none": http(BODY, Content_Length="many"),
    "a negative length": http(BODY, Content_Length="-5"),
    "a length beyond 64 bits": http(BODY, Content_Length="9" * 30),
    "a length that is too short": http(BODY, Content_Length="5"),
    "two lengths": HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "a header without end": HEAD + b"X-Long: " + b"a" * 100_000 + b"\r\n\r\n",
    "too many headers": HEAD + b"X-A: b\r\n" * 50_000 + b"\r\n",
    "a null byte in a header": HEAD + b"X-A: b\0c\r\nContent-Length: 0\r\n\r\n",
}

UNDECODABLE = {
    "an empty body": http(b""),
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "205": http(b"", "205 Reset Content"),
    "an HTML page": http(b"<html>busy</html>", Content_Type="text/html"),
    "half a document": http(BODY[:50]),
    "two documents": http(BODY + BODY),
    "not UTF-8": http(
        success("用户").decode().encode("gbk"), Content_Type="application/json; charset=gbk"
    ),
    "UTF-16": http(BODY.decode().encode("utf-16"), Content_Type="application/json; charset=utf-16"),
    "bytes of nothing": http(bytes(range(256))),
    "null": http(b"null"),
    "a number": http(b"5"),
    "no envelope": http(b"{}"),
    "no data": http(b'{"code": 200, "status": "success"}'),
    "garbage for gzip": http(b"this is not gzip", Content_Encoding="gzip"),
    "garbage for deflate": http(b"this is not deflate", Content_Encoding="deflate"),
    "garbage after some gzip": http(GZIP[:60] + b"garbage" * 9, Content_Encoding="gzip"),
    "gzip that ends early": http(GZIP[:60], Content_Encoding="gzip"),
    "gzip that is not announced": http(GZIP),
    "brotli": http(BODY, Content_Encoding="br"),
    "zstd": http(BODY, Content_Encoding="zstd"),
    "an unknown encoding": http(b"\x00\x01", Content_Encoding="rot13"),
}

GOOD = {
    "a header of 64 KB": http(BODY, X_Long="a" * (2**16 - 10)),
    "chunks": chunked(BODY[:1], BODY[1:30], BODY[30:]),
    "gzip": http(GZIP, Content_Encoding="gzip"),
    "gzip in chunks": chunked(GZIP[:9], GZIP[9:], Content_Encoding="gzip"),
    "until closed": HEAD + b"\r\n" + BODY,
    "an interim answer first": b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + http(BODY),
    "a byte order mark": http(b"\xef\xbb\xbf" + BODY),
    "a wrong content type": http(BODY, Content_Type="text/html; charset=gbk"),
    "a wrong charset": http(success("用户"), Content_Type="application/json; charset=no-such"),
    "a status that is odd": http(BODY, "299 Whatever"),
}


@pytest.mark.parametrize(
    ("reply", "attempts"),
    [*((reply, 3) for reply in CUT_SHORT.values()), *((reply, 1) for reply in MALFORMED.values())],
    ids=[*CUT_SHORT, *MALFORMED],
)
async def test_an_unusable_answer_is_a_connection_error_tried_again_if_it_was_cut_short(
    serve: Serve, client: MakeClient, reply: bytes, attempts: int
) -> None:
    server = await serve(in_turn(reply))
    with pytest.raises(WolfConnectionError) as caught:
        await client(server.base_url, timeouts=Timeouts(attempt=5)).task_init("u")
    assert caught.value.attempts == attempts


@pytest.mark.parametrize("reply", UNDECODABLE.values(), ids=UNDECODABLE.keys())
async def test_an_answer_that_means_nothing_is_a_decode_error(
    serve: Serve, client: MakeClient, reply: bytes
) -> None:
    server = await serve(in_turn(reply))
    with pytest.raises(WolfDecodeError) as caught:
        await client(server.base_url).task_init("u")
    assert caught.value.attempts == len(server.requests) == 1
    assert caught.value.path.startswith("$")


UNREADABLE = {
    "no gzip": b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
    "no gzip in chunks": b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"4\r\nnope\r\n0\r\n\r\n",
    "announced as too large": b"Content-Length: 5000\r\n\r\n",
    "too large in chunks": b"Transfer-Encoding: chunked\r\n\r\n1388\r\n"
    + b"x" * 5000
    + b"\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE.keys())
@pytest.mark.parametrize(
    ("status", "expected", "requests"),
    [
        ("200 OK", WolfDecodeError, 1),
        ("403 Forbidden", WolfPermissionError, 1),
        # what says so cannot be read, and is no JSON object of the API
        ("404 Not Found", WolfEndpointError, 1),
        ("503 Busy", WolfServerError, 3),
    ],
)
async def test_a_body_that_cannot_be_read_leaves_the_status(
    serve: Serve,
    client: MakeClient,
    body: bytes,
    status: str,
    expected: type[WolfError],
    requests: int,
) -> None:
    server = await serve(in_turn(f"HTTP/1.1 {status}\r\n".encode() + body))
    wolf = client(server.base_url, retry=AT_ONCE, max_body=4000)
    with pytest.raises(expected) as caught:
        await wolf.task_init("u")
    assert type(caught.value) is expected
    assert caught.value.attempts == len(server.requests) == requests
    with pytest.raises(expected):
        await wolf.raw_task_init("u")


@pytest.mark.parametrize("reply", GOOD.values(), ids=GOOD.keys())
async def test_an_answer_that_is_only_unusual_is_an_answer(
    serve: Serve, client: MakeClient, reply: bytes
) -> None:
    server = await serve(in_turn(reply))
    wolf = client(server.base_url, retry=ONCE, cache=None)
    assert (await wolf.task_init("u")).background[0].id == 1
    assert (await wolf.raw_task_init("u")).body.endswith(BODY[-20:])


@pytest.mark.parametrize("fault", [gzip_garbage(), html(200), empty(200), respond(200, b"\xff")])
async def test_the_same_from_the_sandbox(box: Sandbox, client: MakeClient, fault: Step) -> None:
    box.always(fault)
    with pytest.raises(WolfDecodeError):
        await client(box.base_url).task_init(box.users[0])


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (502, WolfServerError),
        (403, WolfPermissionError),
        (400, WolfAPIError),
        (404, WolfEndpointError),
        (405, WolfEndpointError),
    ],
)
async def test_a_gateways_page_is_judged_by_its_status(
    box: Sandbox, client: MakeClient, status: int, expected: type[WolfAPIError]
) -> None:
    box.always(html(status))
    with pytest.raises(expected) as caught:
        await client(box.base_url, retry=ONCE).task_init(box.users[0])
    assert (caught.value.http_status, caught.value.code) == (status, None)
    assert caught.value.body.startswith(b"<html>")


@pytest.mark.parametrize("fault", [html(404), empty(404), html(405)])
async def test_a_gateway_without_the_api_is_told_with_its_base_url_and_asked_once(
    box: Sandbox, client: MakeClient, fault: Step
) -> None:
    box.always(fault)
    wolf, user = client(box.base_url, retry=AT_ONCE), box.users[0]
    for ask in (wolf.task_init, wolf.raw_task_init):
        with pytest.raises(WolfEndpointError) as caught:
            await ask(user)
        assert caught.value.attempts == 1
        assert str(caught.value).startswith(f"no Wolf Smart Cloud API at {box.base_url}: check ")
        assert str(caught.value).endswith(f"(account {user})")
    assert len(box.calls) == 2


async def test_an_answer_stays_while_the_gateway_knows_no_api(
    box: Sandbox, client: MakeClient
) -> None:
    clock = FakeClock()
    policy = CachePolicy(ttl=1, stale_if_error=100, refresh_backoff=0)
    wolf, user = client(box.base_url, cache=policy, clock=clock), box.users[0]
    init = await wolf.task_init(user)
    box.always(html(404))
    clock.advance(50)
    assert await wolf.task_init(user) is init
    clock.advance(52)
    with pytest.raises(WolfEndpointError):
        await wolf.task_init(user)


async def test_an_answer_stays_while_a_refused_token_cannot_be_renewed(
    box: Sandbox, client: MakeClient
) -> None:
    """What the server would say with another token, nobody knows."""
    tokens = iter([box.token])

    async def provider() -> str:
        return next(tokens)

    clock = FakeClock()
    policy = CachePolicy(ttl=1, stale_if_error=100, refresh_backoff=0)
    wolf = client(box.base_url, cache=policy, clock=clock, token=provider)
    init = await wolf.task_init(box.users[0])
    box.always(respond(401))
    clock.advance(50)
    assert (await wolf.answer(box.users[0])).is_stale
    assert await wolf.task_init(box.users[0]) is init
    clock.advance(52)
    with pytest.raises(WolfAuthError, match="the token provider failed"):
        await wolf.task_init(box.users[0])


async def test_a_slow_drip_of_a_body_ends_with_the_attempt(
    box: Sandbox, client: MakeClient
) -> None:
    box.always(drip(0.01, chunk=1))
    began = time.monotonic()
    with pytest.raises(WolfTimeoutError, match=r"no complete answer within 0\.1 s"):
        await client(box.base_url, retry=ONCE, timeouts=Timeouts(attempt=0.1)).task_init(
            box.users[0]
        )
    assert time.monotonic() - began < 2
    await box.wait_until_idle()


@pytest.mark.parametrize(
    "what", [b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 500, http(BODY * 99), b""]
)
async def test_a_slow_drip_of_anything_ends_with_the_attempt(
    serve: Serve, client: MakeClient, what: bytes
) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.drip(what, 0.01)
        await line.gone()

    server = await serve(script)
    with pytest.raises(WolfTimeoutError, match=r"no complete answer within 0\.1 s"):
        await client(server.base_url, retry=ONCE, timeouts=Timeouts(attempt=0.1)).task_init("u")


async def test_a_refusal_is_known_even_if_the_body_is_odd(serve: Serve, client: MakeClient) -> None:
    for body in (b"", b"\xff\xfe", b"[" * 100_000, b"null", b'"no"', b"<html>"):
        server = await serve(in_turn(http(body, "403 Forbidden")))
        for ask in (client(server.base_url).task_init, client(server.base_url).raw_task_init):
            with pytest.raises(WolfPermissionError) as caught:
                await ask("u")
            assert caught.value.body == body[:2048]


async def test_a_raw_response_is_returned_whatever_its_body(
    serve: Serve, client: MakeClient
) -> None:
    server = await serve(in_turn(http(b"<html>", X_Odd="\xe9")))
    response = await client(server.base_url).raw_task_init("u")
    assert (response.status, response.body, response.attempts) == (200, b"<html>", 1)
    assert response.headers["x-odd"] == "\xe9" or response.headers["X-ODD"]


async def test_answers_never_cross_from_one_call_to_another(
    serve: Serve, client: MakeClient
) -> None:
    # an answer that comes too late for its own request must not serve the next one
    async def script(line: Line) -> None:
        while True:
            user = (await line.request()).split(b"/")[4].decode()
            if user == "slow":
                await asyncio.sleep(0.6)
            await line.send(http(success(user)))

    server = await serve(script)
    wolf = client(
        server.base_url, retry=ONCE, timeouts=Timeouts(attempt=0.3), max_concurrency=1, cache=None
    )
    with pytest.raises(WolfTimeoutError):
        await wolf.task_init("slow")
    for user in ("a", "b"):
        assert (await wolf.task_init(user)).background[0].name == user


async def test_a_second_answer_on_the_connection_is_not_taken_for_the_next_one(
    serve: Serve, client: MakeClient
) -> None:
    async def script(line: Line) -> None:
        while True:
            user = (await line.request()).split(b"/")[4].decode()
            await line.send(http(success(user)) + http(success("smuggled")))

    server = await serve(script)
    wolf = client(server.base_url, retry=AT_ONCE, cache=None)
    for user in ("a", "b", "c"):
        # over a new connection, or with an error by name; never with what nobody asked for
        with contextlib.suppress(WolfError):
            assert (await wolf.task_init(user)).background[0].name == user


@pytest.mark.parametrize("handed_in", [False, True])
async def test_an_answer_that_comes_late_is_not_taken_for_the_next_one(
    serve: Serve, client: MakeClient, handed_in: bool, made: list[aiohttp.ClientSession]
) -> None:
    late = asyncio.Event()

    async def script(line: Line) -> None:
        while True:
            user = (await line.request()).split(b"/")[4].decode()
            if user == "a":
                # a gateway that gives a request up, and passes its answer on as well
                await line.send(http(b"", "504 Gateway Timeout"))
                await late.wait()
            await line.send(http(success(user)))

    server = await serve(script)
    async with aiohttp.ClientSession() as session:
        wolf = client(server.base_url, retry=ONCE, session=session if handed_in else None)
        with pytest.raises(WolfServerError):
            await wolf.task_init("a")
        late.set()
        await unread(made[-1])
        for user in ("b", "c"):
            assert (await wolf.task_init(user)).background[0].name == user
        assert server.connections == 2


async def test_a_new_connection_may_be_refused_before_the_request_is_read(
    serve: Serve, client: MakeClient
) -> None:
    async def script(line: Line) -> None:
        await line.send(http(b"", "503 Busy", Retry_After="7", Connection="close"))
        await line.gone()

    server = await serve(script)
    with pytest.raises(WolfServerError) as caught:
        await client(server.base_url, retry=ONCE).task_init("u")
    assert caught.value.retry_after == 7


async def unread(session: aiohttp.ClientSession) -> None:
    """Wait until something lies in the session's kept connection that nobody asked for."""
    connector: Any = session.connector
    async with asyncio.timeout(5):
        while not any(  # noqa: ASYNC110 (nothing tells of it)
            protocol.should_close for kept in connector._conns.values() for protocol, _ in kept
        ):
            await asyncio.sleep(0)


# --- what a real server cannot bring about --------------------------------------------------------


class Response(aiohttp.ClientResponse):
    """aioresponses 0.7.9 does not know of the ``stream_writer`` that aiohttp wants from 3.14 on."""

    def __init__(self, *args: object, **settings: object) -> None:
        super().__init__(*args, **{"stream_writer": Mock(output_size=0), **settings})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("raised", "expected", "saying"),
    [
        (aiohttp.ClientOSError(5, "I/O"), WolfConnectionError, "ClientOSError"),
        (aiohttp.ServerDisconnectedError(), WolfConnectionError, "closed the connection"),
        (aiohttp.SocketTimeoutError(), WolfTimeoutError, "within"),
        (OSError(24, "Too many open files"), WolfConnectionError, "Too many open files"),
        (UnicodeError("label empty or too long"), WolfConnectionError, "UnicodeError"),
        (AssertionError(), WolfConnectionError, "AssertionError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_whatever_the_connector_raises_is_a_named_error(
    client: MakeClient, raised: Exception, expected: type[WolfError], saying: str
) -> None:
    with aioresponses() as mocked:
        mocked.get(
            "http://127.0.0.1:1/agent-api/new/user/u/task/create", exception=raised, repeat=True
        )
        with pytest.raises(expected, match=saying) as caught:
            await client("http://127.0.0.1:1", retry=ONCE).task_init("u")
    shared = caught.value.__cause__
    assert shared is not None
    assert shared.__cause__ is raised


async def test_the_mock_answers_too(client: MakeClient) -> None:
    with aioresponses() as mocked:
        url = "http://127.0.0.1:1/agent-api/new/user/u/task/create"
        mocked.get(url, body=BODY, response_class=Response)
        assert (await client("http://127.0.0.1:1").task_init("u")).background[0].id == 1

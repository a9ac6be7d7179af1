"""How much at once, how often, how large and how deep."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import tracemalloc
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from wolf_async import Timeouts, WolfClient, WolfConfigError, WolfDecodeError, WolfError
from wolf_async.testing import Sandbox, gzip_bomb, hold, respond

from .conftest import ONCE, TOKEN
from .raw_server import Line, chunked, http, in_turn, success

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Canary, MakeClient, Serve

MIB = 2**20


async def test_no_more_than_max_concurrency_requests_are_under_way(client: MakeClient) -> None:
    async with Sandbox(accounts=300, sub_accounts=0, token=TOKEN) as box:
        gate = asyncio.Event()
        box.always(hold(gate))
        wolf = client(box.base_url, max_concurrency=7)
        calls = asyncio.gather(*(wolf.task_init(user) for user in box.users))
        await box.wait_for_calls(7)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(box.calls) == 7
        gate.set()
        await calls
        assert box.concurrency_peak == 7
        assert len(box.calls) == 300


async def test_raw_calls_count_among_them(box: Sandbox, client: MakeClient) -> None:
    gate = asyncio.Event()
    box.always(hold(gate))
    wolf = client(box.base_url, max_concurrency=2)
    calls = asyncio.gather(
        *(wolf.raw_task_init(user) for user in box.users[:5]),
        *(wolf.task_init(user) for user in box.users[:5]),
    )
    await box.wait_for_calls(2)
    gate.set()
    await calls
    assert box.concurrency_peak == 2


@pytest.mark.parametrize("fault", [respond(503), respond(401), respond(200, b"<html>")])
async def test_a_failure_gives_its_place_back(box: Sandbox, client: MakeClient, fault: Any) -> None:
    wolf = client(box.base_url, max_concurrency=1, cache=None)
    box.always(fault)
    for _ in range(3):
        with pytest.raises(WolfError):
            await wolf.task_init(box.users[0])
    box.heal()
    await wolf.task_init(box.users[0])


async def test_callers_cancelled_at_any_moment_give_their_places_back(
    box: Sandbox, client: MakeClient
) -> None:
    wolf = client(box.base_url, max_concurrency=2, rate_limit=(5000.0, 1), cache=None)
    for steps in range(60):
        calls = [asyncio.ensure_future(wolf.task_init(user)) for user in box.users[:4]]
        for _ in range(steps % 20):
            await asyncio.sleep(0)
        for call in calls[: 1 + steps % 4]:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    async with asyncio.timeout(5):
        await asyncio.gather(*(wolf.task_init(user) for user in box.users))


async def test_the_rate_limit_spaces_requests(box: Sandbox, client: MakeClient) -> None:
    wolf = client(box.base_url, rate_limit=(50.0, 5))
    began = time.monotonic()
    await asyncio.gather(*(wolf.task_init(user) for user in box.users[:9]))
    assert time.monotonic() - began >= 0.9 * 4 / 50


async def test_a_caller_cancelled_while_it_waits_for_the_rate_limit_harms_nobody(
    box: Sandbox, client: MakeClient
) -> None:
    wolf = client(box.base_url, rate_limit=8.0)
    await wolf.task_init(box.users[0])
    calls = [asyncio.ensure_future(wolf.task_init(user)) for user in box.users[1:6]]
    for _ in range(5):
        await asyncio.sleep(0)
    calls[0].cancel()
    calls[2].cancel()
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes] == [
        True,
        False,
        True,
        False,
        False,
    ]
    assert len(box.calls) == 4


async def test_retries_obey_the_rate_limit_as_well(box: Sandbox, client: MakeClient) -> None:
    box.script(None, respond(503), respond(503))
    await client(box.base_url, rate_limit=50.0).task_init(box.users[0])
    first, _, third = (call.at for call in box.calls)
    assert third - first >= 0.5 * 2 / 50


NONSENSE: list[dict[str, Any]] = [
    {"max_concurrency": 0},
    {"max_concurrency": -1},
    {"max_concurrency": True},
    {"max_concurrency": 1.5},
    {"rate_limit": 0},
    {"rate_limit": -1.0},
    {"rate_limit": float("nan")},
    {"rate_limit": float("inf")},
    {"rate_limit": "5"},
    {"rate_limit": True},
    {"rate_limit": (5.0,)},
    {"rate_limit": (5.0, 0)},
    {"rate_limit": (0, 5)},
    {"rate_limit": (5, 2.5)},
    {"max_body": 0},
    {"max_body": -1},
    {"max_body": 2.5},
    {"retry": None},
    {"timeouts": 5},
    {"cache": "an hour"},
    {"session": "mine"},
    {"ssl": False},
    {"ssl": True},
    {"clock": 5},
    {"allow_http": "no"},
    {"trust_env": "no"},
]


@pytest.mark.parametrize("settings", NONSENSE, ids=str)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(WolfConfigError, match=next(iter(settings))):
        WolfClient(TOKEN, **settings)


# --- size -----------------------------------------------------------------------------------------


async def test_a_body_of_the_limit_is_read_and_one_byte_more_is_refused(
    serve: Serve, client: MakeClient
) -> None:
    body = success()
    for reply in (
        http(body),
        chunked(body[:50], body[50:]),
        http(_gzipped(body), Content_Encoding="gzip"),
    ):
        server = await serve(in_turn(reply))
        await client(server.base_url, max_body=len(body)).task_init("u")
        with pytest.raises(WolfDecodeError, match=f"larger than {len(body) - 1} bytes") as caught:
            await client(server.base_url, max_body=len(body) - 1).task_init("u")
        assert caught.value.attempts == 1


@pytest.mark.parametrize(
    "how", ["announced", "chunked", "until closed", "bomb", "bomb in chunks", "deflate bomb"]
)
async def test_an_endless_body_is_refused_while_being_read(
    serve: Serve, client: MakeClient, canary: Canary, how: str
) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.send(_head(how))
        with contextlib.suppress(ConnectionError):
            for piece in _pieces(how):
                await line.send(piece)
        await line.gone()

    server = await serve(script)
    wolf = client(server.base_url, timeouts=Timeouts(attempt=20), max_body=4 * MIB)
    sum(map(len, _pieces(how)))  # the bombs are made before memory is measured
    tracemalloc.start()
    try:
        with pytest.raises(WolfDecodeError, match="larger than 4194304 bytes") as caught:
            await wolf.task_init("u")
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(caught.value.body) <= 2048
    assert peak < 8 * MIB
    assert kept < 2 * MIB  # while the error is alive
    assert len(server.requests) == 1


async def test_a_bomb_of_the_default_size_is_refused(box: Sandbox, client: MakeClient) -> None:
    box.always(gzip_bomb(200 * MIB))
    wolf = client(box.base_url)
    tracemalloc.start()
    try:
        with pytest.raises(WolfDecodeError, match="larger than 16777216 bytes"):
            await wolf.task_init(box.users[0])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 24 * MIB


@pytest.mark.parametrize("raw", [False, True])
async def test_a_refused_body_does_not_block_the_pool(
    serve: Serve, client: MakeClient, raw: bool
) -> None:
    server = await serve(in_turn(http(b" " * 5 * MIB), http(success())))
    wolf = client(server.base_url, max_body=1000, max_concurrency=1)
    with pytest.raises(WolfDecodeError):
        await (wolf.raw_task_init("u") if raw else wolf.task_init("u"))
    assert await wolf.task_init("u")
    assert server.connections == 2  # what was not read to its end is not used again


async def test_a_refused_body_is_freed_without_the_collector(
    serve: Serve, client: MakeClient, canary: Canary
) -> None:
    server = await serve(in_turn(http(b"x" * MIB)))
    wolf = client(server.base_url)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(10):
            with contextlib.suppress(WolfError):
                await wolf.task_init("u")
            canary.errors.clear()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert kept < 3 * MIB


@pytest.mark.parametrize(
    "text", [b"[", b'{"a":', b'{"code":200,"status":"success","data":{"background":' + b"["]
)
async def test_deep_nesting_is_an_error(box: Sandbox, client: MakeClient, text: bytes) -> None:
    depth = 2 * MIB // len(text)
    box.always(respond(200, text * depth))
    wolf = client(box.base_url, retry=ONCE)
    with pytest.raises(WolfDecodeError):
        await wolf.task_init(box.users[0])
    assert (await wolf.raw_task_init(box.users[0])).status == 200


@pytest.mark.parametrize("depth", [400, 900, 1100, 100_000])
async def test_deep_nesting_in_a_section_is_an_error_or_ignored(
    box: Sandbox, client: MakeClient, depth: int
) -> None:
    deep = msgspec.Raw(b'{"a":' * depth + b"1" + b"}" * depth)
    for data in (
        {"background": [{"id": 1, "new": deep}]},
        {"end_actions": {"0": deep}},
        {"caller_line_list": deep},
    ):
        box.script(
            None, respond(200, {"code": 200, "status": "success", "message": deep, "data": data})
        )
        with contextlib.suppress(WolfError):
            await client(box.base_url, retry=ONCE).task_init(box.users[0])


def _gzipped(body: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return packer.compress(body) + packer.flush()


def _head(how: str) -> bytes:
    encoding = {"bomb": "gzip", "bomb in chunks": "gzip", "deflate bomb": "deflate"}.get(how)
    head = "HTTP/1.1 200 OK\r\n"
    if encoding:
        head += f"Content-Encoding: {encoding}\r\n"
    if how == "announced":
        head += f"Content-Length: {2**40}\r\n"
    elif "chunk" in how:
        head += "Transfer-Encoding: chunked\r\n"
    return head.encode() + b"\r\n"


@lru_cache
def _bomb(wbits: int) -> list[bytes]:
    packer = zlib.compressobj(9, wbits=wbits)
    block = b" " * MIB
    return [packer.compress(block) + packer.flush(zlib.Z_SYNC_FLUSH) for _ in range(100)]


def _pieces(how: str) -> Iterator[bytes]:
    pieces = _bomb(15 if how == "deflate bomb" else 31) if "bomb" in how else [b" " * 65_536] * 200
    for piece in [b"".join(pieces)] if how == "bomb" else pieces:
        yield b"%x\r\n%s\r\n" % (len(piece), piece) if "chunk" in how else piece

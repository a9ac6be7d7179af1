"""Sessions and connections: made late, made once, closed by who made them."""

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING

import aiohttp
import pytest

from wolf_async import TaskInit, WolfClosedError, WolfConnectionError
from wolf_async.testing import Sandbox, hang_up, hold

from .conftest import ONCE, TOKEN
from .raw_server import Line, http, in_turn, success

if TYPE_CHECKING:
    from .conftest import MakeClient, Serve


async def test_twenty_concurrent_first_calls_make_one_session(
    box: Sandbox, client: MakeClient, made: list[aiohttp.ClientSession]
) -> None:
    wolf = client(box.base_url)
    assert not made
    gate = asyncio.Event()
    box.always(hold(gate))
    calls = asyncio.gather(*(wolf.task_init(user) for user in box.users))
    await box.wait_for_calls(20)
    gate.set()
    await calls
    await wolf.raw_task_init(box.users[0])
    assert len(made) == 1
    await wolf.aclose()
    assert made[0].closed


async def test_a_session_that_was_handed_in_is_used_and_never_closed(
    box: Sandbox, client: MakeClient, made: list[aiohttp.ClientSession]
) -> None:
    connector = aiohttp.TCPConnector()
    async with aiohttp.ClientSession(connector=connector) as session:
        wolf = client(box.base_url, session=session)
        await asyncio.gather(*(wolf.task_init(user) for user in box.users))
        await wolf.aclose()
        assert not session.closed
        assert not connector.closed
        assert made == [session]
        async with session.get(box.base_url) as response:
            assert response.status == 404


async def test_an_answer_is_decompressed_on_a_session_that_does_not(
    serve: Serve, client: MakeClient
) -> None:
    server = await serve(in_turn(http(gzip.compress(success("zipped")), Content_Encoding="gzip")))
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        init = await client(server.base_url, session=session).task_init("u")
    assert init.background[0].name == "zipped"


async def test_what_a_session_s_middleware_starts_besides_may_ask_for_the_account_that_is_asked_for(
    box: Sandbox, client: MakeClient
) -> None:
    started: list[asyncio.Task[TaskInit]] = []

    async def ask_as_well(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        started.append(asyncio.create_task(wolf.task_init(box.users[0])))
        return await handler(request)

    async with aiohttp.ClientSession(middlewares=(ask_as_well,)) as session:
        wolf = client(box.base_url, session=session)
        init = await wolf.task_init(box.users[0])
        assert await asyncio.gather(*started) == [init]


async def test_a_session_that_its_owner_closed_is_a_named_error(
    box: Sandbox, client: MakeClient
) -> None:
    async with aiohttp.ClientSession() as session:
        wolf = client(box.base_url, session=session)
        await wolf.task_init(box.users[0])
    with pytest.raises(WolfClosedError, match="the session is closed") as caught:
        await wolf.task_init(box.users[1])
    assert caught.value.account == (box.users[1], None)


async def test_connections_are_kept_between_calls(serve: Serve, client: MakeClient) -> None:
    server = await serve(in_turn(http(success())))
    wolf = client(server.base_url, cache=None)
    for _ in range(5):
        await wolf.task_init("u")
    assert (len(server.requests), server.connections) == (5, 1)


@pytest.mark.parametrize("calls", [1, 4])
async def test_a_kept_connection_that_the_server_closed_meanwhile_is_no_error(
    serve: Serve, client: MakeClient, calls: int
) -> None:
    gates = [asyncio.Event()]

    async def script(line: Line) -> None:
        await line.request()
        await line.send(http(success()))
        await gates[0].wait()  # and closes

    server = await serve(script)
    wolf = client(server.base_url, cache=None, retry=ONCE)
    await asyncio.gather(*(wolf.task_init(f"u{number}") for number in range(calls)))
    gates[0].set()
    gates[0] = asyncio.Event()
    await asyncio.gather(*(wolf.task_init(f"u{number}") for number in range(calls)))
    assert len(server.requests) == 2 * calls
    assert wolf.stats().requests == 2 * calls


async def test_a_connection_closed_after_each_answer_is_no_error(
    box: Sandbox, client: MakeClient
) -> None:
    box.always(hang_up())
    wolf = client(box.base_url, cache=None, retry=ONCE)
    for _ in range(5):
        await wolf.task_init(box.users[0])
    assert len(box.calls) == 5


async def test_a_kept_connection_that_closes_as_the_request_arrives_is_repeated_once(
    serve: Serve, client: MakeClient
) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.send(http(success()))
        await line.request()  # the second request on a connection gets no answer

    server = await serve(script)
    wolf = client(server.base_url, cache=None, retry=ONCE)
    await wolf.task_init("u")
    await wolf.task_init("u")
    # the server could not be known to have closed: it saw the request twice, on two connections
    assert (len(server.requests), server.connections) == (3, 2)


async def test_a_server_that_restarts_is_no_error(client: MakeClient) -> None:
    box = Sandbox(token=TOKEN)
    await box.start()
    wolf = client(box.base_url, cache=None, retry=ONCE)
    await wolf.task_init(box.users[0])
    await box.close()
    with pytest.raises(WolfConnectionError):
        await wolf.task_init(box.users[0])
    await box.start()
    await wolf.task_init(box.users[0])
    await box.close()


async def test_a_cancelled_call_closes_its_connection(box: Sandbox, client: MakeClient) -> None:
    box.always(hold(asyncio.Event()))
    wolf = client(box.base_url)
    call = asyncio.ensure_future(wolf.task_init(box.users[0]))
    await box.wait_for_calls(1)
    call.cancel()
    await asyncio.wait([call])
    await box.wait_until_idle()
    assert box.concurrency == 0

"""Which failures are tried again, when, and what the errors say."""

from __future__ import annotations

import asyncio
import copy
import logging
import math
import pickle
import time
import traceback
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from unittest.mock import Mock

import aiohttp
import msgspec
import pytest

from wolf_async import (
    CachePolicy,
    RetryPolicy,
    Timeouts,
    WolfAPIError,
    WolfAuthError,
    WolfConnectionError,
    WolfDecodeError,
    WolfEndpointError,
    WolfError,
    WolfNotFoundError,
    WolfPermissionError,
    WolfRateLimitError,
    WolfServerError,
    WolfTimeoutError,
)
from wolf_async.testing import (
    Sandbox,
    Step,
    disconnect,
    empty,
    error,
    hold,
    html,
    respond,
    truncate,
)
from wolf_async.upstream.deadline import Deadline

from . import virtual_time
from .conftest import ONCE, TOKEN
from .raw_server import http, in_turn, success
from .upstream_in_virtual_time import OK, Scene, play

if TYPE_CHECKING:
    from wolf_async import WolfClient

    from .conftest import Canary, MakeClient, Serve

BIG = b"x" * 2_000_000
DAY = timedelta(days=1)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_a_transient_status_is_tried_again(
    box: Sandbox, client: MakeClient, status: int
) -> None:
    user = box.users[0]
    box.script(user, respond(status), respond(status))
    wolf = client(box.base_url)
    assert (await wolf.task_init(user)).caller_line_list
    assert [call.status for call in box.calls] == [status, status, 200]
    assert (wolf.stats().requests, wolf.stats().retries) == (3, 2)


@pytest.mark.parametrize(
    "fault",
    [
        disconnect(),
        disconnect(reset=True),
        truncate(100),
        truncate(0),
        error(503),
        error(500, status=500),
    ],
    ids=["closed", "reset", "truncated", "no body", "code 503", "code 500"],
)
async def test_a_broken_exchange_is_tried_again(
    box: Sandbox, client: MakeClient, fault: Step
) -> None:
    user = box.users[0]
    box.script(user, fault)
    assert (await client(box.base_url).task_init(user)).caller_line_list
    assert len(box.calls) == 2


@pytest.mark.parametrize(
    "status", [400, 401, 402, 403, 404, 405, 409, 410, 418, 422, 451, 501, 505, 302]
)
async def test_another_status_is_not_tried_again(
    box: Sandbox, client: MakeClient, status: int
) -> None:
    box.always(respond(status))
    with pytest.raises(WolfAPIError) as caught:
        await client(box.base_url).task_init(box.users[0])
    assert caught.value.http_status == status
    assert caught.value.attempts == len(box.calls) == 1


@pytest.mark.parametrize(
    "fault", [error(6007), html(200), empty(200)], ids=["API error", "HTML", "empty"]
)
async def test_an_answer_that_would_come_again_is_not_tried_again(
    box: Sandbox, client: MakeClient, fault: Step
) -> None:
    box.always(fault)
    with pytest.raises((WolfAPIError, WolfDecodeError)) as caught:
        await client(box.base_url).task_init(box.users[0])
    assert caught.value.attempts == len(box.calls) == 1


async def test_an_attempt_that_takes_too_long_is_tried_again(
    box: Sandbox, client: MakeClient
) -> None:
    never = asyncio.Event()
    box.script(None, hold(never))
    wolf = client(box.base_url, timeouts=Timeouts(attempt=0.1))
    assert (await wolf.task_init(box.users[0])).caller_line_list
    assert [call.status for call in box.calls] == [None, 200]
    await box.wait_until_idle()


async def test_a_refused_connection_is_tried_again_and_names_itself(client: MakeClient) -> None:
    async with Sandbox() as gone:
        pass
    with pytest.raises(WolfConnectionError, match="Connect call failed") as caught:
        await client(gone.base_url).task_init("u")
    assert caught.value.attempts == 3
    assert _is_caused_by(caught.value, aiohttp.ClientConnectorError)


async def test_attempts_bounds_the_requests_for_one_answer(
    box: Sandbox, client: MakeClient
) -> None:
    box.always(respond(503))
    for attempts in (1, 2, 5):
        box.reset_calls()
        wolf = client(box.base_url, retry=RetryPolicy(attempts=attempts, backoff=0.0))
        with pytest.raises(WolfServerError) as caught:
            await wolf.task_init(box.users[0])
        assert caught.value.attempts == len(box.calls) == attempts


async def test_every_error_and_raw_response_tells_its_attempts_and_account(
    box: Sandbox, client: MakeClient
) -> None:
    user = box.users[0]
    wolf = client(box.base_url)
    assert (await wolf.raw_task_init(user)).attempts == 1
    box.script(user, respond(503), respond(503))
    assert (await wolf.raw_task_init(user)).attempts == 3
    box.script(user, respond(503), respond(503), respond(404))
    with pytest.raises(WolfEndpointError) as caught:
        await wolf.raw_task_init(user)
    assert (caught.value.attempts, caught.value.account) == (3, (user, None))
    sub_user = box.accounts[-1]
    box.script(sub_user, respond(503), html(200))
    with pytest.raises(WolfDecodeError) as undecodable:
        await wolf.task_init(*sub_user)
    assert (undecodable.value.attempts, undecodable.value.account) == (2, sub_user)


# --- Retry-After ----------------------------------------------------------------------------------


def test_retry_after_is_waited_for_in_both_forms() -> None:
    dates = {
        "Date": "Sun, 06 Nov 1994 08:49:30 GMT",
        "Retry_After": "Sun, 06 Nov 1994 08:49:37 GMT",
    }
    for headers, pause in (({"Retry_After": "7"}, 7.0), (dates, 7.0), ({"Retry_After": "0"}, 0.0)):
        assert pause_after(retry=RetryPolicy(), **headers) == pytest.approx(pause, abs=0.01)


ARABIC_ONE = "\N{ARABIC-INDIC DIGIT ONE}".encode().decode("latin-1")
"""As a server that writes UTF-8 sends it."""


@pytest.mark.parametrize(
    "value", ["-1", "1e999", "nan", "inf", "soon", "", ARABIC_ONE, "1,5", "0x10"]
)
def test_a_retry_after_that_makes_no_sense_is_ignored(value: str) -> None:
    assert 0 <= pause_after(retry=RetryPolicy(backoff=0.5), Retry_After=value) <= 0.5


@pytest.mark.parametrize(("value", "seconds"), [("31", 31.0), ("9" * 400, math.inf)])
async def test_a_retry_after_above_the_cap_is_raised_at_once(
    box: Sandbox, client: MakeClient, value: str, seconds: float
) -> None:
    box.always(respond(429, headers={"Retry-After": value}))
    with pytest.raises(WolfRateLimitError) as caught:
        await client(box.base_url, timeouts=Timeouts(total=100)).task_init(box.users[0])
    assert caught.value.retry_after == seconds
    assert caught.value.attempts == len(box.calls) == 1


async def test_a_retry_after_beyond_the_deadline_is_raised_at_once(
    box: Sandbox, client: MakeClient
) -> None:
    box.always(respond(503, headers={"Retry-After": "5"}))
    with pytest.raises(WolfServerError) as caught:
        await client(box.base_url, timeouts=Timeouts(total=4)).task_init(box.users[0])
    assert caught.value.retry_after == 5
    assert len(box.calls) == 1


# --- one deadline ---------------------------------------------------------------------------------


async def test_the_deadline_bounds_an_attempt(box: Sandbox, client: MakeClient) -> None:
    box.always(hold(asyncio.Event()))
    wolf = client(box.base_url, timeouts=Timeouts(total=0.08))
    await _times_out(
        wolf, box.users[0], "0.08 s in total: time ran out while waiting for the answer", attempts=1
    )


async def test_the_deadline_bounds_all_attempts_together(box: Sandbox, client: MakeClient) -> None:
    box.always(hold(asyncio.Event()))
    wolf = client(
        box.base_url,
        timeouts=Timeouts(total=0.3, attempt=0.1),
        retry=RetryPolicy(attempts=50, backoff=0),
    )
    await _times_out(
        wolf, box.users[0], "0.3 s in total: time ran out while waiting for the answer"
    )
    assert len(box.calls) in (2, 3)


async def test_the_deadline_bounds_the_wait_for_a_place(box: Sandbox, client: MakeClient) -> None:
    start = datetime.now(UTC)
    init = await client(box.base_url).task_init(box.users[0])
    draft = init.draft(
        name="held", script=init.outbound_group_v2[0], calls=1, start=start, stop=start + DAY
    )
    wolf = client(box.base_url, max_concurrency=1, timeouts=Timeouts(total=0.08))
    gate = asyncio.Event()
    box.script(None, hold(gate))
    # it has the time of an attempt, and so it keeps the place beyond the deadline of the other
    creating = asyncio.create_task(wolf.create_task(box.users[0], draft=draft, check=False))
    await box.wait_for_calls(2)
    await _times_out(wolf, box.users[1], "waiting for one of max_concurrency places", attempts=0)
    gate.set()
    await creating
    assert [call.method for call in box.calls] == ["GET", "POST"]


async def test_the_deadline_bounds_the_wait_for_the_rate_limit(
    box: Sandbox, client: MakeClient
) -> None:
    wolf = client(box.base_url, rate_limit=0.01, timeouts=Timeouts(total=0.08))
    await wolf.task_init(box.users[0])
    await _times_out(wolf, box.users[1], "waiting for the rate limit", attempts=0)


async def test_the_deadline_bounds_the_wait_for_a_token(box: Sandbox, client: MakeClient) -> None:
    async def provider() -> str:
        await asyncio.Event().wait()
        return TOKEN

    wolf = client(box.base_url, token=provider, timeouts=Timeouts(total=0.05))
    await _times_out(wolf, box.users[0], "waiting for the token provider", attempts=0)
    assert not box.calls


async def test_a_back_off_that_does_not_fit_is_not_begun(
    box: Sandbox, client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.always(respond(503))
    monkeypatch.setattr("random.uniform", _the_longest)
    wolf = client(box.base_url, retry=RetryPolicy(backoff=4.0), timeouts=Timeouts(total=3.0))
    began = time.monotonic()
    with pytest.raises(WolfServerError):
        await wolf.task_init(box.users[0])
    assert time.monotonic() - began < 1.0
    assert len(box.calls) == 1


async def test_a_connection_that_takes_too_long_says_so(client: MakeClient) -> None:
    # a listening socket whose queue is full takes no further connection
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        with socket.socket() as first, socket.socket() as second:
            for other in (first, second):
                other.setblocking(False)
                other.connect_ex(listener.getsockname())
            for timeouts in (
                Timeouts(connect=0.05),
                Timeouts(total=5.0, attempt=9.0, connect=0.05),
            ):
                wolf = client(
                    f"http://127.0.0.1:{listener.getsockname()[1]}", retry=ONCE, timeouts=timeouts
                )
                with pytest.raises(WolfTimeoutError, match=r"no connection within 0\.05 s"):
                    await wolf.task_init("u")


async def test_a_request_that_there_is_no_time_for_is_not_counted(
    box: Sandbox, client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    wolf = client(box.base_url, max_concurrency=1)
    with monkeypatch.context() as patched:
        # by hand, since uvloop's clock stands still for a millisecond
        patched.setattr(Deadline, "remaining", Mock(return_value=0.0))
        with pytest.raises(WolfTimeoutError, match="waiting to send a request") as caught:
            await wolf.task_init(box.users[0])
    assert (caught.value.attempts, wolf.stats().requests, len(box.calls)) == (0, 0, 0)
    assert await wolf.task_init(box.users[0])  # the place was given back


async def test_a_wait_for_the_pool_is_no_slow_connection(box: Sandbox, client: MakeClient) -> None:
    gate = asyncio.Event()
    box.always(hold(gate))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        wolf = client(box.base_url, session=session, retry=ONCE, timeouts=Timeouts(connect=0.3))
        calls = [asyncio.ensure_future(wolf.task_init(user)) for user in box.users[:3]]
        await box.wait_for_calls(1)
        # long enough for the two others' time to connect to pass, if it ran
        asyncio.get_running_loop().call_later(0.6, gate.set)
        assert all(init.caller_line_list for init in await asyncio.gather(*calls))
    assert len(box.calls) == 3


# --- releasing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
async def test_a_retry_with_one_connection_in_the_pool_does_not_hang(
    box: Sandbox, client: MakeClient, status: int
) -> None:
    box.script(None, respond(status, BIG), respond(status, BIG))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        wolf = client(box.base_url, session=session, timeouts=Timeouts(total=5))
        assert (await wolf.task_init(box.users[0])).caller_line_list
    assert len(box.calls) == 3


def test_the_failed_response_and_the_place_are_released_before_the_pause() -> None:
    failed = http(BIG, "503 Service Unavailable", Retry_After="9")
    scene = Scene(lambda number: failed if number == 1 else OK)

    async def main() -> None:
        connector = aiohttp.TCPConnector(limit=1)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            scene.client(session=session, max_concurrency=1) as wolf,
        ):
            first = asyncio.create_task(wolf.task_init("first"))
            await asyncio.sleep(1)
            await wolf.task_init("second")
            assert not first.done()
            await first

    virtual_time.run(main())
    assert [path.split("/")[4] for path in scene.asked] == ["first", "second", "first"]


# --- the budget -----------------------------------------------------------------------------------


async def test_an_outage_under_load_does_not_multiply_the_load(
    client: MakeClient, canary: Canary
) -> None:
    # debug mode makes each call several times as slow
    calls = 1_000 if asyncio.get_running_loop().get_debug() else 3_000
    logging.getLogger("wolf_async").setLevel(logging.INFO)
    began = time.monotonic()
    async with Sandbox(accounts=calls, sub_accounts=0, token=TOKEN) as box:
        box.always(respond(503))
        never = Timeouts(total=math.inf, attempt=math.inf)
        wolf = client(box.base_url, cache=None, timeouts=never, breaker=None)
        attempts = 0
        users = iter(box.users)

        async def worker() -> None:
            nonlocal attempts
            for user in users:
                with pytest.raises(WolfServerError) as caught:
                    await wolf.task_init(user)
                attempts += caught.value.attempts

        await asyncio.gather(*(worker() for _ in range(100)))
        assert attempts == len(box.calls)
        assert calls < len(box.calls) <= 1.1 * calls + 10
    first, *others = canary.messages(logging.WARNING)
    assert first == "the retry budget is spent: failures are raised at once"
    assert len(others) <= (time.monotonic() - began) / 60


async def test_a_drip_of_calls_earns_a_tenth_of_further_attempts(
    box: Sandbox, client: MakeClient
) -> None:
    wolf = client(box.base_url, cache=None, breaker=None)
    box.always(respond(503))
    for _ in range(100):
        with pytest.raises(WolfServerError):
            await wolf.task_init(box.users[0])
    # the reserve of 10, and a tenth of 100
    assert 118 <= len(box.calls) <= 120


async def test_an_infinite_budget_is_none(box: Sandbox, client: MakeClient) -> None:
    box.always(respond(503))
    policy = RetryPolicy(attempts=200, backoff=0.0, budget=math.inf)
    wolf = client(box.base_url, retry=policy, breaker=None)
    with pytest.raises(WolfServerError):
        await wolf.task_init(box.users[0])
    assert len(box.calls) == 200


# --- what errors are like -------------------------------------------------------------------------


async def test_errors_survive_pickling_and_copying_and_keep_their_cause(
    box: Sandbox, serve: Serve, client: MakeClient
) -> None:
    truncated = await serve(in_turn(http(success(), Content_Length="9999")))
    async with Sandbox() as gone:
        pass
    box.script(box.users[0], error(6007, {"line": ["太长"]}, status=422))
    box.script(box.users[1], respond(429, headers={"Retry-After": "99", "X-Request-Id": "abc"}))
    box.script(box.users[2], html(200))
    box.script(box.users[3], hold(asyncio.Event()))
    cases: list[tuple[str, str, bool]] = [
        (box.base_url, box.users[0], False),
        (box.base_url, box.users[1], False),
        (box.base_url, box.users[2], False),
        (box.base_url, box.users[3], True),
        (truncated.base_url, "u", True),
        (gone.base_url, "u", True),
    ]
    for base_url, user, has_cause in cases:
        wolf = client(base_url, retry=ONCE, timeouts=Timeouts(attempt=0.2))
        with pytest.raises(WolfError) as caught:
            await wolf.task_init(user)
        failed = caught.value
        for twin in (pickle.loads(pickle.dumps(failed)), copy.copy(failed), copy.deepcopy(failed)):
            assert type(twin) is type(failed)
            assert (str(twin), vars(twin)) == (str(failed), vars(failed))
        assert failed.account == (user, None)
        assert failed.attempts == 1
        shared = failed.__cause__
        assert isinstance(shared, WolfError)
        assert (shared.__cause__ is not None) == has_cause


async def test_a_stale_answer_stands_in_and_says_so_once(
    box: Sandbox, client: MakeClient, canary: Canary
) -> None:
    policy = CachePolicy(ttl=1e-9, stale_if_error=60, refresh_backoff=0)
    wolf = client(box.base_url, cache=policy, retry=ONCE)
    held = await wolf.task_init(box.users[0])
    box.always(respond(503))
    for _ in range(5):
        assert await wolf.task_init(box.users[0]) is held
    assert len(canary.messages(30)) == 1
    assert "stand in" in canary.messages(30)[0]


@pytest.mark.parametrize(
    ("http_status", "code", "expected", "requests"),
    [
        (503, 401, WolfAuthError, 1),
        (503, 403, WolfPermissionError, 1),
        (429, 404, WolfNotFoundError, 1),
        (403, 503, WolfServerError, 3),
        (200, 503, WolfServerError, 3),
        (200, 429, WolfRateLimitError, 3),
        # a code of the API's own says nothing of the kind
        (503, 6007, WolfServerError, 3),
        (500, 422, WolfServerError, 3),
        (403, 6007, WolfPermissionError, 1),
        (200, 6007, WolfAPIError, 1),
    ],
)
async def test_the_envelope_decides_what_kind_of_a_no_it_is(
    box: Sandbox,
    client: MakeClient,
    http_status: int,
    code: int,
    expected: type[WolfError],
    requests: int,
) -> None:
    policy = CachePolicy(ttl=1e-9, stale_if_error=60, refresh_backoff=0)
    wolf = client(box.base_url, cache=policy, retry=RetryPolicy(backoff=0))
    held = await wolf.task_init(box.users[0])
    box.reset_calls()
    body = msgspec.json.encode({"code": code, "status": "error", "message": "no", "data": []})
    box.always(respond(http_status, body))
    with pytest.raises(expected) as caught:
        await wolf.task_init(box.users[1])
    assert type(caught.value) is expected
    assert len(box.calls) == requests
    if expected is WolfServerError or expected is WolfRateLimitError:
        assert await wolf.task_init(box.users[0]) is held
    else:
        with pytest.raises(expected):
            await wolf.task_init(box.users[0])


async def test_no_frame_that_a_failed_load_went_through_holds_anything(
    box: Sandbox, client: MakeClient
) -> None:
    box.always(respond(503))
    wolf = client(box.base_url, retry=RetryPolicy(backoff=0))
    with pytest.raises(WolfServerError) as caught:
        await wolf.task_init(box.users[0])
    assert caught.value.attempts == 3
    shared = caught.value.__cause__
    assert shared is not None
    frames = [frame for frame, _ in traceback.walk_tb(shared.__traceback__)]
    assert {"Retry.call", "read_redacted"} <= {frame.f_code.co_qualname for frame in frames}
    # the outermost ones still ran while the others were cleared
    ran = {
        "InFlightLoad._run",
        "AnswerLoader.load",
        "canary.<locals>.noted",
        "AnswerLoader._send",
        "Sender.send",
    }
    assert {frame.f_code.co_qualname for frame in frames if frame.f_locals} <= ran


# --- helpers --------------------------------------------------------------------------------------


def pause_after(*, retry: RetryPolicy, **headers: str) -> float:
    """Return the seconds between a 503 with these headers and the next request."""
    failed = http(b"", "503 Service Unavailable", **headers)
    scene = Scene(lambda number: failed if number == 1 else OK, latency=0)
    play(scene, lambda wolf: wolf.task_init("u"), retry=retry)
    first, second = scene.sent
    return second - first


async def _times_out(
    wolf: WolfClient, user: str, saying: str, *, attempts: int | None = None
) -> None:
    began = time.monotonic()
    with pytest.raises(WolfTimeoutError, match=saying) as caught:
        await wolf.task_init(user)
    assert isinstance(caught.value, TimeoutError)
    assert time.monotonic() - began < 1.0
    assert attempts is None or caught.value.attempts == attempts


def _is_caused_by(error: BaseException | None, kind: type[BaseException]) -> bool:
    while error is not None and not isinstance(error, kind):
        error = error.__cause__
    return error is not None


def _the_longest(low: float, high: float) -> float:
    return high

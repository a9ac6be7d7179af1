"""After many failures in a row the client sends nothing for a while.

Then it sends one request, to see whether the upstream is well again.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import math
import os
import pickle
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from wolf_async import (
    BreakerPolicy,
    CachePolicy,
    RetryPolicy,
    TaskInit,
    Timeouts,
    WolfCircuitOpenError,
    WolfClient,
    WolfConfigError,
    WolfConnectionError,
    WolfDecodeError,
    WolfEndpointError,
    WolfError,
    WolfRateLimitError,
    WolfServerError,
)

from .raw_server import RawServer, http
from .upstream_in_virtual_time import OK, Scene, ask_all, play, refused, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from wolf_async.testing import Sandbox

    from .conftest import MakeClient

ONCE = RetryPolicy(attempts=1)
THREE = BreakerPolicy(failures=3, pause=1.0, max_pause=5.0)
HTML = b"<html>no such page</html>"
DOWN = unavailable()


def now() -> float:
    return asyncio.get_running_loop().time()


def in_turn(*replies: bytes | None) -> Callable[[int], bytes | None]:
    """Give each request its reply, and the last one to all after them."""
    return lambda number: replies[min(number, len(replies)) - 1]


def _highest(low: float, high: float) -> float:
    return high


async def fail(wolf: WolfClient, times: int, kind: type[WolfError] = WolfServerError) -> None:
    for number in range(times):
        with pytest.raises(kind) as caught:
            await wolf.task_init(f"failing-{number}")
        assert type(caught.value) is kind


async def refuse(wolf: WolfClient) -> WolfCircuitOpenError:
    """See that a call is refused at once."""
    before = now()
    with pytest.raises(WolfCircuitOpenError) as caught:
        await wolf.task_init("refused")
    assert now() == before
    assert caught.value.attempts == 0
    return caught.value


def test_it_opens_after_so_many_failures_in_a_row_and_calls_raise_at_once() -> None:
    scene = Scene(in_turn(DOWN))

    async def act(wolf: WolfClient) -> None:
        await fail(wolf, 10)
        error = await refuse(wolf)
        assert error.retry_after == pytest.approx(1.0, abs=0.01)
        assert str(error) == (
            "the circuit breaker is open after 10 failed requests in a row: no request was sent, "
            "the next one may be in 1 s (account refused)"
        )
        await asyncio.sleep(0.4)
        assert (await refuse(wolf)).retry_after == pytest.approx(0.6, abs=0.01)
        with pytest.raises(WolfCircuitOpenError):
            await wolf.raw_task_init("u")
        assert wolf.stats().breaker_opened == 1
        assert "breaker open for 0.6 s more" in repr(wolf)

    play(scene, act, retry=ONCE)
    assert len(scene.sent) == 10


def test_its_error_is_never_tried_again_and_survives_pickling_and_copying() -> None:
    scene = Scene(in_turn(DOWN))

    async def act(wolf: WolfClient) -> None:
        await fail(wolf, 1)
        error = await refuse(wolf)
        assert isinstance(error, WolfConnectionError)
        for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
            assert (str(twin), vars(twin)) == (str(error), vars(error))

    # were it tried again, that would take time
    retry = RetryPolicy(attempts=9, backoff=1)
    play(scene, act, breaker=BreakerPolicy(failures=1), retry=retry, timeouts=Timeouts(total=0.5))


def test_one_request_probes_after_the_pause_and_an_answer_closes_it() -> None:
    scene = Scene(in_turn(DOWN, DOWN, DOWN, OK), latency=0.5)

    async def act(wolf: WolfClient) -> None:
        await fail(wolf, 3)
        await asyncio.sleep(1)
        probe = asyncio.ensure_future(wolf.task_init("probe"))
        await asyncio.sleep(0.1)
        assert (await refuse(wolf)).retry_after == 1.0
        assert await probe
        await asyncio.gather(*(wolf.task_init(f"u{number}") for number in range(5)))
        assert "breaker" not in repr(wolf)

    play(scene, act, breaker=THREE, retry=ONCE)
    assert len(scene.sent) == 9


def test_each_failed_probe_doubles_the_pause_up_to_a_bound() -> None:
    scene = Scene(in_turn(DOWN), latency=0)

    async def act(wolf: WolfClient) -> None:
        await fail(wolf, 3)
        for pause in (1, 2, 4, 5, 5):
            await asyncio.sleep(pause - 0.01)
            await refuse(wolf)
            await asyncio.sleep(0.02)
            await fail(wolf, 1)
        assert wolf.stats().breaker_opened == 1
        await asyncio.sleep(5)
        scene.answer = in_turn(OK)
        assert await wolf.task_init("u")
        scene.answer = in_turn(DOWN)
        await fail(wolf, 3)
        assert (await refuse(wolf)).retry_after == pytest.approx(1.0, abs=0.01)
        assert wolf.stats().breaker_opened == 2

    play(scene, act, breaker=THREE, retry=ONCE)


@pytest.mark.parametrize(
    "answer",
    [OK, http(b"{}", "404 Not Found"), http(b"{}", "400 Bad Request"), http(b"", "401 No")],
    ids=["200", "404", "400", "401"],
)
def test_any_answer_of_the_api_breaks_the_row(answer: bytes) -> None:
    scene = Scene(in_turn(DOWN, DOWN, answer, DOWN, DOWN, answer, DOWN, DOWN, OK))

    async def act(wolf: WolfClient) -> None:
        for _ in range(3):
            await fail(wolf, 2)
            await asyncio.gather(wolf.raw_task_init("answered"), return_exceptions=True)

    play(scene, act, breaker=THREE, retry=ONCE)
    assert len(scene.sent) == 9


@pytest.mark.parametrize(
    ("neither", "kind"),
    [
        (refused(0), WolfRateLimitError),
        (http(HTML, "404 Not Found"), WolfEndpointError),
        (http(HTML), WolfDecodeError),
    ],
    ids=["429", "no such API", "undecodable"],
)
def test_what_says_nothing_of_the_upstream_neither_counts_nor_breaks_the_row(
    neither: bytes, kind: type[WolfError]
) -> None:
    scene = Scene(in_turn(DOWN, DOWN, neither, neither, neither, neither, DOWN))

    async def act(wolf: WolfClient) -> None:
        await fail(wolf, 2)
        await fail(wolf, 4, kind)
        await fail(wolf, 1)
        await refuse(wolf)

    play(scene, act, breaker=THREE, retry=ONCE)


def test_a_cancelled_request_neither_counts_nor_breaks_the_row() -> None:
    scene = Scene(in_turn(DOWN))

    async def act(wolf: WolfClient) -> None:
        await fail(wolf, 2)
        for _ in range(5):
            call = asyncio.ensure_future(wolf.task_init("u"))
            await asyncio.sleep(0.01)
            call.cancel()
            await asyncio.wait([call])
        await fail(wolf, 1)
        await refuse(wolf)

    play(scene, act, breaker=THREE, retry=ONCE)


@pytest.mark.parametrize("end", ["cancelled", "429", "undecodable"])
def test_the_probes_place_is_given_on_whatever_its_end(end: str) -> None:
    ends = {"429": refused(0), "undecodable": http(HTML)}
    scene = Scene(in_turn(DOWN, DOWN, DOWN, ends.get(end, OK), OK), latency=0.5)

    async def act(wolf: WolfClient) -> None:
        await fail(wolf, 3)
        await asyncio.sleep(1)
        probe = asyncio.ensure_future(wolf.task_init("probe"))
        await asyncio.sleep(0.1)
        if end == "cancelled":
            probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        assert "breaker open" in repr(wolf)
        assert await wolf.task_init("next")
        assert "breaker" not in repr(wolf)

    play(scene, act, breaker=THREE, retry=ONCE)


def test_what_was_sent_before_it_opened_does_not_count_afterwards() -> None:
    scene = Scene(in_turn(DOWN), latency=0.0)

    async def act(wolf: WolfClient) -> None:
        scene.hold = asyncio.Event()
        late = [asyncio.ensure_future(wolf.task_init(f"late-{number}")) for number in range(5)]
        await asyncio.sleep(0.1)
        gate, scene.hold = scene.hold, None
        await fail(wolf, 3)
        await asyncio.sleep(0.5)
        gate.set()
        await asyncio.gather(*late, return_exceptions=True)
        assert (await refuse(wolf)).retry_after == pytest.approx(0.5, abs=0.1)
        assert wolf.stats().breaker_opened == 1

    play(scene, act, breaker=THREE, retry=ONCE)


def test_a_load_in_a_pause_waits_for_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", _highest)
    scene = Scene(in_turn(*[DOWN] * 3, OK))

    async def act(wolf: WolfClient) -> None:
        results = await ask_all(wolf, ["a", "b", "c"], 3)
        assert all(isinstance(result, TaskInit) for result in results.values())
        assert now() == pytest.approx(1.25, abs=0.2)

    play(scene, act, breaker=THREE, retry=RetryPolicy(backoff=0.3))
    # one goes first, after a moment for loads that have not failed; the others after its answer
    assert scene.sent == pytest.approx([0, 0, 0, 1.25, 1.27, 1.27], abs=0.05)


def test_a_load_that_cannot_wait_for_the_probe_raises_its_own_last_error() -> None:
    scene = Scene(in_turn(DOWN))

    async def act(wolf: WolfClient) -> None:
        with pytest.raises(WolfServerError) as caught:
            await wolf.task_init("u")
        assert caught.value.attempts == 3
        assert now() < 0.5

    breaker = BreakerPolicy(failures=3, pause=9.0)
    play(scene, act, breaker=breaker, retry=RetryPolicy(backoff=0), timeouts=Timeouts(total=5))
    scene = Scene(in_turn(DOWN))

    async def longer(wolf: WolfClient) -> None:
        with pytest.raises(WolfServerError) as caught:
            await wolf.task_init("u")
        assert caught.value.attempts == 3
        assert now() < 0.5

    policy = RetryPolicy(attempts=9, backoff=0)
    play(scene, longer, breaker=breaker, retry=policy, timeouts=Timeouts(total=5))


def test_a_load_that_cannot_wait_for_the_probe_spends_no_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("random.uniform", _highest)
    scene = Scene(in_turn(DOWN))

    async def act(wolf: WolfClient) -> None:
        with pytest.raises(WolfServerError):
            await wolf.task_init("u")
        assert now() == pytest.approx(0.1 + 0.2 + 3 * 0.02)  # two pauses, three requests

    breaker = BreakerPolicy(failures=3, pause=9.0)
    policy = RetryPolicy(attempts=9, backoff=0.1)
    play(scene, act, breaker=breaker, retry=policy, timeouts=Timeouts(total=5))


def test_accounts_that_always_fail_do_not_keep_it_open_for_the_others() -> None:
    """Those who wait for the probe are the ones that failed: whoever has not goes first."""

    def answer(number: int) -> bytes:
        return DOWN if "broken" in scene.asked[-1] else OK

    scene = Scene(answer)

    async def act(wolf: WolfClient) -> None:
        broken = asyncio.ensure_future(ask_all(wolf, [f"broken-{n}" for n in range(10)], 10))
        await asyncio.sleep(0.3)
        served = 0
        for _ in range(60):
            await asyncio.sleep(0.3)
            (result,) = (await ask_all(wolf, ["u"], 1)).values()
            served += isinstance(result, TaskInit)
        assert all(isinstance(result, WolfServerError) for result in (await broken).values())
        assert served >= 45

    play(scene, act, breaker=BreakerPolicy(), retry=RetryPolicy())


def test_an_outage_meets_few_requests_and_ends_well() -> None:
    scene = Scene(lambda number: DOWN if now() < 3 else OK)

    async def act(wolf: WolfClient) -> None:
        results = await ask_all(wolf, map(str, range(12)), 12)
        assert sum(isinstance(result, TaskInit) for result in results.values()) >= 10

    play(scene, act, retry=RetryPolicy(attempts=5), breaker=BreakerPolicy())
    assert sum(at < 3 for at in scene.sent) <= 40


def test_one_account_that_always_fails_beside_others_does_not_open_it() -> None:
    def answer(number: int) -> bytes:
        return DOWN if "broken" in scene.asked[-1] else OK

    scene = Scene(answer)

    async def act(wolf: WolfClient) -> None:
        for number in range(20):
            results = await ask_all(wolf, [f"broken-{number}", "u1", "u2"], 3)
            assert isinstance(results[f"broken-{number}"], WolfServerError)
        assert wolf.stats().breaker_opened == 0

    play(scene, act)


def test_none_turns_it_off() -> None:
    scene = Scene(in_turn(DOWN))

    async def act(wolf: WolfClient) -> None:
        await fail(wolf, 50)
        assert wolf.stats().breaker_opened == 0

    play(scene, act, breaker=None, retry=ONCE)
    assert len(scene.sent) == 50


async def test_it_survives_a_change_of_loop(client: MakeClient) -> None:
    """In real time, since it is about the clocks of two loops."""
    breaker = BreakerPolicy(failures=3, pause=60, max_pause=60)
    wolf: WolfClient | None = None

    async def first() -> None:
        nonlocal wolf
        async with RawServer(Scene(in_turn(DOWN), latency=0).serve) as server:
            wolf = client(server.base_url, breaker=breaker, retry=ONCE)
            await fail(wolf, 3)

    async def second() -> None:
        assert wolf
        with pytest.raises(WolfCircuitOpenError) as caught:
            await wolf.task_init("u")
        assert caught.value.retry_after == pytest.approx(60, abs=2)
        await wolf.aclose()

    await asyncio.to_thread(asyncio.run, first())
    await asyncio.to_thread(asyncio.run, second())


# --- this machine's own limits --------------------------------------------------------------------


def exhausted(hard: int) -> list[int]:
    """Open all file descriptors that there may be, of which there are few."""
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, hard))
    spare: list[int] = []
    with contextlib.suppress(OSError):
        while True:
            spare.append(os.dup(0))
    return spare


async def test_what_this_machine_lacks_counts_for_nothing_and_says_what_to_do(
    box: Sandbox, client: MakeClient
) -> None:
    wolf = client(box.base_url, breaker=THREE, retry=RetryPolicy(backoff=0, budget=0.0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = exhausted(hard)
    errors: list[WolfConnectionError] = []
    try:
        for user in box.users[:15]:
            with pytest.raises(WolfConnectionError) as caught:
                await wolf.task_init(user)
            errors.append(caught.value)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in spare:
            os.close(descriptor)
    assert {error.attempts for error in errors} == {1}
    assert all(type(error) is WolfConnectionError for error in errors)
    assert "lower max_concurrency, or raise ulimit -n" in str(errors[0])
    assert await wolf.task_init(box.users[0])


# --- the policy -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"failures": 0},
        {"failures": 1.5},
        {"pause": 0},
        {"pause": -1},
        {"pause": math.inf},
        {"pause": 31},
        {"max_pause": 0.5},
        {"max_pause": math.nan},
        {"max_pause": "5"},
    ],
)
def test_policies_that_make_no_sense(settings: dict[str, Any]) -> None:
    with pytest.raises(WolfConfigError, match=next(iter(settings)).replace("max_pause", "pause")):
        BreakerPolicy(**settings)


def test_the_policy_is_checked_by_the_client() -> None:
    with pytest.raises(WolfConfigError, match="breaker must be of type BreakerPolicy or None"):
        WolfClient("token", breaker=CachePolicy())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# --- on the real clock ----------------------------------------------------------------------------


@pytest.mark.real_time
async def test_refused_connections_open_it_and_a_server_that_is_back_closes_it(
    client: MakeClient,
) -> None:
    async with RawServer(Scene(in_turn(OK)).serve) as gone:
        port = gone.port
    wolf = client(
        f"http://127.0.0.1:{port}", breaker=BreakerPolicy(failures=5, pause=0.2, max_pause=0.2)
    )
    results = await ask_all(wolf, map(str, range(20)), 4)
    assert all(isinstance(result, WolfConnectionError) for result in results.values())
    assert any(isinstance(result, WolfCircuitOpenError) for result in results.values())
    assert wolf.stats().requests < 20
    server = await asyncio.start_server(_answer_ok, "127.0.0.1", port)
    async with server:
        await asyncio.sleep(0.21)  # longer than the pause
        results = await ask_all(wolf, map(str, range(20)), 1)
        assert all(isinstance(result, TaskInit) for result in results.values())
        await wolf.aclose()  # a server that is closed waits for its connections to end


async def _answer_ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(OK)
    writer.close()

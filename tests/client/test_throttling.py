"""A 429 is about the credential, so the client as a whole holds back.

It finds the pace that the server lets through.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from wolf_async import (
    BreakerPolicy,
    RetryPolicy,
    TaskInit,
    Timeouts,
    WolfCircuitOpenError,
    WolfClient,
    WolfConnectionError,
    WolfError,
    WolfRateLimitError,
    WolfServerError,
    WolfTimeoutError,
)

from .conftest import ONCE
from .raw_server import RawServer, http
from .upstream_in_virtual_time import OK, Scene, ask_all, play, refused, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import MakeClient

PATIENT = RetryPolicy(backoff=0, max_retry_after=100)
NEVER = Timeouts(total=1000, attempt=100)


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", _lowest)


def _lowest(low: float, high: float) -> float:
    return low


def _highest(low: float, high: float) -> float:
    return high


def always(reply: bytes) -> Callable[[int], bytes]:
    return lambda number: reply


def now() -> float:
    return asyncio.get_running_loop().time()


def users(count: int) -> list[str]:
    return [f"user-{number}" for number in range(count)]


def start(wolf: WolfClient, user: str) -> asyncio.Task[TaskInit]:
    return asyncio.ensure_future(wolf.task_init(user))


def in_turn(*replies: bytes | None) -> Callable[[int], bytes | None]:
    """Give each request its reply, and a success to all after them."""
    return lambda number: replies[number - 1] if number <= len(replies) else OK


# --- the gate -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal",
    [
        refused(3),
        http(b'{"code": 429, "status": "error", "message": "slow down"}', Retry_After="3"),
    ],
    ids=["status", "envelope"],
)
def test_a_429_holds_all_accounts_back_and_one_request_goes_first(refusal: bytes) -> None:
    scene = Scene(in_turn(refusal), latency=1.0)

    async def act(wolf: WolfClient) -> None:
        first = start(wolf, "first")
        await asyncio.sleep(1.5)
        others = [*map(start, [wolf] * 3, users(3)), asyncio.ensure_future(wolf.raw_task_init("r"))]
        await asyncio.gather(first, *others)
        assert wolf.stats().throttled == 1

    play(scene, act, retry=PATIENT, timeouts=NEVER)
    # refused at 1, closed until 4, answered at 5
    assert scene.sent[:2] == pytest.approx([0, 4], abs=0.1)
    assert len(scene.sent) == 6
    assert min(scene.sent[2:]) == pytest.approx(5, abs=0.1)


def test_who_waits_at_the_gate_holds_no_place() -> None:
    scene = Scene(in_turn(refused(3)))

    async def act(wolf: WolfClient) -> None:
        results = await ask_all(wolf, users(10), 10)
        assert all(isinstance(result, TaskInit) for result in results.values())

    play(scene, act, max_concurrency=1, retry=PATIENT)


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({"retry": RetryPolicy(max_retry_after=5)}, 9.0),
        ({"retry": PATIENT, "timeouts": Timeouts(total=5)}, 9.0),
    ],
    ids=["more than max_retry_after", "more than the deadline"],
)
def test_what_is_left_decides_who_raises_at_once(settings: dict[str, Any], asked: float) -> None:
    scene = Scene(in_turn(refused(asked)))

    async def act(wolf: WolfClient) -> None:
        with pytest.raises(WolfRateLimitError) as own:
            await wolf.task_init("first")
        assert (own.value.retry_after, own.value.attempts) == (asked, 1)
        await asyncio.sleep(1)
        before = now()
        with pytest.raises(WolfRateLimitError, match="no request was sent") as caught:
            await wolf.task_init("second")
        assert now() == before
        assert caught.value.retry_after == pytest.approx(asked - 1, abs=0.1)
        assert (caught.value.attempts, caught.value.account) == (0, ("second", None))
        await asyncio.sleep(4)
        assert await wolf.task_init("third")
        assert now() == pytest.approx(asked, abs=0.1)

    play(scene, act, **settings)
    assert len(scene.sent) == 2


@pytest.mark.parametrize("asked", [(2, 6), (6, 2)])
def test_of_several_429s_the_latest_end_wins(asked: tuple[float, float]) -> None:
    scene = Scene(in_turn(*map(refused, asked)))

    async def act(wolf: WolfClient) -> None:
        await ask_all(wolf, users(2), 2)

    play(scene, act, retry=PATIENT)
    assert scene.sent[2] == pytest.approx(6, abs=0.1)


def test_who_waits_raises_at_once_when_a_longer_pause_comes() -> None:
    scene = Scene(in_turn(refused(2), refused(50)))
    scene.hold = asyncio.Event()

    async def act(wolf: WolfClient) -> None:
        assert scene.hold
        calls = [start(wolf, "short"), start(wolf, "long")]
        await asyncio.sleep(0.5)
        scene.hold.set()
        scene.latency = 1.0  # of the second one
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == [WolfRateLimitError] * 2
        assert now() < 2

    play(scene, act, retry=RetryPolicy(max_retry_after=5))


def test_who_is_in_a_pause_raises_at_once_when_a_long_429_comes() -> None:
    scene = Scene(in_turn(unavailable(20), refused(50)))

    async def act(wolf: WolfClient) -> None:
        paused = start(wolf, "paused")
        await asyncio.sleep(1)
        with pytest.raises(WolfRateLimitError):
            await wolf.task_init("refused")
        with pytest.raises(WolfRateLimitError, match="no request was sent") as caught:
            await paused
        assert now() < 2
        assert caught.value.attempts == 1

    play(scene, act)


def test_who_begins_a_pause_at_a_gate_that_is_closed_for_long_raises_at_once() -> None:
    scene = Scene(in_turn(refused(50), unavailable(20)))
    scene.hold = asyncio.Event()

    async def act(wolf: WolfClient) -> None:
        assert scene.hold
        calls = [start(wolf, "refused")]
        await asyncio.sleep(0.1)
        scene.latency = 1.0
        calls.append(start(wolf, "paused"))
        await asyncio.sleep(0.1)
        scene.hold.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == [WolfRateLimitError] * 2
        assert now() < 2

    play(scene, act)


def test_a_late_429_closes_a_gate_that_is_open_again() -> None:
    """The server means now, whenever the request was sent; the one that got it waits as well."""
    scene = Scene(in_turn(refused(10), refused(1)))

    async def act(wolf: WolfClient) -> None:
        scene.latency = 3.0
        late = start(wolf, "late")
        await asyncio.sleep(0.1)
        scene.latency = 0.02
        await wolf.task_init("early")
        assert now() < 2
        await late

    play(scene, act)
    assert [round(at) for at in scene.sent] == [0, 0, 1, 13]


def test_who_waits_for_the_pace_raises_at_once_when_a_long_429_comes() -> None:
    scene = Scene(lambda number: refused(50) if number == 2 else OK, latency=0.5)

    async def act(wolf: WolfClient) -> None:
        calls = [start(wolf, user) for user in users(6)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results[1:]] == [WolfRateLimitError] * 5
        assert now() == pytest.approx(5.5, abs=0.1)

    play(scene, act, rate_limit=0.2)


def test_who_waits_for_the_pace_raises_at_once_when_the_breaker_opens() -> None:
    scene = Scene(lambda number: unavailable() if number == 2 else OK, latency=0.5)

    async def act(wolf: WolfClient) -> None:
        calls = [start(wolf, user) for user in users(6)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results[2:]] == [WolfCircuitOpenError] * 4
        assert now() == pytest.approx(5.5, abs=0.1)

    play(scene, act, rate_limit=0.2, breaker=BreakerPolicy(failures=1), retry=ONCE)


def test_a_request_on_the_wire_gets_its_own_answer() -> None:
    scene = Scene(lambda number: OK if number == 1 else refused(50), latency=0)

    async def act(wolf: WolfClient) -> None:
        scene.hold = asyncio.Event()
        on_the_wire = start(wolf, "first")
        await asyncio.sleep(0.1)
        gate, scene.hold = scene.hold, None
        with pytest.raises(WolfRateLimitError):
            await wolf.task_init("second")
        gate.set()
        assert await on_the_wire

    play(scene, act)
    assert len(scene.sent) == 2


def test_an_answer_to_an_older_request_does_not_open_the_gate() -> None:
    """It says nothing of the time after the pause."""
    scene = Scene(lambda number: refused(2) if number == 2 else OK, latency=0)

    async def act(wolf: WolfClient) -> None:
        older = scene.hold = asyncio.Event()
        on_the_wire = start(wolf, "older")
        await asyncio.sleep(0.1)
        scene.hold = None
        refused_one = start(wolf, "refused")
        await asyncio.sleep(1)
        first = scene.hold = asyncio.Event()
        others = [start(wolf, user) for user in users(3)]
        await asyncio.sleep(1.5)
        assert len(scene.sent) == 3
        older.set()
        await on_the_wire
        await asyncio.sleep(0.5)
        assert len(scene.sent) == 3
        scene.hold = None
        first.set()
        await asyncio.gather(refused_one, *others)

    play(scene, act)


def test_the_request_that_goes_first_counts_for_the_pace() -> None:
    """Or the next one would follow it too soon, be refused, and so on for ever."""
    scene = Scene(sliding(1))

    async def act(wolf: WolfClient) -> None:
        await ask_all(wolf, users(40), 12)

    play(scene, act, retry=RetryPolicy(), timeouts=Timeouts(total=120))
    assert scene.refusals - 11 <= 0.08 * len(scene.sent)


def test_a_client_of_few_requests_is_quick_again_within_a_minute_after_a_429() -> None:
    """From so few, the rate that the server accepts cannot be told."""
    scene = Scene(in_turn(OK, OK, refused(10)))

    async def act(wolf: WolfClient) -> None:
        for name in ("one", "other", "refused at first"):
            await wolf.task_init(name)
            await asyncio.sleep(4)
        await ask_all(wolf, users(300), 12)

    play(scene, act, timeouts=Timeouts(total=120))
    assert len(scene.sent) == 304
    assert scene.sent[-1] - scene.sent[2] < 60


@pytest.mark.parametrize("end", ["cancelled", "lost", "times out"])
def test_the_turn_to_go_first_is_given_on_whatever_its_end(end: str) -> None:
    # aiohttp sends it once more by itself
    lost = [None, None] if end == "lost" else []
    scene = Scene(in_turn(refused(2), *lost))

    async def act(wolf: WolfClient) -> None:
        with pytest.raises(WolfRateLimitError):
            await wolf.task_init("refused")
        first, second = start(wolf, "goes first"), start(wolf, "waits")
        await asyncio.sleep(2.1)
        assert len(scene.sent) == 2
        if end == "cancelled":
            first.cancel()
        second_init = await second
        assert second_init
        results = await asyncio.gather(first, return_exceptions=True)
        kinds = {"cancelled": asyncio.CancelledError, "lost": WolfConnectionError}
        assert isinstance(results[0], kinds.get(end, WolfTimeoutError))

    scene.latency = 1.0
    timeouts = Timeouts(attempt=0.5 if end == "times out" else 5)
    if end == "times out":
        slow = iter([0.0, 9.0, 0.0])

        def answer(number: int) -> bytes:
            scene.latency = next(slow, 0.0)
            return refused(2) if number == 1 else OK

        scene.answer = answer
    play(scene, act, retry=RetryPolicy(attempts=1), timeouts=timeouts)


def test_a_429_to_the_first_request_closes_the_gate_again() -> None:
    scene = Scene(in_turn(*[refused(2)] * 4))

    async def act(wolf: WolfClient) -> None:
        results = await ask_all(wolf, users(2), 2)
        assert all(isinstance(result, TaskInit) for result in results.values())

    play(scene, act, retry=PATIENT)
    # two were under way; then one at a time
    assert scene.sent == pytest.approx([0, 0, 2, 4, 6, 6], abs=0.2)


def test_attempts_after_a_429_count_but_cost_no_budget() -> None:
    scene = Scene(lambda number: refused(1))

    async def act(wolf: WolfClient) -> None:
        for _ in range(30):  # far more than the budget's reserve
            before = len(scene.sent)
            with pytest.raises(WolfRateLimitError) as caught:
                await wolf.task_init("u")
            assert caught.value.attempts == len(scene.sent) - before == 3
        scene.answer = in_turn(unavailable(), unavailable())
        scene.sent.clear()
        assert await wolf.task_init("u")
        assert len(scene.sent) == 3

    play(scene, act, retry=RetryPolicy(backoff=0, budget=0), breaker=None)


def test_without_a_retry_after_the_gate_backs_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", _highest)
    scene = Scene(in_turn(*[refused()] * 4), latency=0)

    async def act(wolf: WolfClient) -> None:
        await wolf.task_init("u")

    play(scene, act, retry=RetryPolicy(attempts=9, backoff=1.0, max_backoff=3.0))
    gaps = [late - early for early, late in itertools.pairwise(scene.sent)]
    # and up to a tenth later, so that processes do not meet
    assert gaps == pytest.approx([1.1, 2.2, 3.3, 3.3], abs=0.1)


def test_a_senseless_retry_after_closes_the_gate_for_an_hour_at_most() -> None:
    scene = Scene(in_turn(http(b"", "429 Too Many Requests", Retry_After="9" * 300)))

    async def act(wolf: WolfClient) -> None:
        with pytest.raises(WolfRateLimitError):
            await wolf.task_init("u")
        await asyncio.sleep(3600)
        assert await wolf.task_init("u")

    play(scene, act)


def test_the_client_says_that_its_gate_is_closed() -> None:
    scene = Scene(in_turn(refused(7)))

    async def act(wolf: WolfClient) -> None:
        assert "gate" not in repr(wolf)
        call = start(wolf, "u")
        await asyncio.sleep(1)
        assert "gate closed for 6.0 s more" in repr(wolf)
        await call
        assert "gate" not in repr(wolf)

    play(scene, act)


async def test_the_gate_survives_a_change_of_loop(client: MakeClient) -> None:
    """In real time, since it is about the clocks of two loops."""
    wolf: WolfClient | None = None

    async def first() -> None:
        nonlocal wolf
        async with RawServer(Scene(lambda number: refused(60)).serve) as server:
            wolf = client(server.base_url)
            with pytest.raises(WolfRateLimitError):
                await wolf.task_init("u")

    async def second() -> None:
        assert wolf
        began = time.monotonic()
        with pytest.raises(WolfRateLimitError, match="no request was sent") as caught:
            await wolf.task_init("u")
        assert caught.value.retry_after == pytest.approx(60, abs=2)
        assert time.monotonic() - began < 1
        await wolf.aclose()

    await asyncio.to_thread(asyncio.run, first())
    await asyncio.to_thread(asyncio.run, second())


# --- the pace -------------------------------------------------------------------------------------


def sliding(rate: int) -> Callable[[int], bytes]:
    """Accept so many requests within any second."""
    accepted: deque[float] = deque()

    def answer(number: int) -> bytes:
        while accepted and accepted[0] <= now() - 1:
            accepted.popleft()
        if len(accepted) >= rate:
            return refused(1)
        accepted.append(now())
        return OK

    return answer


def calendar(rate: int) -> Callable[[int], bytes]:
    """Accept so many requests within each second of the clock."""
    accepted: Counter[int] = Counter()

    def answer(number: int) -> bytes:
        accepted[int(now())] += 1
        return OK if accepted[int(now())] <= rate else refused(1)

    return answer


def bucket(rate: int, size: int) -> Callable[[int], bytes]:
    """Accept as many requests as a token bucket has tokens."""
    tokens, at = float(size), 0.0

    def answer(number: int) -> bytes:
        nonlocal tokens, at
        tokens, at = min(size, tokens + (now() - at) * rate), now()
        if tokens < 1:
            return refused(1)
        tokens -= 1
        return OK

    return answer


LIMITS: dict[str, Callable[[], Callable[[int], bytes]]] = {
    "sliding": lambda: sliding(20),
    "calendar": lambda: calendar(20),
    "bucket": lambda: bucket(20, 20),
    "small bucket": lambda: bucket(20, 5),
}


@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS.keys())
@pytest.mark.parametrize("concurrency", [12, 90])
def test_a_run_finds_the_pace_that_is_let_through(
    limit: Callable[[], Callable[[int], bytes]], concurrency: int
) -> None:
    scene = Scene(limit())

    async def act(wolf: WolfClient) -> float:
        results = await ask_all(wolf, users(300), concurrency)
        failed = [result for result in results.values() if isinstance(result, WolfError)]
        assert len(failed) <= 3  # three refusals for one account, by chance
        return now()

    took = play(scene, act, retry=RetryPolicy(), timeouts=Timeouts(total=60))
    first = next(at for at, reply in zip(scene.sent, scene.replies, strict=True) if reply != OK)
    later = [
        reply for at, reply in zip(scene.sent, scene.replies, strict=True) if at > first + 0.03
    ]
    assert sum(reply != OK for reply in later) <= 0.08 * len(scene.sent)
    assert took < 2 * 300 / 20


def test_a_pace_is_found_although_answers_take_longer_than_a_second() -> None:
    """What was sent before the request that was refused counts, whenever the answers came."""
    scene = Scene(sliding(20), latency=1.0)

    async def act(wolf: WolfClient) -> None:
        results = await ask_all(wolf, users(400), 90)
        assert all(isinstance(result, TaskInit) for result in results.values())

    play(scene, act, retry=RetryPolicy(attempts=9), timeouts=Timeouts(total=60))
    assert scene.refusals <= 300


def test_a_pace_that_was_learned_from_one_request_is_soon_a_quick_one() -> None:
    scene = Scene(lambda number: refused(5) if 1 < number <= 30 else OK)

    async def act(wolf: WolfClient) -> None:
        await ask_all(wolf, users(30), 30)
        await ask_all(wolf, users(60), 10)
        assert now() < 15

    play(scene, act, retry=RetryPolicy(), timeouts=Timeouts(total=90))
    assert scene.refusals == 29


def test_a_storm_of_429s_meets_few_requests_and_ends_well() -> None:
    scene = Scene(lambda number: refused(2) if now() < 6 else OK)

    async def act(wolf: WolfClient) -> None:
        results = await ask_all(wolf, users(50), 10)
        assert all(isinstance(result, TaskInit) for result in results.values())
        assert now() < 60

    play(scene, act, retry=RetryPolicy())
    assert sum(at < 6 for at in scene.sent) <= 20


def test_a_pace_that_is_not_needed_is_forgotten() -> None:
    scene = Scene(sliding(20))

    async def act(wolf: WolfClient) -> None:
        await ask_all(wolf, users(60), 30)
        scene.answer = always(OK)
        await asyncio.sleep(300)
        await wolf.task_init("u")
        before = now()
        await ask_all(wolf, users(100), 100)
        assert now() - before < 1

    play(scene, act, retry=RetryPolicy())


def test_the_pace_never_exceeds_the_rate_limit() -> None:
    scene = Scene(in_turn(*[OK] * 20, refused(1)))

    async def act(wolf: WolfClient) -> None:
        await ask_all(wolf, users(100), 50)

    play(scene, act, rate_limit=10.0)
    for early, late in zip(scene.sent, scene.sent[11:], strict=False):
        assert late - early >= 0.99


def test_requests_that_go_first_keep_to_the_rate_limit() -> None:
    scene = Scene(lambda number: refused())

    async def act(wolf: WolfClient) -> None:
        await ask_all(wolf, users(10), 10)

    play(scene, act, rate_limit=2.0)
    assert len(scene.sent) == 30
    gaps = [later - earlier for earlier, later in itertools.pairwise(scene.sent)]
    assert min(gaps) == pytest.approx(0.5, abs=0.01)


def test_who_would_wait_for_the_pace_beyond_the_deadline_raises_at_once() -> None:
    scene = Scene(sliding(1))

    async def act(wolf: WolfClient) -> None:
        results = await ask_all(wolf, users(100), 100)
        failed = [result for result in results.values() if isinstance(result, WolfError)]
        assert len(failed) > 80
        assert all(isinstance(error, WolfRateLimitError) for error in failed)
        assert all(error.account for error in failed)

    play(scene, act, timeouts=Timeouts(total=10), retry=RetryPolicy(attempts=2))


def test_a_429_leaves_the_answer_to_read_as_it_was() -> None:
    body = msgspec.json.encode({"code": 429, "status": "error", "message": "slow down"})
    scene = Scene(lambda number: http(body, Retry_After="90"))

    async def act(wolf: WolfClient) -> None:
        with pytest.raises(WolfRateLimitError) as caught:
            await wolf.raw_task_init("u")
        assert (caught.value.code, caught.value.api_message) == (429, "slow down")

    play(scene, act)


def test_a_5xx_opens_the_gate_for_the_others() -> None:
    scene = Scene(in_turn(refused(2), unavailable(50)), latency=0.5)

    async def act(wolf: WolfClient) -> None:
        with pytest.raises(WolfRateLimitError):
            await wolf.task_init("refused")
        results = await ask_all(wolf, users(3), 3)
        assert Counter(map(type, results.values())) == {TaskInit: 2, WolfServerError: 1}

    play(scene, act, retry=RetryPolicy(attempts=1), breaker=BreakerPolicy())


# --- on the real clock ----------------------------------------------------------------------------


@pytest.mark.real_time
async def test_a_run_at_twenty_a_second_on_the_real_clock(client: MakeClient) -> None:
    scene = Scene(sliding(20))
    async with RawServer(scene.serve) as server:
        wolf = client(server.base_url, retry=RetryPolicy(), cache=None)
        results = await ask_all(wolf, users(60), 12)
    assert sum(isinstance(result, WolfError) for result in results.values()) <= 1
    assert scene.refusals <= 12 + 0.08 * len(scene.sent)


@pytest.mark.real_time
async def test_a_pause_is_kept_on_the_real_clock(client: MakeClient) -> None:
    scene = Scene(in_turn(*[refused(1)] * 3))
    async with RawServer(scene.serve) as server:
        wolf = client(server.base_url, retry=RetryPolicy(), cache=None)
        results = await ask_all(wolf, users(10), 3)
    assert all(isinstance(result, TaskInit) for result in results.values())
    assert scene.sent[3] - scene.sent[0] >= 1
    assert wolf.stats().throttled == 3

"""Retry alone: what is tried again, after which pause, within one deadline and one budget."""

from __future__ import annotations

import asyncio
import logging
import math
import weakref
from typing import TYPE_CHECKING

import pytest
from client.virtual_time import run

from wolf_async import (
    RetryPolicy,
    WolfAPIError,
    WolfAuthError,
    WolfClosedError,
    WolfConfigError,
    WolfConnectionError,
    WolfDecodeError,
    WolfError,
    WolfNotFoundError,
    WolfRateLimitError,
    WolfServerError,
    WolfTimeoutError,
)
from wolf_async.logs import ThrottledLogger
from wolf_async.upstream.deadline import Deadline
from wolf_async.upstream.failures import is_transient
from wolf_async.upstream.retry import Retry, RetryBudget

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any


class Scene:
    """Make a retry whose pauses take no time, and an attempt that fails as told, then succeeds."""

    def __init__(self, *failures: Exception, total: float = 1000.0, **policy: float) -> None:
        self.failures: list[Exception] = list(failures)
        self.pauses: list[float] = []
        self.attempts = 0
        self.total = total
        settings: dict[str, Any] = {"budget": math.inf, **policy}
        self.retry = Retry(RetryPolicy(**settings), ThrottledLogger(), sleep=self._sleep)

    async def _sleep(self, seconds: float, deadline: Deadline) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(seconds)

    async def _attempt(self) -> str:
        self.attempts += 1
        if self.failures:
            raise self.failures.pop(0)
        return "answer"

    async def call(self) -> str:
        deadline = Deadline(asyncio.get_running_loop(), self.total)
        return await self.retry.call(self._attempt, deadline)

    def play(self) -> str:
        return run(self.call())


def busy(retry_after: float | None = None) -> WolfServerError:
    return WolfServerError("busy", http_status=503, retry_after=retry_after)


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (WolfConnectionError(), True),
        (WolfTimeoutError(), True),
        *((WolfAPIError(http_status=status), True) for status in (408, 429, 500, 502, 503, 504)),
        *(
            (WolfAPIError(http_status=200, code=code), True)
            for code in (408, 429, 500, 502, 503, 504)
        ),
        *(
            (WolfAPIError(http_status=status), False)
            for status in (302, 400, 401, 403, 404, 422, 501, 505)
        ),
        (WolfAPIError(http_status=200, code=6007), False),
        (WolfDecodeError(), False),
        (WolfConfigError(), False),
        (WolfClosedError(), False),
        (WolfAuthError(), False),
        (WolfNotFoundError(http_status=404), False),
        (ValueError(), False),
        (OSError(), False),
    ],
    ids=repr,
)
def test_what_is_transient(error: Exception, transient: bool) -> None:
    assert is_transient(error) == transient
    scene = Scene(error)
    if transient:
        assert scene.play() == "answer"
    else:
        with pytest.raises(type(error)) as caught:
            scene.play()
        assert caught.value is error
    assert scene.attempts == 1 + transient


def test_a_first_attempt_that_succeeds_is_all_there_is() -> None:
    scene = Scene()
    assert scene.play() == "answer"
    assert (scene.attempts, scene.pauses) == (1, [])


def test_no_attempt_holds_the_errors_of_those_before_it() -> None:
    """Their frames hold what the server sent, of which there may be much."""
    errors: list[weakref.ref[Exception]] = []
    held: list[list[Exception | None]] = []

    def noted(error: Exception) -> Exception:
        errors.append(weakref.ref(error))
        return error

    async def attempt() -> str:
        held.append([error() for error in errors])
        if len(held) == 4:
            return "answer"
        raise noted(busy())

    async def main() -> str:
        async def sleep(seconds: float, deadline: Deadline) -> None:
            await asyncio.sleep(seconds)

        policy = RetryPolicy(attempts=4, budget=math.inf)
        retry = Retry(policy, ThrottledLogger(), sleep=sleep)
        return await retry.call(attempt, Deadline(asyncio.get_running_loop(), 1000.0))

    assert run(main()) == "answer"
    assert held == [[], [None], [None] * 2, [None] * 3]


@pytest.mark.parametrize("attempts", [1, 2, 3, 7])
def test_attempts_counts_the_first_one(attempts: int) -> None:
    failures = [busy() for _ in range(20)]
    scene = Scene(*failures, attempts=attempts)
    with pytest.raises(WolfServerError) as caught:
        scene.play()
    assert scene.attempts == attempts
    assert caught.value is failures[attempts - 1]
    assert len(scene.pauses) == attempts - 1


def test_the_pause_is_anywhere_up_to_a_bound_that_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return high / 2

    monkeypatch.setattr("random.uniform", uniform)
    scene = Scene(*(busy() for _ in range(6)), attempts=7, backoff=0.25, max_backoff=3.0)
    assert scene.play() == "answer"
    assert drawn == [(0, 0.25), (0, 0.5), (0, 1.0), (0, 2.0), (0, 3.0), (0, 3.0)]
    assert scene.pauses == [0.125, 0.25, 0.5, 1.0, 1.5, 1.5]


def test_pauses_differ_from_call_to_call() -> None:
    pauses = set[float]()
    for _ in range(5):
        scene = Scene(busy())
        scene.play()
        pauses.update(scene.pauses)
    assert len(pauses) == 5
    assert all(0 <= pause <= 0.2 for pause in pauses)


def test_thousands_of_attempts_do_not_overflow() -> None:
    scene = Scene(*(busy() for _ in range(1999)), attempts=2000, max_backoff=0.001)
    assert scene.play() == "answer"


@pytest.mark.parametrize("asked", [0.0, 0.5, 7.0, 30.0])
def test_the_pause_that_the_server_asks_for_is_kept(asked: float) -> None:
    scene = Scene(busy(asked), busy(asked))
    assert scene.play() == "answer"
    assert scene.pauses == [asked, asked]


def test_a_429_is_waited_for_at_the_gate_and_costs_no_budget() -> None:
    failures = [WolfRateLimitError(http_status=429, retry_after=1.0) for _ in range(50)]
    scene = Scene(*failures, attempts=51, budget=0.0)
    assert scene.play() == "answer"
    assert (scene.attempts, scene.pauses) == (51, [])


@pytest.mark.parametrize("asked", [30.1, 1e9, math.inf])
def test_a_longer_one_than_the_cap_is_raised_at_once(asked: float) -> None:
    scene = Scene(busy(asked), total=math.inf)
    with pytest.raises(WolfServerError) as caught:
        scene.play()
    assert caught.value.retry_after == asked
    assert (scene.attempts, scene.pauses) == (1, [])


def test_a_pause_that_reaches_the_deadline_is_not_begun() -> None:
    for total, attempts in ((5.0, 1), (5.1, 2)):
        scene = Scene(busy(5.0), busy(5.0), total=total)
        with pytest.raises(WolfServerError):
            scene.play()
        assert scene.attempts == attempts


def test_a_cancelled_pause_ends_the_call() -> None:
    scene = Scene(busy(9.0))

    async def main() -> None:
        call = asyncio.ensure_future(scene.call())
        await asyncio.sleep(1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    run(main())
    assert scene.attempts == 1


def test_a_cancelled_attempt_is_not_tried_again() -> None:
    async def main() -> None:
        scene = Scene()

        async def attempt() -> None:
            scene.attempts += 1
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await scene.retry.call(attempt, Deadline(asyncio.get_running_loop(), 9))
        assert scene.attempts == 1

    run(main())


# --- the budget
# --------------------------------------------------------------------------------------------------


def _spend_all(budget: RetryBudget) -> int:
    spent = 0
    while spent < 10_000 and budget.spend():
        spent += 1
    return spent


def test_a_budget_begins_with_a_small_reserve() -> None:
    assert _spend_all(RetryBudget(0.1)) == 10
    assert _spend_all(RetryBudget(0.0)) == 10


def test_a_budget_earns_its_fraction_of_calls() -> None:
    budget = RetryBudget(0.25)
    _spend_all(budget)
    for _ in range(100):
        budget.earn()
    assert _spend_all(budget) == 25


def test_a_budget_saves_up_no_more_than_a_bound() -> None:
    budget = RetryBudget(0.5)
    for _ in range(1_000_000):
        budget.earn()
    assert _spend_all(budget) == 100


def test_an_infinite_budget_is_never_spent() -> None:
    budget = RetryBudget(math.inf)
    assert all(budget.spend() for _ in range(10_000))
    budget.earn()
    assert budget.spend()


def test_a_large_fraction_does_not_shrink_what_is_left() -> None:
    budget = RetryBudget(1000.0)
    budget.earn()
    assert _spend_all(budget) == 100


def test_a_budget_shows_what_is_left() -> None:
    assert repr(RetryBudget(0.1)) == "<RetryBudget: 10.0 attempts left>"


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5])
def test_attempts_stay_within_the_budget(fraction: float, caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(budget=fraction, backoff=0.0)
    calls = 400

    async def main() -> None:
        for _ in range(calls):
            scene.failures = [*(busy() for _ in range(9))]
            with pytest.raises(WolfServerError):
                await scene.call()

    run(main())
    assert calls + 9 <= scene.attempts <= calls * (1 + fraction) + 10
    assert scene.attempts >= calls * (1 + fraction) + 9 - 1
    warnings = [
        record.getMessage() for record in caplog.records if record.levelno == logging.WARNING
    ]
    assert warnings == ["the retry budget is spent: failures are raised at once"]


def test_what_cannot_be_tried_again_spends_nothing() -> None:
    failures: list[Exception] = [WolfNotFoundError(http_status=404), busy(99.0), WolfDecodeError()]
    scene = Scene(budget=0.0, backoff=0.0, attempts=2)

    async def main() -> None:
        for failure in failures * 20:
            scene.failures = [failure]
            with pytest.raises(WolfError):
                await scene.call()
        # the reserve is still there
        for _ in range(10):
            scene.failures = [busy()]
            assert await scene.call() == "answer"
        scene.failures = [busy()]
        with pytest.raises(WolfServerError):
            await scene.call()

    run(main())


# --- the deadline
# ------------------------------------------------------------------------------------------------


def _timed(main: Coroutine[Any, Any, None]) -> float:
    async def timed() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await main
        return loop.time() - began

    return run(timed())


def test_a_deadline_ends_a_wait_and_says_what_it_was_for() -> None:
    async def main() -> None:
        deadline = Deadline(asyncio.get_running_loop(), 5)
        await asyncio.sleep(2)
        assert deadline.remaining() == pytest.approx(3)
        with pytest.raises(WolfTimeoutError) as caught:
            async with deadline.enforce("counting sheep"):
                await asyncio.sleep(100)
        assert (
            str(caught.value) == "no answer within 5 s in total: time ran out while counting sheep"
        )
        assert isinstance(caught.value.__cause__, TimeoutError)

    assert _timed(main()) == pytest.approx(5)


def test_a_deadline_that_never_comes_ends_nothing() -> None:
    async def main() -> None:
        deadline = Deadline(asyncio.get_running_loop(), math.inf)
        async with deadline.enforce("counting sheep"):
            await asyncio.sleep(10**6)
        assert deadline.remaining() == math.inf

    assert _timed(main()) == pytest.approx(10**6)


def test_a_deadline_passes_on_what_happens_within() -> None:
    async def main() -> None:
        deadline = Deadline(asyncio.get_running_loop(), 5)
        own = WolfTimeoutError("mine")
        for error in (own, ValueError("other")):
            with pytest.raises(type(error)) as caught:
                async with deadline.enforce("counting sheep"):
                    raise error
            assert caught.value is error
        with pytest.raises(asyncio.CancelledError):
            async with deadline.enforce("counting sheep"):
                raise asyncio.CancelledError

    run(main())

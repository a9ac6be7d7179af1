"""What a healthy client asks, and gate, breaker and places when their event loop has ended."""

from __future__ import annotations

import asyncio
import errno
import math
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import pytest

from wolf_async import (
    BreakerPolicy,
    RetryPolicy,
    WolfCircuitOpenError,
    WolfConnectionError,
    WolfError,
    WolfNotFoundError,
    WolfRateLimitError,
    WolfServerError,
    WolfTimeoutError,
)
from wolf_async.events import Dispatcher, Event, GateEvent
from wolf_async.upstream.admission import Admission
from wolf_async.upstream.breaker import Breaker
from wolf_async.upstream.deadline import Deadline
from wolf_async.upstream.signals import loop_time
from wolf_async.upstream.throttle import Pacer, Throttle

RunAndClose: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]


class Load:
    """A load of which one request is sent."""

    def __init__(self) -> None:
        self.deadline = Deadline(asyncio.get_running_loop(), math.inf)
        self.attempts = 0
        self.sent_at = loop_time()
        self.failed: WolfError | None = None


def make_admission(
    breaker: BreakerPolicy | None, dispatcher: Dispatcher | None = None
) -> Admission:
    return Admission(
        retry=RetryPolicy(),
        breaker=breaker,
        max_concurrency=2,
        rate_limit=None,
        dispatcher=dispatcher or Dispatcher(),
    )


@pytest.fixture
def admission() -> Admission:
    return make_admission(BreakerPolicy(failures=1, pause=1e-9))


async def shut(admission: Admission, error: WolfError) -> None:
    """Have one request fail, and another one go first, or probe, without an end."""
    for failure in (error, None):
        load = Load()
        await admission.acquire(load)
        if failure is not None:
            admission.release(load, failure)
    assert admission.is_shut()


@pytest.fixture
def run_and_close() -> RunAndClose:
    """Run something on an event loop, and close that without ending its tasks."""

    def run(main: Coroutine[Any, Any, None]) -> None:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main)
        for task in asyncio.all_tasks(loop):  # nothing but this test is to blame for them
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()

    return run


@pytest.mark.parametrize(
    "error", [WolfRateLimitError(retry_after=0), WolfConnectionError()], ids=["gate", "breaker"]
)
def test_who_went_first_on_a_loop_that_has_ended_keeps_nobody_waiting(
    admission: Admission, error: WolfError, run_and_close: RunAndClose
) -> None:
    run_and_close(shut(admission, error))

    async def again() -> None:
        assert not admission.is_shut()
        await admission.acquire(Load())

    asyncio.run(again())


def test_closing_forgets_who_waits_on_a_loop_that_has_ended(
    admission: Admission, run_and_close: RunAndClose
) -> None:
    waiting: list[asyncio.Task[None]] = []

    async def wait() -> None:
        await shut(admission, WolfConnectionError())
        waiting.append(asyncio.create_task(admission.wait_for_change()))
        await asyncio.sleep(0)

    async def close() -> None:
        admission.close()
        assert not admission.is_shut()

    run_and_close(wait())
    asyncio.run(close())


# --- what a healthy client pays -------------------------------------------------------------------


async def request(admission: Admission, error: WolfError | None = None) -> None:
    load = Load()
    await admission.acquire(load)
    load.sent_at = loop_time()
    admission.release(load, error)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note each question to the gate, the breaker and the pace, which is answered all the same."""
    asked: list[str] = []

    def noted(name: str, method: Callable[..., object]) -> Callable[..., object]:
        def ask(*args: object, **settings: object) -> object:
            asked.append(name)
            return method(*args, **settings)

        return ask

    for kind in (Throttle, Breaker, Pacer):
        for name, value in list(vars(kind).items()):
            if callable(value) and not name.startswith("__"):
                monkeypatch.setattr(kind, name, noted(name, value))
    return asked


@pytest.mark.parametrize(
    ("ends", "asks"),
    [([], False), ([WolfConnectionError()], True), ([WolfConnectionError(), None], False)],
    ids=["healthy", "failing", "healthy again"],
)
async def test_a_healthy_client_asks_neither_gate_nor_breaker_nor_pace(
    ends: list[WolfError | None], asks: bool, asked: list[str]
) -> None:
    """One look before a request is sent, and one after it, tell that there is nothing to ask."""
    admission = make_admission(BreakerPolicy())
    for end in ends:
        await request(admission, end)
    asked.clear()
    await request(admission)
    assert bool(asked) == asks


async def test_the_pace_that_a_429_of_another_process_taught_is_kept_for_a_while(
    admission: Admission,
) -> None:
    """Each process would have to be refused itself, had it to learn that anew."""
    for _ in range(1000):
        await request(admission)
    admission.hold(0)
    for _ in range(3):
        await request(admission)
        assert "requests per second" in admission.describe()


# --- what a bulk run asks, and what listeners hear ------------------------------------------------


NOT_SENT = WolfTimeoutError("waiting for a place")
OUT_OF_FILES = WolfConnectionError("no connection")
OUT_OF_FILES.__cause__ = OSError(errno.EMFILE, "too many open files")


@pytest.mark.parametrize(
    ("error", "is_held_up", "without_breaker"),
    [
        (WolfServerError(http_status=503, attempts=1), True, False),
        (WolfConnectionError(attempts=1), True, False),
        (WolfTimeoutError(attempts=1), True, False),
        (WolfCircuitOpenError(), True, True),
        (WolfRateLimitError(http_status=429, attempts=1), True, True),
        (NOT_SENT, True, True),
        (OUT_OF_FILES, True, True),
        (WolfNotFoundError(http_status=404, attempts=1), False, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, WolfError) else str(value),
)
def test_a_bulk_run_can_tell_what_says_nothing_of_an_account(
    error: WolfError, is_held_up: bool, without_breaker: bool
) -> None:
    assert make_admission(BreakerPolicy()).is_held_up(error) == is_held_up
    assert make_admission(None).is_held_up(error) == without_breaker


async def test_who_waits_for_a_change_wakes_when_the_breaker_opens_and_when_it_closes(
    admission: Admission,
) -> None:
    for end in (WolfConnectionError(), None):
        waiting = asyncio.create_task(admission.wait_for_change())
        await asyncio.sleep(0)
        await request(admission, end)
        async with asyncio.timeout(5):
            await waiting
        assert admission.is_failing == (end is not None)


async def test_who_waits_for_a_change_wakes_when_a_row_of_failures_ends() -> None:
    admission = make_admission(BreakerPolicy())
    await request(admission, WolfConnectionError())
    waiting = asyncio.create_task(admission.wait_for_change())
    await asyncio.sleep(0)
    await request(admission)
    async with asyncio.timeout(5):
        await waiting


async def test_without_a_breaker_no_row_of_failures_is_seen() -> None:
    admission = make_admission(None)
    for _ in range(20):
        await request(admission, WolfConnectionError())
    assert not admission.is_failing
    assert not admission.is_shut()


async def test_a_429_of_another_process_is_an_event_and_not_counted() -> None:
    heard: list[Event] = []
    dispatcher = Dispatcher([heard.append])
    make_admission(BreakerPolicy(), dispatcher).hold(30.0)
    assert heard == [GateEvent(is_closed=True, seconds=30.0, refused=False)]
    assert dispatcher.throttled == 0


async def test_an_answer_to_a_request_of_before_a_429_does_not_open_the_gate() -> None:
    """What the server takes after its pause, only the request that goes first can tell."""
    heard: list[Event] = []
    admission = make_admission(None, Dispatcher([heard.append]))
    early, refused, first = Load(), Load(), Load()
    await admission.acquire(early)
    await admission.acquire(refused)
    admission.release(refused, WolfRateLimitError(retry_after=1e-9))
    await admission.acquire(first)
    heard.clear()
    admission.release(early, None)
    assert heard == []
    admission.release(first, None)
    assert heard == [GateEvent(is_closed=False, seconds=0.0)]

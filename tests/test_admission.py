"""What a healthy client asks, and gate, breaker and places when their event loop has ended."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import pytest

from wolf_async import (
    BreakerPolicy,
    RetryPolicy,
    WolfConnectionError,
    WolfError,
    WolfRateLimitError,
)
from wolf_async.events import Dispatcher
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


@pytest.fixture
def admission() -> Admission:
    return Admission(
        retry=RetryPolicy(),
        breaker=BreakerPolicy(failures=1, pause=1e-9),
        max_concurrency=2,
        rate_limit=None,
        dispatcher=Dispatcher(),
    )


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
    admission = Admission(
        retry=RetryPolicy(),
        breaker=BreakerPolicy(),
        max_concurrency=2,
        rate_limit=None,
        dispatcher=Dispatcher(),
    )
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

"""Ages go on while the machine sleeps."""

from __future__ import annotations

import inspect
import time

import pytest

from wolf_async import WolfClient
from wolf_async.cache import LoadingCache
from wolf_async.clock import system_clock


@pytest.mark.parametrize("kind", [WolfClient, LoadingCache])
def test_it_is_the_clock_of_who_gives_none(kind: type) -> None:
    assert inspect.signature(kind).parameters["clock"].default is system_clock


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="Linux alone has this clock")
def test_it_counts_the_time_that_the_machine_slept() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    moment = system_clock()
    assert before <= moment <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_it_never_goes_back() -> None:
    moments = [system_clock() for _ in range(1000)]
    assert moments == sorted(moments)


def test_without_such_a_clock_it_is_the_monotonic_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    import wolf_async.clock

    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    try:
        assert importlib.reload(wolf_async.clock).system_clock is time.monotonic
    finally:
        monkeypatch.undo()
        importlib.reload(wolf_async.clock)

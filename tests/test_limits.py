"""The two gates alone: places, and requests per second."""

from __future__ import annotations

import asyncio
import math

import pytest
from client.virtual_time import run

from wolf_async import RetryPolicy, WolfConfigError, WolfTimeoutError
from wolf_async.events import Dispatcher
from wolf_async.upstream.deadline import Deadline
from wolf_async.upstream.limits import Limits, RateLimit, check_limits
from wolf_async.upstream.signals import Signal
from wolf_async.upstream.throttle import Pacer, Throttle


class Gates:
    """Limits, and when who got through."""

    def __init__(self, places: int, rate: RateLimit | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        signal = Signal()
        throttle = Throttle(RetryPolicy(), Pacer(rate), signal, Dispatcher().note)
        self.limits: Limits[object] = Limits(places, throttle, lambda request: False)
        self.entered: list[tuple[object, float]] = []

    async def enter(
        self, who: object = None, *, total: float = math.inf, stay: float | None = None
    ) -> None:
        await self.limits.acquire(Deadline(self.loop, total), who)
        self.entered.append((who, self.loop.time()))
        if stay is not None:
            await asyncio.sleep(stay)
            self.limits.release()

    def start(self, who: object, **how: float) -> asyncio.Task[None]:
        return asyncio.ensure_future(self.enter(who, **how))

    @property
    def times(self) -> list[float]:
        return [round(at, 6) for _, at in self.entered]


def test_places_are_handed_on_in_order() -> None:
    async def main() -> None:
        gates = Gates(2)
        await asyncio.gather(*(gates.start(who, stay=1.0) for who in range(6)))
        assert gates.entered == [(0, 0.0), (1, 0.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0)]

    run(main())


def test_a_wait_for_a_place_ends_with_the_deadline_and_takes_none() -> None:
    async def main() -> None:
        gates = Gates(1)
        await gates.enter("first")
        with pytest.raises(
            WolfTimeoutError, match=r"within 5 s in total.*one of max_concurrency places"
        ):
            await gates.enter("second", total=5)
        assert gates.loop.time() == pytest.approx(5)
        gates.limits.release()
        await gates.enter("third")
        assert [who for who, _ in gates.entered] == ["first", "third"]

    run(main())


@pytest.mark.parametrize("when", ["waiting", "woken"])
def test_a_cancelled_wait_for_a_place_harms_nobody(when: str) -> None:
    async def main() -> None:
        gates = Gates(1)
        await gates.enter("first")
        second, third = gates.start("second"), gates.start("third")
        await asyncio.sleep(1)
        if when == "woken":  # the place is already on its way to the one who is cancelled
            gates.limits.release()
        second.cancel()
        await asyncio.wait([second])
        if when == "waiting":
            gates.limits.release()
        await third
        assert [who for who, _ in gates.entered] == ["first", "third"]
        gates.limits.release()
        await gates.enter("fourth", total=1)

    run(main())


@pytest.mark.parametrize(
    ("rate", "times"),
    [
        (2.0, [0, 0.5, 1.0, 1.5, 2.0, 2.5]),
        (4, [0, 0.25, 0.5, 0.75, 1.0, 1.25]),
        ((2.0, 1), [0, 0.5, 1.0, 1.5, 2.0, 2.5]),
        ((2.0, 3), [0, 0, 0, 0.5, 1.0, 1.5]),
        (0.1, [0, 10, 20, 30, 40, 50]),
    ],
)
def test_the_rate_holds_after_a_burst(rate: RateLimit, times: list[float]) -> None:
    async def main() -> None:
        gates = Gates(100, rate)
        await asyncio.gather(*(gates.start(who, stay=0.0) for who in range(6)))
        assert gates.times == pytest.approx(times)

    run(main())


def test_the_burst_comes_back_after_a_rest() -> None:
    async def main() -> None:
        gates = Gates(100, (2.0, 3))
        await asyncio.gather(*(gates.start(who) for who in range(5)))
        await asyncio.sleep(10)
        await asyncio.gather(*(gates.start(who) for who in range(4)))
        assert gates.times == pytest.approx([0, 0, 0, 0.5, 1.0, 11, 11, 11, 11.5])

    run(main())


@pytest.mark.parametrize("gone", [{0}, {2}, {4}, {0, 1, 2, 3}, {1, 3}])
def test_a_cancelled_wait_for_the_rate_limit_harms_nobody(gone: set[int]) -> None:
    async def main() -> None:
        gates = Gates(100, 1.0)
        await gates.enter("first")
        waiting = [gates.start(who) for who in range(5)]
        await asyncio.sleep(0.5)
        for who in gone:
            waiting[who].cancel()
        await asyncio.wait(waiting)
        assert {who for who, _ in gates.entered} == {"first", *range(5)} - gone
        # they wait no longer than if the others had never come
        assert gates.times == pytest.approx(range(6 - len(gone)))

    run(main())


def test_a_cancelled_wait_for_the_rate_limit_gives_its_place_back() -> None:
    async def main() -> None:
        gates = Gates(1, 1.0)
        await gates.enter("first", stay=0.0)
        second = gates.start("second")
        await asyncio.sleep(0.5)
        second.cancel()
        await asyncio.wait([second])
        await gates.enter("third", total=1)
        assert gates.times == pytest.approx([0, 1])

    run(main())


def test_who_would_wait_for_the_rate_limit_beyond_the_deadline_raises_at_once() -> None:
    async def main() -> None:
        gates = Gates(1, 0.1)
        await gates.enter("first", stay=0.0)
        with pytest.raises(WolfTimeoutError, match="while waiting for the rate limit"):
            await gates.enter("second", total=9)
        assert gates.loop.time() == 0
        # and it gave its place back
        await gates.enter("third", total=11)
        assert gates.times == pytest.approx([0, 10])

    run(main())


def test_those_in_line_before_count_for_who_would_wait_too_long() -> None:
    async def main() -> None:
        gates = Gates(10, 1.0)
        for who in range(4):
            gates.start(who)
        await asyncio.sleep(0)
        with pytest.raises(WolfTimeoutError, match="while waiting for the rate limit"):
            await gates.enter("late", total=3.5)
        assert gates.loop.time() == 0
        await gates.enter("in time", total=4.5)
        assert gates.times == pytest.approx([0, 1, 2, 3, 4])

    run(main())


def test_one_deadline_holds_for_both_waits() -> None:
    async def main() -> None:
        gates = Gates(1, 0.1)
        await gates.enter("first")
        asyncio.get_running_loop().call_later(4, gates.limits.release)
        with pytest.raises(WolfTimeoutError, match="rate limit"):
            await gates.enter("second", total=5)
        assert gates.loop.time() == pytest.approx(4)

    run(main())


@pytest.mark.parametrize("rate", [None, 1, 0.001, 1e6, (1, 1), (0.5, 100)])
def test_limits_that_make_sense(rate: RateLimit | None) -> None:
    check_limits(1, rate)


@pytest.mark.parametrize("places", [0, -1, 1.0, True, "5", None])
def test_places_that_make_no_sense(places: object) -> None:
    with pytest.raises(WolfConfigError, match="max_concurrency must be a whole number from 1"):
        check_limits(places, None)


@pytest.mark.parametrize(
    "rate",
    [
        0,
        -1,
        True,
        "5",
        math.nan,
        math.inf,
        [5, 5],
        (),
        (5,),
        (5, 5, 5),
        (0, 1),
        (math.inf, 1),
        (5, 0),
        (5, 1.0),
        (5, 10**400),
    ],
)
def test_rates_that_make_no_sense(rate: object) -> None:
    with pytest.raises(WolfConfigError, match="rate_limit"):
        check_limits(1, rate)

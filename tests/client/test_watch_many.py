"""The answers of many accounts over time."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from contextlib import aclosing
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from wolf_async import (
    Account,
    AccountUpdate,
    Answer,
    BreakerPolicy,
    CachePolicy,
    TaskInit,
    WolfCircuitOpenError,
    WolfClient,
    WolfClosedError,
    WolfConfigError,
    WolfConnectionError,
    WolfError,
    WolfServerError,
)
from wolf_async.testing import Sandbox, error, respond
from wolf_async.watch import Sleep, check_watched, watch_many

from . import virtual_time
from .conftest import ONCE, TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .conftest import NewLoop

A, B, C = (Account(name) for name in "abc")
EVERY = 10.0


def accounts(count: int) -> list[Account]:
    return [Account(f"user-{number}") for number in range(count)]


class Upstream:
    """Answers that a test sets, and the time of each question."""

    def __init__(self) -> None:
        self.says: dict[Account, TaskInit | Exception] = {}
        self.stale: set[Account] = set()
        self.asked: list[tuple[float, Account]] = []
        self.takes = 0.0
        """Seconds that each answer takes."""
        self.slow: dict[Account, float] = {}
        self.under_way = 0
        self.peak = 0

    async def ask(self, account: Account, max_age: float) -> Answer:
        self.asked.append((asyncio.get_running_loop().time(), account))
        self.under_way += 1
        self.peak = max(self.peak, self.under_way)
        try:
            await asyncio.sleep(self.slow.get(account, self.takes))
        finally:
            self.under_way -= 1
        said = self.says.get(account, TaskInit())
        if isinstance(said, Exception):
            raise said
        is_stale = account in self.stale
        return Answer(init=said, fetched_at=datetime.now(UTC), age=0.0, is_stale=is_stale)

    def times(self) -> list[float]:
        return [at for at, _ in self.asked]

    def times_of(self, account: Account) -> list[float]:
        return [at for at, asked in self.asked if asked == account]


class Reader:
    """Takes what a stream of updates gives, in a task of its own."""

    def __init__(self, upstream: Upstream, watched: list[Account], **settings: Any) -> None:
        self.sleep = Sleep()
        settings = {"every": EVERY, "unchanged": False, "concurrency": 4, **settings}
        self.stream = watch_many(watched, upstream.ask, sleep=self.sleep, **settings)
        self.seen: list[AccountUpdate] = []
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async with aclosing(self.stream) as updates:
            async for update in updates:
                self.seen.append(update)

    def new(self) -> list[AccountUpdate]:
        """Return what was seen since the last time."""
        new, self.seen = self.seen, []
        return new

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


def residue(number: int) -> TaskInit:
    return TaskInit(max_recycle_limit=number)


def summary(updates: Iterable[AccountUpdate]) -> list[tuple[Account, object]]:
    return [
        (update.account, update.answer.init if update.answer else type(update.error))
        for update in updates
    ]


def test_each_account_is_told_at_once_and_then_only_when_it_changes() -> None:
    async def main() -> None:
        upstream = Upstream()
        upstream.says = {A: residue(1), B: WolfServerError("down")}
        reader = Reader(upstream, [A, B, C])
        await asyncio.sleep(1)
        assert summary(reader.new()) == [(A, residue(1)), (B, WolfServerError), (C, TaskInit())]
        await asyncio.sleep(2 * EVERY)
        assert reader.new() == []
        upstream.says[C] = residue(2)
        await asyncio.sleep(EVERY)
        assert summary(reader.new()) == [(C, residue(2))]
        await reader.leave()

    virtual_time.run(main())


def test_it_goes_on_after_an_error_and_tells_the_recovery() -> None:
    async def main() -> None:
        upstream = Upstream()
        reader = Reader(upstream, [A])
        await asyncio.sleep(1)
        upstream.says[A] = WolfServerError("down")
        await asyncio.sleep(3 * EVERY)
        del upstream.says[A]
        await asyncio.sleep(3 * EVERY)
        told = [TaskInit(), WolfServerError, TaskInit()]
        assert summary(reader.new()) == [(A, what) for what in told]
        await reader.leave()

    virtual_time.run(main())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (WolfServerError("a", http_status=503), WolfServerError("a", http_status=502)),
        (WolfServerError("a", code=500), WolfServerError("a", code=501)),
        (WolfServerError("a", status="error"), WolfServerError("a", status="failed")),
        (WolfServerError("a", api_message="x"), WolfServerError("a", api_message="y")),
        (WolfConnectionError("a"), WolfConnectionError("b")),
        (WolfServerError("a"), WolfConnectionError("a")),
    ],
)
def test_another_class_status_code_or_message_is_another_error(
    one: WolfError, other: WolfError
) -> None:
    async def main() -> None:
        upstream = Upstream()
        upstream.says[A] = one
        reader = Reader(upstream, [A])
        await asyncio.sleep(1)
        upstream.says[A] = other
        await asyncio.sleep(EVERY)
        assert [update.error for update in reader.new()] == [one, other]
        await reader.leave()

    virtual_time.run(main())


def test_an_error_with_other_attempts_or_another_body_is_the_same() -> None:
    async def main() -> None:
        upstream = Upstream()
        upstream.says[A] = WolfServerError("after 1 s", http_status=503, attempts=1, body=b"x")
        reader = Reader(upstream, [A])
        await asyncio.sleep(1)
        upstream.says[A] = WolfServerError("after 2 s", http_status=503, attempts=3, retry_after=2)
        await asyncio.sleep(2 * EVERY)
        assert len(reader.new()) == 1
        await reader.leave()

    virtual_time.run(main())


def test_an_outage_is_told_once_however_long_the_breaker_stays_open() -> None:
    async def main() -> None:
        async with (
            Sandbox(accounts=3, sub_accounts=0, token=TOKEN) as box,
            WolfClient(TOKEN, base_url=box.base_url, breaker=BreakerPolicy(1, 100, 100)) as wolf,
        ):
            box.always(respond(503))
            seen: list[AccountUpdate] = []
            with contextlib.suppress(TimeoutError):
                async with (
                    asyncio.timeout(95),
                    aclosing(wolf.watch_many(box.users, every=10)) as all_,
                ):
                    async for update in all_:
                        seen.append(update)
            opened = [update for update in seen if isinstance(update.error, WolfCircuitOpenError)]
            assert Counter(update.account.user_id for update in opened) == dict.fromkeys(
                box.users, 1
            )

    virtual_time.run(main())


def test_an_answer_that_becomes_stale_or_is_so_no_longer_has_changed() -> None:
    async def main() -> None:
        upstream = Upstream()
        reader = Reader(upstream, [A])
        await asyncio.sleep(1)
        upstream.stale.add(A)
        await asyncio.sleep(2 * EVERY)
        upstream.stale.clear()
        await asyncio.sleep(2 * EVERY)
        stale = [update.answer.is_stale for update in reader.new() if update.answer]
        assert stale == [False, True, False]
        await reader.leave()

    virtual_time.run(main())


def test_with_unchanged_each_confirmation_is_told_too() -> None:
    async def main() -> None:
        upstream = Upstream()
        upstream.says[B] = WolfServerError("down")
        reader = Reader(upstream, [A, B], unchanged=True)
        await asyncio.sleep(1 + 5 * EVERY)
        assert Counter(update.account for update in reader.new()) == {A: 6, B: 5}
        await reader.leave()

    virtual_time.run(main())


def test_one_request_a_period_and_account_is_made_evenly_over_the_period() -> None:
    async def main() -> None:
        upstream = Upstream()
        reader = Reader(upstream, accounts(100))
        await asyncio.sleep(6 * EVERY - 0.01)
        times = [at for at, _ in upstream.asked]
        assert times[:100] == [0.0] * 100
        later = [at / EVERY for at in times[100:]]
        assert Counter(int(at + 1e-6) for at in later) == dict.fromkeys(range(1, 6), 100)
        assert set(Counter(int(at * 10 + 1e-6) for at in later).values()) == {10}
        for account in accounts(100):
            turns = upstream.times_of(account)[1:]
            assert [after - before for before, after in pairwise(turns)] == (
                [pytest.approx(EVERY)] * 4
            )
        await reader.leave()

    virtual_time.run(main())


def test_thousands_of_accounts_take_few_tasks_and_one_timer() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        timers: list[asyncio.TimerHandle] = []
        call_at = loop.call_at

        def noted(when: float, callback: Any, *args: Any, context: Any = None) -> Any:
            timers.append(call_at(when, callback, *args, context=context))
            return timers[-1]

        loop.call_at = noted  # type: ignore[assignment, method-assign]
        reader = Reader(Upstream(), accounts(5_000))
        before = len(asyncio.all_tasks())
        await asyncio.sleep(1)
        assert len(reader.new()) == 5_000
        assert len(asyncio.all_tasks()) == before + 4
        assert [timer.when() for timer in timers if timer.when() > loop.time()] == [EVERY]
        await reader.leave()

    virtual_time.run(main())


def test_a_slow_reader_gets_only_the_newest_update_of_each_account() -> None:
    async def main() -> None:
        upstream = Upstream()
        stream = watch_many(
            [A, B], upstream.ask, every=EVERY, unchanged=False, concurrency=2, sleep=Sleep()
        )
        async with aclosing(stream):
            assert summary([await anext(stream), await anext(stream)]) == [
                (A, TaskInit()),
                (B, TaskInit()),
            ]
            for number in range(1, 6):
                upstream.says = {A: residue(number), B: residue(-number)}
                await asyncio.sleep(EVERY)
            assert summary([await anext(stream), await anext(stream)]) == [
                (A, residue(5)),
                (B, residue(-5)),
            ]

    virtual_time.run(main())


def test_a_change_that_was_undone_before_the_reader_looked_is_none() -> None:
    async def main() -> None:
        upstream = Upstream()
        stream = watch_many(
            [A, B], upstream.ask, every=EVERY, unchanged=False, concurrency=2, sleep=Sleep()
        )
        async with aclosing(stream):
            await anext(stream)
            await anext(stream)
            for said in (residue(1), TaskInit()):
                upstream.says[A] = said
                await asyncio.sleep(2 * EVERY)
            upstream.says[B] = residue(2)
            assert summary([await anext(stream)]) == [(B, residue(2))]

    virtual_time.run(main())


def test_what_takes_longer_than_a_period_is_not_asked_for_twice_at_once() -> None:
    async def main() -> None:
        upstream = Upstream()
        upstream.slow[B] = 3.5 * EVERY
        reader = Reader(upstream, [A, B, C])
        await asyncio.sleep(40.5 * EVERY)
        times = upstream.times_of(B)
        assert len(times) > 8
        assert all(after - before >= 3.5 * EVERY for before, after in pairwise(times))
        assert {len(upstream.times_of(account)) for account in (A, C)} == {40, 41}
        await reader.leave()

    virtual_time.run(main())


def test_no_more_are_asked_for_at_once_than_the_concurrency() -> None:
    async def main() -> None:
        upstream = Upstream()
        upstream.takes = 1.0
        reader = Reader(upstream, accounts(100), concurrency=7)
        await asyncio.sleep(10 * EVERY)
        assert upstream.peak == 7
        assert len({update.account for update in reader.new()}) == 100
        await reader.leave()

    virtual_time.run(main())


def test_a_hold_up_does_not_end_in_a_burst() -> None:
    async def main() -> None:
        upstream = Upstream()
        reader = Reader(upstream, accounts(100), concurrency=10)
        await asyncio.sleep(2.5 * EVERY)
        upstream.takes = 5 * EVERY
        await asyncio.sleep(EVERY)  # all workers are held up by now
        upstream.takes = 0.0
        await asyncio.sleep(7 * EVERY)
        (end,) = [before for before, after in pairwise(upstream.times()) if after - before > EVERY]
        goes_on = next(at for at in upstream.times() if at > end)
        assert len([at for at in upstream.times() if goes_on <= at < goes_on + EVERY]) <= 115
        await reader.leave()

    virtual_time.run(main())


def test_timers_that_come_late_cost_no_turn() -> None:
    async def main() -> None:
        upstream = Upstream()

        async def late(seconds: float) -> None:
            await asyncio.sleep(seconds + 0.25)

        stream = watch_many(
            accounts(100), upstream.ask, every=EVERY, unchanged=True, concurrency=4, sleep=late
        )
        async with aclosing(stream):
            for _ in range(700):
                await anext(stream)
        assert asyncio.get_running_loop().time() == pytest.approx(7 * EVERY, abs=0.5)

    virtual_time.run(main())


def test_closing_the_client_wakes_the_watch_and_ends_it_after_what_is_new() -> None:
    async def main() -> None:
        upstream = Upstream()
        reader = Reader(upstream, [A, B])
        await asyncio.sleep(1)
        upstream.says = dict.fromkeys((A, B), WolfClosedError("closed"))
        reader.sleep.close()
        async with asyncio.timeout(1):
            await asyncio.wait([reader.task])
        assert isinstance(reader.task.exception(), WolfClosedError)
        assert summary(reader.new()) == [(A, TaskInit()), (B, TaskInit())]

    virtual_time.run(main())


def test_an_error_that_is_none_of_the_clients_ends_the_watch() -> None:
    async def main() -> None:
        upstream = Upstream()
        upstream.says[B] = ZeroDivisionError()
        reader = Reader(upstream, [A, B])
        await asyncio.wait([reader.task])
        assert isinstance(reader.task.exception(), ZeroDivisionError)
        assert summary(reader.new()) == [(A, TaskInit())]

    virtual_time.run(main())


def test_leaving_while_answers_are_under_way_leaves_nothing() -> None:
    async def main() -> None:
        upstream = Upstream()
        upstream.takes = 5.0
        reader = Reader(upstream, accounts(10))
        await asyncio.sleep(1)
        assert upstream.under_way == 4
        await reader.leave()
        assert upstream.under_way == 0

    virtual_time.run(main())


def test_nobody_to_watch_is_nothing_to_wait_for() -> None:
    async def main() -> None:
        reader = Reader(Upstream(), [])
        async with asyncio.timeout(1):
            await reader.task
        assert reader.new() == []

    virtual_time.run(main())


def test_accounts_are_named_in_any_form_and_watched_once() -> None:
    assert check_watched(["a", Account("a"), ("a", None), ("a", "s"), "b"]) == [
        A,
        Account("a", "s"),
        B,
    ]


NO_ACCOUNTS: list[Any] = ["a", b"a", Account("a"), 7, None, [7], [("a", "b", "c")], [("a", [])]]


@pytest.mark.parametrize("wrong", NO_ACCOUNTS)
def test_what_names_no_accounts_is_refused(wrong: Any) -> None:
    with pytest.raises(WolfConfigError, match="account"):
        check_watched(wrong)


def test_the_client_tells_changes_stale_answers_errors_and_recoveries() -> None:
    async def main() -> None:
        now = asyncio.get_running_loop().time
        async with (
            Sandbox(accounts=3, sub_accounts=0, token=TOKEN, clock=now, period=1e9) as box,
            WolfClient(
                TOKEN,
                base_url=box.base_url,
                clock=now,
                retry=ONCE,
                cache=CachePolicy(ttl=5, stale_if_error=25),
                breaker=None,
            ) as wolf,
        ):
            gone = box.users[2]
            box.script(gone, *[error(404, status=404)] * 100)
            seen: list[tuple[int, str]] = []

            async def read() -> None:
                async with aclosing(wolf.watch_many(box.users, every=EVERY)) as updates:
                    async for account, answer, failure in updates:
                        what = type(failure).__name__ if answer is None else str(answer.is_stale)
                        seen.append((box.users.index(account.user_id), what))

            async def new(seconds: float) -> set[tuple[int, str]]:
                await asyncio.sleep(seconds)
                found, seen[:] = set(seen), []
                return found

            reading = asyncio.create_task(read())
            assert await new(1) == {(0, "False"), (1, "False"), (2, "WolfNotFoundError")}
            assert await new(2 * EVERY) == set()
            assert len(box.calls_for(gone)) > 1
            box.always(respond(503))
            assert await new(2 * EVERY) == {(0, "True"), (1, "True")}
            assert await new(2 * EVERY) == {(0, "WolfServerError"), (1, "WolfServerError")}
            box.heal()
            assert await new(EVERY) == {(0, "False"), (1, "False"), (2, "False")}
            box.set_data(box.users[1], {**box.data_for(box.users[1]), "max_recycle_limit": 7})
            assert await new(EVERY) == {(1, "False")}
            await wolf.aclose()
            await asyncio.wait([reading])
            assert isinstance(reading.exception(), WolfClosedError)

    virtual_time.run(main())


def test_without_a_stale_window_an_error_is_told_although_an_answer_is_fresh() -> None:
    async def main() -> None:
        now = asyncio.get_running_loop().time
        async with (
            Sandbox(accounts=1, sub_accounts=0, token=TOKEN) as box,
            WolfClient(TOKEN, base_url=box.base_url, clock=now, retry=ONCE) as wolf,
            aclosing(wolf.watch_many(box.users, every=1)) as updates,
        ):
            assert (await anext(updates)).answer is not None
            box.always(respond(503))
            assert isinstance((await anext(updates)).error, WolfServerError)

    virtual_time.run(main())


def test_an_id_that_cannot_be_one_is_an_error_of_its_account() -> None:
    async def main() -> None:
        async with (
            Sandbox(accounts=1, sub_accounts=0, token=TOKEN) as box,
            WolfClient(TOKEN, base_url=box.base_url) as wolf,
            aclosing(wolf.watch_many(["..", box.users[0]], every=1)) as updates,
        ):
            found = [await anext(updates), await anext(updates)]
            told = {update.account.user_id: type(update.error) for update in found}
            assert told == {"..": WolfConfigError, box.users[0]: type(None)}
            assert len(box.calls) == 1

    virtual_time.run(main())


@pytest.mark.parametrize("every", [0, -1, float("nan"), float("inf"), True, "5"])
def test_a_period_that_makes_no_sense_is_refused_at_once(every: Any) -> None:
    with pytest.raises(WolfConfigError, match="every"):
        WolfClient(TOKEN).watch_many(["user"], every=every)


def test_closing_passes_over_who_sleeps_on_a_loop_that_has_ended(new_loop: NewLoop) -> None:
    sleep = Sleep()

    async def begin() -> asyncio.Task[None]:
        sleeper = asyncio.create_task(sleep(3600))
        await asyncio.sleep(0)
        sleeper._log_destroy_pending = False  # type: ignore[attr-defined]
        return sleeper

    loop = new_loop()
    sleeper = loop.run_until_complete(begin())
    loop.close()
    sleep.close()
    assert not sleeper.done()

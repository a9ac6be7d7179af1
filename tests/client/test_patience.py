"""A bulk run that comes through a bad night upstream: real servers on loopback, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from wolf_async import (
    Account,
    AccountResult,
    BreakerPolicy,
    CachePolicy,
    RetryPolicy,
    WolfAuthError,
    WolfClient,
    WolfClosedError,
    WolfConfigError,
    WolfConnectionError,
    WolfEndpointError,
    WolfError,
    WolfNotFoundError,
    WolfRateLimitError,
    WolfServerError,
)
from wolf_async.testing import (
    Exchange,
    Sandbox,
    Step,
    delay,
    disconnect,
    error,
    html,
    respond,
    unauthorized,
)

from . import virtual_time
from .conftest import ONCE, TOKEN

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from wolf_async.bulk import Accounts

BUSY = respond(429, headers={"Retry-After": "2"})


def now() -> float:
    return asyncio.get_running_loop().time()


class When(Step, frozen=True):
    """A short delay for all requests, and a step for those that come while ``applies`` says so."""

    step: Step
    applies: Callable[[], bool]
    late: tuple[str, ...] = ()
    """Users whose answers come one after the other."""

    async def apply(self, exchange: Exchange) -> None:
        user = exchange.account.user_id if exchange.account else ""
        await asyncio.sleep(0.05 + (self.late.index(user) * 0.01 if user in self.late else 0))
        if self.applies():
            await self.step.apply(exchange)


def until(end: float, step: Step) -> Step:
    """Apply ``step`` to what arrives in the first seconds of virtual time."""
    return When(step, lambda: now() < end)


class Limit:
    """So many requests in some seconds, counted over the last ones."""

    def __init__(self, requests: int, *, seconds: float = 1.0) -> None:
        self.requests = requests
        self.seconds = seconds
        self.accepted: deque[float] = deque()

    def is_over(self) -> bool:
        while self.accepted and self.accepted[0] <= now() - self.seconds:
            self.accepted.popleft()
        if len(self.accepted) >= self.requests:
            return True
        self.accepted.append(now())
        return False


@asynccontextmanager
async def bench(accounts: int, **settings: Any) -> AsyncGenerator[tuple[Sandbox, WolfClient]]:
    async with AsyncExitStack() as stack:
        box = await stack.enter_async_context(
            Sandbox(accounts=accounts, sub_accounts=0, token=TOKEN, clock=now)
        )
        settings = {"base_url": box.base_url, "clock": now, **settings}
        yield box, await stack.enter_async_context(WolfClient(TOKEN, **settings))


async def gathered(
    wolf: WolfClient, accounts: Accounts, **settings: Any
) -> tuple[list[AccountResult], WolfError | None]:
    """Return the results, and what the stream raised after them."""
    found: list[AccountResult] = []
    try:
        async with aclosing(wolf.task_init_many(accounts, **settings)) as stream:
            async for result in stream:
                found.append(result)
    except WolfError as raised:
        return found, raised
    return found, None


def assert_all_answered(box: Sandbox, found: list[AccountResult]) -> None:
    assert [result.error for result in found if result.error is not None] == []
    assert Counter(result.account.user_id for result in found) == dict.fromkeys(box.users, 1)


def test_at_a_limit_of_twenty_a_second_all_are_answered_and_few_requests_refused() -> None:
    async def main() -> None:
        limit = Limit(20)
        async with bench(300) as (box, wolf):
            box.always(When(respond(429, headers={"Retry-After": "1"}), limit.is_over))
            found, raised = await gathered(wolf, box.users)
            assert raised is None
            assert_all_answered(box, found)
            first = next(call.at for call in box.calls if call.status == 429)
            later = [call for call in box.calls if call.at > first + 0.05]
            refused = [call for call in later if call.status == 429]
            assert len(refused) <= 0.08 * len(later)
            assert now() < 30

    virtual_time.run(main())


@pytest.mark.parametrize("settings", [{}, {"breaker": None}], ids=["breaker", "no breaker"])
def test_more_accounts_than_the_rate_limit_lets_through_in_time_are_all_answered(
    settings: dict[str, Any],
) -> None:
    """Who would be too late in line says nothing of its account, and asks again."""

    async def main() -> None:
        async with bench(200, rate_limit=2.0, **settings) as (box, wolf):
            box.always(delay(0.05))
            found, raised = await gathered(wolf, box.users)
            assert raised is None
            assert_all_answered(box, found)
            assert len(box.calls) == 200
            assert now() < 110

    virtual_time.run(main())


def test_more_accounts_than_a_learned_pace_lets_through_in_time_wait_without_haste() -> None:
    async def main() -> None:
        async with bench(100) as (box, wolf):
            box.script(box.users[0], respond(429, headers={"Retry-After": "10"}))
            for user in box.users[1::-1]:
                await wolf.task_init(user)
            assert "requests per second" in repr(wolf)
            begun = wolf.stats().loads
            found, raised = await gathered(wolf, box.users)
            assert raised is None
            assert_all_answered(box, found)
            assert wolf.stats().loads - begun < 100 * now()

    virtual_time.run(main())


@pytest.mark.parametrize("pause", ["2", "0"])
def test_while_everything_is_refused_as_too_much_hardly_anything_is_sent(pause: str) -> None:
    async def main() -> None:
        async with bench(200) as (box, wolf):
            box.always(until(6, respond(429, headers={"Retry-After": pause})))
            found, raised = await gathered(wolf, box.users, concurrency=10)
            assert raised is None
            assert_all_answered(box, found)
            assert len([call for call in box.calls if call.at < 6]) <= 30

    virtual_time.run(main())


@pytest.mark.parametrize("retry", [RetryPolicy(), ONCE], ids=["retries", "once"])
@pytest.mark.parametrize("concurrency", [1, 2, 3, 12, 90])
@pytest.mark.parametrize("begin", [0.0, 1.0])
def test_an_outage_destroys_nothing(retry: RetryPolicy, concurrency: int, begin: float) -> None:
    async def main() -> None:
        async with bench(200, retry=retry) as (box, wolf):
            box.always(When(respond(503), lambda: begin <= now() < begin + 3))
            found, raised = await gathered(wolf, box.users, concurrency=concurrency)
            assert raised is None
            assert_all_answered(box, found)
            failed = [call for call in box.calls if call.status == 503]
            assert len(failed) <= max(40, concurrency + 20)

    virtual_time.run(main())


def test_failures_that_the_cache_remembers_are_not_taken_for_new_ones() -> None:
    async def main() -> None:
        async with bench(60, retry=ONCE, cache=CachePolicy(error_ttl=600)) as (box, wolf):
            box.always(until(3, respond(503)))
            found, raised = await gathered(wolf, box.users, concurrency=12)
            assert raised is None
            assert_all_answered(box, found)

    virtual_time.run(main())


def test_a_no_that_the_cache_remembers_does_not_show_that_the_upstream_is_up() -> None:
    async def main() -> None:
        async with bench(20, retry=ONCE, cache=CachePolicy(error_ttl=600)) as (box, wolf):
            unknown = [f"unknown-{number}" for number in range(20)]
            await gathered(wolf, unknown)
            box.always(respond(503))
            accounts = [user for pair in zip(box.users, unknown, strict=True) for user in pair]
            found, raised = await gathered(wolf, accounts, concurrency=2, patience=10)
            assert isinstance(raised, WolfServerError)
            assert {result.account.user_id for result in found} <= set(unknown)

    virtual_time.run(main())


def test_accounts_that_two_outages_hit_are_not_blamed() -> None:
    async def main() -> None:
        async with bench(12, retry=ONCE) as (box, wolf):
            # the probe at 3 s is answered, and those held back since the first outage come next
            is_out = lambda: now() < 2.9 or 3.36 <= now() < 5  # noqa: E731 (named below)
            box.always(When(respond(503), is_out, box.users))
            found, raised = await gathered(wolf, box.users, concurrency=12)
            assert raised is None
            assert_all_answered(box, found)
            twice = [user for user in box.users if len(box.calls_for(user)) == 3]
            assert len(twice) > 5

    virtual_time.run(main())


@pytest.mark.parametrize("retry", [RetryPolicy(), ONCE], ids=["retries", "once"])
@pytest.mark.parametrize("concurrency", [1, 12])
def test_refused_connections_destroy_nothing(retry: RetryPolicy, concurrency: int) -> None:
    async def main() -> None:
        async with bench(150, retry=retry) as (box, wolf):
            box.always(delay(0.05))

            async def fail() -> None:
                await asyncio.sleep(0.5)
                await box.close()
                await asyncio.sleep(3)
                await box.start()

            failing = asyncio.create_task(fail())
            found, raised = await gathered(wolf, box.users, concurrency=concurrency)
            await failing
            assert raised is None
            assert_all_answered(box, found)

    virtual_time.run(main())


def test_a_token_that_is_refused_ends_the_run_and_says_nothing_of_any_account() -> None:
    async def main() -> None:
        async with bench(300) as (box, wolf):
            box.always(When(unauthorized(), lambda: now() > 0.5))
            found, raised = await gathered(wolf, box.users, concurrency=12)
            assert isinstance(raised, WolfAuthError)
            assert found
            assert all(result.error is None for result in found)
            assert len([call for call in box.calls if call.status == 401]) <= 12

    virtual_time.run(main())


@pytest.mark.parametrize("patience", [0.0, 60.0])
def test_a_refused_token_ends_the_run_whatever_the_patience(patience: float) -> None:
    async def main() -> None:
        async with bench(50) as (box, wolf):
            box.always(unauthorized())
            found, raised = await gathered(wolf, box.users, concurrency=5, patience=patience)
            assert (found, type(raised)) == ([], WolfAuthError)
            assert len(box.calls) <= 5

    virtual_time.run(main())


def test_a_refused_token_ends_a_run_whose_source_waits() -> None:
    async def main() -> None:
        async with bench(5) as (box, wolf):
            box.always(unauthorized())

            async def source() -> AsyncIterator[str]:
                yield box.users[0]
                await asyncio.Event().wait()

            async with asyncio.timeout(10):
                found, raised = await gathered(wolf, source(), concurrency=3)
            assert (found, type(raised)) == ([], WolfAuthError)

    virtual_time.run(main())


def test_a_token_provider_that_fails_for_a_while_is_an_outage() -> None:
    async def provider() -> str:
        if now() < 5:
            raise ConnectionError("the vault is down")
        return TOKEN

    async def main() -> None:
        async with AsyncExitStack() as stack:
            box = await stack.enter_async_context(Sandbox(accounts=40, sub_accounts=0, token=TOKEN))
            wolf = await stack.enter_async_context(
                WolfClient(provider, base_url=box.base_url, clock=now)
            )
            found, raised = await gathered(wolf, box.users, concurrency=4)
            assert raised is None
            assert_all_answered(box, found)

    virtual_time.run(main())


def test_a_token_provider_that_fails_for_longer_than_the_patience_ends_the_run() -> None:
    calls: list[float] = []

    async def provider() -> str:
        calls.append(now())
        if len(calls) < 500:
            raise ConnectionError("the vault is down")
        return TOKEN

    async def main() -> None:
        async with (
            Sandbox(accounts=40, sub_accounts=0, token=TOKEN) as box,
            WolfClient(provider, base_url=box.base_url, clock=now) as wolf,
        ):
            found, raised = await gathered(wolf, box.users, concurrency=4, patience=10)
            assert (found, type(raised)) == ([], WolfAuthError)
            assert 10 <= now() < 12
            assert len(calls) < 50

    virtual_time.run(main())


@pytest.mark.parametrize("patience", [0.0, 60.0])
@pytest.mark.parametrize("accounts", [1, 2, 300])
def test_a_base_url_without_the_api_ends_the_run(accounts: int, patience: float) -> None:
    async def main() -> None:
        async with bench(accounts) as (box, wolf):
            box.always(html(404))
            found, raised = await gathered(wolf, box.users, concurrency=3, patience=patience)
            assert (found, type(raised)) == ([], WolfEndpointError)
            assert len(box.calls) <= 5

    virtual_time.run(main())


def test_accounts_for_which_a_gateway_knew_no_api_are_results_once_another_succeeds() -> None:
    async def main() -> None:
        async with bench(10) as (box, wolf):
            for user in box.users[:2]:
                box.script(user, html(404))
            box.script(box.users[2], error(404, status=404))
            found, raised = await gathered(wolf, box.users, concurrency=1)
            assert raised is None
            errors = {result.account.user_id: type(result.error) for result in found}
            assert errors == {
                **dict.fromkeys(box.users, type(None)),
                **dict.fromkeys(box.users[:2], WolfEndpointError),
                box.users[2]: WolfNotFoundError,
            }

    virtual_time.run(main())


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("is_async", [False, True])
def test_an_account_that_always_fails_is_told_apart_from_an_outage(
    concurrency: int, is_async: bool
) -> None:
    async def main() -> None:
        async with bench(30) as (box, wolf):
            bad = {box.users[3], box.users[17], box.users[-1]}
            for user in bad:
                box.script(user, *[respond(500)] * 50)

            async def source() -> AsyncIterator[str]:
                for user in box.users:
                    yield user

            accounts: Any = source() if is_async else box.users
            found, raised = await gathered(wolf, accounts, concurrency=concurrency)
            assert raised is None
            assert {result.account.user_id for result in found if result.error} == bad
            assert len(found) == 30
            assert all(len(box.calls_for(user)) <= 6 for user in bad)
            assert now() < 10

    virtual_time.run(main())


@pytest.mark.parametrize("step", [html(404), respond(200, body=b"{}")], ids=["no API", "no answer"])
def test_an_account_asked_for_once_more_that_shows_nothing_is_not_asked_for_without_end(
    step: Step,
) -> None:
    async def main() -> None:
        async with bench(2, retry=ONCE) as (box, wolf):
            first, bad = box.users
            box.script(bad, *[respond(503)] * 50)
            stream = wolf.task_init_many(box.users, concurrency=1)
            async with aclosing(stream), asyncio.timeout(30):
                assert (await anext(stream)).account.user_id == first
                box.script(first, *[step] * 50)
                account, _, raised = await anext(stream)
                assert (account.user_id, type(raised)) == (bad, WolfServerError)
            assert len(box.calls) <= 5

    virtual_time.run(main())


@pytest.mark.parametrize("breaker", [BreakerPolicy(), BreakerPolicy(failures=2)])
@pytest.mark.parametrize("concurrency", [1, 12])
def test_many_accounts_that_always_fail_do_not_keep_a_run_going_for_ever(
    breaker: BreakerPolicy, concurrency: int
) -> None:
    """Together they open the breaker, each time that they are asked for again."""

    async def main() -> None:
        async with bench(30, retry=ONCE, breaker=breaker) as (box, wolf):
            bad = set(box.users[18:])
            box.always(delay(0.05))
            for user in bad:
                box.script(user, *[delay(0.05) + respond(500)] * 500)
            async with asyncio.timeout(120):
                found, raised = await gathered(wolf, box.users, concurrency=concurrency)
            assert raised is None
            assert {result.account.user_id for result in found if result.error} == bad
            assert len(found) == 30
            assert len(box.calls) < 200

    virtual_time.run(main())


def test_an_account_whose_load_fails_once_among_others_that_succeed_gets_another() -> None:
    async def main() -> None:
        async with bench(30) as (box, wolf):
            box.script(box.users[3], *[respond(500)] * RetryPolicy().attempts)
            found, raised = await gathered(wolf, box.users, concurrency=4)
            assert raised is None
            assert_all_answered(box, found)

    virtual_time.run(main())


def test_a_source_that_waits_for_a_result_gets_one() -> None:
    async def main() -> None:
        async with bench(3) as (box, wolf):
            box.script(box.users[0], *[respond(500)] * 50)
            told = asyncio.Event()

            async def source() -> AsyncIterator[str]:
                yield box.users[0]
                await told.wait()
                yield box.users[1]

            for concurrency in (1, 2):
                told.clear()
                found: list[object] = []
                async with asyncio.timeout(20):
                    async for result in wolf.task_init_many(source(), concurrency=concurrency):
                        found.append(type(result.error))
                        told.set()
                assert found == [WolfServerError, type(None)]

    virtual_time.run(main())


@pytest.mark.parametrize("fault", [respond(503), BUSY], ids=["503", "429"])
def test_when_patience_is_used_up_the_run_raises_and_leaves_the_rest_unasked(fault: Step) -> None:
    async def main() -> None:
        async with bench(300) as (box, wolf):
            box.always(When(fault, lambda: now() > 1))
            found, raised = await gathered(wolf, box.users, concurrency=5, patience=10)
            assert isinstance(raised, WolfServerError | WolfRateLimitError)
            assert 10 <= now() <= 45
            assert 0 < len(found) < 300
            assert all(result.error is None for result in found)
            asked = {call.account for call in box.calls}
            assert len(asked) <= len(found) + 20

    virtual_time.run(main())


def test_an_answer_renews_the_patience() -> None:
    async def main() -> None:
        async with bench(400) as (box, wolf):
            outages = ((1, 8), (10, 17), (19, 26))
            box.always(
                When(respond(503), lambda: any(begin <= now() < end for begin, end in outages))
            )
            found, raised = await gathered(wolf, box.users, concurrency=2, patience=13)
            assert raised is None
            assert_all_answered(box, found)
            assert now() > 26

    virtual_time.run(main())


def test_a_gate_that_stays_closed_for_longer_than_the_patience_ends_the_run_at_once() -> None:
    async def main() -> None:
        async with bench(300) as (box, wolf):
            box.always(respond(429, headers={"Retry-After": "600"}))
            found, raised = await gathered(wolf, box.users, concurrency=5)
            assert found == []
            assert isinstance(raised, WolfRateLimitError)
            assert raised.retry_after == pytest.approx(600, abs=2)
            assert len(box.calls) == 5
            assert now() < 2

    virtual_time.run(main())


def test_a_gate_that_stays_closed_for_just_the_patience_is_waited_for() -> None:
    """As after a quota of so many requests a minute: what comes of it decides, not some jitter."""

    async def main() -> None:
        quota = Limit(60, seconds=60)
        async with bench(150) as (box, wolf):
            box.always(When(respond(429, headers={"Retry-After": "60"}), quota.is_over))
            found, raised = await gathered(wolf, box.users, patience=60.0)
            assert raised is None
            assert_all_answered(box, found)

    virtual_time.run(main())


def test_patience_outlasts_a_gate_that_single_calls_would_not_wait_for() -> None:
    async def main() -> None:
        async with bench(100) as (box, wolf):
            box.always(until(1, respond(429, headers={"Retry-After": "45"})))
            found, raised = await gathered(wolf, box.users, concurrency=5)
            assert raised is None
            assert_all_answered(box, found)
            assert now() > 45

    virtual_time.run(main())


@pytest.mark.parametrize(
    "fault",
    [respond(429, headers={"Retry-After": "40"}), respond(503)],
    ids=["the gate is closed", "the breaker is open"],
)
def test_closing_the_client_ends_a_run_that_waits_until_requests_may_be_sent(fault: Step) -> None:
    async def main() -> None:
        async with bench(20, breaker=BreakerPolicy(pause=30.0), retry=ONCE) as (box, wolf):
            box.always(fault)
            run = asyncio.create_task(gathered(wolf, box.users, concurrency=12))
            await asyncio.sleep(3)
            await wolf.aclose()
            found, raised = await run
            assert found == []
            assert isinstance(raised, WolfClosedError)
            assert now() < 3.5

    virtual_time.run(main())


@pytest.mark.parametrize(
    "settings", [{"patience": 0.0}, {"breaker": None}], ids=["no patience", "no breaker"]
)
def test_without_patience_or_breaker_each_account_fails_as_a_single_call_does(
    settings: dict[str, Any],
) -> None:
    async def main() -> None:
        patience = settings.pop("patience", 60.0)
        async with bench(30, retry=ONCE, **settings) as (box, wolf):
            box.always(respond(503))
            found, raised = await gathered(wolf, box.users, concurrency=5, patience=patience)
            assert raised is None
            assert len(found) == 30
            assert all(isinstance(result.error, WolfError) for result in found)

    virtual_time.run(main())


def test_hits_are_results_but_renew_no_patience() -> None:
    async def main() -> None:
        async with bench(200) as (box, wolf):
            box.always(delay(0.05))
            held = box.users[:150]
            await gathered(wolf, held)
            box.always(respond(503))

            async def mixed() -> AsyncIterator[str]:
                for user in box.users[150:155]:
                    yield user
                while True:
                    await asyncio.sleep(1)
                    yield held[0]

            begun = now()
            found, raised = await gathered(wolf, mixed(), concurrency=3, patience=10)
            assert isinstance(raised, WolfServerError)
            assert now() - begun < 45
            assert all(result.account.user_id == held[0] for result in found)

    virtual_time.run(main())


@pytest.mark.parametrize("fault", [respond(503), BUSY], ids=["503", "429"])
def test_leaving_ends_every_wait_at_once(fault: Step) -> None:
    async def main() -> None:
        async with bench(300) as (box, wolf):
            box.always(fault)
            begun = now()
            async with aclosing(wolf.task_init_many(box.users, concurrency=5)) as stream:
                reading = asyncio.ensure_future(anext(stream))
                await asyncio.sleep(1.5)
                reading.cancel()
                await asyncio.wait([reading])
            assert now() - begun < 1.6
            assert wolf.stats().in_flight == 0

    virtual_time.run(main())


class FaultSchedule:
    """Faults of all kinds that come and go at random."""

    def __init__(self, seed: int, own: dict[str, Step]) -> None:
        self.chance = random.Random(seed)
        self.own = own
        """What becomes of some accounts always."""
        self.fault: Step | None = None
        self.ends = 0.0

    def next_fault(self) -> Step | None:
        if now() > 60:
            return None
        if now() > self.ends:
            self.ends = now() + self.chance.uniform(0.2, 4)
            faults = [None, None, respond(503), BUSY, respond(502), disconnect(), delay(3)]
            self.fault = self.chance.choice(faults)
        return self.fault or self.chance.choice([None] * 20 + [respond(503)])


class RandomFault(Step, frozen=True):
    schedule: FaultSchedule

    async def apply(self, exchange: Exchange) -> None:
        await asyncio.sleep(self.schedule.chance.uniform(0.01, 0.3))
        account = exchange.account
        assert account is not None
        for fault in (self.schedule.next_fault(), self.schedule.own.get(account.user_id)):
            if fault is not None and exchange.reply is None and exchange.drop is None:
                await fault.apply(exchange)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("concurrency", [1, 7])
def test_in_a_minute_of_random_faults_every_account_is_answered_or_fails_for_its_own_reason(
    seed: int, concurrency: int
) -> None:
    async def main() -> None:
        random.seed(seed)  # the pauses' jitter
        async with bench(400) as (box, wolf):
            bad = {
                box.users[number]: step
                for number, step in {
                    5: error(404, status=404),
                    50: error(6007),
                    51: respond(500),
                    200: respond(500),
                }.items()
            }
            box.always(RandomFault(FaultSchedule(seed, bad)))
            found, raised = await gathered(wolf, box.users, concurrency=concurrency, patience=120)
            assert raised is None
            assert Counter(result.account.user_id for result in found) == dict.fromkeys(
                box.users, 1
            )
            failed = {result.account.user_id: result.error for result in found if result.error}
            assert set(failed) >= set(bad)
            # an account may be hit by two short faults while others are answered in between
            assert len(failed) <= len(bad) + 3

    virtual_time.run(main())


@pytest.mark.real_time
async def test_a_bad_night_in_real_time() -> None:
    async with Sandbox(accounts=80, sub_accounts=0, token=TOKEN) as box:
        for step, seconds in [(BUSY, 1.0), (respond(503), 1.5), (disconnect(), 1.0)]:
            begun = now()
            box.always(When(step, lambda: now() < begun + seconds))  # noqa: B023 (this round's)
            async with WolfClient(TOKEN, base_url=box.base_url) as wolf:
                found, raised = await gathered(wolf, box.users, concurrency=12)
            assert raised is None
            assert_all_answered(box, found)
            assert len([call for call in box.calls if call.status != 200]) <= 40
            box.reset_calls()
        limit = Limit(40)
        box.always(When(respond(429, headers={"Retry-After": "1"}), limit.is_over))
        async with WolfClient(TOKEN, base_url=box.base_url) as wolf:
            found, raised = await gathered(wolf, box.users)
            assert raised is None
            assert_all_answered(box, found)
        box.always(unauthorized())
        async with WolfClient(TOKEN, base_url=box.base_url) as wolf:
            found, raised = await gathered(wolf, box.users, concurrency=5)
            assert (found, type(raised)) == ([], WolfAuthError)


@pytest.mark.parametrize("patience", [-1, float("nan"), True, "60", None])
def test_a_patience_that_makes_no_sense_is_refused_at_once(patience: Any) -> None:
    with pytest.raises(WolfConfigError, match="patience"):
        WolfClient(TOKEN).task_init_many([], patience=patience)


def test_the_default_leaves_a_tenth_of_the_places_to_other_callers() -> None:
    async def main() -> None:
        for places, used in ((1, 1), (10, 9), (40, 36)):
            async with bench(100, max_concurrency=places) as (box, wolf):
                box.always(delay(0.1))
                await gathered(wolf, box.users)
                assert box.concurrency_peak == used

    virtual_time.run(main())


def test_no_file_descriptor_is_a_failure_of_this_machine_and_not_of_an_account(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with bench(40) as (box, wolf):
            loop = asyncio.get_running_loop()
            connect = loop.sock_connect

            async def failing(sock: Any, address: Any) -> None:
                if now() < 5:
                    raise OSError(24, "Too many open files")
                await connect(sock, address)

            monkeypatch.setattr(loop, "sock_connect", failing)
            found, raised = await gathered(wolf, box.users, concurrency=4)
            assert raised is None
            assert_all_answered(box, found)
            assert wolf.stats().requests < 100

    virtual_time.run(main())


_ = Account, WolfConnectionError

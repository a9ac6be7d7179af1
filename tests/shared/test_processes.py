"""Real processes on a real server make one request per account.

Nobody gets too old an answer.
"""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

import pytest

from shared.servers import until
from shared.worker import Answer, Failed, Worker

if TYPE_CHECKING:
    from shared.conftest import Fleet

USERS = [f"u{number}" for number in range(10)]
SHORT = {"lease": 0.6}


async def forgotten(worker: Worker, user: str = "u1") -> None:
    """Wait until the process has dropped its copy."""
    async with asyncio.timeout(5):
        while await worker.call("peek", user=user) is not None:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.005)


def serials(answers: list[Answer]) -> set[int]:
    return {answer.serial for answer in answers}


# --- P1: sharing ----------------------------------------------------------------------------------


async def test_a_cold_crowd_in_many_processes_makes_one_request_per_account(fleet: Fleet) -> None:
    fleet.upstream.latency = 0.1
    workers = await fleet.workers(4)
    answers = await asyncio.gather(*(worker.crowd(USERS, 25) for worker in workers))
    assert fleet.upstream.calls == len(USERS)
    assert all(len(serials(found)) == len(USERS) for found in answers)


async def test_a_new_process_on_a_warm_server_makes_no_request(fleet: Fleet) -> None:
    first = await fleet.worker()
    await first.crowd(USERS, 1)
    late = await fleet.worker()
    await late.crowd(USERS, 1)
    assert fleet.upstream.calls == len(USERS)
    assert (await late.stats())["shared_hits"] == len(USERS)
    assert (await late.stats())["requests"] == 0


async def test_an_answer_that_expires_in_many_processes_is_asked_for_once(fleet: Fleet) -> None:
    workers = await fleet.workers(8, ttl=0.6, jitter=0.2)
    await asyncio.gather(*(worker.get() for worker in workers))
    assert fleet.upstream.calls == 1
    await asyncio.sleep(0.7)
    await asyncio.gather(*(worker.get() for worker in workers))
    assert fleet.upstream.calls == 2


async def test_a_load_longer_than_the_lease_stays_the_only_one(fleet: Fleet) -> None:
    fleet.upstream.latency = 1.0
    workers = await fleet.workers(3, tier={"lease": 0.3})
    answers = await asyncio.gather(*(worker.get() for worker in workers))
    assert fleet.upstream.calls == 1
    assert serials(answers) == {1}


# --- P2: a local hit ------------------------------------------------------------------------------


async def test_a_local_hit_sends_no_command(own_fleet: Fleet) -> None:
    worker = await own_fleet.worker(tier={"heartbeat": 60.0})
    await worker.get()
    before = own_fleet.server.calls("evalsha") + own_fleet.server.calls("eval")
    await worker.crowd(["u1"], 50)
    assert own_fleet.server.calls("evalsha") + own_fleet.server.calls("eval") == before
    assert (await worker.stats())["hits"] == 50


# --- P4: max_age ----------------------------------------------------------------------------------


async def test_a_crowd_that_wants_the_newest_makes_one_request_at_a_time(fleet: Fleet) -> None:
    workers = await fleet.workers(8)
    await workers[0].get()
    fleet.upstream.latency = 0.3
    before = fleet.upstream.calls
    crowds = [worker.crowd(["u1"], 10, max_age=0) for worker in workers]
    answers = [one for found in await asyncio.gather(*crowds) for one in found]
    assert fleet.upstream.calls - before <= 2
    assert fleet.upstream.at_once == 1
    assert all(fleet.upstream.arrived[one.serial - 1] >= one.began for one in answers)


@pytest.mark.parametrize(("age", "requests"), [(0.3, 1), (1.3, 2)])
async def test_max_age_is_kept_against_shared_answers(
    fleet: Fleet, age: float, requests: int
) -> None:
    first, second = await fleet.workers(2)
    await first.get()
    await asyncio.sleep(age)
    answer = await second.get(max_age=1)
    assert fleet.upstream.calls == requests
    assert answer.began - fleet.upstream.arrived[answer.serial - 1] <= 1


@pytest.mark.parametrize(("age", "requests"), [(0.2, 1), (0.8, 2)])
async def test_max_age_is_kept_against_the_loads_of_others(
    fleet: Fleet, age: float, requests: int
) -> None:
    first, second = await fleet.workers(2)
    await second.get("other")
    fleet.upstream.latency = 1.0
    before = fleet.upstream.calls
    loading = asyncio.create_task(first.get())
    await until(lambda: fleet.upstream.calls > before)
    await asyncio.sleep(age)
    answer = await second.get(max_age=0.5)
    await loading
    assert fleet.upstream.calls - before == requests
    assert answer.began - fleet.upstream.arrived[answer.serial - 1] <= 0.5


async def test_a_clock_of_a_process_that_is_an_hour_off_changes_nothing(fleet: Fleet) -> None:
    right, fast, slow = [await fleet.worker(ttl=1.0, skew=skew) for skew in (0.0, 3600.0, -3600.0)]
    for worker in (fast, right, slow):
        await worker.get()
    assert fleet.upstream.calls == 1
    await asyncio.sleep(1.1)
    for worker in (slow, fast, right):
        await worker.get()
    assert fleet.upstream.calls == 2


# --- P5 to P7: invalidations ----------------------------------------------------------------------


async def test_others_hear_of_an_invalidation(fleet: Fleet) -> None:
    workers = await fleet.workers(3)
    for number in range(20):
        answers = await asyncio.gather(*(worker.get() for worker in workers))
        assert serials(answers) == {number + 1}
        teller = workers[number % 3]
        await teller.call("invalidate", user="u1")
        assert await teller.call("settled")
        for worker in workers:
            await forgotten(worker)
    assert (await workers[0].stats())["shared_invalidations"] >= 13


async def test_an_invalidation_from_elsewhere_overtakes_a_load(fleet: Fleet) -> None:
    holder, waiter, teller = await fleet.workers(3)
    await asyncio.gather(*(worker.get("other") for worker in (holder, waiter, teller)))
    before = fleet.upstream.calls
    fleet.upstream.gate.clear()
    old = asyncio.create_task(holder.get())
    await until(lambda: fleet.upstream.calls == before + 1)
    new = asyncio.create_task(waiter.get())
    await asyncio.sleep(0.1)
    await teller.call("invalidate", user="u1")
    assert await teller.call("settled")
    await until(lambda: fleet.upstream.calls == before + 2)
    fleet.upstream.gate.set()
    assert (await old).serial == before + 1
    assert (await new).serial == before + 2
    assert {(await worker.get()).serial for worker in (holder, waiter, teller)} == {before + 2}


async def test_a_call_in_the_tick_of_ones_own_invalidation_gets_a_newer_answer(
    fleet: Fleet,
) -> None:
    one, two = await fleet.workers(2)
    await asyncio.gather(one.get(), two.get())
    for _ in range(10):
        before = time.monotonic()
        serial, began, _ = await one.call("invalidate", user="u1", then_get=True)
        assert fleet.upstream.arrived[serial - 1] >= before
        assert began >= before


async def test_a_clear_is_heard_by_all(fleet: Fleet) -> None:
    one, two = await fleet.workers(2)
    await asyncio.gather(one.crowd(USERS, 1), two.crowd(USERS, 1))
    await one.call("clear")
    assert await one.call("settled")
    await forgotten(two)
    answers = await asyncio.gather(one.crowd(USERS, 1), two.crowd(USERS, 1))
    assert fleet.upstream.calls == 2 * len(USERS)
    assert serials(answers[0]) == serials(answers[1])


# --- P8: death ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_holder_that_dies_costs_the_others_a_lease(
    fleet: Fleet, how: signal.Signals
) -> None:
    holder, other = await fleet.workers(2, tier=SHORT)
    await other.get("other")
    fleet.upstream.latency = 0.3
    lost = asyncio.create_task(holder.get())
    await until(lambda: fleet.upstream.calls == 2)
    holder.signal(how)
    began = time.monotonic()
    answer = await other.get()
    assert answer.serial == 3
    assert time.monotonic() - began < 0.6 + 0.3 + 0.5
    if how is signal.SIGSTOP:
        holder.signal(signal.SIGCONT)
        await lost
        assert (await holder.stats())["shared_stores_refused"] == 1
        assert (await holder.get()).serial == 3
    lost.cancel()


async def test_a_holder_that_leaves_costs_the_others_no_lease(fleet: Fleet) -> None:
    holder, other = await fleet.workers(2)
    await other.get("other")
    fleet.upstream.gate.clear()
    leaving = asyncio.create_task(holder.get())
    await until(lambda: fleet.upstream.calls == 2)
    waiting = asyncio.create_task(other.get())
    await asyncio.sleep(0.1)
    leaving.cancel()
    await until(lambda: fleet.upstream.calls == 3, 1.0)
    fleet.upstream.gate.set()
    assert (await waiting).serial == 3


async def test_a_holder_that_closes_costs_the_others_no_lease(fleet: Fleet) -> None:
    holder, other = await fleet.workers(2)
    await other.get("other")
    fleet.upstream.gate.clear()
    closing = asyncio.create_task(holder.get())
    await until(lambda: fleet.upstream.calls == 2)
    waiting = asyncio.create_task(other.get())
    await asyncio.sleep(0.1)
    await holder.call("close")
    with pytest.raises(Failed, match="WolfClosedError"):
        await closing
    await until(lambda: fleet.upstream.calls == 3, 1.0)
    fleet.upstream.gate.set()
    assert (await waiting).serial == 3


# --- P10: failures --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [(503, "WolfServerError"), (404, "WolfNotFoundError"), (401, "WolfAuthError")],
)
async def test_a_failure_reaches_those_who_wait_in_all_processes(
    fleet: Fleet, status: int, kind: str
) -> None:
    workers = await fleet.workers(4)
    await asyncio.gather(*(worker.get("other") for worker in workers))
    before = fleet.upstream.calls
    fleet.upstream.status, fleet.upstream.latency = status, 0.5
    crowds = [worker.crowd(["u1"], 3) for worker in workers]
    outcomes = await asyncio.gather(*crowds, return_exceptions=True)
    assert [one.kind for one in outcomes if isinstance(one, Failed)] == [kind] * 4
    assert fleet.upstream.calls == before + 1


async def test_in_an_outage_the_answer_of_another_process_stands_in(fleet: Fleet) -> None:
    policy = {"ttl": 0.3, "stale_if_error": 60.0, "refresh_backoff": 5.0}
    one, two, three = await fleet.workers(3, **policy)
    await one.get()
    await asyncio.sleep(0.4)
    fleet.upstream.status = 503
    for worker in (two, one, three, two):
        assert (await worker.get()).serial == 1
    assert fleet.upstream.calls == 2, "one attempt within the back-off of all"


async def test_a_no_drops_the_answer_in_all_processes(fleet: Fleet) -> None:
    one, two = await fleet.workers(2, ttl=0.3, stale_if_error=60.0)
    await asyncio.gather(one.get(), two.get())
    await asyncio.sleep(0.4)
    fleet.upstream.status = 404
    with pytest.raises(Failed, match="WolfNotFoundError"):
        await one.get()
    fleet.upstream.status = 503
    with pytest.raises(Failed, match="WolfServerError"):
        await two.get()


async def test_stale_while_revalidate_refreshes_once_for_all(fleet: Fleet) -> None:
    workers = await fleet.workers(4, ttl=0.4, stale_while_revalidate=60.0)
    await asyncio.gather(*(worker.get() for worker in workers))
    await asyncio.sleep(0.5)
    fleet.upstream.latency = 0.2
    answers = await asyncio.gather(*(worker.get() for worker in workers))
    assert serials(answers) == {1}
    await until(lambda: fleet.upstream.calls == 2)
    await asyncio.sleep(0.3)
    assert {await worker.call("peek", user="u1") for worker in workers} == {2}
    assert fleet.upstream.calls == 2


# --- P11: isolation -------------------------------------------------------------------------------


async def test_another_token_and_another_base_url_share_nothing(fleet: Fleet) -> None:
    one = await fleet.worker()
    other_token = await fleet.worker(token="sk-another-secret")
    other_url = await fleet.worker(
        base_url=fleet.upstream.base_url.replace("127.0.0.1", "localhost")
    )
    for worker in (one, other_token, other_url):
        await worker.get()
    assert fleet.upstream.calls == 3
    await one.call("invalidate", user="u1")
    assert await one.call("settled")
    assert await other_token.call("peek", user="u1") == 2
    assert await other_url.call("peek", user="u1") == 3


async def test_two_policies_on_one_server_each_keep_their_own(fleet: Fleet) -> None:
    long, short = await fleet.worker(ttl=60.0), await fleet.worker(ttl=1.0)
    await long.get()
    assert (await short.get()).serial == 1
    async with asyncio.timeout(10):
        while (await short.get()).serial == 1:  # noqa: ASYNC110 - nothing here tells of it
            await asyncio.sleep(0.02)
    assert (await long.get()).serial == 1


async def test_bodies_of_a_megabyte_are_shared(fleet: Fleet) -> None:
    fleet.upstream.padding = 1_000_000
    one, two = await fleet.workers(2)
    await one.get()
    await two.get()
    assert fleet.upstream.calls == 1


# --- P13: throttling ------------------------------------------------------------------------------


async def test_a_429_in_one_process_holds_the_others_back(fleet: Fleet) -> None:
    one, two, other = *await fleet.workers(2), await fleet.worker(token="sk-another-secret")
    await asyncio.gather(*(worker.get(f"u{n}") for n, worker in enumerate((one, two, other))))
    fleet.upstream.status, fleet.upstream.retry_after = 429, 2
    refused = time.monotonic()
    with pytest.raises(Failed, match="WolfRateLimitError"):
        await one.get("new")
    fleet.upstream.status = 200
    answer = await two.get("newer")
    assert fleet.upstream.arrived[answer.serial - 1] - refused >= 1.8
    began = time.monotonic()
    await other.get("newest")
    assert time.monotonic() - began < 1, "it is about the credential"

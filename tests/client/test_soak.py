"""Ten minutes of mixed faults in seconds: every call ends, no answer is wrong, nothing is left."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from wolf_async import Account, CachePolicy, RetryPolicy, TaskInit, Timeouts, WolfClient, WolfError
from wolf_async.cache.inflight import InFlightLoad
from wolf_async.testing import (
    Sandbox,
    delay,
    disconnect,
    drip,
    empty,
    error,
    gzip_bomb,
    gzip_garbage,
    hang_up,
    html,
    quirks,
    redirect,
    respond,
    synthetic_task_init,
    truncate,
    unauthorized,
)

from .conftest import TOKEN
from .conftest import descriptors as open_descriptors
from .virtual_time import run

if TYPE_CHECKING:
    from .conftest import Canary

CALLERS = 200
ACCOUNTS = 2_000
CALLS_EACH = 12
LEVEL = 24 * 2**20
"""Bytes that the process may grow by after warming up.

Without bounds, the faults' bodies alone would be more.
"""

FAULTS = (
    respond(503),
    disconnect(),
    truncate(700),
    html(502),
    respond(429, headers={"Retry-After": "0"}),
    unauthorized(),
    delay(0.7),
    gzip_garbage(),
    empty(200),
    error(6007),
    disconnect(reset=True),
    respond(503, b"x" * 200_000),
    quirks("ids_swapped", "flags_as_int"),
    redirect("http://127.0.0.1:1/"),
    drip(0.1, chunk=500),
    respond(200, b"[" * 100_000),
    hang_up(),
    gzip_bomb(3 * 2**20),
    respond(500),
    respond(200, "{" + '"a": 1,' * 9),
    quirks("list_as_map", "ints_as_text"),
    truncate(0),
    error(503),
)


class Tally:
    """How calls ended, and for which accounts that was wrong."""

    def __init__(self) -> None:
        self.ends: Counter[str] = Counter()
        self.wrong: list[Account] = []

    def answered(self, account: Account, init: TaskInit) -> None:
        self.ends["answer"] += 1
        if {line.belong_user for line in init.caller_line_list} != {
            account.sub_user_id or account.user_id
        }:
            self.wrong.append(account)

    def failed(self, account: Account, failure: WolfError) -> None:
        self.ends[type(failure).__name__] += 1
        if failure.account != account:
            self.wrong.append(account)


async def _caller(
    wolf: WolfClient, accounts: tuple[Account, ...], tally: Tally, calls: int, seed: int
) -> None:
    chance = random.Random(seed)
    for _ in range(calls):
        account = accounts[int(chance.random() ** 2 * len(accounts))]
        what = chance.random()
        patience = 0.05 if chance.random() < 0.05 else None
        try:
            async with asyncio.timeout(patience):
                if what < 0.1:
                    response = await wolf.raw_task_init(*account)
                    assert response.status == 200
                    tally.ends["raw"] += 1
                else:
                    max_age = 0.0 if what < 0.2 else None
                    tally.answered(account, await wolf.task_init(*account, max_age=max_age))
        except WolfError as failed:
            tally.failed(account, failed)
        except TimeoutError:
            assert patience
            tally.ends["impatient"] += 1
        if what > 0.97:
            wolf.invalidate(*account)
        held = wolf.peek(*account)
        if held is not None:
            tally.answered(account, held)


async def _soak(box: Sandbox, wolf: WolfClient, seed: int) -> tuple[Tally, int]:
    tally = Tally()
    box.reset_calls()
    # debug mode makes each call several times as slow
    calls = CALLS_EACH // 4 if asyncio.get_running_loop().get_debug() else CALLS_EACH
    async with asyncio.timeout(600):
        await asyncio.gather(
            *(
                _caller(wolf, box.accounts, tally, calls, 1000 * seed + number)
                for number in range(CALLERS)
            )
        )
    return tally, CALLERS * calls


def _resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_soak_in_mixed_faults(canary: Canary) -> None:
    run(_mixed_faults(canary))


def now() -> float:
    return asyncio.get_running_loop().time()


async def _mixed_faults(canary: Canary) -> None:
    for name in ("wolf_async", "asyncio"):  # thousands of records would be held for the report
        logging.getLogger(name).setLevel(logging.WARNING)
    async with Sandbox(token=TOKEN) as box, WolfClient(TOKEN, base_url=box.base_url) as wolf:
        await wolf.task_init(
            box.users[0]
        )  # a loop opens some descriptors of its own when it first needs them
    descriptors, before = open_descriptors(), loads_in_memory()

    async def provider() -> str:
        await asyncio.sleep(0)
        return box.token

    async with Sandbox(accounts=ACCOUNTS // 2, sub_accounts=1, token=TOKEN, clock=now) as box:
        for account in box.accounts:
            box.set_data(account, synthetic_task_init(0, account, lines=3, groups=1))
        wolf = WolfClient(
            provider,
            base_url=box.base_url,
            cache=CachePolicy(
                ttl=0.1,
                stale_while_revalidate=0.1,
                stale_if_error=0.5,
                refresh_backoff=0.02,
                error_ttl=0.02,
                jitter=0.2,
                max_entries=500,
            ),
            retry=RetryPolicy(backoff=0.005, budget=0.5),
            timeouts=Timeouts(total=3.0, attempt=0.5, connect=0.5),
            max_concurrency=60,
            rate_limit=(5000.0, 50),
            max_body=2**20,
            clock=now,
        )
        async with wolf:
            box.fault_every(3, *FAULTS)
            await _soak(box, wolf, 1)
            warm = _resident()
            box.expire_token("next/" + TOKEN)
            tally, calls = await _soak(box, wolf, 2)
            grown = _resident() - warm
            requests = len(box.calls)
            assert wolf.stats().entries <= 500
    assert not tally.wrong
    own_calls = {kind: count for kind, count in tally.ends.items() if kind != "answer"}
    assert tally.ends["answer"] + sum(own_calls.values()) >= calls
    # the faults were there, and answers all the same
    assert len(own_calls) >= 6
    assert tally.ends["answer"] > calls / 4
    assert requests > calls / 4
    assert grown < LEVEL
    assert now() < 600
    while canary.errors:  # their tracebacks hold what led to them
        canary.check_error(canary.errors.pop())
    await _nothing_is_left(descriptors, before)


def loads_in_memory() -> int:
    gc.collect()
    return sum(isinstance(thing, InFlightLoad) for thing in gc.get_objects())


async def _nothing_is_left(descriptors: int, before: int) -> None:
    for _ in range(100):  # the kernel and the loop finish what was closed
        if open_descriptors() <= descriptors:
            break
        await asyncio.sleep(0.01)
    assert open_descriptors() <= descriptors
    assert asyncio.all_tasks() == {asyncio.current_task()}
    # asyncio keeps cancelled timers, and the contexts they were set in, until they are many
    for _ in range(500):
        asyncio.get_running_loop().call_later(60, gc.collect).cancel()
    await asyncio.sleep(0.01)
    gc.collect()
    # those of tests before this one, which somebody keeps, are not ours
    assert loads_in_memory() <= before

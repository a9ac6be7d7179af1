"""One DEBUG line per attempt, a WARNING for what a person should look at, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING

import pytest

from wolf_async import CachePolicy, WolfError
from wolf_async.testing import Sandbox, hold, quirks, respond, truncate, unauthorized

from .conftest import ONCE

if TYPE_CHECKING:
    from .conftest import Canary, MakeClient

LINE = re.compile(
    r"Account\(user_id='(\S+)', sub_user_id=(\S+)\) attempt (\d+): (\S+) in (\d+\.\d) ms"
)


def attempts(canary: Canary) -> list[tuple[str, ...]]:
    lines = [LINE.fullmatch(message) for message in canary.messages(logging.DEBUG)]
    return [line.group(1, 3, 4) for line in lines if line]


async def test_each_attempt_is_one_line(box: Sandbox, client: MakeClient, canary: Canary) -> None:
    user = box.users[0]
    box.script(user, respond(503), truncate(9))
    wolf = client(box.base_url)
    await wolf.task_init(user)
    assert attempts(canary) == [
        (user, "1", "503"),
        (user, "2", "WolfConnectionError"),
        (user, "3", "200"),
    ]
    await wolf.task_init(user)
    await wolf.raw_task_init(user)
    assert attempts(canary)[3:] == [(user, "1", "200")]
    assert len(canary.records) == 4


async def test_a_401_and_a_cancelled_attempt_are_lines_too(
    box: Sandbox, client: MakeClient, canary: Canary
) -> None:
    async def provider() -> str:
        return box.token

    user = box.users[0]
    box.script(user, unauthorized(), hold(asyncio.Event()))
    call = asyncio.ensure_future(client(box.base_url, token=provider).task_init(user))
    await box.wait_for_calls(2)
    call.cancel()
    await asyncio.wait([call])
    await box.wait_until_idle()
    assert attempts(canary) == [(user, "1", "401"), (user, "2", "cancelled")]


async def test_normal_work_says_nothing_at_info_or_above(
    box: Sandbox, client: MakeClient, canary: Canary
) -> None:
    async with client(box.base_url, cache=CachePolicy(ttl=60, stale_while_revalidate=60)) as wolf:
        for _ in range(2):
            await asyncio.gather(*(wolf.task_init(*account) for account in box.accounts))
        await wolf.task_init(box.users[0], max_age=0)
        wolf.invalidate(box.users[0])
        wolf.clear()
        await wolf.raw_task_init(box.users[0])
        with pytest.raises(WolfError):
            await wolf.task_init("nobody")
    assert {record.levelno for record in canary.records} == {logging.DEBUG}


async def test_a_repaired_answer_is_a_warning_once_for_each_kind(
    box: Sandbox, client: MakeClient, canary: Canary
) -> None:
    box.always(quirks("ids_swapped"))
    wolf = client(box.base_url)
    for user in box.users:
        await wolf.task_init(user)
    first = canary.messages(logging.WARNING)
    assert first
    assert all(message.startswith("repaired an answer for Account(") for message in first)
    places = [message.split(": ")[1] for message in first]
    assert len(places) == len(set(places))
    assert "$.data.outbound_group_v2[].id" in places
    assert wolf.stats().repaired == 20
    box.always(quirks("zero_dates"))
    await wolf.task_init(*box.accounts[-1])
    assert len(canary.messages(logging.WARNING)) > len(first)


async def test_an_outage_does_not_flood(box: Sandbox, client: MakeClient, canary: Canary) -> None:
    policy = CachePolicy(ttl=1e-9, stale_if_error=60, refresh_backoff=0)
    wolf = client(box.base_url, cache=policy, retry=ONCE, breaker=None)
    for user in box.users:
        await wolf.task_init(user)
    box.always(respond(503))
    for user in box.users * 5:
        await wolf.task_init(user)
    warnings = canary.messages(logging.WARNING)
    assert len(warnings) == 1
    assert warnings[0].startswith("answers that are held stand in, the upstream is unwell: ")


async def test_a_spent_budget_is_a_warning(
    box: Sandbox, client: MakeClient, canary: Canary
) -> None:
    box.always(respond(503))
    wolf = client(box.base_url, cache=None, breaker=None)
    for _ in range(20):
        with pytest.raises(WolfError):
            await wolf.task_init(box.users[0])
    assert canary.messages(logging.WARNING) == [
        "the retry budget is spent: failures are raised at once"
    ]


async def test_the_line_costs_nothing_where_nobody_listens(
    box: Sandbox, client: MakeClient, canary: Canary
) -> None:
    logging.getLogger("wolf_async").setLevel(logging.INFO)
    await client(box.base_url).task_init(box.users[0])
    assert not canary.records


def test_the_library_alone_prints_nothing() -> None:
    handlers = logging.getLogger("wolf_async").handlers
    assert [type(handler) for handler in handlers] == [logging.NullHandler]

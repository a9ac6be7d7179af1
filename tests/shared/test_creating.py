"""Clients in one tier create tasks one after the other, and never promise more than is free."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from client.test_create import make_draft, room

from wolf_async import CreatedTask, WolfClient, WolfDraftError
from wolf_async.shared import RedisTier
from wolf_async.testing import Sandbox

if TYPE_CHECKING:
    from shared.servers import Server


async def create_at_once(tiers: list[RedisTier]) -> None:
    """See that clients on these two tiers never promise more than is free."""
    async with Sandbox(accounts=1, sub_accounts=0, latency=0.05, period=1e9) as box:
        user = box.users[0]
        room(box, user, a=8)
        clients = [WolfClient(box.token, base_url=box.base_url, shared=tier) for tier in tiers]
        one, two = clients
        draft = make_draft(await one.task_init(user), 3)
        assert await two.task_init(user)
        before = len(box.calls)
        outcomes = await asyncio.gather(
            *(wolf.create_task(user, draft=draft) for wolf in clients * 2), return_exceptions=True
        )
        kinds = sorted(type(outcome).__name__ for outcome in outcomes)
        assert kinds == [CreatedTask.__name__] * 2 + [WolfDraftError.__name__] * 2
        methods = [call.method for call in box.calls[before:]]
        assert methods == ["GET", "POST", "GET", "POST", "GET", "GET"], "each check is its own"
        assert await one.task_init(user) == await two.task_init(user), "both know what is free"
        for wolf in clients:
            assert wolf.stats().shared_bypassed == 0
            await wolf.aclose()


async def test_two_clients_never_promise_more_than_is_free(server: Server) -> None:
    await create_at_once(
        [RedisTier(server.url, timeout=2.0, connect_timeout=5.0) for _ in range(2)]
    )
    with server.client() as client:
        assert client.keys("wolf1:*:turn:*") == [], "no turn is left behind"


async def create_in_a_process(box: Sandbox, server: Server, seed: int) -> int:
    """Return how many calls at once the tasks of a process of its own promise in all."""
    names = ["/".join(filter(None, account)) for account in box.accounts]
    tests = Path(__file__).parent.parent
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "shared.creator"),
        *(box.base_url, box.token, server.url, str(seed), *names),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)])},
    )
    try:
        async with asyncio.timeout(90):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    return int(out)


async def test_four_processes_use_all_that_is_free_and_never_more(server: Server) -> None:
    """A sub-account has the lines of its main account here: eight calls at once for each pair."""
    async with Sandbox(accounts=2, sub_accounts=1, period=1e9) as box:
        for account in box.accounts:
            number = box.users.index(account.user_id)
            room(box, account, **{f"a{number}": 5, f"b{number}": 3})
        promised = await asyncio.gather(
            *(create_in_a_process(box, server, seed) for seed in range(4))
        )
        statuses = {call.status for call in box.calls if call.method == "POST"}
        assert statuses == {200}, "a limit above what was free is a 422"
        assert sum(promised) == sum(sum(task.limits.values()) for task in box.tasks) == 2 * 8

"""What comes through the tier is what a load of one's own would have brought."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from client.test_create import room

from wolf_async import WolfClient
from wolf_async.shared import RedisTier
from wolf_async.testing import FakeClock, Sandbox

if TYPE_CHECKING:
    from shared.servers import Server


async def test_equal_answers_stay_one_object_also_through_the_tier(server: Server) -> None:
    clock = FakeClock()
    async with AsyncExitStack() as stack:
        box = await stack.enter_async_context(Sandbox(accounts=1, sub_accounts=0, period=1e9))
        user = box.users[0]
        tiers = [RedisTier(server.url, timeout=2.0, connect_timeout=5.0) for _ in range(2)]
        one, two, alone = [
            await stack.enter_async_context(
                WolfClient(box.token, base_url=box.base_url, shared=tier, clock=clock)
            )
            for tier in [*tiers, None]
        ]
        held = await one.task_init(user)
        through = await two.task_init(user)
        assert len(box.calls) == 1
        assert through == held == await alone.task_init(user)

        clock.advance(10)  # what is held here is old now, by this clock
        assert await one.task_init(user, max_age=0) is held
        assert await two.task_init(user, max_age=5) is through
        assert len(box.calls) == 3, "of one and alone"

        room(box, user, a=8)
        clock.advance(10)
        changed = await one.task_init(user, max_age=0)
        assert changed != held
        assert await two.task_init(user, max_age=5) == changed
        assert two.stats().shared_hits == 3
        assert len(box.calls) == 4

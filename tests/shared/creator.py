"""A process that creates tasks until nothing is free, and then says how many calls it got.

Started as ``python -m shared.creator BASE_URL TOKEN REDIS_URL SEED ACCOUNT...``, with accounts as
``user`` or ``user/sub``.
"""

from __future__ import annotations

import asyncio
import random
import sys

from client.test_create import make_draft

from wolf_async import Account, Timeouts, WolfClient, WolfDraftError
from wolf_async.shared import RedisTier

_WORKERS = 5


async def create_all(base_url: str, token: str, redis_url: str, seed: str, names: list[str]) -> int:
    """Return how many calls at once the tasks of this process promise in all."""
    draw = random.Random(seed)
    accounts = [Account(*name.split("/")) for name in names]
    tier = RedisTier(redis_url, timeout=5.0, connect_timeout=10.0)
    promised = 0

    async def work(wolf: WolfClient) -> None:
        nonlocal promised
        left = draw.sample(accounts, len(accounts))
        while left:
            account = draw.choice(left)
            init = await wolf.task_init(*account, max_age=draw.choice([None, 0]))
            try:
                draft = make_draft(init, draw.randint(1, 2))
                await wolf.create_task(*account, draft=draft)
            except WolfDraftError:
                init = await wolf.task_init(*account, max_age=0)
                if not any(line.residue for line in init.caller_line_list):
                    left.remove(account)
            else:
                promised += draft.maximumcall

    async with WolfClient(
        token, base_url=base_url, shared=tier, timeouts=Timeouts(total=60.0)
    ) as wolf:
        await asyncio.gather(*(work(wolf) for _ in range(_WORKERS)))
        assert wolf.stats().shared_bypassed == 0
    return promised


if __name__ == "__main__":
    base_url, token, redis_url, seed, *names = sys.argv[1:]
    print(asyncio.run(create_all(base_url, token, redis_url, seed, names)))

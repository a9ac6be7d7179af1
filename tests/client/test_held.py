"""What a client holds costs the program around it little."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wolf_async.testing import Sandbox

    from .conftest import MakeClient


async def test_the_garbage_collector_visits_nothing_that_is_held(
    box: Sandbox, client: MakeClient
) -> None:
    wolf = client(box.base_url)
    await asyncio.gather(*(wolf.task_init(user) for user in box.users))
    # a tuple of texts is let go of only at its first visit
    gc.collect()
    entries = wolf._cache._store.entries
    assert len(entries) == len(box.users)
    for key, entry in entries.items():
        held = (key, entry, entry.value, entry.value.init, wolf._held[key[0]])
        assert [part for part in held if gc.is_tracked(part)] == []

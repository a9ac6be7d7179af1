"""What a client holds costs the program around it little."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any, cast

import msgspec

if TYPE_CHECKING:
    from wolf_async.testing import Sandbox

    from .conftest import MakeClient


def parts_of(value: Any) -> list[Any]:
    """Return a struct and all that it holds, at all depths."""
    inside: list[Any] = []
    if isinstance(value, msgspec.Struct):
        inside = [getattr(value, name) for name in value.__struct_fields__]
    elif isinstance(value, dict):
        inside = [*cast("Any", value).items()]
    elif isinstance(value, tuple):
        inside += value
    return [value, *(part for item in inside for part in parts_of(item))]


async def test_the_garbage_collector_visits_no_part_of_an_answer(
    box: Sandbox, client: MakeClient
) -> None:
    wolf = client(box.base_url)
    inits = await asyncio.gather(*(wolf.task_init(user) for user in box.users))
    gc.collect()  # a tuple of texts is let go of only at its first visit
    structs = [
        part for init in inits for part in parts_of(init) if isinstance(part, msgspec.Struct)
    ]
    assert len(structs) > len(inits)
    assert [part for part in structs if gc.is_tracked(part)] == []

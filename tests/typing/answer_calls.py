"""Questions to an answer as users write them: type checkers read this file, and nobody runs it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, assert_type
from zoneinfo import ZoneInfo

import msgspec

from wolf_async import Line, OutboundGroup, OutboundGroupV2, TaskDialTime, TaskInit, Variable
from wolf_async.models import dec_hook


def kept(body: bytes, data: Any) -> TaskInit:
    assert_type(msgspec.json.decode(body, type=TaskInit, dec_hook=dec_hook), TaskInit)
    return msgspec.convert(data, TaskInit, dec_hook=dec_hook)


def choices(init: TaskInit) -> None:
    assert_type(init.lines_for(), tuple[Line, ...])
    lines = init.lines_for(5, inbound=True, at=datetime.now(UTC), usage=1, zone="Asia/Shanghai")
    assert_type([line.line_id for line in lines if line.can_carry(2)], list[str])
    assert_type(init.by_id(init.outbound_group, "34"), OutboundGroup | None)
    assert_type(init.by_name(init.caller_line_list, "one"), tuple[Line, ...])
    assert_type(init.default_of(init.task_dial_times), TaskDialTime | None)
    assert_type(init.end_actions.label_of(0), str | None)
    assert_type(init.end_actions.keys_of("nothing"), tuple[str, ...])


def hours(group: TaskDialTime) -> None:
    assert_type(group.is_open(), bool)
    assert_type(group.next_opening(datetime.now(UTC)), datetime | None)
    assert_type(group.next_closing(zone=ZoneInfo("Asia/Shanghai"), sunday=6), datetime | None)


def scripts(group: OutboundGroupV2) -> None:
    assert_type(group.variables_to_fill(), tuple[Variable, ...])

"""Draw what an opened account shows: lines, scripts, time groups and redial rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from wolf_async.dashboard.summary import name_of
from wolf_async.models.hours import has_passed, span_of, week_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime, timedelta

    from wolf_async.models import (
        AutoRecycleRule,
        BigModelOutboundGroup,
        Line,
        NewLine,
        OutboundGroup,
        OutboundGroupV2,
        TaskDialTime,
        TaskInit,
    )
    from wolf_async.models.hours import Week

    Script = OutboundGroup | OutboundGroupV2 | BigModelOutboundGroup

__all__ = ["Details", "details_of"]


class LineDetails(msgspec.Struct, frozen=True):
    """A line; the names are those of its JSON."""

    id: str
    name: str | None
    remark: str | None
    free: int | None
    total: int | None
    until: str | None
    """When its allocation ends, by the API's clock."""
    ended: bool
    kind: NewLine | None
    """What the line is for, and where, as the API says it."""


class ScriptDetails(msgspec.Struct, frozen=True):
    """A script group of any of the three kinds."""

    id: str
    name: str | None
    kind: str
    """``regular``, ``v2`` or ``llm``."""


class HoursDetails(msgspec.Struct, frozen=True):
    """A time group as a week."""

    id: str
    name: str | None
    remark: str | None
    default: bool
    open: bool
    week: list[list[tuple[int, int]]]
    """Of each day, Sunday first, the spans in minutes since midnight."""


class RuleDetails(msgspec.Struct, frozen=True):
    """A redial rule, and the outcomes of a call that it calls again."""

    id: str
    name: str | None
    remark: str | None
    default: bool
    outcomes: list[tuple[int | None, str | None]]
    """Of each, the number and the vendor's label."""


class Details(msgspec.Struct, frozen=True):
    """All that an opened account shows."""

    outbound: list[LineDetails]
    inbound: list[LineDetails]
    scripts: list[ScriptDetails]
    hours: list[HoursDetails]
    rules: list[RuleDetails]


def details_of(init: TaskInit, moment: datetime) -> Details:
    """Draw an answer as it is at ``moment``, an aware datetime of the API's zone.

    Ids are text, since a browser's numbers cannot hold those above 2^53.
    """
    return Details(
        outbound=[_line(line, moment) for line in init.caller_line_list],
        inbound=[_line(line, moment) for line in init.call_in_line_list],
        scripts=_scripts(init),
        hours=[_hours(group, moment) for group in init.task_dial_times],
        rules=[_rule(rule) for rule in init.auto_recycle_rules],
    )


def _line(line: Line, moment: datetime) -> LineDetails:
    end = line.available_at
    return LineDetails(
        id=line.line_id,
        name=name_of(line),
        remark=line.remark,
        free=line.residue,
        total=line.line_concurrency,
        until=None if end is None else end.isoformat(" ", "minutes"),
        ended=has_passed(end, moment),
        kind=line.new_line,
    )


def _scripts(init: TaskInit) -> list[ScriptDetails]:
    kinds: tuple[tuple[str, Iterable[Script]], ...] = (
        ("regular", init.outbound_group),
        ("v2", init.outbound_group_v2),
        ("llm", init.big_model_outbound_group),
    )
    return [
        ScriptDetails(str(script.id), script.name, kind)
        for kind, scripts in kinds
        for script in scripts
    ]


def _hours(group: TaskDialTime, moment: datetime) -> HoursDetails:
    return HoursDetails(
        id=str(group.id),
        name=group.name,
        remark=group.remark,
        default=bool(group.is_default),
        open=group.is_open(moment),
        week=[[(_minutes(begin), _minutes(end)) for begin, end in day] for day in _week(group)],
    )


def _week(group: TaskDialTime) -> Week:
    days = (
        (day.week, [span_of(span.begin_time, span.end_time) for span in day.times])
        for day in group.content
    )
    return week_of(days, 0)


def _minutes(since_midnight: timedelta) -> int:
    return int(since_midnight.total_seconds()) // 60


def _rule(rule: AutoRecycleRule) -> RuleDetails:
    return RuleDetails(
        id=str(rule.id),
        name=rule.name,
        remark=rule.remark,
        default=bool(rule.is_default),
        outcomes=[(detail.number_status, detail.number_status_str) for detail in rule.details],
    )

"""Sum up what the page shows of an answer: what is free, and the hours. Pure functions."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from wolf_async.models.hours import has_passed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from wolf_async.models import Line, TaskDialTime, TaskInit

__all__ = ["Hours", "Lines", "hours_at", "labels_of", "lines_at", "name_of"]

_HORIZON: Final = timedelta(days=8)


class Lines(msgspec.Struct, frozen=True):
    """The outbound lines that have not ended, in sum."""

    free: int
    """Calls at once that are free on them (`residue`), where that is known."""
    total: int
    """Calls at once that they can carry (`line_concurrency`), where that is known."""
    count: int
    """How many lines there are."""
    until: datetime | None
    """When the next of them ends, so that these sums are no longer right."""


class Hours(msgspec.Struct, frozen=True):
    """Whether a task may call, by any of the time groups."""

    is_open: bool | None
    """``None`` if there is no time group."""
    until: datetime | None
    """When that changes; ``None`` if it does not within eight days."""


def lines_at(init: TaskInit, moment: datetime) -> Lines:
    """Add up the outbound lines that have not ended at ``moment``, aware and of the API's zone."""
    lines = [line for line in init.caller_line_list if not has_passed(line.available_at, moment)]
    ends = [line.available_at for line in lines if line.available_at is not None]
    return Lines(
        free=sum(line.residue or 0 for line in lines),
        total=sum(line.line_concurrency or 0 for line in lines),
        count=len(lines),
        until=min(ends).replace(tzinfo=moment.tzinfo) if ends else None,
    )


def hours_at(groups: Sequence[TaskDialTime], moment: datetime) -> Hours:
    """Tell whether any group is open at ``moment``, and until when that stays so."""
    if not groups:
        return Hours(None, None)
    if any(group.is_open(moment) for group in groups):
        return Hours(True, _closing(groups, moment))
    openings = [group.next_opening(moment) for group in groups]
    return Hours(False, min((each for each in openings if each), default=None))


def _closing(groups: Sequence[TaskDialTime], moment: datetime) -> datetime | None:
    """Find the first moment at which no group is open: where one closes, another may be open."""
    end = moment
    while is_open := [group for group in groups if group.is_open(end)]:
        closings = [closing for group in is_open if (closing := group.next_closing(end))]
        if len(closings) < len(is_open) or max(closings) - moment > _HORIZON:
            return None
        end = max(closings)
    return end


def labels_of(init: TaskInit) -> tuple[str | None, ...]:
    """Collect the names and remarks of all lines, by which the filter finds an account."""
    lines = init.caller_line_list + init.call_in_line_list
    return tuple(label for line in lines for label in (name_of(line), line.remark))


def name_of(line: Line) -> str | None:
    """Name the line as a person would, or give ``None``."""
    return (line.new_line.name if line.new_line else None) or line.name

"""Draw a time group as a week: one row for each run of days with the same hours.

Week 0 is Sunday.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from rich.text import Text

from wolf_async.cli.widgets import DASH, NARROW, listing, plain
from wolf_async.models import hours

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from wolf_async.models import TaskDialTime, TimeRange

__all__ = ["Week", "strip"]

_DAYS: Final = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_MINUTES: Final = 24 * 60
_LABEL: Final = 7


class Week:
    """Draw the hours of a time group: a strip of the day, and the times as they were sent.

    With ``axis`` the hours of the day stand above.
    """

    __slots__ = ("_axis", "_group")

    def __init__(self, group: TaskDialTime, *, axis: bool = True) -> None:
        self._group = group
        self._axis = axis

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        cells = 24 if options.max_width < NARROW else 48
        axis = "".join(f"{hour:<{cells // 8}}" for hour in range(0, 24, 3))
        table = listing("", axis, "", show_header=self._axis)
        table.columns[0].no_wrap = table.columns[1].no_wrap = True
        table.columns[
            0
        ].min_width = _LABEL  # so that the strips of several groups stand below each other
        for label, times in _rows(self._group):
            table.add_row(label, strip(times, cells, ascii_only=options.ascii_only), _hours(times))
        yield table


def _rows(group: TaskDialTime) -> list[tuple[str, tuple[TimeRange, ...]]]:
    hours: dict[int | None, tuple[TimeRange, ...]] = dict.fromkeys(range(7), ())
    for each in group.content:
        hours[each.week] = hours.get(each.week, ()) + each.times
    rows: list[tuple[str, tuple[TimeRange, ...]]] = []
    for times, run in groupby(range(7), hours.__getitem__):
        days = list(run)
        label = _DAYS[days[0]] if len(days) == 1 else f"{_DAYS[days[0]]}{DASH}{_DAYS[days[-1]]}"
        rows.append((label, times))
    # days that are none: shown for what they are rather than dropped
    return rows + [
        (f"week {plain(week)}", times) for week, times in hours.items() if week not in range(7)
    ]


def _hours(times: Sequence[TimeRange]) -> Text:
    if not times:
        return Text("closed", "dim")
    return Text(
        "  ".join(f"{plain(span.begin_time)}{DASH}{plain(span.end_time)}" for span in times)
    )


def strip(times: Sequence[TimeRange], cells: int, *, ascii_only: bool = False) -> Text:
    """Draw a day as ``cells`` characters: open, open for a part of it, closed.

    A span that cannot be read, or that ends before it begins, is not drawn: what it means is not
    documented.
    """
    is_open = bytearray(_MINUTES)
    spans = (hours.span_of(each.begin_time, each.end_time) for each in times)
    for span in filter(None, spans):
        begin, end = (int(edge.total_seconds()) // 60 for edge in span)
        for minute in range(begin, end):
            is_open[minute] = 1
    size = _MINUTES // cells
    drawn = Text()
    for start in range(0, _MINUTES, size):
        drawn.append(*_look(sum(is_open[start : start + size]), size, ascii_only))
    return drawn


def _look(minutes: int, size: int, ascii_only: bool) -> tuple[str, str]:
    if not minutes:
        return ("." if ascii_only else "·"), "dim"
    # a day is often written to end at 23:59, which is meant to be all of it
    if minutes >= size - 1:
        return ("#" if ascii_only else "█"), "green"
    return ("+" if ascii_only else "▒"), "green"

"""Hold the small parts that the commands draw with.

What the API sends goes through `plain`: it is never markup, and never commands a terminal.
"""

from __future__ import annotations

import os
from bisect import bisect
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final, NoReturn

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import ConsoleOptions, RenderableType, RenderResult

    from wolf_async.models import Line

__all__ = [
    "DASH",
    "NARROW",
    "Beside",
    "LineTable",
    "bar",
    "cell",
    "console",
    "day",
    "free_of",
    "has_ended",
    "listing",
    "more",
    "now_there",
    "plain",
    "usage",
]

DASH: Final = "–"
NARROW: Final = 84
"""Columns of a terminal below which less is shown."""

# fits all samples of the vendor; no summer time since 1991, so that no tz database is needed
_CHINA: Final = timezone(timedelta(hours=8))
_USAGES: Final = {1: "regular", 2: "LLM", 4: "end-to-end"}
_TYPES: Final = {1: "external", 2: "internal"}

# of the table of lines: what it shows from which width on
_WIDTHS: Final = (56, NARROW, 144)
_COLUMNS: Final = ((0, 3, 4), (0, 1, 3, 4, 5), tuple(range(7)), tuple(range(9)))
_GAP: Final = 4


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Let the caller decide; rich calls this while it handles the error."""
        raise BrokenPipeError


def console(**settings: Any) -> Console:
    """Make a console that takes text literally: no markup, no emoji codes, no highlights."""
    sizes = ("COLUMNS", "LINES")
    environ = {
        name: value
        for name, value in os.environ.items()
        if name not in sizes or value.strip("0")  # which some shells set while they have no window
    }
    return _Console(markup=False, emoji=False, highlight=False, _environ=environ, **settings)


def plain(value: object) -> str:
    """Return ``value`` as text that a terminal only shows; an en dash for ``None``."""
    if value is None:
        return DASH
    return "".join(
        char if char.isprintable() else " " if char.isspace() else "\ufffd" for char in str(value)
    )


def cell(value: object, style: str = "") -> Text:
    """Return ``value`` as text for a table's cell."""
    return Text(plain(value), "dim" if value is None else style)


def day(moment: datetime | None, *, brief: bool = False) -> str:
    """Write a date, with hours and minutes unless it is midnight or ``brief``."""
    if moment is None:
        return DASH
    midnight = not (moment.hour or moment.minute)
    return moment.strftime("%Y-%m-%d" if brief or midnight else "%Y-%m-%d %H:%M")


def now_there() -> datetime:
    """Return the present moment as the API writes it, if its times are China's."""
    return datetime.now(_CHINA).replace(tzinfo=None)


def usage(value: int | None) -> str:
    """Name what a line is for; a sum of known flags, which values look like, is taken apart."""
    if value is None:
        return DASH
    names = [name for flag, name in _USAGES.items() if value & flag]
    return "+".join(names) if value > 0 and not value & ~sum(_USAGES) else str(value)


def bar(free: int | None, total: int | None, width: int, *, ascii_only: bool = False) -> Text:
    """Draw what is free of ``total`` as a bar; full only if all is, empty only if nothing is."""
    if free is None or not total or total < 0:
        return Text(DASH, "dim")
    share = min(max(free, 0), total) / total
    filled = round(share * width)
    if 0 < share < 1:
        filled = min(max(filled, 1), width - 1)
    style = "green" if share >= 0.5 else "yellow" if share else "red"
    full, empty = ("#", "-") if ascii_only else ("━", "─")
    return Text.assemble(
        (full * filled, style), (empty * (width - filled), "dim" if share else "red")
    )


def free_of(lines: Iterable[Line]) -> tuple[int, int]:
    """Return the free and the total concurrency of ``lines``, as far as it is known."""
    known = [(line.residue, line.line_concurrency) for line in lines]
    return sum(free or 0 for free, _ in known), sum(total or 0 for _, total in known)


def has_ended(line: Line, now: datetime) -> bool:
    """Return whether the line's allocation is over."""
    return line.available_at is not None and line.available_at <= now


def more(count: int) -> list[RenderableType]:
    """Make a row that stands for ``count`` rows, if there are any."""
    return [Text(f"… {count} more", "dim")] if count else []


class Beside:
    """Draw blocks side by side, as many in a row as fit at their full width."""

    __slots__ = ("_blocks",)

    def __init__(self, *blocks: RenderableType) -> None:
        self._blocks = blocks

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        row: list[RenderableType] = []
        used = 0
        for block in self._blocks:
            width = Measurement.get(console, options, block).maximum + _GAP
            if row and used + width > options.max_width + _GAP:
                yield _in_a_row(row)
                yield Text()
                row, used = [], 0
            row.append(block)
            used += width
        yield _in_a_row(row)


def _in_a_row(blocks: Sequence[RenderableType]) -> Table:
    grid = Table.grid(padding=(0, _GAP, 0, 0))
    grid.add_row(*blocks)
    return grid


def listing(*headers: str, **settings: Any) -> Table:
    """Make a table without rules, for any width."""
    table = Table(
        *headers, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", **settings
    )
    for column in table.columns:
        column.overflow = "fold"
        column.no_wrap = column.header == "Id"  # ids are there to be copied
    return table


class LineTable:
    """Draw lines with their free concurrency as bars; narrow terminals get fewer columns.

    ``limit`` is how many rows are shown, ``now`` what the ends of allocations are compared with.
    """

    __slots__ = ("_lines", "_more", "_now")

    def __init__(
        self, lines: Sequence[Line], *, limit: int | None = None, now: datetime | None = None
    ) -> None:
        self._lines = lines[:limit]
        self._more = len(lines) - len(self._lines)
        self._now = now_there() if now is None else now

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        headers = ["Line", "Usage", "Type", "Free", "", "Until", "Remark", "Node", "Id"]
        shown = _COLUMNS[bisect(_WIDTHS, width)]
        table = listing(*(headers[number] for number in shown))
        for number, column in zip(shown, table.columns, strict=True):
            column.no_wrap = number not in (0, 6)
            column.justify = "right" if number == 4 else "left"
        for line in self._lines:
            cells = self._cells(line, width < NARROW, options.ascii_only)
            table.add_row(*(cells[number] for number in shown))
        yield table
        yield from more(self._more)

    def _cells(self, line: Line, narrow: bool, ascii_only: bool) -> list[RenderableType]:
        allocated = line.new_line
        node = allocated.node if allocated else None
        return [
            cell((allocated.name if allocated else None) or line.name or line.remark),
            cell(usage(allocated.usage if allocated else None)),
            cell(_type_of(line)),
            bar(line.residue, line.line_concurrency, 7 if narrow else 14, ascii_only=ascii_only),
            Text(f"{plain(line.residue)}/{plain(line.line_concurrency)}"),
            Text(day(line.available_at, brief=narrow), "red" if has_ended(line, self._now) else ""),
            cell(line.remark, "dim"),
            cell(node.name if node else None, "dim"),
            cell(line.line_id, "dim"),
        ]


def _type_of(line: Line) -> str | int | None:
    kind = line.new_line
    if kind is None or kind.type is None:
        return kind.type_str if kind else None
    return _TYPES.get(kind.type) or kind.type_str or kind.type

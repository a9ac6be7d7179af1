"""What ``wolf-async watch`` shows: the lines of several accounts, and what has changed in them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import msgspec
from rich.console import Group
from rich.text import Text

from wolf_async.cli.widgets import (
    NARROW,
    bar,
    cell,
    free_of,
    has_ended,
    listing,
    more,
    now_there,
    plain,
)
from wolf_async.models import Line, TaskInit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from wolf_async.account import Account
    from wolf_async.errors import WolfError

__all__ = ["Board", "Journal", "LineChange", "Pane", "label", "line_changes", "other_changes"]

_LINES: Final = "caller_line_list"
_AROUND: Final = 3
"""Rows of a pane that are no lines: the heading, the count of what is not shown, and a blank one."""


class LineChange(msgspec.Struct, frozen=True):
    """A line that is new, gone (one of both is ``None``), or has other numbers."""

    before: Line | None
    after: Line | None

    @property
    def line(self) -> Line:
        """The line, as it is or was."""
        line = self.after or self.before
        assert line is not None
        return line

    @property
    def difference(self) -> int | None:
        """How many calls more are free than before, where both are known."""
        if self.before is None or self.after is None:
            return None
        if self.before.residue is None or self.after.residue is None:
            return None
        return self.after.residue - self.before.residue


def line_changes(before: TaskInit, after: TaskInit) -> list[LineChange]:
    """The outbound lines whose free or total concurrency differs, then those that are gone; lines are told by id."""
    old = {line.line_id: line for line in before.caller_line_list}
    new = {line.line_id: line for line in after.caller_line_list}
    found = [
        LineChange(old.get(line_id), line)
        for line_id, line in new.items()
        if _differs(old.get(line_id), line)
    ]
    return found + [LineChange(line, None) for line_id, line in old.items() if line_id not in new]


def _differs(before: Line | None, after: Line) -> bool:
    return before is None or (before.residue, before.line_concurrency) != (
        after.residue,
        after.line_concurrency,
    )


def other_changes(before: TaskInit, after: TaskInit) -> list[str]:
    """Sections that differ, by the API's names; of outbound lines, in something else than concurrency."""
    names = [
        name
        for name in TaskInit.__struct_fields__
        if name != _LINES and getattr(before, name) != getattr(after, name)
    ]
    if list(map(_bare, before.caller_line_list)) != list(
        map(_bare, after.caller_line_list)
    ) and not (_ids(before) ^ _ids(after)):
        names.insert(0, _LINES)
    return names


def _bare(line: Line) -> Line:
    return msgspec.structs.replace(line, residue=None, line_concurrency=None)


def _ids(init: TaskInit) -> set[str]:
    return {line.line_id for line in init.caller_line_list}


def label(account: Account) -> str:
    """The account as it is written on the command line."""
    return plain(
        account.user_id
        if account.sub_user_id is None
        else f"{account.user_id}:{account.sub_user_id}"
    )


def name_of(line: Line) -> str | None:
    """What a person would call the line."""
    return (line.new_line.name if line.new_line else None) or line.name or line.remark


def summary(init: TaskInit) -> str:
    """All lines in one."""
    lines = init.caller_line_list
    free, total = free_of(lines)
    return f"{len(lines)} line{'s' * (len(lines) != 1)}, {free} of {total} calls free"


class Pane:
    """One account: its last answer, what the last change changed and when, and the error if asking fails now."""

    __slots__ = ("account", "at", "changed", "error", "init", "others", "since")

    def __init__(self, account: Account) -> None:
        self.account = account
        self.init: TaskInit | None = None
        self.error: WolfError | None = None
        self.changed: dict[str, LineChange] = {}
        self.others: list[str] = []
        self.at = ""
        """Time of day of the last change."""
        self.since = 0.0
        """The same on the board's clock."""

    def answer(self, init: TaskInit, now: float, at: str) -> tuple[list[LineChange], list[str]]:
        """Take an answer, and return what it changed; nothing for the first."""
        before, self.init, self.error = self.init, init, None
        lines = [] if before is None else line_changes(before, init)
        others = [] if before is None else other_changes(before, init)
        if before is None or lines or others:
            self.changed = {change.line.line_id: change for change in lines}
            self.others, self.at, self.since = others, at, now
        return lines, others


class Board:
    """All accounts at once for a terminal. A change is highlighted for ``lasting`` seconds of ``clock``."""

    __slots__ = ("_clock", "_lasting", "_panes")

    def __init__(
        self, panes: Sequence[Pane], *, lasting: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._panes = panes
        self._lasting = lasting
        self._clock = clock

    def answer(self, pane: Pane, init: TaskInit) -> None:
        """Show an answer."""
        pane.answer(init, self._clock(), _time_of_day())

    def failure(self, pane: Pane, error: WolfError) -> None:
        """Show that there is none at the moment."""
        pane.error = error

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        limit = max(1, console.size.height // max(1, len(self._panes)) - _AROUND)
        for number, pane in enumerate(self._panes):
            if number:
                yield Text()
            yield self._draw(pane, limit, options)

    def _draw(self, pane: Pane, limit: int, options: ConsoleOptions) -> RenderableType:
        parts: list[RenderableType] = [self._heading(pane)]
        if pane.error is not None:
            parts.append(failure_text(pane.error))
        if pane.init is not None and pane.init.caller_line_list:
            parts.append(self._table(pane, pane.init, limit, options))
            parts += more(len(pane.init.caller_line_list) - limit)
        return Group(*parts)

    def _heading(self, pane: Pane) -> Text:
        heading = Text.assemble((label(pane.account), "bold"), no_wrap=True, overflow="ellipsis")
        if pane.init is None:
            return heading if pane.error else heading.append("  waiting", "dim")
        heading.append(f"  {summary(pane.init)}", "cyan")
        event = "changed" if pane.changed or pane.others else "since"
        heading.append(f"  {event} {pane.at}", "bold yellow" if self._is_new(pane) else "dim")
        if self._is_new(pane):
            gone = [
                f"{plain(name_of(change.line))} is gone"
                for change in pane.changed.values()
                if not change.after
            ]
            heading.append("".join(f"  {note}" for note in gone + pane.others), "yellow")
        return heading

    def _table(
        self, pane: Pane, init: TaskInit, limit: int, options: ConsoleOptions
    ) -> RenderableType:
        narrow = options.max_width < NARROW
        now = now_there()
        table = listing("", "", "", "", "", show_header=False)
        table.columns[1].no_wrap = table.columns[2].no_wrap = table.columns[3].no_wrap = True
        table.columns[2].justify = table.columns[3].justify = "right"
        table.columns[3].min_width = 3
        for line in init.caller_line_list[:limit]:
            change = pane.changed.get(line.line_id) if self._is_new(pane) else None
            table.add_row(
                cell(name_of(line)),
                bar(
                    line.residue,
                    line.line_concurrency,
                    10 if narrow else 30,
                    ascii_only=options.ascii_only,
                ),
                Text(
                    f"{plain(line.residue)}/{plain(line.line_concurrency)}",
                    "bold yellow" if change else "",
                ),
                difference_text(change, ascii_only=options.ascii_only),
                Text("ended", "red") if has_ended(line, now) else Text(),
            )
        return table

    def _is_new(self, pane: Pane) -> bool:
        return bool(pane.changed or pane.others) and self._clock() - pane.since < self._lasting


def difference_text(change: LineChange | None, *, ascii_only: bool = False) -> Text:
    """``+2``, ``−3``, ``new``, or nothing."""
    if change is None:
        return Text()
    if change.before is None:
        return Text("new", "bold green")
    difference = change.difference
    if not difference:
        return Text("" if difference == 0 else "?")
    if difference > 0:
        return Text(f"+{difference}", "bold green")
    return Text(f"{'-' if ascii_only else '−'}{-difference}", "bold red")


def failure_text(error: WolfError) -> Text:
    """An error as one line."""
    return Text(f"{type(error).__name__}: {' '.join(plain(error).split())}", "red")


class Journal:
    """All accounts as plain lines, one for each change, for a file or another program."""

    __slots__ = ("_say",)

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def answer(self, pane: Pane, init: TaskInit) -> None:
        """Write what an answer changed; the first one as a whole, and one that ends a failure at least by a line."""
        first = pane.init is None
        failed = pane.error is not None
        changes, others = pane.answer(init, 0.0, "")
        if first or (failed and not (changes or others)):
            self._write(pane, summary(init))
        for change in changes:
            self._write(
                pane, f"{plain(change.line.line_id)} {plain(name_of(change.line))} {said(change)}"
            )
        if others:
            self._write(pane, f"changed: {', '.join(others)}")

    def failure(self, pane: Pane, error: WolfError) -> None:
        """Write that there is no answer at the moment, once for each reason in a row."""
        before = None if pane.error is None else failure_text(pane.error).plain
        pane.error = error
        now = failure_text(error).plain
        if now != before:
            self._write(pane, now)

    def _write(self, pane: Pane, text: str) -> None:
        self._say(f"{_time_of_day()} {label(pane.account)} {text}")


def said(change: LineChange) -> str:
    """A change in words: of what is free, of the total, of both."""
    before, after = change.before, change.after
    if before is None or after is None:
        return f"new, residue {plain(change.line.residue)}" if after else "gone"
    return ", ".join(_steps(before, after))


def _steps(before: Line, after: Line) -> Iterator[str]:
    for name in ("residue", "line_concurrency"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            yield f"{name} {plain(old)}→{plain(new)}"


def _time_of_day() -> str:
    return time.strftime("%H:%M:%S")

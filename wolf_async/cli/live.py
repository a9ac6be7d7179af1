"""Draw watched accounts for a terminal.

Each has a pane; where the panes do not fit, each has a row.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from rich.cells import cell_len, set_cell_size
from rich.console import Group
from rich.text import Text

from wolf_async.cli.account_view import failure_line, time_of_day
from wolf_async.cli.changes import LineChange, label, name_of, summary
from wolf_async.cli.widgets import NARROW, bar, cell, has_ended, listing, more, now_there, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from wolf_async.account import Account
    from wolf_async.cli.account_view import AccountView
    from wolf_async.models import TaskInit
    from wolf_async.watch import AccountUpdate

__all__ = ["LiveScreen", "Sorting"]

Sorting: TypeAlias = Literal["free", "account", "given"]

_AROUND: Final = 3
"""Rows of a pane that are no lines: the heading, the count of those not shown, and a blank one."""
_LEAST_LINES: Final = 2
"""Lines below which a pane says less than a row."""


class LiveScreen:
    """Draw all accounts at once.

    A change is highlighted for ``lasting`` seconds of ``clock``, and an answer that has not been
    confirmed for twice that time is marked as stale, even if nothing has failed yet.
    """

    __slots__ = ("_clock", "_lasting", "_sorting", "_views")

    def __init__(
        self,
        views: Sequence[AccountView],
        *,
        lasting: float,
        sorting: Sorting = "free",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._views = views
        self._lasting = lasting
        self._sorting: Sorting = sorting
        self._clock = clock

    def show(self, view: AccountView, update: AccountUpdate) -> None:
        """Take an update, for the next picture."""
        view.update(update, self._clock())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = console.size.height
        limit = height // max(1, len(self._views)) - _AROUND
        if limit >= _LEAST_LINES or len(self._views) == 1:
            yield from self._panes(max(limit, 1), options)
        else:
            yield from self._rows(height - 1, options)

    # --- panes -----------------------------------------------------------------------------------

    def _panes(self, limit: int, options: ConsoleOptions) -> RenderResult:
        for number, view in enumerate(self._views):
            if number:
                yield Text()
            yield self._pane(view, limit, options)

    def _pane(self, view: AccountView, limit: int, options: ConsoleOptions) -> RenderableType:
        parts: list[RenderableType] = [self._heading(view)]
        if view.error is not None:
            parts.append(Text(failure_line(view.error), "red"))
        if view.init is not None and view.init.caller_line_list:
            parts.append(self._lines(view, view.init, limit, options))
            parts += more(max(len(view.init.caller_line_list) - limit, 0))
        return Group(*parts)

    def _heading(self, view: AccountView) -> Text:
        heading = Text.assemble((label(view.account), "bold"), no_wrap=True, overflow="ellipsis")
        if view.init is None:
            return heading if view.error else heading.append("  waiting", "dim")
        heading.append(f"  {summary(view.init)}", "cyan")
        is_new = self._is_new(view)
        event = "changed" if view.changed or view.others else "since"
        heading.append(f"  {event} {view.changed_at}", "bold yellow" if is_new else "dim")
        heading.append("  ").append_text(_as_of(view, is_stale=self._is_stale(view)))
        if is_new:
            gone = [
                f"{plain(name_of(change.line))} is gone"
                for change in view.changed.values()
                if not change.after
            ]
            heading.append("".join(f"  {note}" for note in gone + view.others), "yellow")
        return heading

    def _lines(
        self, view: AccountView, init: TaskInit, limit: int, options: ConsoleOptions
    ) -> RenderableType:
        is_ascii, now = options.ascii_only, now_there()
        width = 10 if options.max_width < NARROW else 30
        table = listing("", "", "", "", "", show_header=False)
        table.columns[1].no_wrap = table.columns[2].no_wrap = table.columns[3].no_wrap = True
        table.columns[2].justify = table.columns[3].justify = "right"
        table.columns[3].min_width = 3
        for line in init.caller_line_list[:limit]:
            change = view.changed.get(line.line_id) if self._is_new(view) else None
            numbers = f"{plain(line.residue)}/{plain(line.line_concurrency)}"
            table.add_row(
                cell(name_of(line)),
                bar(line.residue, line.line_concurrency, width, ascii_only=is_ascii),
                Text(numbers, "bold yellow" if change else ""),
                _difference_text(change, ascii_only=is_ascii),
                Text("ended", "red") if has_ended(line, now) else Text(),
            )
        return table

    # --- rows ------------------------------------------------------------------------------------

    def _rows(self, limit: int, options: ConsoleOptions) -> RenderResult:
        ordered = self._views if self._sorting == "given" else sorted(self._views, key=self._order)
        # a last row says what is not shown
        shown = ordered if len(ordered) <= limit else ordered[: max(limit - 1, 0)]
        longest = max(len(label(view.account)) for view in self._views)
        row = _RowDrawer(options.max_width, longest, ascii_only=options.ascii_only)
        for view in shown:
            yield row.draw(view, is_new=self._is_new(view), is_stale=self._is_stale(view))
        if hidden := ordered[len(shown) :]:
            fail = sum(map(self._fails, hidden))
            text = f"… {len(hidden)} more, {fail} of them fail"
            if len(text) > options.max_width:
                text = f"… {len(hidden)}, {fail} fail"
            yield Text(text, "red" if fail else "dim", no_wrap=True, overflow="crop")

    def _order(self, view: AccountView) -> tuple[bool, int, str]:
        if self._sorting == "account":
            return False, 0, label(view.account)
        # who has not been asked yet stands behind those of which something is known
        is_waiting = view.init is None and view.error is None
        return not self._fails(view), 2**31 if is_waiting else view.free, label(view.account)

    def _fails(self, view: AccountView) -> bool:
        return view.error is not None or self._is_stale(view)

    def _is_stale(self, view: AccountView) -> bool:
        is_late = self._clock() - view.confirmed_at > 2 * self._lasting
        return view.init is not None and (view.is_stale or is_late)

    def _is_new(self, view: AccountView) -> bool:
        return bool(view.changed or view.others) and self._clock() - view.since < self._lasting


class _RowDrawer:
    """Draw accounts as rows of a width; the narrower that is, the less they say."""

    __slots__ = ("_ascii_only", "_bar", "_has_change", "_label")

    _NUMBERS: Final = 11
    _CHANGE: Final = 7
    _OPEN: Final = 8
    _AS_OF: Final = 20
    _NARROWEST_LABEL: Final = 8

    def __init__(self, width: int, longest: int, *, ascii_only: bool) -> None:
        self._ascii_only = ascii_only
        self._has_change = width >= 60
        fixed = self._NUMBERS + (self._CHANGE + self._OPEN + self._AS_OF) * self._has_change
        self._bar = (width - fixed) // 4 if width >= NARROW else 0
        room = max(width - fixed - self._bar - bool(self._bar), self._NARROWEST_LABEL)
        self._label = min(room, longest + 2)

    def draw(self, view: AccountView, *, is_new: bool, is_stale: bool) -> Text:
        """Draw one account."""
        row = Text(no_wrap=True, overflow="crop")
        row.append(set_cell_size(_short_label(view.account, self._label - 1), self._label), "bold")
        if view.init is None:
            text = "waiting" if view.error is None else failure_line(view.error)
            return row.append(text, "dim" if view.error is None else "red")
        if self._bar:
            row.append_text(bar(view.free, view.total, self._bar, ascii_only=self._ascii_only))
            row.append(" " * (self._bar + 1 - cell_len(row.plain) + self._label))
        if is_stale and not self._has_change:  # what is cut off at the end is worth less
            row.append("stale ", "bold red")
        row.append(f"{view.free}/{view.total}".rjust(self._NUMBERS - 2) + "  ")
        if is_stale:  # which is worth the room of what stands here otherwise
            row.append_text(_as_of(view, is_stale=True))
            return row if view.error is None else row.append(f"  {failure_line(view.error)}", "red")
        if self._has_change:
            change = _change_of(view) if is_new else ""
            row.append(change.ljust(self._CHANGE), "bold yellow")
            row.append(_opening(view.init).ljust(self._OPEN), "dim")
            row.append_text(_as_of(view, is_stale=False))
        return row


def _short_label(account: Account, width: int) -> str:
    """Write the account in so many columns; of a sub-account both ids stay to be told apart."""
    text = label(account)
    if len(text) <= width:
        return text
    if account.sub_user_id is None:
        return f"{text[: width - 1]}…"
    half = (width - 1) // 2
    user, sub = plain(account.user_id), plain(account.sub_user_id)
    return f"{user[: half - 1]}…:{sub[: half - 1]}…"


def _change_of(view: AccountView) -> str:
    """Sum up the last change: how many calls more are free, or that something else changed."""
    differences = [change.difference for change in view.changed.values()]
    known = sum(each for each in differences if each is not None)
    return f"{known:+}" if known else "changed"


def _opening(init: TaskInit) -> str:
    """Tell whether the default time group, or any where none is the default, is open now."""
    default = init.default_of(init.task_dial_times)
    groups = init.task_dial_times if default is None else (default,)
    if not groups:
        return ""
    return "open" if any(group.is_open() for group in groups) else "closed"


def _as_of(view: AccountView, *, is_stale: bool) -> Text:
    text = Text(f"as of {time_of_day(view.as_of)}" if view.as_of else "", "dim")
    return text.append(" stale", "bold red") if is_stale else text


def _difference_text(change: LineChange | None, *, ascii_only: bool = False) -> Text:
    """Write ``+2``, ``−3``, ``new``, or nothing."""
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

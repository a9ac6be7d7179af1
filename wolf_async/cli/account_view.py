"""Hold what is known of a watched account, and write its changes as plain lines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from wolf_async.cli.changes import (
    LineChange,
    label,
    line_changes,
    name_of,
    other_changes,
    said,
    summary,
)
from wolf_async.cli.service import remedy
from wolf_async.cli.widgets import free_of, plain

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from wolf_async.account import Account
    from wolf_async.errors import WolfError
    from wolf_async.models import TaskInit
    from wolf_async.watch import AccountUpdate

__all__ = ["AccountView", "ChangeLog", "failure_line", "time_of_day"]


class AccountView:
    """Hold what is known of one account.

    That is its last answer, what changed in it and when, and the error, if it fails now.
    """

    __slots__ = (
        "account",
        "as_of",
        "changed",
        "changed_at",
        "confirmed_at",
        "error",
        "free",
        "init",
        "is_stale",
        "others",
        "since",
        "total",
    )

    def __init__(self, account: Account) -> None:
        self.account = account
        self.init: TaskInit | None = None
        self.error: WolfError | None = None
        self.as_of: datetime | None = None
        """When the request for the last answer was sent."""
        self.confirmed_at = 0.0
        """When it came, on the screen's clock."""
        self.is_stale = False
        """Whether the last answer stands in for one that should be newer."""
        self.free = self.total = 0
        """Calls of all outbound lines, as far as it is known."""
        self.changed: dict[str, LineChange] = {}
        """What the last change changed, by line."""
        self.others: list[str] = []
        """Sections that it changed besides."""
        self.changed_at = ""
        """Time of day of the last change."""
        self.since = 0.0
        """The same on the screen's clock."""

    @property
    def fails(self) -> bool:
        """Whether it has no answer that is good now."""
        return self.error is not None or self.is_stale

    def update(self, update: AccountUpdate, now: float) -> tuple[list[LineChange], list[str]]:
        """Take an update, and return what it changed; nothing for the first answer, or an error."""
        self.error = update.error
        if update.answer is None:
            self.is_stale = self.init is not None
            return [], []
        self.as_of, self.is_stale = update.answer.fetched_at, update.answer.is_stale
        self.confirmed_at = now
        before, self.init = self.init, update.answer.init
        if before is self.init:
            return [], []
        self.free, self.total = free_of(self.init.caller_line_list)
        lines = [] if before is None else line_changes(before, self.init)
        others = [] if before is None else other_changes(before, self.init)
        if before is None or lines or others:
            self.changed = {change.line.line_id: change for change in lines}
            self.others, self.changed_at, self.since = others, time_of_day(), now
        return lines, others


class ChangeLog:
    """Write each change of each account as a line, for a file or another program."""

    __slots__ = ("_say",)

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def show(self, view: AccountView, update: AccountUpdate) -> None:
        """Write what an update changed.

        The first answer is written as a whole, one that ends a failure at least by a line, and a
        failure once for each reason in a row.
        """
        is_first, before = view.init is None, view.error
        changes, others = view.update(update, 0.0)
        if update.error is not None:
            if before is None or failure_line(before) != failure_line(update.error):
                self._write(view, failure_line(update.error))
            return
        if view.init is not None and (is_first or (before is not None and not (changes or others))):
            self._write(view, summary(view.init))
        for change in changes:
            line = change.line
            self._write(view, f"{plain(line.line_id)} {plain(name_of(line))} {said(change)}")
        if others:
            self._write(view, f"changed: {', '.join(others)}")

    def _write(self, view: AccountView, text: str) -> None:
        self._say(f"{time_of_day()} {label(view.account)} {text}")


def failure_line(error: WolfError) -> str:
    """Write an error, and what helps against it, as one line."""
    found = remedy(error)
    text = f"{plain(error)}{'' if found is None else f': {found}'}"
    return f"{type(error).__name__}: {' '.join(text.split())}"


def time_of_day(moment: datetime | None = None) -> str:
    """Write the time of day of a moment, or of now."""
    if moment is None:
        return time.strftime("%H:%M:%S")
    return f"{moment.astimezone():%H:%M:%S}"

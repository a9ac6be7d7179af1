"""Tell what has changed from one answer to the next. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from wolf_async.cli.widgets import free_of, plain
from wolf_async.models import Line, TaskInit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wolf_async.account import Account

__all__ = ["LineChange", "label", "line_changes", "name_of", "other_changes", "said", "summary"]

_LINES: Final = "caller_line_list"


class LineChange(msgspec.Struct, frozen=True):
    """Hold a line that is new, gone (one of both is ``None``), or has other numbers."""

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
    """Find the outbound lines whose free or total concurrency differs, then those that are gone.

    Lines are told apart by id.
    """
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
    """Name the sections that differ, of outbound lines in something else than concurrency."""
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
    """Write the account as on the command line."""
    return plain(
        account.user_id
        if account.sub_user_id is None
        else f"{account.user_id}:{account.sub_user_id}"
    )


def name_of(line: Line) -> str | None:
    """Return what a person would call the line."""
    return (line.new_line.name if line.new_line else None) or line.name or line.remark


def summary(init: TaskInit) -> str:
    """Sum up all outbound lines."""
    lines = init.caller_line_list
    free, total = free_of(lines)
    return f"{len(lines)} line{'s' * (len(lines) != 1)}, {free} of {total} calls free"


def said(change: LineChange) -> str:
    """Put a change in words: of what is free, of the total, of both."""
    before, after = change.before, change.after
    if before is None or after is None:
        return f"new, residue {plain(change.line.residue)}" if after else "gone"
    return ", ".join(_steps(before, after))


def _steps(before: Line, after: Line) -> Iterator[str]:
    for name in ("residue", "line_concurrency"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            yield f"{name} {plain(old)}→{plain(new)}"

"""Read drafts of tasks from JSON Lines, by the reader of accounts, and make drafts of them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

import msgspec

from wolf_async.account import Account
from wolf_async.cli.accounts_file import (
    AccountsOptions,
    BadRow,
    ColumnNames,
    Rows,
    account_of_keys,
    json_item,
)
from wolf_async.cli.results_file import Done
from wolf_async.cli.rows import LineRows, Row
from wolf_async.cli.text_file import CHUNK, RefusedError, TextFile
from wolf_async.errors import WolfConfigError, WolfDraftError
from wolf_async.models import Holiday, TaskDraft, TaskExtras, TaskInit, TaskLine
from wolf_async.models.task_extras import draft_error

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DraftRow", "make_draft", "read_drafts"]

S = TypeVar("S", Holiday, TaskLine)

_EXPECTED: Final = 'expected {"key": …, "user_id": …, "draft": {…}}'
_BODY_KEYS: Final = frozenset(("destination_extension", "maximumcall", "dial_time_id"))
_EXTRAS: Final = frozenset(("start_time", "stop_time", "line", "holiday", "interval_time"))


class DraftRow(NamedTuple):
    """Hold a task that is to be created."""

    key: str | int
    """What the user calls it; unique in the file."""
    account: Account
    draft: dict[str, Any]
    """The arguments of `TaskInit.draft`, with ids for items, or the finished body."""


def read_drafts(path: str, reading: AccountsOptions) -> list[DraftRow | BadRow]:
    """Read all rows of the file, or of standard input for ``-``; raise `RefusedError` if refused.

    It is, beside what refuses a file of accounts, if two rows have the same key. All rows are
    held, since that must be known before the first task is created.
    """
    names = ColumnNames(reading.user_column, reading.sub_user_column)
    head = reading.max_row + CHUNK
    with TextFile(path, reading.encoding, head=head, spool=True) as file:
        splitter = LineRows(reading.max_row)

        def parse(row: Row) -> DraftRow | None:
            return _draft_row(json_item(row), names) if row.cells[0].strip() else None

        rows = list(Rows(file, splitter, parse, splitter.feed(file.head)).at_once())
    _check_keys(file.name, rows)
    return rows


def _check_keys(name: str, rows: list[DraftRow | BadRow]) -> None:
    keys = Done()
    for row in rows:
        if isinstance(row, DraftRow):
            key = Account(str(row.key))
            if key in keys:
                raise RefusedError(f"{name}: two rows have the key {row.key}: keys are unique")
            keys.add(*key)


def _draft_row(item: Any, names: ColumnNames) -> DraftRow:
    if not isinstance(item, dict):
        raise ValueError(_EXPECTED)  # noqa: TRY004 - a bad row
    fields = cast("dict[str, Any]", item)
    key, draft = fields.get("key"), fields.get("draft")
    if isinstance(key, bool) or not isinstance(key, (str, int)) or not str(key).strip():
        raise ValueError(f"{_EXPECTED}: the key is a text or a whole number of your own")
    if not isinstance(draft, dict):
        raise ValueError(f"{_EXPECTED}: the draft of {key} is no object")  # noqa: TRY004 - a bad row
    try:
        msgspec.json.encode((key, draft))  # or the results could not name them
    except (UnicodeError, RecursionError) as error:
        raise ValueError(f"{_EXPECTED}, in JSON: {error}") from None
    account = account_of_keys({k: v for k, v in fields.items() if k != "draft"}, names)
    return DraftRow(key, account, cast("dict[str, Any]", draft))


def make_draft(row: DraftRow, init: TaskInit) -> TaskDraft:
    """Make the draft of a row, for an answer; raise `WolfDraftError` for what makes none."""
    try:
        if _BODY_KEYS & row.draft.keys():
            return _draft_of_body(dict(row.draft))
        return init.draft(**_arguments(row.draft))
    except WolfDraftError:
        raise
    except (TypeError, ValueError, AttributeError, WolfConfigError) as error:
        # what callers pass to a function is checked by type checkers, what stands in files is not
        text = str(error).replace("TaskInit.draft()", "the draft")
        raise draft_error("$", "arguments", text) from error


def _arguments(draft: dict[str, Any]) -> dict[str, Any]:
    """Return what `TaskInit.draft` takes, with structs where JSON has objects."""
    arguments = dict(draft)
    readers: dict[str, Callable[[Any], Any]] = {
        "holidays": lambda value: [_holiday(each) for each in value],
        "lines": lambda value: None if value is None else [_line(each) for each in value],
        "at": lambda value: None if value is None else datetime.fromisoformat(value),
    }
    for name, read in readers.items():
        if name in arguments:
            arguments[name] = read(arguments[name])
    return arguments


def _holiday(value: Any) -> Any:
    return _task_holiday(value) if isinstance(value, dict) else tuple(value)


def _line(value: Any) -> Any:
    return _task_line(value) if isinstance(value, dict) else value


def _draft_of_body(body: dict[str, Any]) -> TaskDraft:
    if "sub_user_id" in body:
        raise draft_error("$.sub_user_id", "misplaced", "sub_user_id stands beside the draft")
    extras = body.pop("task_extras", None)
    if not isinstance(extras, dict):
        raise draft_error(
            "$.task_extras", "not_an_object", f"an object is expected, not {extras!r}"
        )
    own = {name for name in TaskDraft.__struct_fields__ if name not in ("extra", "legacy", "zone")}
    fields = {name: value for name, value in body.items() if name in own}
    extra = {name: value for name, value in body.items() if name not in own}
    return TaskDraft(task_extras=_extras(cast("dict[str, Any]", extras)), extra=extra, **fields)


def _extras(extras: dict[str, Any]) -> TaskExtras:
    return TaskExtras(
        start_time=extras.get("start_time", ""),
        stop_time=extras.get("stop_time", ""),
        line=tuple(_task_line(each) for each in extras.get("line", ())),
        holiday=tuple(_task_holiday(each) for each in extras.get("holiday", ())),
        interval_time=extras.get("interval_time"),
        extra={name: value for name, value in extras.items() if name not in _EXTRAS},
    )


def _task_line(value: Any) -> TaskLine:
    return _item("line", value, TaskLine)


def _task_holiday(value: Any) -> Holiday:
    return _item("holiday", value, Holiday)


def _item(name: str, value: Any, kind: type[S]) -> S:
    """Return an object as a struct that holds all of it."""
    fields = kind.__struct_fields__
    if not isinstance(value, dict) or set(cast("dict[str, Any]", value)) != set(fields):
        expected = ", ".join(f'"{field}"' for field in fields)
        raise draft_error(
            f"$.task_extras.{name}",
            f"not_a_{name}",
            f"{{{expected}}} is expected, not {value!r}",
        )
    return msgspec.convert(value, kind)

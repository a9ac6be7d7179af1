"""Define the parts of a draft under `task_extras`: when a task runs, and on which lines.

Source of the fields: the vendor's table and newest sample of creating a task
(POST /agent-api/new/user/{user_id}/task).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from wolf_async.errors import DraftProblem, WolfDraftError
from wolf_async.models import hours
from wolf_async.models.frozen import FrozenDict, freeze

__all__ = [
    "NO_EXTRA",
    "Holiday",
    "TaskExtras",
    "TaskLine",
    "as_tuple",
    "check_text",
    "check_whole",
    "draft_error",
    "freeze_extra",
    "plain",
]

NO_EXTRA: FrozenDict[str, Any] = FrozenDict()
"""The `extra` of those who have none."""


class TaskLine(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A line of a task, with the calls that it may carry at once for it.

    Source: the newest sample, `task_extras.line[]`; older servers take the id alone.

    Attributes:
        id: `line_id` of the line.
        limit: calls at once; at most the line's `residue`.

    """

    id: str
    limit: int


class Holiday(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A span in which a task does not call.

    Source: the newest sample, `task_extras.holiday[]`; older servers call the begin `start`. Only
    the older table gives a format for its times, `YYYY-MM-DD HH:MM`; that of the newest is inferred
    to be the same, and a text with seconds is sent as it is.

    Attributes:
        begin: begin, `YYYY-MM-DD HH:MM`.
        end: end, `YYYY-MM-DD HH:MM`.

    """

    begin: str
    end: str


class TaskExtras(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The settings of version 2.0 of a task (`task_extras`).

    Source: the vendor's older table, and the newest sample for the shapes of lines and holidays.
    Raises `WolfDraftError`, with the path, for values of another type and times of another format.

    Attributes:
        start_time: when the task begins to run, `YYYY-MM-DD HH:MM:SS`.
        stop_time: when the task stops, `YYYY-MM-DD HH:MM:SS`.
        line: the lines and their limits, which add up to `maximumcall`; always sent.
        holiday: when it does not call; always sent.
        interval_time: gap between calls; its unit is not documented. Left out if ``None``; the
            server's default is 0.
        extra: what has no field here, merged into `task_extras`; it may not name a field.

    """

    start_time: str
    stop_time: str
    line: tuple[TaskLine, ...] = ()
    holiday: tuple[Holiday, ...] = ()
    interval_time: int | None = None
    extra: Mapping[str, Any] = NO_EXTRA

    def __post_init__(self) -> None:
        """Check the types, and make lists and mappings read-only."""
        for name in ("start_time", "stop_time"):
            _check_stamp(f"$.task_extras.{name}", getattr(self, name))
        for name, kind in (("line", TaskLine), ("holiday", Holiday)):
            msgspec.structs.force_setattr(self, name, _items(name, getattr(self, name), kind))
        for at, line in enumerate(self.line):
            _check_line(f"$.task_extras.line[{at}]", line)
        for at, holiday in enumerate(self.holiday):
            _check_stamp(f"$.task_extras.holiday[{at}].begin", holiday.begin)
            _check_stamp(f"$.task_extras.holiday[{at}].end", holiday.end)
        if self.interval_time is not None:
            check_whole("$.task_extras.interval_time", self.interval_time)
        own = self.__struct_fields__[:-1]
        extra = freeze_extra("$.task_extras", self.extra, own)
        msgspec.structs.force_setattr(self, "extra", extra)

    def body(self, *, legacy: bool = False) -> dict[str, Any]:
        """Return the value of `task_extras` as plain JSON types.

        With ``legacy`` it is what older servers take: the ids of the lines alone, and `start` for
        the begin of a holiday.
        """
        begin = "start" if legacy else "begin"
        body: dict[str, Any] = {
            "start_time": self.start_time,
            "stop_time": self.stop_time,
            "line": [line.id if legacy else msgspec.to_builtins(line) for line in self.line],
            "holiday": [{begin: each.begin, "end": each.end} for each in self.holiday],
        }
        if self.interval_time is not None:
            body["interval_time"] = self.interval_time
        body |= plain(self.extra)
        return body


def draft_error(path: str, code: str, message: str) -> WolfDraftError:
    """Return the error for a draft that cannot be made, with one problem that names the path."""
    problem = DraftProblem(path=path, code=code, message=message)
    return WolfDraftError(f"{path}: {message}", problems=(problem,))


def check_whole(path: str, value: object) -> None:
    """Refuse what is no whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise draft_error(path, "not_an_int", f"a whole number is expected, not {value!r}")


def check_text(path: str, value: object) -> None:
    """Refuse what is no text."""
    if not isinstance(value, str):
        raise draft_error(path, "not_a_text", f"a text is expected, not {value!r}")


def freeze_extra(path: str, extra: Any, own: tuple[str, ...]) -> FrozenDict[str, Any]:
    """Return a read-only copy of what is merged into an object of the body.

    Refuses what is no mapping of texts to JSON, and names that the object has of its own.
    """
    if not isinstance(extra, Mapping):
        raise draft_error(f"{path}.extra", "not_a_mapping", f"a mapping is expected, not {extra!r}")
    copied: dict[Any, Any] = dict(cast("Any", extra))
    for name in copied:
        check_text(f"{path}.extra", name)
        if name in own:
            message = f"extra may not name {name}, which has a place of its own"
            raise draft_error(f"{path}.{name}", "field_in_extra", message)
    try:
        # a copy in JSON types, whatever subclasses it is made of, or an error
        frozen: FrozenDict[str, Any] = freeze(json.loads(json.dumps(copied, allow_nan=False)))
    except (TypeError, ValueError, RecursionError) as error:
        raise draft_error(f"{path}.extra", "not_json", f"JSON is expected: {error}") from None
    return frozen


def plain(value: Any) -> Any:
    """Return frozen JSON as plain dicts and lists, which are the caller's own."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in cast("Mapping[str, Any]", value).items()}
    items = as_tuple(value)
    return value if items is None else [plain(item) for item in items]


def as_tuple(value: object) -> tuple[Any, ...] | None:
    """Return a list or a tuple as a tuple, anything else as ``None``."""
    return tuple(cast("Any", value)) if isinstance(value, (list, tuple)) else None


def _items(name: str, value: Any, kind: type) -> tuple[Any, ...]:
    path = f"$.task_extras.{name}"
    items = as_tuple(value)
    if items is None:
        message = f"a list of {kind.__name__} is expected, not {value!r}"
        raise draft_error(path, "not_a_list", message)
    for at, item in enumerate(items):
        if type(item) is not kind:
            message = f"a {kind.__name__} is expected, not {item!r}"
            raise draft_error(f"{path}[{at}]", "not_an_item", message)
    return items


def _check_line(path: str, line: TaskLine) -> None:
    check_text(f"{path}.id", line.id)
    check_whole(f"{path}.limit", line.limit)


def _check_stamp(path: str, value: object) -> None:
    message = f"a time as YYYY-MM-DD HH:MM:SS is expected, not {value!r}"
    if not isinstance(value, str):
        raise draft_error(path, "not_a_time", message)
    try:
        hours.read_stamp(value, hours.ZONE)
    except ValueError:
        raise draft_error(path, "not_a_time", message) from None

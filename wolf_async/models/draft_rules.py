"""The rules that a draft is checked by, each a pure function over a `Case`.

Each rule names its source and how well it is known: **D** the vendor's documentation, **C** the
documents of the vendor's own command-line tool, **I** inference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import chain
from typing import Final, Literal, TypeAlias

import msgspec

from wolf_async.errors import DraftProblem
from wolf_async.models import hours
from wolf_async.models.mappings import EndActions
from wolf_async.models.sections import (
    BigModelOutboundGroup,
    Line,
    OutboundGroup,
    OutboundGroupV2,
    TaskDialTime,
)
from wolf_async.models.task_extras import TaskExtras, TaskLine

__all__ = ["MOST_LINES", "Case", "Script", "find_problems"]

Script: TypeAlias = OutboundGroup | OutboundGroupV2 | BigModelOutboundGroup
"""A script group of any of the three kinds."""

MOST_LINES: Final = 5
"""Lines that a task has at most, by the documents of the vendor's command-line tool."""
# The first is what most of the vendor's pages say of `week`, 0 = Sunday; one page has 0 = Monday.
_NUMBERS_OF_SUNDAY: Final = (0, 6)
_SCRIPT: Final = "$.destination_extension"


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules look at: the values of a draft beside what the answer says about them."""

    name: str
    maximumcall: int
    task_extras: TaskExtras
    start: datetime
    """`start_time`, aware, in the zone of the draft; so are the other two."""
    stop: datetime
    now: datetime
    is_call_in: int | None
    inbound: bool
    """Whether the task takes calls instead of making them."""
    lines: tuple[Line, ...]
    """The lines of the answer for calls in that direction."""
    scripts: tuple[Script, ...]
    """The script groups of the answer with the draft's id."""
    time_group: TaskDialTime | None
    """The time group of the answer with the draft's id."""
    end_action: int | None
    end_actions: EndActions
    unknown_ids: tuple[tuple[str, int], ...]
    """The fields whose ids the answer lacks, with these ids."""


def find_problems(case: Case) -> tuple[DraftProblem, ...]:
    """Return all problems of a case, in the order of the rules."""
    return tuple(chain.from_iterable(rule(case) for rule in _RULES))


def _check_name(case: Case) -> Iterator[DraftProblem]:
    """Refuse an empty name. Source: `name` is required (D)."""
    if not case.name.strip():
        yield _problem("$.name", "name_empty", f"a name is expected, not {case.name!r}")


def _check_numbers(case: Case) -> Iterator[DraftProblem]:
    """Refuse numbers that make no sense.

    Source: `is_call_in` is 0 or 1 (D), the rest is sense (I).
    """
    if case.maximumcall < 1:
        message = f"at least 1 call at once is expected, not {case.maximumcall}"
        yield _problem("$.maximumcall", "maximumcall_below_1", message)
    interval = case.task_extras.interval_time
    if interval is not None and interval < 0:
        message = f"0 or more is expected, not {interval}"
        yield _problem("$.task_extras.interval_time", "interval_negative", message)
    if case.is_call_in not in (None, 0, 1):
        message = f"0 (outbound) or 1 (inbound) is expected, not {case.is_call_in}"
        yield _problem("$.is_call_in", "is_call_in_unknown", message)


def _check_ids(case: Case) -> Iterator[DraftProblem]:
    """Refuse ids that the answer lacks. Source: the parameters are "ids from the init info" (D)."""
    for field, own in case.unknown_ids:
        message = f"the answer has no item with the id {own}"
        yield _problem(f"$.{field}", "unknown_id", message)


def _check_end_action(case: Case) -> Iterator[DraftProblem]:
    """Refuse what is no key of `end_actions`. Source: the parameter's table (D)."""
    if case.end_action is not None and str(case.end_action) not in case.end_actions:
        keys = ", ".join(case.end_actions) or "none"
        message = f"a key of end_actions is expected ({keys}), not {case.end_action}"
        yield _problem("$.end_action", "unknown_end_action", message)


def _check_script(case: Case) -> Iterator[DraftProblem]:
    """Warn of a script that is locked or inactive. Source: the names `is_lock`, `is_active` (I)."""
    for script in case.scripts:
        if isinstance(script, OutboundGroupV2):
            continue
        if script.is_lock:
            message = f"the script group {script.id} is locked"
            yield _problem(_SCRIPT, "script_locked", message, "warning")
        if script.is_active == 0:
            message = f"the script group {script.id} is not active"
            yield _problem(_SCRIPT, "script_inactive", message, "warning")


def _check_variables(case: Case) -> Iterator[DraftProblem]:
    """Warn of variables to fill: their values travel with the numbers, not with the task.

    Source: the name `is_fill`, and that no parameter of the task takes values (I).
    """
    for script in case.scripts:
        if isinstance(script, OutboundGroupV2) and (to_fill := script.variables_to_fill()):
            names = ", ".join(variable.name or str(variable.id) for variable in to_fill)
            message = f"each imported number has to bring values for the variables {names}"
            yield _problem(_SCRIPT, "variables_to_fill", message, "warning")


def _check_each_line(case: Case) -> Iterator[DraftProblem]:
    """Refuse a line twice, one that is unknown, has ended or has too little room, and no limit.

    Source: a limit is at most the `residue` (D, stated for 1.0); that `available_at` is the line's
    end is inferred (I), as is that a line can be in a task once (I).
    """
    seen: set[str] = set()
    known = {line.line_id: line for line in reversed(case.lines)}
    for at, chosen in enumerate(case.task_extras.line):
        path = f"$.task_extras.line[{at}]"
        if chosen.id in seen:
            yield _problem(f"{path}.id", "line_twice", f"the line {chosen.id} is there already")
        seen.add(chosen.id)
        if chosen.limit < 1:
            message = f"at least 1 call at once is expected, not {chosen.limit}"
            yield _problem(f"{path}.limit", "limit_below_1", message)
        if chosen.id in known:
            yield from _check_known_line(case, path, chosen, known[chosen.id])
        else:
            direction = "inbound" if case.inbound else "outbound"
            message = f"the answer has no {direction} line with the id {chosen.id}"
            yield _problem(f"{path}.id", "unknown_id", message)


def _check_known_line(
    case: Case, path: str, chosen: TaskLine, line: Line
) -> Iterator[DraftProblem]:
    if hours.has_passed(line.available_at, max(case.start, case.now)):
        message = f"the line {chosen.id} ends at {line.available_at}, before the task begins"
        yield _problem(f"{path}.id", "line_ended", message)
    if line.residue is None:
        message = f"how much is free of the line {chosen.id} is unknown"
        yield _problem(f"{path}.limit", "residue_unknown", message)
    elif chosen.limit > line.residue:
        message = f"at most {line.residue} is expected, its residue, not {chosen.limit}"
        yield _problem(f"{path}.limit", "limit_above_residue", message)


def _check_lines(case: Case) -> Iterator[DraftProblem]:
    """Check the lines together: that there are some, not too many, and that their limits add up.

    Source: the documents of the vendor's command-line tool (C). An outbound task without a line
    cannot call, an inbound one needs none; at most five lines; if the limits do not add up to
    `maximumcall`, the server answers 并发数异常.
    """
    lines, path = case.task_extras.line, "$.task_extras.line"
    if not lines:
        if not case.inbound:
            yield _problem(path, "no_line", "an outbound task needs at least one line")
        return
    if len(lines) > MOST_LINES:
        message = f"at most {MOST_LINES} lines are expected, not {len(lines)}"
        yield _problem(path, "too_many_lines", message, "warning")
    total = sum(line.limit for line in lines)
    if total != case.maximumcall:
        message = f"the sum of the limits is expected, {total}, not {case.maximumcall}"
        yield _problem("$.maximumcall", "sum_of_limits", message)


def _check_window(case: Case) -> Iterator[DraftProblem]:
    """Refuse a window that holds no time, or none that is still to come. Source: sense (I)."""
    path = "$.task_extras.stop_time"
    if case.stop <= case.start:
        message = (
            f"a time after the start, {_wall(case.start)}, is expected, not {_wall(case.stop)}"
        )
        yield _problem(path, "stop_before_start", message)
    elif case.stop <= case.now:
        message = f"a time after now, {_wall(case.now)}, is expected, not {_wall(case.stop)}"
        yield _problem(path, "stop_in_the_past", message)


def _check_opening(case: Case) -> Iterator[DraftProblem]:
    """Refuse a window in which the time group never opens.

    It is an error if it opens neither with week 0 as Sunday nor with week 0 as Monday, and a
    warning if it opens with the latter only. Source: the hours of a time group (D); which day week
    0 is, the vendor's pages say in two ways (D, contradictory).
    """
    begin = max(case.start, case.now)
    if case.time_group is None or begin >= case.stop:
        return
    opens = [_opens(case.time_group, begin, case.stop, sunday) for sunday in _NUMBERS_OF_SUNDAY]
    if not opens[0]:
        window = f"from {_wall(begin)} to {_wall(case.stop)}"
        message = f"the time group {case.time_group.id} never opens {window}"
        yield _problem(
            "$.dial_time_id", "never_open", message, "warning" if any(opens) else "error"
        )


def _opens(group: TaskDialTime, begin: datetime, stop: datetime, sunday: int) -> bool:
    assert begin.tzinfo is not None
    # Hours come again every week: what does not open within eight days never does.
    opening = group.next_opening(begin, zone=begin.tzinfo, sunday=sunday)
    return opening is not None and opening < stop


def _check_holidays(case: Case) -> Iterator[DraftProblem]:
    """Refuse a holiday that ends before it begins. Source: sense (I)."""
    for at, holiday in enumerate(case.task_extras.holiday):
        if datetime.fromisoformat(holiday.end) < datetime.fromisoformat(holiday.begin):
            message = f"a time from {holiday.begin} on is expected, not {holiday.end}"
            yield _problem(f"$.task_extras.holiday[{at}].end", "holiday_ends_first", message)


_RULES: Final[tuple[Callable[[Case], Iterable[DraftProblem]], ...]] = (
    _check_name,
    _check_numbers,
    _check_ids,
    _check_end_action,
    _check_script,
    _check_variables,
    _check_each_line,
    _check_lines,
    _check_window,
    _check_opening,
    _check_holidays,
)


def _problem(
    path: str, code: str, message: str, severity: Literal["error", "warning"] = "error"
) -> DraftProblem:
    return DraftProblem(path=path, code=code, message=message, severity=severity)


def _wall(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")

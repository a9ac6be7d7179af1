"""Lines for so many calls, against a search of all choices."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import sample

from wolf_async import (
    Line,
    NewLine,
    TaskInit,
    TaskLine,
    WolfConfigError,
    WolfDraftError,
)
from wolf_async.models import dec_hook

NOON = datetime(2025, 6, 1, 12)


def line(
    line_id: str, residue: int | None, *, ends: datetime | None = None, usage: int | None = 1
) -> Line:
    new_line = NewLine(
        name=None, type=None, bind_type_str=None, type_str=None, usage=usage, node=None
    )
    return Line(
        name=None,
        remark=None,
        line_id=line_id,
        belong_user=None,
        line_concurrency=None,
        residue=residue,
        available_at=ends,
        new_line=new_line,
    )


def outbound(*lines: Line) -> TaskInit:
    return TaskInit(caller_line_list=lines)


def limits(chosen: tuple[TaskLine, ...]) -> dict[str, int]:
    return {each.id: each.limit for each in chosen}


@st.composite
def answers(draw: st.DrawFn) -> TaskInit:
    ends = st.sampled_from([None, NOON, NOON - timedelta(days=1), NOON + timedelta(seconds=1)])
    rooms = st.none() | st.integers(-1, 6)
    usages = st.none() | st.integers(0, 7)
    names = st.sampled_from("abcdefgh")
    lines = st.builds(line, names, rooms, ends=ends, usage=usages)
    return outbound(*draw(st.lists(lines, max_size=7)))


def usable(init: TaskInit, usage: int | None) -> dict[str, int]:
    """Return what is free at noon by line; of lines with one id the first usable one counts."""
    free: dict[str, int] = {}
    for each in init.caller_line_list:
        if each.residue is not None and each.can_carry(1, at=NOON, usage=usage):
            free.setdefault(each.line_id, each.residue)
    return free


def fewest(free: dict[str, int], calls: int, most_lines: int) -> int | None:
    """Return the smallest number of lines whose room is enough, by trying every choice."""
    for count in range(1, most_lines + 1):
        if any(sum(rooms) >= calls for rooms in combinations(free.values(), count)):
            return count
    return None


@given(answers(), st.integers(1, 20), st.none() | st.integers(1, 7), st.integers(1, 5))
@settings(max_examples=400, deadline=None)
def test_the_fewest_usable_lines_carry_exactly_the_calls(
    init: TaskInit, calls: int, usage: int | None, most_lines: int
) -> None:
    free = usable(init, usage)
    expected = fewest(free, calls, most_lines)
    if expected is None:
        with pytest.raises(WolfDraftError) as caught:
            init.allocate(calls, at=NOON, usage=usage, most_lines=most_lines)
        assert f"{sum(free.values())} are free on {len(free)} lines" in str(caught.value)
        return
    chosen = init.allocate(calls, at=NOON, usage=usage, most_lines=most_lines)
    assert len(chosen) == expected
    assert sum(each.limit for each in chosen) == calls
    assert len(limits(chosen)) == len(chosen)
    for each in chosen:
        assert 1 <= each.limit <= free[each.id]
    assert init.allocate(calls, at=NOON, usage=usage, most_lines=most_lines) == chosen


def test_the_roomiest_lines_come_first_and_of_equal_ones_the_earlier() -> None:
    init = outbound(line("a", 2), line("b", 5), line("c", 5), line("d", 9))
    assert limits(init.allocate(9)) == {"d": 9}
    assert limits(init.allocate(15)) == {"d": 9, "b": 5, "c": 1}
    assert [each.id for each in init.allocate(20)] == ["d", "b", "c", "a"]


def test_of_lines_with_one_id_the_first_counts() -> None:
    init = outbound(line("a", 2), line("b", 1), line("a", 9))
    assert limits(init.allocate(3)) == {"a": 2, "b": 1}
    with pytest.raises(WolfDraftError, match="3 are free on 2 lines"):
        init.allocate(4)


def test_inbound_lines_are_taken_where_they_are_asked_for() -> None:
    init = TaskInit(caller_line_list=(line("out", 5),), call_in_line_list=(line("in", 5),))
    assert limits(init.allocate(3)) == {"out": 3}
    assert limits(init.allocate(3, inbound=True)) == {"in": 3}


def test_a_line_that_has_ended_then_is_not_taken() -> None:
    init = outbound(line("ends", 9, ends=NOON), line("stays", 2))
    assert limits(init.allocate(2, at=NOON - timedelta(seconds=1))) == {"ends": 2}
    assert limits(init.allocate(2, at=NOON)) == {"stays": 2}
    eight_hours = NOON - timedelta(hours=8)
    assert limits(init.allocate(2, at=eight_hours.replace(tzinfo=UTC))) == {"stays": 2}
    assert limits(init.allocate(2, at=eight_hours.replace(tzinfo=UTC), zone="UTC")) == {"ends": 2}


def test_a_task_has_five_lines_at_most_unless_told_otherwise() -> None:
    init = outbound(*(line(str(number), 1) for number in range(7)))
    assert len(init.allocate(5)) == 5
    assert len(init.allocate(7, most_lines=7)) == 7
    with pytest.raises(WolfDraftError) as caught:
        init.allocate(6)
    assert str(caught.value) == (
        "$.task_extras.line: 6 calls at once were asked for; 7 are free on 7 lines, "
        "but only 5 on the 5 with most room"
    )


def test_too_little_room_is_told_with_the_calls_that_are_free() -> None:
    with pytest.raises(WolfDraftError) as caught:
        outbound(line("a", 2), line("b", 1)).allocate(4)
    [problem] = caught.value.problems
    assert (problem.path, problem.severity) == ("$.task_extras.line", "error")
    assert problem.message == "4 calls at once were asked for; 3 are free on 2 lines"
    assert problem.message in str(caught.value)


def test_the_sample_has_one_call_to_give() -> None:
    init = msgspec.convert(sample()["data"], TaskInit, dec_hook=dec_hook)
    at = datetime(2025, 6, 1)
    assert init.allocate(1, at=at) == (
        TaskLine(id="29c39ec4-b292-4af9-a88b-922d61866aag", limit=1),
    )
    with pytest.raises(WolfDraftError, match="1 are free on 1 lines"):
        init.allocate(2, at=at)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"calls": 0}, "calls must be a whole number from 1, not 0"),
        ({"calls": True}, "calls must be a whole number from 1, not True"),
        ({"calls": 1.5}, "calls must be a whole number from 1, not 1.5"),
        ({"calls": 1, "most_lines": 0}, "most_lines must be a whole number from 1, not 0"),
        ({"calls": 1, "usage": 0}, "usage must be a whole number from 1, not 0"),
        ({"calls": 1, "zone": 8}, "zone must be a tzinfo or the name"),
        ({"calls": 1, "at": "now"}, "at must be a datetime"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: Any, message: str) -> None:
    ask: Callable[..., Any] = TaskInit().allocate
    with pytest.raises(WolfConfigError) as caught:
        ask(**arguments)
    assert str(caught.value).startswith(message)

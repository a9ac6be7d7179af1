"""Choosing from an answer: lines with room, look-ups, defaults, variables to fill."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from enum import Enum
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import sample

from wolf_async import (
    Account,
    Background,
    EndActions,
    Line,
    NewLine,
    OutboundGroupV2,
    TaskInit,
    Variable,
    WolfConfigError,
)
from wolf_async.models import dec_hook
from wolf_async.testing import synthetic_accounts, synthetic_task_init

if TYPE_CHECKING:
    from collections.abc import Callable

SECTIONS = [
    "task_dial_times",
    "caller_line_list",
    "call_in_line_list",
    "outbound_group",
    "outbound_group_v2",
    "big_model_outbound_group",
    "bridge_groups",
    "auto_recycle_rules",
    "background",
    "llm_intention_configs",
]
WITH_DEFAULT = {
    "task_dial_times": "is_default",
    "outbound_group": "default",
    "big_model_outbound_group": "default",
    "auto_recycle_rules": "is_default",
    "llm_intention_configs": "is_default",
}
NOON = datetime(2025, 6, 1, 12)


class Sound(int, Enum):
    HALL = 34


class LineId(str, Enum):  # noqa: UP042
    FIRST = "29c39ec4-b292-4af9-a88b-922d61866aag"


class Key(str, Enum):  # noqa: UP042
    NOTHING = "0"


def decode(data: Any) -> TaskInit:
    return msgspec.convert(data, TaskInit, dec_hook=dec_hook)


def synthetic(seed: int = 7) -> dict[str, Any]:
    return synthetic_task_init(seed, synthetic_accounts(seed, 1, 0)[0])


SAMPLE = sample()["data"]
ANSWERS: dict[str, dict[str, Any]] = {"sample": SAMPLE, "synthetic": synthetic()}
each_answer = pytest.mark.parametrize("data", ANSWERS.values(), ids=ANSWERS)
each_section = pytest.mark.parametrize("section", SECTIONS)


def line(
    line_id: str = "a",
    *,
    residue: int | None = 1,
    available_at: datetime | None = None,
    usage: int | None = 1,
    new_line: bool = True,
    name: str | None = None,
    own_name: str | None = None,
) -> Line:
    new = NewLine(
        name=own_name, type=None, bind_type_str=None, type_str=None, usage=usage, node=None
    )
    return Line(
        name=name,
        remark=None,
        line_id=line_id,
        belong_user=None,
        line_concurrency=None,
        residue=residue,
        available_at=available_at,
        new_line=new if new_line else None,
    )


def background(id: int, name: str | None = None) -> Background:
    return Background(id=id, name=name, created_at=None)


# Lines


def test_the_lines_of_the_sample() -> None:
    init = decode(SAMPLE)
    before, after = datetime(2025, 3, 1), datetime(2025, 6, 1)
    assert init.lines_for(at=before) == init.caller_line_list
    assert init.lines_for(at=after) == init.caller_line_list
    assert init.lines_for(at=before, inbound=True) == init.call_in_line_list
    assert init.lines_for(at=after, inbound=True) == ()
    assert init.lines_for(2, at=before) == ()
    assert init.lines_for(at=before, usage=1) == init.caller_line_list
    assert init.lines_for(at=before, usage=2) == ()


@pytest.mark.parametrize("inbound", [False, True])
@pytest.mark.parametrize("usage", [None, 1, 2, 4, 6])
@pytest.mark.parametrize("n", [1, 5, 40])
def test_the_lines_of_synthetic_accounts(n: int, usage: int | None, inbound: bool) -> None:
    at = "2025-06-01 12:00:00"  # the text of the moment compares as the moment does
    data = synthetic()
    section = data["call_in_line_list" if inbound else "caller_line_list"]
    expected = [
        line["line_id"]
        for line in section
        if line["residue"] >= n
        and line["available_at"] > at
        and (usage is None or (line["new_line"] is not None and line["new_line"]["usage"] & usage))
    ]
    found = decode(data).lines_for(n, inbound=inbound, at=datetime.fromisoformat(at), usage=usage)
    assert [line.line_id for line in found] == expected


@st.composite
def lines(draw: st.DrawFn) -> Line:
    near = st.integers(-2, 2).map(lambda seconds: NOON + timedelta(seconds=seconds))
    far = st.sampled_from(
        [datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59), datetime(2000, 1, 1)]
    )
    return line(
        residue=draw(st.none() | st.integers(-1, 4)),
        available_at=draw(st.none() | near | far),
        usage=draw(st.none() | st.integers(0, 15)),
        new_line=draw(st.integers(0, 4)) > 0,
    )


def expected_to_carry(line: Line, n: int, usage: int | None) -> bool:
    """At noon of the zone that `available_at` is read in."""
    has_room = line.residue in range(n, 100)
    is_there = line.available_at is None or (line.available_at - NOON).total_seconds() > 0
    bits = {bit for bit in (1, 2, 4, 8) if line.new_line and (line.new_line.usage or 0) // bit % 2}
    wanted = None if usage is None else {bit for bit in (1, 2, 4, 8) if usage // bit % 2}
    return has_room and is_there and (wanted is None or not bits.isdisjoint(wanted))


@given(
    st.lists(lines(), max_size=8),
    st.integers(1, 4),
    st.none() | st.integers(1, 15),
    st.integers(-23, 23),
    st.booleans(),
)
@settings(deadline=None)
def test_lines_for_gives_the_lines_that_the_model_gives(
    some: list[Line], n: int, usage: int | None, hours: int, aware: bool
) -> None:
    zone = timezone(timedelta(hours=hours))
    at = (NOON - timedelta(hours=hours)).replace(tzinfo=UTC) if aware else NOON
    expected = [line for line in some if expected_to_carry(line, n, usage)]
    outbound = TaskInit(caller_line_list=tuple(some))
    inbound = TaskInit(call_in_line_list=tuple(some))
    assert outbound.lines_for(n, at=at, usage=usage, zone=zone) == tuple(expected)
    assert inbound.lines_for(n, at=at, usage=usage, zone=zone, inbound=True) == tuple(expected)
    assert inbound.lines_for(n, at=at, usage=usage, zone=zone) == ()
    assert [line for line in some if line.can_carry(n, at=at, usage=usage, zone=zone)] == expected


def test_a_line_carries_one_call_of_any_kind_unless_more_is_asked() -> None:
    assert line(residue=1, usage=None).can_carry()
    assert not line(residue=0).can_carry()
    assert not line(residue=None).can_carry()
    assert line(residue=5).can_carry(5)
    assert not line(residue=5).can_carry(6)


def test_a_lines_end_is_read_in_shanghai_unless_another_zone_is_given() -> None:
    ends = line(available_at=NOON)
    four = NOON.replace(hour=4, tzinfo=UTC)
    tick = timedelta.resolution
    assert ends.can_carry(at=four - tick)
    assert not ends.can_carry(at=four)
    assert ends.can_carry(at=NOON - tick)
    assert not ends.can_carry(at=NOON)
    assert ends.can_carry(at=four, zone="Europe/Berlin")
    assert not ends.can_carry(at=NOON.replace(hour=10, tzinfo=UTC), zone=ZoneInfo("Europe/Berlin"))


def test_a_line_that_ended_does_not_come_back_when_the_hour_comes_twice() -> None:
    ends = line(available_at=datetime(2025, 10, 26, 2, 30))
    moments = [datetime(2025, 10, 26, 0, minute, tzinfo=UTC) for minute in (29, 30)]
    moments.append(datetime(2025, 10, 26, 1, 10, tzinfo=UTC))  # 02:10 in Berlin once more
    assert [ends.can_carry(at=at, zone="Europe/Berlin") for at in moments] == [True, False, False]


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "America/New_York", "Pacific/Kiritimati", UTC])
def test_an_end_at_the_limits_of_time_is_an_end(zone: str | tzinfo) -> None:
    assert line(available_at=datetime(9999, 12, 31, 23, 59, 59)).can_carry(at=NOON, zone=zone)
    assert not line(available_at=datetime(1, 1, 1)).can_carry(at=NOON, zone=zone)


def test_without_a_moment_it_is_now() -> None:
    now = datetime.now(UTC).astimezone(timezone(timedelta(hours=8))).replace(tzinfo=None)
    past, coming = line(available_at=now), line(available_at=now + timedelta(hours=1))
    assert not past.can_carry()
    assert coming.can_carry()
    assert TaskInit(caller_line_list=(past, coming)).lines_for() == (coming,)


# the same on an answer without lines: an argument that makes no sense is told even so
CARRIERS: list[Callable[..., Any]] = [
    line().can_carry,
    TaskInit().lines_for,
    decode(SAMPLE).lines_for,
]


@pytest.mark.parametrize("ask", CARRIERS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n must be a whole number from 1, not 0"),
        ({"n": -1}, "n must be a whole number from 1, not -1"),
        ({"n": 1.0}, "n must be a whole number from 1, not 1.0"),
        ({"n": True}, "n must be a whole number from 1, not True"),
        ({"n": None}, "n must be a whole number from 1, not None"),
        ({"usage": 0}, "usage must be a whole number from 1, not 0"),
        ({"usage": "2"}, "usage must be a whole number from 1, not '2'"),
        (
            {"at": "a text"},
            "at must be a datetime of the years 2 to 9998, or None for now, not 'a text'",
        ),
        (
            {"zone": "Mars"},
            "zone must be a tzinfo or the name of a time zone that this system knows, not 'Mars'",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(
    ask: Callable[..., Any], arguments: Any, message: str
) -> None:
    with pytest.raises(WolfConfigError) as caught:
        ask(**arguments)
    assert str(caught.value) == message


# Look-ups


@each_answer
@each_section
def test_every_item_of_every_section_is_found_by_its_id(data: dict[str, Any], section: str) -> None:
    init = decode(data)
    items = getattr(init, section)
    assert items
    for item, raw in zip(items, data[section], strict=True):
        own_id = raw.get("id", raw.get("line_id"))
        assert init.by_id(items, own_id) is item
        assert init.by_id(items, str(own_id)) is item
    assert init.by_id(items, "no such id") is None
    assert init.by_id((), 1) is None


def raw_name(raw: dict[str, Any]) -> str | None:
    new_line = raw.get("new_line")
    own: str | None = new_line["name"] if new_line else None
    return raw["name"] if own is None else own


@each_answer
@each_section
def test_every_item_that_has_a_name_is_found_by_it(data: dict[str, Any], section: str) -> None:
    init = decode(data)
    items = getattr(init, section)
    names = [raw_name(raw) for raw in data[section]]
    assert any(names)
    for name in set(names) - {None}:
        assert name is not None
        expected = [item for item, own in zip(items, names, strict=True) if own == name]
        assert init.by_name(items, name) == tuple(expected)
    assert init.by_name(items, "no such name") == ()


def test_an_id_is_the_same_as_an_int_and_as_a_string() -> None:
    init = decode(SAMPLE)
    script = init.outbound_group_v2[1]
    assert init.by_id(init.outbound_group_v2, 172094106779435008) is script
    assert init.by_id(init.outbound_group_v2, "172094106779435008") is script
    assert init.by_id(init.outbound_group_v2, 172094106779435009) is None
    assert init.by_id(init.background, "34") is init.background[0]
    assert init.by_id(init.background, "034") is None
    # a member of an enum counts as what it holds, not as what it prints
    assert init.by_id(init.background, Sound.HALL) is init.background[0]
    assert init.by_id(init.caller_line_list, LineId.FIRST) is init.caller_line_list[0]
    assert init.end_actions.label_of(Key.NOTHING) == init.end_actions["0"]


def test_the_first_of_several_items_with_one_id_is_taken() -> None:
    first, second = background(1, "a"), background(1, "b")
    assert TaskInit.by_id((background(2), first, second), 1) is first


def test_all_items_with_one_name_are_given_in_order() -> None:
    items = (
        background(3, "a"),
        background(1, "b"),
        background(2, "a"),
        background(4),
        background(5, ""),
    )
    assert TaskInit.by_name(items, "a") == (items[0], items[2])
    assert TaskInit.by_name(items, "") == (items[4],)
    assert TaskInit.by_name(items, "A") == ()


def test_the_name_of_a_line_is_that_of_its_new_line_or_else_its_own() -> None:
    named = line("1", name="own", own_name="new")
    unnamed = line("2", name="own")
    without = line("3", name="own", new_line=False)
    empty = line("4", name="own", own_name="")
    nameless = line("5")
    items = (named, unnamed, without, empty, nameless)
    assert TaskInit.by_name(items, "new") == (named,)
    assert TaskInit.by_name(items, "own") == (unnamed, without)
    assert TaskInit.by_name(items, "") == (empty,)


def test_the_variables_of_a_script_are_found_too() -> None:
    init = decode(SAMPLE)
    variables = init.outbound_group_v2[1].variable
    assert init.by_id(variables, 172138979482058752) is variables[1]
    assert init.by_name(variables, "自定义变量1") == (variables[0],)


@pytest.mark.parametrize("section", [(), (background(1, "1"),)])
def test_an_id_or_a_name_of_another_type_is_refused(section: Any) -> None:
    by_id: Callable[..., Any] = TaskInit.by_id
    for wrong in (None, True, 1.0, b"1"):
        with pytest.raises(WolfConfigError) as caught:
            by_id(section, wrong)
        assert str(caught.value) == f"id must be an int or a str, not {wrong!r}"
    by_name: Callable[..., Any] = TaskInit.by_name
    for wrong in (None, 1):
        with pytest.raises(WolfConfigError) as caught:
            by_name(section, wrong)
        assert str(caught.value) == f"name must be a str, not {wrong!r}"


def test_the_actions_at_the_end_are_found_by_key_and_by_label() -> None:
    actions = decode(SAMPLE).end_actions
    assert actions.label_of(1) == actions.label_of("1") == "暂停任务释放并发"
    assert actions.label_of(2) is None
    assert actions.keys_of("无操作") == ("0",)
    assert actions.keys_of("no such label") == ()
    assert EndActions({"0": "a", "1": "b", "2": "a"}).keys_of("a") == ("0", "2")
    assert EndActions().label_of(0) is None
    with pytest.raises(WolfConfigError, match="id must be an int or a str, not None"):
        actions.label_of(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(WolfConfigError, match="name must be a str, not 0"):
        actions.keys_of(0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# Defaults


def test_the_defaults_of_the_sample() -> None:
    init = decode(SAMPLE)
    assert init.default_of(init.task_dial_times) is init.task_dial_times[0]
    assert init.default_of(init.auto_recycle_rules) is init.auto_recycle_rules[0]
    assert init.default_of(init.outbound_group) is None
    assert init.default_of(init.big_model_outbound_group) is None
    assert init.default_of(init.llm_intention_configs) is None


@pytest.mark.parametrize(("section", "flag"), WITH_DEFAULT.items())
def test_the_default_is_the_first_item_that_is_marked(section: str, flag: str) -> None:
    data = SAMPLE[section][0]
    kind = int if section == "llm_intention_configs" else bool
    marks = [None, kind(0), kind(1), kind(1), kind(0)]
    init = decode(
        {section: [data | {"id": number, flag: mark} for number, mark in enumerate(marks)]}
    )
    items = getattr(init, section)
    assert init.default_of(items) is items[2]
    assert init.default_of(items[:2]) is None
    assert init.default_of(()) is None


@pytest.mark.parametrize("section", WITH_DEFAULT)
def test_the_defaults_of_synthetic_accounts_are_their_first_items(section: str) -> None:
    items = getattr(decode(synthetic()), section)
    assert TaskInit.default_of(items[::-1]) is items[0]


def test_a_section_without_such_a_mark_does_not_type_check_and_has_no_default() -> None:
    init = decode(SAMPLE)
    assert init.default_of(init.bridge_groups) is None  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    assert init.default_of(init.caller_line_list) is None  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]


# Variables to fill


def variable(id: int, *, is_fill: bool | None, is_builtin: bool | None) -> Variable:
    return Variable(
        id=id, name=None, desc=None, type=None, is_save=None, is_builtin=is_builtin, is_fill=is_fill
    )


def test_the_variables_to_fill_of_the_sample() -> None:
    scripts = decode(SAMPLE).outbound_group_v2
    assert [len(script.variables_to_fill()) for script in scripts] == [0, 2, 0]
    assert scripts[1].variables_to_fill() == scripts[1].variable


def test_the_variables_to_fill_are_those_that_say_so_built_in_or_not() -> None:
    flags = [(fill, builtin) for fill in (True, False, None) for builtin in (True, False, None)]
    variables = tuple(variable(n, is_fill=f, is_builtin=b) for n, (f, b) in enumerate(flags))
    script = OutboundGroupV2(
        id="1", name=None, created_at=None, updated_at=None, variable=variables
    )
    assert script.variables_to_fill() == variables[:3]


def test_the_variables_to_fill_of_synthetic_accounts() -> None:
    data = synthetic_task_init(3, Account("u"), groups=20)
    scripts = decode(data).outbound_group_v2
    expected = [
        [each["id"] for each in script["variable"] if each["is_fill"]]
        for script in data["outbound_group_v2"]
    ]
    assert [[each.id for each in script.variables_to_fill()] for script in scripts] == expected
    assert any(
        len(fill) < len(script.variable) for fill, script in zip(expected, scripts, strict=True)
    )


# Purity


def test_the_methods_leave_the_wire_format_alone() -> None:
    init = decode(SAMPLE)
    before = msgspec.json.encode(init)
    init.lines_for()
    init.task_dial_times[0].next_opening()
    assert msgspec.json.encode(init) == before
    assert set(msgspec.to_builtins(init)) == set(SAMPLE)
    assert TaskInit.__struct_fields__ == tuple(SAMPLE)

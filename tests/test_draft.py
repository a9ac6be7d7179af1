"""A draft of a task: built from an answer, written as the API takes it, checked against another."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import sample

from wolf_async import (
    Account,
    DraftProblem,
    Holiday,
    TaskDraft,
    TaskExtras,
    TaskInit,
    TaskLine,
    WolfConfigError,
    WolfDraftError,
)
from wolf_async.models import dec_hook, draft_rules
from wolf_async.testing import synthetic_task_init

SAMPLE: dict[str, Any] = sample()["data"]
LINE = "29c39ec4-b292-4af9-a88b-922d61866aag"
INBOUND = "f15e465a-50f4-4f5b-8f78-772b539f33a5"
NOW = datetime(2025, 3, 3, 8)  # a Monday, when both lines of the sample are there
START, STOP = datetime(2025, 3, 3, 9), datetime(2025, 3, 3, 18)


def decode(data: Any) -> TaskInit:
    return msgspec.convert(data, TaskInit, dec_hook=dec_hook)


INIT = decode(SAMPLE)
DRAFT: Any = {
    "name": "回访",
    "script": 1,
    "calls": 1,
    "start": START,
    "stop": STOP,
    "at": NOW,
}
EXTRAS: Any = {"start_time": "2025-03-03 09:00:00", "stop_time": "2025-03-03 18:00:00"}
FIELDS: Any = {
    "name": "回访",
    "destination_extension": 1,
    "dial_time_id": 1,
    "maximumcall": 1,
    "task_extras": TaskExtras(**EXTRAS, line=(TaskLine(id=LINE, limit=1),)),
}


def draft(init: TaskInit = INIT, **changes: Any) -> TaskDraft:
    return init.draft(**DRAFT | changes)


def fields(**changes: Any) -> TaskDraft:
    return TaskDraft(**FIELDS | changes)


def extras(**changes: Any) -> TaskDraft:
    given: Any = {"line": (TaskLine(id=LINE, limit=1),), **EXTRAS, **changes}
    return fields(task_extras=TaskExtras(**given))


def found(
    made: TaskDraft, init: TaskInit = INIT, at: datetime | None = NOW
) -> list[tuple[str, str, str]]:
    return [(each.path, each.code, each.severity) for each in made.problems(init, at)]


def changed(path: str, **changes: Any) -> TaskInit:
    """Return the sample with changes to the first item of a section."""
    first, *rest = SAMPLE[path]
    return decode(SAMPLE | {path: [first | changes, *rest]})


# What is sent


def test_a_body_has_the_required_fields_and_what_was_set_and_nothing_else() -> None:
    assert draft().body() == {
        "name": "回访",
        "destination_extension": 1,
        "dial_time_id": 1,
        "maximumcall": 1,
        "task_extras": {
            "start_time": "2025-03-03 09:00:00",
            "stop_time": "2025-03-03 18:00:00",
            "line": [{"id": LINE, "limit": 1}],
            "holiday": [],
        },
    }


def test_a_body_has_every_field_under_its_own_name() -> None:
    optional: Any = {
        "bridge_group_id": 1,
        "auto_recycle_rule_id": 1,
        "background_id": 34,
        "llm_intention_id": 1,
        "end_action": 0,
        "enable_type": 0,
        "is_call_in": 0,
        "task_type": 7,
        "remark": "",
    }
    made = draft(**optional, interval_time=0, holidays=[("2025-03-03 12:00", "2025-03-03 13:00")])
    body = made.body()
    assert {name: body[name] for name in optional} == optional
    assert body["task_extras"]["interval_time"] == 0
    assert body["task_extras"]["holiday"] == [
        {"begin": "2025-03-03 12:00", "end": "2025-03-03 13:00"}
    ]


def test_older_servers_get_the_ids_of_the_lines_alone_and_start_for_begin() -> None:
    made = draft(legacy=True, holidays=[("2025-03-03 12:00", "2025-03-03 13:00")])
    sent = made.body()["task_extras"]
    assert sent["line"] == [LINE]
    assert sent["holiday"] == [{"start": "2025-03-03 12:00", "end": "2025-03-03 13:00"}]
    assert "legacy" not in made.body()


def test_what_has_no_field_is_merged_into_its_object() -> None:
    made = draft(
        extra={"is_group_switch": 2, "a": {"b": [1, None]}}, task_extras={"pop_mode": 0, "c": []}
    )
    body = made.body()
    assert (body["is_group_switch"], body["a"]) == (2, {"b": [1, None]})
    assert (body["task_extras"]["pop_mode"], body["task_extras"]["c"]) == (0, [])


def test_a_body_is_plain_and_the_callers_own() -> None:
    made = draft(extra={"a": {"b": [1]}}, task_extras={"c": {"d": []}})
    body = made.body()
    assert json.loads(json.dumps(body)) == body
    body["a"]["b"].append(2)
    body["task_extras"]["line"].clear()
    body["task_extras"]["c"]["d"] = 1
    assert made.body() == draft(extra={"a": {"b": [1]}}, task_extras={"c": {"d": []}}).body()


@pytest.mark.parametrize(
    "name",
    [*TaskDraft.__struct_fields__, "sub_user_id"],
)
def test_extra_may_not_name_a_field_nor_the_sub_account(name: str) -> None:
    if name in ("extra", "legacy", "zone"):  # these are no fields of the body
        assert name in draft(extra={name: 1}).body()
        return
    with pytest.raises(WolfDraftError) as caught:
        draft(extra={name: 1})
    assert [problem.path for problem in caught.value.problems] == [f"$.{name}"]
    assert name in str(caught.value)


@pytest.mark.parametrize("name", TaskExtras.__struct_fields__[:-1])
def test_the_extra_of_the_settings_may_not_name_their_fields(name: str) -> None:
    with pytest.raises(WolfDraftError) as caught:
        draft(task_extras={name: 1})
    assert [problem.path for problem in caught.value.problems] == [f"$.task_extras.{name}"]


# Built from an answer


def test_items_and_their_ids_make_the_same_draft() -> None:
    by_items = draft(
        script=INIT.outbound_group_v2[0],
        dial_time=INIT.task_dial_times[0],
        bridge_group_id=INIT.bridge_groups[0],
        auto_recycle_rule_id=INIT.auto_recycle_rules[0],
        background_id=INIT.background[0],
        llm_intention_id=INIT.llm_intention_configs[0],
        lines=INIT.caller_line_list,
        end_action="1",
    )
    by_ids = draft(
        script="141116018687787008",
        dial_time="1",
        bridge_group_id=1,
        auto_recycle_rule_id="1",
        background_id=34,
        llm_intention_id=1,
        lines=[LINE],
        end_action=1,
    )
    assert by_items == by_ids
    assert by_ids.destination_extension == 141116018687787008


def test_every_kind_of_script_is_taken() -> None:
    for script in (
        INIT.outbound_group[0],
        INIT.outbound_group_v2[1],
        INIT.big_model_outbound_group[0],
    ):
        assert draft(script=script).destination_extension == int(script.id)


def test_without_a_time_group_it_is_the_default_one() -> None:
    groups = [{**SAMPLE["task_dial_times"][0], "id": own, "is_default": own == 7} for own in (5, 7)]
    assert draft(decode(SAMPLE | {"task_dial_times": groups})).dial_time_id == 7
    with pytest.raises(WolfDraftError, match=r"^\$\.dial_time_id: .*default"):
        draft(changed("task_dial_times", is_default=False))


def test_a_time_without_a_zone_is_the_zones_and_any_other_is_converted() -> None:
    naive = draft()
    assert draft(start=START.replace(tzinfo=timezone(timedelta(hours=8)))) == naive
    assert draft(start=(START - timedelta(hours=8)).replace(tzinfo=UTC)) == naive
    assert draft(start="2025-03-03 09:00:00") == naive
    assert draft(start=START.replace(microsecond=999_999)) == naive
    in_tokyo = draft(start=(START - timedelta(hours=8)).replace(tzinfo=UTC), zone="Asia/Tokyo")
    assert in_tokyo.task_extras.start_time == "2025-03-03 10:00:00"


def test_a_holiday_is_written_to_the_minute() -> None:
    pairs: list[Any] = [
        (datetime(2025, 3, 3, 12), "2025-03-03 13:00"),
        ["2025-03-03 12:00", datetime(2025, 3, 3, 5, tzinfo=UTC)],
        Holiday(begin="2025-03-03 12:00", end="2025-03-03 13:00"),
    ]
    made = draft(holidays=pairs)
    assert made.task_extras.holiday == (pairs[2],) * 3
    with pytest.raises(WolfDraftError, match=r"^\$\.task_extras\.holiday\[0\]\.begin: a full min"):
        draft(holidays=[(datetime(2025, 3, 3, 12, 0, 1), "2025-03-03 13:00")])


def lines_of(*rooms: tuple[str, int, str | None]) -> TaskInit:
    made = [
        SAMPLE["caller_line_list"][0] | {"line_id": own, "residue": room, "available_at": ends}
        for own, room, ends in rooms
    ]
    return decode(SAMPLE | {"caller_line_list": made})


def test_lines_are_those_that_are_there_at_the_start() -> None:
    init = lines_of(("ends", 9, "2025-03-03 09:00:00"), ("stays", 3, None))
    assert draft(init, calls=2).task_extras.line == (TaskLine(id="stays", limit=2),)
    earlier = START - timedelta(seconds=1)
    assert draft(init, calls=2, start=earlier).task_extras.line[0].id == "ends"
    # a start that has passed counts as now
    assert draft(init, calls=2, start=earlier, at=START).task_extras.line[0].id == "stays"


def test_lines_that_are_named_share_the_calls_among_themselves() -> None:
    init = lines_of(("a", 9, None), ("b", 3, None), ("c", 2, None))
    made = draft(init, calls=4, lines=["b", init.caller_line_list[2]])
    assert made.task_extras.line == (TaskLine(id="b", limit=3), TaskLine(id="c", limit=1))
    with pytest.raises(WolfDraftError, match="3 are free on 1 lines"):
        draft(init, calls=4, lines=["b"])
    with pytest.raises(WolfDraftError, match=r"^\$\.task_extras\.line\[1\]\.id: .*'d'"):
        draft(init, calls=4, lines=["b", "d"])


def test_limits_that_are_given_are_taken_as_they_are() -> None:
    given = (TaskLine(id="x", limit=7), TaskLine(id="y", limit=0))
    assert draft(lines=given).task_extras.line == given
    assert draft(lines=[]).task_extras.line == ()
    with pytest.raises(WolfConfigError, match="mixture"):
        draft(lines=[TaskLine(id="x", limit=7), "y"])


def test_an_inbound_task_takes_inbound_lines() -> None:
    assert draft(is_call_in=1).task_extras.line == (TaskLine(id=INBOUND, limit=1),)
    assert draft(task_type=5).task_extras.line == (TaskLine(id=INBOUND, limit=1),)
    assert draft(task_type=5, is_call_in=0).task_extras.line == (TaskLine(id=LINE, limit=1),)


def test_the_usage_of_the_lines_can_be_asked_for() -> None:
    assert draft(usage=1) == draft()
    with pytest.raises(WolfDraftError, match="0 are free on 0 lines"):
        draft(usage=2)


def test_too_few_free_calls_are_told_when_the_draft_is_made() -> None:
    with pytest.raises(WolfDraftError, match="1 are free on 1 lines"):
        draft(calls=2)


def test_a_sound_draft_has_no_problems() -> None:
    assert draft().problems(INIT, NOW) == ()
    assert draft(is_call_in=1, lines=[]).problems(INIT, NOW) == ()


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"name": None}, "$.name"),
        ({"script": None}, "$.destination_extension"),
        ({"script": "12x"}, "$.destination_extension"),
        ({"script": True}, "$.destination_extension"),
        ({"script": "١٢"}, "$.destination_extension"),
        ({"calls": "2"}, "$.maximumcall"),
        ({"calls": True}, "$.maximumcall"),
        ({"start": None}, "$.task_extras.start_time"),
        ({"start": "2025-03-03"}, "$.task_extras.start_time"),
        ({"start": "2025-03-03T09:00:00"}, "$.task_extras.start_time"),
        ({"stop": "2025-02-30 09:00:00"}, "$.task_extras.stop_time"),
        ({"stop": "0000-00-00 00:00:00"}, "$.task_extras.stop_time"),
        ({"stop": "0001-01-01 00:00:00"}, "$.task_extras.stop_time"),
        ({"holidays": [("2025-03-03", "x")]}, "$.task_extras.holiday[0].begin"),
        ({"holidays": [("2025-03-03 12:00", 1)]}, "$.task_extras.holiday[0].end"),
        ({"holidays": ["2025-03-03 12:00"]}, "$.task_extras.holiday[0]"),
        ({"holidays": None}, "$.task_extras.holiday"),
        ({"holidays": "2025-03-03 12:00"}, "$.task_extras.holiday"),
        ({"lines": 5}, "$.task_extras.line"),
        ({"lines": "abc"}, "$.task_extras.line"),
        ({"lines": [None]}, "$.task_extras.line[0].id"),
        ({"dial_time": "all day"}, "$.dial_time_id"),
        ({"bridge_group_id": 1.5}, "$.bridge_group_id"),
        ({"background_id": "x"}, "$.background_id"),
        ({"end_action": "x"}, "$.end_action"),
        ({"enable_type": "0"}, "$.enable_type"),
        ({"remark": 1}, "$.remark"),
        ({"interval_time": "5"}, "$.task_extras.interval_time"),
        ({"extra": 1}, "$.extra"),
        ({"extra": {1: 2}}, "$.extra"),
        ({"extra": {"a": {1, 2}}}, "$.extra"),
        ({"extra": {"a": float("nan")}}, "$.extra"),
        ({"extra": {"a": datetime(2025, 1, 1)}}, "$.extra"),
        ({"task_extras": {"a": object()}}, "$.task_extras.extra"),
        ({"lines": [TaskLine(id="a", limit=10**5000)]}, "$"),
        ({"name": "\ud800"}, "$"),
        ({"lines": [TaskLine(id=1, limit=1)]}, "$.task_extras.line[0].id"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        ({"lines": [TaskLine(id="a", limit="1")]}, "$.task_extras.line[0].limit"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ],
)
def test_what_no_draft_can_be_made_of_is_refused_with_its_path(changes: Any, path: str) -> None:
    with pytest.raises(WolfDraftError) as caught:
        draft(**changes)
    [problem] = caught.value.problems
    assert (problem.path, problem.severity) == (path, "error")
    assert str(caught.value) == f"{path}: {problem.message}"
    assert "expected" in problem.message or "no such line" in problem.message


@pytest.mark.parametrize("depth", [100, 400, 700, 950, 5000])
def test_whatever_depth_has_what_has_no_field_it_is_taken_or_refused_with_its_path(
    depth: int,
) -> None:
    deep: Any = 1
    for _ in range(depth):
        deep = {"a": deep}
    paths: list[str] = []
    try:
        assert draft(extra=deep).extra.keys() == {"a"}
    except WolfDraftError as error:
        paths = [problem.path for problem in error.problems]
    assert paths in ([], ["$.extra"])


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"task_extras": {}}, "$.task_extras"),
        ({"task_extras": None}, "$.task_extras"),
        ({"destination_extension": "1"}, "$.destination_extension"),
    ],
)
def test_a_struct_of_ones_own_is_checked_alike(changes: Any, path: str) -> None:
    with pytest.raises(WolfDraftError) as caught:
        fields(**changes)
    assert [problem.path for problem in caught.value.problems] == [path]


def test_a_zone_that_is_none_is_refused() -> None:
    with pytest.raises(WolfConfigError, match="zone must be"):
        fields(zone="Mars")


BAD_SETTINGS: list[tuple[Any, str]] = [
    ({"line": "abc"}, "$.task_extras.line"),
    ({"line": [LINE]}, "$.task_extras.line[0]"),
    ({"holiday": None}, "$.task_extras.holiday"),
    ({"holiday": [{}]}, "$.task_extras.holiday[0]"),
    ({"holiday": [Holiday(begin="x", end="y")]}, "$.task_extras.holiday[0].begin"),
]


@pytest.mark.parametrize(("changes", "path"), BAD_SETTINGS)
def test_settings_of_ones_own_are_checked_alike(changes: Any, path: str) -> None:
    with pytest.raises(WolfDraftError) as caught:
        extras(**changes)
    assert [problem.path for problem in caught.value.problems] == [path]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"calls": 0}, "calls must be a whole number from 1, not 0"),
        ({"zone": "Mars"}, "zone must be"),
        ({"usage": 0}, "usage must be"),
        ({"legacy": "false"}, "legacy must be"),
        ({"at": "now"}, "at must be"),
        ({"bridge_group": 1}, "optional fields are bridge_group_id, .* not bridge_group"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(changes: Any, message: str) -> None:
    with pytest.raises(WolfConfigError, match=message):
        draft(**changes)


# Values


def test_a_draft_is_deeply_immutable_whatever_it_was_made_of() -> None:
    line: Any = [TaskLine(id=LINE, limit=1)]
    extra: Any = {"a": [1, {"b": 2}]}
    own = TaskExtras(**EXTRAS, line=line, extra=extra)
    made = fields(task_extras=own, extra=extra)
    extra["a"].append(3)
    line.clear()
    assert made.extra["a"] == (1, {"b": 2})
    assert made.task_extras.line == (TaskLine(id=LINE, limit=1),)
    hash(made)
    for target, name in ((made, "name"), (made.task_extras, "line")):
        with pytest.raises(AttributeError):
            setattr(target, name, "x")
    mappings: Any = (made.extra, made.task_extras.extra, made.extra["a"][1])
    for mapping in mappings:
        with pytest.raises(TypeError, match="read-only"):
            mapping["c"] = 1


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_draft_survives_pickling(protocol: int) -> None:
    made = draft(extra={"a": [1]})
    assert pickle.loads(pickle.dumps(made, protocol)) == made
    assert copy.deepcopy(made) == made


# Problems


def test_an_answer_that_is_none_is_refused() -> None:
    ask: Callable[..., Any] = draft().problems
    for wrong in (None, {}, SAMPLE):
        with pytest.raises(WolfConfigError, match="init must be a TaskInit"):
            ask(wrong)
    with pytest.raises(WolfConfigError, match="at must be"):
        ask(INIT, "now")


@pytest.mark.parametrize("name", ["", " ", "\n\u3000"])
def test_a_name_must_not_be_empty(name: str) -> None:
    assert found(draft(name=name)) == [("$.name", "name_empty", "error")]


@pytest.mark.parametrize(
    ("field", "section"),
    [
        ("destination_extension", None),
        ("dial_time_id", None),
        ("bridge_group_id", "bridge_groups"),
        ("auto_recycle_rule_id", "auto_recycle_rules"),
        ("background_id", "background"),
        ("llm_intention_id", "llm_intention_configs"),
    ],
)
def test_an_id_that_the_answer_lacks_is_an_error(field: str, section: str | None) -> None:
    assert found(fields(**{field: 999})) == [(f"$.{field}", "unknown_id", "error")]
    if section is not None:
        known = SAMPLE[section][0]["id"]
        assert found(fields(**{field: known})) == []
        assert found(fields(**{field: known}), decode(SAMPLE | {section: []})) == [
            (f"$.{field}", "unknown_id", "error")
        ]


def test_the_int_of_a_script_of_version_2_is_known() -> None:
    assert found(fields(destination_extension=141116018687787008)) == []
    assert found(fields(destination_extension=141116018687787009)) == [
        ("$.destination_extension", "unknown_id", "error")
    ]


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"is_lock": 1}, "script_locked"), ({"is_active": 0}, "script_inactive")],
)
def test_a_locked_or_inactive_script_is_a_warning(changes: Any, code: str) -> None:
    path = "$.destination_extension"
    assert found(draft(), changed("outbound_group", **changes)) == [(path, code, "warning")]
    llm = changed("big_model_outbound_group", **changes)
    assert found(draft(script=12542), llm) == [(path, code, "warning")]
    unknown = changed("outbound_group", is_lock=None, is_active=None)
    assert found(draft(), unknown) == []


def test_variables_to_fill_are_a_warning_that_names_them() -> None:
    [problem] = draft(script=INIT.outbound_group_v2[1]).problems(INIT, NOW)
    assert (problem.path, problem.severity) == ("$.destination_extension", "warning")
    assert "自定义变量1, 自定义变量2" in problem.message


def test_an_end_action_must_be_a_key() -> None:
    for key in (0, 1):
        assert found(draft(end_action=key)) == []
    [problem] = draft(end_action=2).problems(INIT, NOW)
    assert (problem.path, problem.severity) == ("$.end_action", "error")
    assert problem.message == "a key of end_actions is expected (1, 0), not 2"


def test_a_limit_or_a_total_below_1_is_an_error() -> None:
    zero = extras(line=[TaskLine(id=LINE, limit=0)])
    assert ("$.task_extras.line[0].limit", "limit_below_1", "error") in found(zero)
    made = fields(maximumcall=0)
    assert ("$.maximumcall", "maximumcall_below_1", "error") in found(made)


def test_a_limit_above_the_residue_is_an_error() -> None:
    made = fields(
        maximumcall=2, task_extras=TaskExtras(**EXTRAS, line=(TaskLine(id=LINE, limit=2),))
    )
    [problem] = made.problems(INIT, NOW)
    assert (problem.path, problem.code) == ("$.task_extras.line[0].limit", "limit_above_residue")
    assert problem.message == "at most 1 is expected, its residue, not 2"
    assert found(made, changed("caller_line_list", residue=2)) == []
    assert found(made, changed("caller_line_list", residue=None)) == [
        ("$.task_extras.line[0].limit", "residue_unknown", "error")
    ]


def test_a_line_that_ended_before_the_start_is_an_error() -> None:
    ended = ("$.task_extras.line[0].id", "line_ended", "error")
    assert found(draft(), changed("caller_line_list", available_at="2025-03-03 09:00:00")) == [
        ended
    ]
    later = changed("caller_line_list", available_at="2025-03-03 09:00:01")
    assert found(draft(), later) == []
    # a start that has passed counts as now
    assert found(draft(), later, at=START + timedelta(seconds=1)) == [ended]


def test_a_line_twice_or_unknown_or_of_the_other_direction_is_an_error() -> None:
    init = changed("caller_line_list", residue=5)
    twice = TaskExtras(**EXTRAS, line=(TaskLine(id=LINE, limit=1),) * 2)
    assert found(fields(maximumcall=2, task_extras=twice), init) == [
        ("$.task_extras.line[1].id", "line_twice", "error")
    ]
    unknown = ("$.task_extras.line[0].id", "unknown_id", "error")
    assert found(extras(line=[TaskLine(id="x", limit=1)])) == [unknown]
    assert found(extras(line=[TaskLine(id=INBOUND, limit=1)])) == [unknown]
    assert found(fields(is_call_in=1)) == [unknown]


def test_more_lines_than_five_are_a_warning() -> None:
    init = lines_of(*((str(number), 1, None) for number in range(6)))
    chosen = [TaskLine(id=str(number), limit=1) for number in range(6)]
    assert found(draft(init, calls=6, lines=chosen), init) == [
        ("$.task_extras.line", "too_many_lines", "warning")
    ]
    assert found(draft(init, calls=5, lines=chosen[:5]), init) == []


def test_limits_that_do_not_add_up_are_an_error() -> None:
    [problem] = fields(maximumcall=3).problems(INIT, NOW)
    assert (problem.path, problem.code) == ("$.maximumcall", "sum_of_limits")
    assert problem.message == "the sum of the limits is expected, 1, not 3"


def test_an_outbound_task_without_a_line_is_an_error_and_an_inbound_one_is_not() -> None:
    assert found(extras(line=[])) == [("$.task_extras.line", "no_line", "error")]
    assert found(draft(is_call_in=1, lines=[], calls=9)) == []


def test_other_numbers_that_make_no_sense_are_errors() -> None:
    assert found(extras(interval_time=-1)) == [
        ("$.task_extras.interval_time", "interval_negative", "error")
    ]
    assert found(fields(is_call_in=2)) == [("$.is_call_in", "is_call_in_unknown", "error")]


@pytest.mark.parametrize("stop", ["2025-03-03 09:00:00", "2025-03-03 08:59:59"])
def test_a_stop_that_is_not_after_the_start_is_an_error(stop: str) -> None:
    assert found(extras(stop_time=stop)) == [
        ("$.task_extras.stop_time", "stop_before_start", "error")
    ]


def test_a_stop_in_the_past_is_an_error_by_the_drafts_own_zone() -> None:
    stop = [("$.task_extras.stop_time", "stop_in_the_past", "error")]
    assert found(draft(), at=STOP) == stop
    assert found(draft(), at=STOP - timedelta(seconds=1)) == []
    assert found(draft(), at=(STOP - timedelta(hours=8)).replace(tzinfo=UTC)) == stop
    assert found(draft(zone="Asia/Tokyo"), at=STOP.replace(hour=9, tzinfo=UTC)) == stop


def test_without_a_moment_it_is_now() -> None:
    assert found(draft(), at=None)[-1] == ("$.task_extras.stop_time", "stop_in_the_past", "error")


def window(start: str, stop: str) -> TaskDraft:
    return extras(start_time=f"2025-03-{start}", stop_time=f"2025-03-{stop}")


def hours_on(week: int) -> TaskInit:
    times = [{"begin_time": "09:00", "end_time": "12:00"}]
    return changed("task_dial_times", content=[{"week": week, "times": times}])


@pytest.mark.parametrize(
    ("start", "stop", "opens"),
    [
        ("03 09:00:00", "03 12:00:00", True),
        ("03 12:00:00", "03 13:00:00", False),  # between the hours
        ("03 12:00:00", "03 13:00:01", True),
        ("03 18:00:00", "04 09:00:00", False),  # an opening at the stop is too late
        ("03 18:00:00", "04 09:00:01", True),
    ],
)
def test_a_window_in_which_the_time_group_never_opens_is_an_error(
    start: str, stop: str, opens: bool
) -> None:
    expected = [] if opens else [("$.dial_time_id", "never_open", "error")]
    assert found(window(start, stop)) == expected


def test_the_part_of_a_window_that_has_passed_does_not_count() -> None:
    made = window("03 09:00:00", "03 12:30:00")
    assert found(made, at=datetime(2025, 3, 3, 11)) == []
    assert found(made, at=datetime(2025, 3, 3, 12)) == [("$.dial_time_id", "never_open", "error")]


def test_a_window_that_opens_by_the_other_numbering_of_days_is_a_warning() -> None:
    monday = window("03 09:00:00", "03 12:00:00")
    assert found(monday, hours_on(1)) == []
    assert found(monday, hours_on(0)) == [("$.dial_time_id", "never_open", "warning")]
    assert found(monday, hours_on(3)) == [("$.dial_time_id", "never_open", "error")]


def test_a_long_window_opens_if_the_group_ever_does() -> None:
    made = window("03 09:00:00", "30 12:00:00")
    for week in range(7):
        assert found(made, hours_on(week)) == []
    assert found(made, changed("task_dial_times", content=[])) == [
        ("$.dial_time_id", "never_open", "error")
    ]


def test_a_holiday_that_ends_before_it_begins_is_an_error() -> None:
    good = Holiday(begin="2025-03-03 12:00", end="2025-03-03 12:00:00")
    bad = Holiday(begin="2025-03-03 12:00", end="2025-03-03 11:59")
    assert found(extras(holiday=[good, bad])) == [
        ("$.task_extras.holiday[1].end", "holiday_ends_first", "error")
    ]


def test_all_problems_are_found_at_once() -> None:
    made = fields(
        name="", destination_extension=9, maximumcall=0, end_action=7, is_call_in=3, remark=""
    )
    assert {code for _, code, _ in found(made)} == {
        "name_empty",
        "maximumcall_below_1",
        "is_call_in_unknown",
        "unknown_id",
        "unknown_end_action",
        "sum_of_limits",
    }


def test_each_rule_names_its_source_and_its_grade() -> None:
    rules = [
        function
        for name, function in inspect.getmembers(draft_rules, inspect.isfunction)
        if name.startswith("_check_") and inspect.getdoc(function)
    ]
    assert len(rules) >= 10
    for rule in rules:
        words = " ".join((inspect.getdoc(rule) or "").split())
        assert "Source: " in words, rule
        assert any(grade in words for grade in ("(D", "(C)", "(I)")), rule


@given(st.integers(0, 30), st.integers(1, 400), st.booleans())
@settings(max_examples=60, deadline=None)
def test_what_a_synthetic_account_drafts_has_no_errors(
    seed: int, calls: int, inbound: bool
) -> None:
    init = decode(synthetic_task_init(seed, Account("u")))
    try:
        made = draft(init, script=init.outbound_group[0], calls=calls, is_call_in=int(inbound))
    except WolfDraftError as error:
        free = sum(line.residue or 0 for line in init.lines_for(inbound=inbound, at=START))
        assert f"{free} are free" in str(error)  # noqa: PT017
        return
    problems: tuple[DraftProblem, ...] = made.problems(init, NOW)
    assert [problem for problem in problems if problem.severity == "error"] == []

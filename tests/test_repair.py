"""Put the known quirks of the server right, each alone and all at once, and no wrong shape."""

from __future__ import annotations

import json
import random
from datetime import datetime
from typing import Any, cast

import msgspec
import pytest
import strategies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import MISSING, Quirky, replaced, sample

from wolf_async.api.repair import repair
from wolf_async.api.response import RawResponse, parse
from wolf_async.errors import WolfDecodeError
from wolf_async.models import Configs, EndActions, TaskInit

BOM = b"\xef\xbb\xbf"
SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def answer(data: Any, **envelope: Any) -> RawResponse:
    document = {
        "code": 200,
        "status": "success",
        "message": "返回任务初始化信息成功",
        "data": data,
    } | envelope
    return RawResponse(200, {}, json.dumps(document).encode())


def place(text: str) -> tuple[str | int, ...]:
    """Split the path ``a.0.b`` into keys and indexes."""
    return tuple(int(part) if part.isdigit() else part for part in text.split("."))


def changed(where: str, value: Any) -> dict[str, Any]:
    """Return the sample's data with one place changed or left out."""
    data: dict[str, Any] = sample()["data"]
    path = place(where)
    if value is not MISSING:
        return cast("dict[str, Any]", replaced(data, path, value))
    del strategies.found(data, path[:-1])[path[-1]]
    return data


def at(init: Any, where: str) -> Any:
    for key in place(where):
        init = init[key] if isinstance(key, int) else getattr(init, key)
    return init


PLAIN = parse(answer(sample()["data"]))[0]


def test_the_documented_sample_takes_the_strict_path() -> None:
    init, deviations = parse(RawResponse(200, {}, strategies.SAMPLE_BYTES))
    assert deviations == {}
    assert init == PLAIN
    assert init.caller_line_list[0].residue == 1


# where, what stands there, what becomes of it, and the place that is reported
QUIRKS: list[tuple[str, Any, Any, str]] = [
    # an empty map as an empty array, a map as a list
    ("end_actions", [], {}, "end_actions"),
    ("end_actions", ["无操作", "暂停"], {"0": "无操作", "1": "暂停"}, "end_actions"),
    ("end_actions", None, {}, "end_actions"),
    ("end_actions", {"0": 7}, {"0": "7"}, "end_actions.*"),
    (
        "auto_recycle_rules.0.configs",
        ["a", [1]],
        {"0": "a", "1": (1,)},
        "auto_recycle_rules[].configs",
    ),
    ("auto_recycle_rules.0.configs", None, {}, "auto_recycle_rules[].configs"),
    ("auto_recycle_rules.0.configs", MISSING, {}, "auto_recycle_rules[].configs"),
    # a list as a map, and what stands for an empty list
    ("outbound_group_v2.0.variable", {}, (), "outbound_group_v2[].variable"),
    ("outbound_group_v2.0.variable", None, (), "outbound_group_v2[].variable"),
    ("outbound_group_v2.0.variable", MISSING, (), "outbound_group_v2[].variable"),
    ("caller_line_list", None, (), "caller_line_list"),
    # flags
    ("task_dial_times.0.is_default", 0, False, "task_dial_times[].is_default"),
    ("task_dial_times.0.is_default", 1, True, "task_dial_times[].is_default"),
    ("task_dial_times.0.is_default", "0", False, "task_dial_times[].is_default"),
    ("task_dial_times.0.is_default", "1", True, "task_dial_times[].is_default"),
    ("llm_intention_configs.0.is_default", True, 1, "llm_intention_configs[].is_default"),
    ("outbound_group.0.usable", False, 0, "outbound_group[].usable"),
    ("big_model_outbound_group.0.is_call_in", "1", 1, "big_model_outbound_group[].is_call_in"),
    # ids and other ints
    ("background.0.id", "34", 34, "background[].id"),
    (
        "outbound_group_v2.1.variable.0.id",
        str(2**53 + 1),
        2**53 + 1,
        "outbound_group_v2[].variable[].id",
    ),
    (
        "outbound_group_v2.1.variable.0.id",
        str(2**64 - 1),
        2**64 - 1,
        "outbound_group_v2[].variable[].id",
    ),
    ("outbound_group_v2.0.id", 141116018687787009, "141116018687787009", "outbound_group_v2[].id"),
    ("caller_line_list.0.line_id", 2**64 + 1, str(2**64 + 1), "caller_line_list[].line_id"),
    ("caller_line_list.0.belong_user", 17, "17", "caller_line_list[].belong_user"),
    ("caller_line_list.0.residue", "0", 0, "caller_line_list[].residue"),
    ("caller_line_list.0.residue", "-3", -3, "caller_line_list[].residue"),
    ("caller_line_list.0.residue", 3.0, 3, "caller_line_list[].residue"),
    ("max_recycle_limit", "50", 50, "max_recycle_limit"),
    ("caller_line_list.0.residue", "5.0", 5, "caller_line_list[].residue"),
    ("background.0.id", "34.00", 34, "background[].id"),
    ("outbound_group.0.category_id", 5.0, 5, "outbound_group[].category_id"),
    # an empty text for a number, a flag or a date that may be missing
    ("caller_line_list.0.residue", "", None, "caller_line_list[].residue"),
    ("caller_line_list.0.line_concurrency", "", None, "caller_line_list[].line_concurrency"),
    ("max_recycle_limit", "", None, "max_recycle_limit"),
    ("task_dial_times.0.is_default", "", None, "task_dial_times[].is_default"),
    ("llm_intention_configs.0.is_default", "", None, "llm_intention_configs[].is_default"),
    ("caller_line_list.0.available_at", "", None, "caller_line_list[].available_at"),
    # flags in words
    ("task_dial_times.0.is_default", "true", True, "task_dial_times[].is_default"),
    ("task_dial_times.0.is_default", "false", False, "task_dial_times[].is_default"),
    ("llm_intention_configs.0.is_default", "true", 1, "llm_intention_configs[].is_default"),
    ("outbound_group.0.is_lock", "false", 0, "outbound_group[].is_lock"),
    # JSON columns that arrive as strings
    ("auto_recycle_rules.0.configs", '{"a": [1]}', {"a": (1,)}, "auto_recycle_rules[].configs"),
    ("auto_recycle_rules.0.configs", "[]", {}, "auto_recycle_rules[].configs"),
    ("auto_recycle_rules.0.configs", '["a"]', {"0": "a"}, "auto_recycle_rules[].configs"),
    ("auto_recycle_rules.0.configs", "null", {}, "auto_recycle_rules[].configs"),
    ("outbound_group_v2.0.variable", "[]", (), "outbound_group_v2[].variable"),
    ("outbound_group_v2.0.variable", "null", (), "outbound_group_v2[].variable"),
    ("task_dial_times.0.content", "[]", (), "task_dial_times[].content"),
    # labels that are null
    ("end_actions", {"0": "无操作", "1": None}, {"0": "无操作", "1": ""}, "end_actions.*"),
    # dates that are none
    ("background.0.created_at", "0000-00-00 00:00:00", None, "background[].created_at"),
    ("background.0.created_at", "0000-00-00", None, "background[].created_at"),
    ("background.0.created_at", "", None, "background[].created_at"),
    ("outbound_group.0.deleted_at", "0000-00-00 00:00:00", None, "outbound_group[].deleted_at"),
    *[
        ("caller_line_list.0.available_at", text, None, "caller_line_list[].available_at")
        for text in (
            "0000-00-00T00:00:00",
            "0000-00-00 00:00:00.000000",
            "0000-00-00 00:00",
            "0000-00-00T00:00:00.000000Z",
            "0000-00-00T00:00:00+08:00",
            "0000-00-00 00:00:01",
            "0000-11-30 00:00:00",
            "-0001-11-30",
            "-0001-11-30 00:00:00",
            "-0001-11-30 00:00:00.000000",
            "-0001-11-30T00:00:00.000000Z",
            "-0001-11-29T15:54:17+08:00",
            "-000001-11-30T00:00:00.000000Z",
            0,
            "0",
            "0.0",
            -62169984000,
        )
    ],
    # dates in other forms
    *[
        (
            "caller_line_list.0.available_at",
            text,
            datetime.fromisoformat(expected),
            "caller_line_list[].available_at",
        )
        for text, expected in (
            ("2024-06-16T06:57:12.000000Z", "2024-06-16 14:57:12"),
            ("2024-06-16T06:57:12Z", "2024-06-16 14:57:12"),
            ("2024-06-16t06:57:12.5z", "2024-06-16 14:57:12.5"),
            ("2024-06-16T14:57:12+08:00", "2024-06-16 14:57:12"),
            ("2024-06-16 14:57:12 +08:00", "2024-06-16 14:57:12"),
            ("2024-06-16T14:57:12+0800", "2024-06-16 14:57:12"),
            ("2024-06-16T14:57:12+08", "2024-06-16 14:57:12"),
            ("2024-06-16T00:57:12.123456-06:00", "2024-06-16 14:57:12.123456"),
            ("2024-12-31T23:30:00+05:30", "2025-01-01 02:00:00"),
            ("2024-06-16T06:57Z", "2024-06-16 14:57:00"),
            ("2024-06-16 14:57", "2024-06-16 14:57:00"),
            ("2024-06-16", "2024-06-16 00:00:00"),
            ("0001-01-01T00:00:00+08:00", "0001-01-01 00:00:00"),
            ("9999-12-31T15:59:59Z", "9999-12-31 23:59:59"),
            # as late as there is: it means that the line does not end
            ("9999-12-31T23:59:59.000000Z", "9999-12-31 23:59:59"),
            (1718521032, "2024-06-16 14:57:12"),
            (1718521032.0, "2024-06-16 14:57:12"),
            ("1718521032", "2024-06-16 14:57:12"),
            ("1718521032.0", "2024-06-16 14:57:12"),
            (1, "1970-01-01 08:00:01"),
        )
    ],
    # keys that older versions lack
    ("task_dial_times.0.name", MISSING, None, "task_dial_times[].name"),
    ("caller_line_list.0.new_line", MISSING, None, "caller_line_list[].new_line"),
    ("caller_line_list.0.new_line.node", MISSING, None, "caller_line_list[].new_line.node"),
    ("outbound_group.0.llm_scene_id", MISSING, None, "outbound_group[].llm_scene_id"),
    ("bridge_groups.0.strategy", MISSING, None, "bridge_groups[].strategy"),
    # fields whose meaning the vendor does not document
    ("outbound_group.0.deleted_at", False, None, "outbound_group[].deleted_at"),
    ("outbound_group.0.deleted_at", "2024-13-01 00:00:00", None, "outbound_group[].deleted_at"),
    ("outbound_group.0.deleted_at", "no", None, "outbound_group[].deleted_at"),
    ("outbound_group.0.speed", 0.5, None, "outbound_group[].speed"),
    ("outbound_group.0.speed", "1.5", None, "outbound_group[].speed"),
    ("outbound_group.0.speed", True, None, "outbound_group[].speed"),
    ("outbound_group.0.debug", 2, None, "outbound_group[].debug"),
    ("outbound_group.0.category_id", {}, None, "outbound_group[].category_id"),
    ("outbound_group.0.bridge_group_id", [], None, "outbound_group[].bridge_group_id"),
    ("outbound_group.0.exclusive_asr", ["a"], None, "outbound_group[].exclusive_asr"),
    ("caller_line_list.0.name", False, None, "caller_line_list[].name"),
    ("auto_recycle_rules.0.status", "on", None, "auto_recycle_rules[].status"),
    ("auto_recycle_rules.0.configs", "", {}, "auto_recycle_rules[].configs"),
    ("auto_recycle_rules.0.configs", "{", {}, "auto_recycle_rules[].configs"),
    ("auto_recycle_rules.0.configs", "5", {}, "auto_recycle_rules[].configs"),
    ("auto_recycle_rules.0.configs", "[" * 10_000, {}, "auto_recycle_rules[].configs"),
    ("auto_recycle_rules.0.configs", 0, {}, "auto_recycle_rules[].configs"),
    ("auto_recycle_rules.0.details.0.time", {}, None, "auto_recycle_rules[].details[].time"),
    ("max_recycle_limit", [], None, "max_recycle_limit"),
    ("max_recycle_limit", False, None, "max_recycle_limit"),
    ("outbound_group.0.tts_extension", {"speed": 5}, None, "outbound_group[].tts_extension"),
    ("outbound_group.0.tts_extension", [], None, "outbound_group[].tts_extension"),
    ("outbound_group.0.aim_content", False, None, "outbound_group[].aim_content"),
    ("outbound_group.0.custom_prompt", 12, "12", "outbound_group[].custom_prompt"),
]


@pytest.mark.parametrize(("where", "found", "expected", "reported"), QUIRKS)
def test_each_quirk_alone_is_put_right_and_reported(
    where: str, found: Any, expected: Any, reported: str
) -> None:
    init, deviations = parse(answer(changed(where, found)))
    value = at(init, where)
    assert value == expected
    assert type(value) is type(expected) or isinstance(value, (EndActions, Configs))
    assert set(deviations) == {f"$.data.{reported}"}


@pytest.mark.parametrize(("where", "found", "expected", "reported"), QUIRKS)
def test_a_quirk_changes_nothing_beside_its_own_place(
    where: str, found: Any, expected: Any, reported: str
) -> None:
    init, _ = parse(answer(changed(where, found)))
    section = where.split(".", 1)[0]
    others = set(TaskInit.__struct_fields__) - {section}
    assert {name for name in others if getattr(init, name) != getattr(PLAIN, name)} == set()


def test_a_filtered_list_with_numeric_keys_keeps_its_order() -> None:
    groups = [
        {"id": index, "name": None, "strategy": None, "strategy_str": None} for index in range(3)
    ]
    data = changed("bridge_groups", {"7": groups[1], "0": groups[0], "2": groups[2]})
    init, deviations = parse(answer(data))
    assert [group.id for group in init.bridge_groups] == [1, 0, 2]
    assert deviations == {"$.data.bridge_groups": "expected an array, got an object of 3"}


def test_null_among_the_items_of_a_list_is_left_out() -> None:
    first, second = [{"id": number, "name": None, "created_at": None} for number in (7, 8)]
    for items in ([None, first, None, second], {"0": first, "1": None, "4": second}):
        init, deviations = parse(answer(changed("background", items)))
        assert [item.id for item in init.background] == [7, 8]
        assert deviations["$.data.background[]"] == "expected an object, got None"


def test_a_json_column_that_arrives_as_a_string_is_read_as_what_it_holds() -> None:
    data = sample()["data"]
    content = json.dumps(data["task_dial_times"][0]["content"], ensure_ascii=False)
    variables = json.dumps({"0": data["outbound_group_v2"][1]["variable"][0], "3": None})
    data["task_dial_times"][0]["content"] = content
    data["outbound_group_v2"][1]["variable"] = variables
    init, deviations = parse(answer(data))
    assert init.task_dial_times == PLAIN.task_dial_times
    assert init.outbound_group_v2[1].variable == PLAIN.outbound_group_v2[1].variable[:1]
    assert set(deviations) == {
        "$.data.task_dial_times[].content",
        "$.data.outbound_group_v2[].variable",
        "$.data.outbound_group_v2[].variable[]",
    }
    assert deviations["$.data.task_dial_times[].content"].startswith("expected an array, got '[")


def test_what_is_left_out_of_an_undocumented_field_is_shown() -> None:
    _, deviations = parse(answer(changed("outbound_group.0.speed", 0.5)))
    assert deviations == {
        "$.data.outbound_group[].speed": "left out, what it means is not documented: 0.5"
    }


def test_a_field_may_be_odd_exactly_if_its_docstring_says_that_it_is_not_documented() -> None:
    data = sample()["data"]
    fields = [path for path in strategies.places(data) if path and isinstance(path[-1], str)]
    for path in fields:
        odd = answer(replaced(data, path, 0.5))
        if strategies.is_undocumented(path):
            assert len(parse(odd)[1]) == 1
            continue
        with pytest.raises(WolfDecodeError):
            parse(odd)


def test_an_object_as_an_empty_array_has_nothing_in_it() -> None:
    init, deviations = parse(answer(changed("caller_line_list.0.new_line.node", [])))
    node = at(init, "caller_line_list.0.new_line.node")
    assert node is not None
    assert node.name is None
    inside = "$.data.caller_line_list[].new_line.node"
    assert deviations == {
        inside: "expected an object, got an array of 0",
        f"{inside}.name": "missing",
    }


def test_an_absent_section_is_empty_and_no_deviation() -> None:
    init, deviations = parse(answer({"end_actions": {}}))
    assert init == TaskInit()
    assert deviations == {}


def test_all_sections_null_are_an_empty_answer() -> None:
    init, deviations = parse(answer(dict.fromkeys(TaskInit.__struct_fields__)))
    assert init == TaskInit()
    assert set(deviations) == {
        f"$.data.{name}" for name in set(TaskInit.__struct_fields__) - {"max_recycle_limit"}
    }


def test_a_deviation_says_what_was_expected_and_what_came() -> None:
    data = changed("caller_line_list.0.residue", "4")
    data["end_actions"] = []
    data["max_recycle_limit"] = "12345678901234567"
    assert parse(answer(data))[1] == {
        "$.data.caller_line_list[].residue": "expected an int, got '4'",
        "$.data.end_actions": "expected an object, got an array of 0",
        "$.data.max_recycle_limit": "expected an int, got '12345678901234567'",
    }


def test_a_deviation_shows_the_beginning_of_a_long_value() -> None:
    _, deviations = parse(answer(changed("caller_line_list.0.line_id", 10**60)))
    assert deviations == {
        "$.data.caller_line_list[].line_id": "expected a str, got 1" + "0" * 36 + "..."
    }


def test_of_many_items_with_one_quirk_the_first_is_reported() -> None:
    items = [{"id": str(number), "name": None, "created_at": None} for number in (7, 8)]
    init, deviations = parse(answer({"background": items}))
    assert [item.id for item in init.background] == [7, 8]
    assert deviations == {"$.data.background[].id": "expected an int, got '7'"}


def test_the_answer_to_repair_is_not_changed() -> None:
    data = changed("end_actions", ["a"])
    before = json.dumps(data)
    repair(data)
    assert json.dumps(data) == before


def test_unknown_keys_are_ignored_on_the_repair_path_too() -> None:
    data = changed(
        "background.0", {"id": "34", "name": "a", "created_at": None, "volume": {"x": [1]}}
    )
    assert parse(answer(data | {"new_section": [1]}))[0].background[0].id == 34


# --- wrong shapes ---------------------------------------------------------------------------------

# where, what stands there, and the place that the error names
WRONG: list[tuple[str, Any, str]] = [
    ("caller_line_list.0.residue", "many", "caller_line_list[0].residue"),
    ("caller_line_list.0.residue", {}, "caller_line_list[0].residue"),
    ("caller_line_list.0.residue", [], "caller_line_list[0].residue"),
    ("caller_line_list.0.residue", 1.5, "caller_line_list[0].residue"),
    ("caller_line_list.0.residue", float(2**53), "caller_line_list[0].residue"),
    ("caller_line_list.0.residue", True, "caller_line_list[0].residue"),
    ("caller_line_list.0.residue", " ", "caller_line_list[0].residue"),
    ("caller_line_list.0.residue", "5.5", "caller_line_list[0].residue"),
    ("caller_line_list.0.residue", "true", "caller_line_list[0].residue"),
    ("caller_line_list.0.residue", "1e3", "caller_line_list[0].residue"),
    ("caller_line_list.0.residue", "٣", "caller_line_list[0].residue"),
    ("caller_line_list.0.residue", "1\n", "caller_line_list[0].residue"),
    ("caller_line_list.0.residue", "9" * 21, "caller_line_list[0].residue"),
    ("caller_line_list.0.line_id", MISSING, "caller_line_list[0]"),
    ("caller_line_list.0.line_id", None, "caller_line_list[0].line_id"),
    ("caller_line_list.0.line_id", 1.0, "caller_line_list[0].line_id"),
    ("caller_line_list.0.new_line", "x", "caller_line_list[0].new_line"),
    ("caller_line_list.0.new_line", ["x"], "caller_line_list[0].new_line"),
    ("caller_line_list.0.new_line.node", 0, "caller_line_list[0].new_line.node"),
    ("caller_line_list.0.remark", False, "caller_line_list[0].remark"),
    ("caller_line_list.0.available_at", "tomorrow", "caller_line_list[0].available_at"),
    ("caller_line_list.0.available_at", "2025-13-01 00:00:00", "caller_line_list[0].available_at"),
    *[
        ("caller_line_list.0.available_at", wrong, "caller_line_list[0].available_at")
        for wrong in (
            True,
            0.5,
            10**13,
            "1718521032000",
            "9" * 20,
            "2025-00-00 00:00:00",
            "2025-02-30",
            "2025-11-28 24:00:00",
            "2025-11-28T24:00",
            "2025-11-28 23:59:60",
            "2025-11-28T00:00:00+24:00",
            "2025-11-28T00:00:00 Asia/Shanghai",
            "2025/11/28",
            "20251128T000000Z",
            "2025-W48-5",
            "٢٠٢٥-11-28",
            "-0001-11-30 later",
            " ",
        )
    ],
    ("caller_line_list", {"lines": []}, "caller_line_list"),
    ("caller_line_list", {"0": {}, "x": {}}, "caller_line_list"),
    ("caller_line_list", "", "caller_line_list"),
    ("caller_line_list", False, "caller_line_list"),
    ("caller_line_list", 0, "caller_line_list"),
    ("caller_line_list", [None], "caller_line_list[0]"),
    ("caller_line_list", [None, None], "caller_line_list[0]"),
    ("caller_line_list", {"1": None}, "caller_line_list[0]"),
    ("caller_line_list", "[]", "caller_line_list"),
    ("caller_line_list.0.new_line", "", "caller_line_list[0].new_line"),
    ("caller_line_list", [[]], "caller_line_list[0]"),
    ("caller_line_list", [{}], "caller_line_list[0]"),
    ("caller_line_list", [sample()["data"]["caller_line_list"][0], 5], "caller_line_list[1]"),
    ("background.0.id", None, "background[0].id"),
    ("background.0.id", True, "background[0].id"),
    ("background.0.id", "34a", "background[0].id"),
    ("background.0.id", MISSING, "background[0]"),
    ("background.0.id", "", "background[0].id"),
    ("background.0.id", "true", "background[0].id"),
    ("outbound_group_v2.0.id", MISSING, "outbound_group_v2[0]"),
    ("outbound_group_v2.1.variable.1.id", {}, "outbound_group_v2[1].variable[1].id"),
    (
        "task_dial_times.0.content.6.times.1.end_time",
        18.5,
        "task_dial_times[0].content[6].times[1].end_time",
    ),
    ("task_dial_times.0.is_default", 2, "task_dial_times[0].is_default"),
    ("task_dial_times.0.is_default", "yes", "task_dial_times[0].is_default"),
    ("task_dial_times.0.is_default", 1.0, "task_dial_times[0].is_default"),
    ("task_dial_times.0.content", "", "task_dial_times[0].content"),
    ("task_dial_times.0.content", "[", "task_dial_times[0].content"),
    ("task_dial_times.0.content", "[" * 10_000, "task_dial_times[0].content"),
    ("task_dial_times.0.content", "5", "task_dial_times[0].content"),
    ("task_dial_times.0.content", '[{"week": {}}]', "task_dial_times[0].content[0].week"),
    ("outbound_group_v2.0.variable", '[null, {"id": ""}]', "outbound_group_v2[0].variable[1].id"),
    ("end_actions", "无操作", "end_actions"),
    ("end_actions", '{"0": "无操作"}', "end_actions"),
    ("end_actions", {"0": False}, "end_actions"),
    ("end_actions", [["a"]], "end_actions"),
    ("end_actions", {" - at `$.x`": {}}, "end_actions"),
]


@pytest.mark.parametrize(("where", "found", "path"), WRONG)
def test_a_wrong_shape_is_an_error_with_its_place(where: str, found: Any, path: str) -> None:
    with pytest.raises(WolfDecodeError) as caught:
        parse(answer(changed(where, found)))
    assert caught.value.path == f"$.data.{path}"
    assert f"at $.data.{path}" in str(caught.value)


def test_a_place_is_counted_with_the_nulls_that_were_left_out_before_it() -> None:
    good = sample()["data"]["caller_line_list"][0]
    wrong = good | {"new_line": good["new_line"] | {"node": 5}}
    for lines in ([None, good, None, wrong], {"0": None, "3": good, "5": None, "7": wrong}):
        with pytest.raises(WolfDecodeError) as caught:
            parse(answer(changed("caller_line_list", lines)))
        assert caught.value.path == "$.data.caller_line_list[3].new_line.node"


SCALARS_OF_THE_SAMPLE = [
    path
    for path in strategies.places(sample()["data"])
    if not isinstance(strategies.found(sample()["data"], path), dict | list)
]


@pytest.mark.parametrize("wrong", [{"x": {}}, [[]], 0.5], ids=repr)
def test_no_field_takes_a_wrong_shape(wrong: Any) -> None:
    for path in SCALARS_OF_THE_SAMPLE:
        if strategies.is_undocumented(path):
            continue
        with pytest.raises(WolfDecodeError) as caught:
            parse(answer(replaced(sample()["data"], path, wrong)))
        expected = path[:1] if path[0] == "end_actions" else path
        assert caught.value.path == strategies.as_text(expected)


@pytest.mark.parametrize(
    "data",
    [
        *[{}, [], None, "", 0, True, {"lines": [], "user": 1}, [{"caller_line_list": []}]],
        # a number beside the sections is none of them
        *[
            {"max_recycle_limit": 50},
            {"max_recycle_limit": None},
            {"max_recycle_limit": "50", "lines": [1]},
        ],
    ],
)
def test_an_answer_with_none_of_the_sections_is_an_error(data: Any) -> None:
    with pytest.raises(WolfDecodeError, match="none of the documented sections") as caught:
        parse(answer(data))
    assert caught.value.path == "$.data"


def test_a_success_without_data_is_an_error() -> None:
    with pytest.raises(WolfDecodeError, match="none of the documented sections") as caught:
        parse(RawResponse(200, {}, b'{"code":200,"status":"success","message":"ok"}'))
    assert caught.value.path == "$.data"


# --- everything at once ---------------------------------------------------------------------------


@settings(SETTINGS, max_examples=40)
@given(strategies.DOCUMENTED)
def test_any_documented_answer_takes_the_strict_path_and_keeps_all_that_it_says(
    plain: dict[str, Any],
) -> None:
    init, deviations = parse(answer(plain))
    if init == TaskInit():  # which could be no answer at all, and is looked at twice
        plain = {name: value for name, value in plain.items() if value}
    assert deviations == {}
    said = msgspec.to_builtins(init, builtin_types=[datetime])
    for rule in plain.get("auto_recycle_rules", []):
        rule["configs"] = rule["configs"] or {}
    written = json.loads(json.dumps(said, default=lambda moment: moment.isoformat(sep=" ")))
    assert {name: written[name] for name in plain} == json.loads(json.dumps(plain))


@settings(SETTINGS, max_examples=100)
@given(
    strategies.quirky_answers(),
    st.booleans(),
    st.randoms(),
    st.sampled_from([b"", BOM, BOM + BOM, b"\n" + BOM, BOM + b" \r\n" + BOM]),
    st.sampled_from([200, "200"]),
)
def test_any_answer_with_any_combination_of_quirks_decodes_to_an_equal_answer(
    answers: Quirky, ascii_only: bool, shuffle: random.Random, marks: bytes, code: Any
) -> None:
    plain, _ = parse(answer(answers.plain))
    document = {
        "code": code,
        "status": "success",
        "message": None,
        "data": answers.quirky,
        "new": [1],
    }
    keys = list(document)
    shuffle.shuffle(keys)
    body = json.dumps({key: document[key] for key in keys}, ensure_ascii=ascii_only).encode()
    init, deviations = parse(RawResponse(200, {}, marks + body))
    assert init == plain
    assert hash(init) == hash(plain)
    envelope = {"$"} if marks else set[str]()
    envelope |= {"$.code"} if code == "200" else set()
    assert set(deviations) == answers.paths | envelope


@settings(SETTINGS, max_examples=25)
@given(strategies.quirky_answers())
def test_what_was_put_right_needs_no_repair_again(answers: Quirky) -> None:
    init, _ = parse(answer(answers.quirky))
    again, deviations = parse(answer(json.loads(msgspec.json.encode(init))))
    assert again == init
    assert deviations == {}

"""What a person sees of an answer."""

from __future__ import annotations

import io
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from wolf_async import Account, Line, TaskDialTime, TaskInit, TimeRange
from wolf_async.cli.report import Report
from wolf_async.cli.week import strip
from wolf_async.cli.widgets import LineTable, bar, console, day, plain, usage
from wolf_async.models import dec_hook
from wolf_async.testing import synthetic_task_init

SAMPLE = json.loads(
    (Path(__file__).parents[1] / "data" / "task-init.sample.json").read_text(encoding="utf-8")
)["data"]
USER = Account("5832d184-dd53-42a0-8ace-0bf8d660f4cc", "5b55bcca-d653-4a58-8f9a-437fb0601f8e")
NOW = datetime(2025, 6, 1)


def decoded(data: dict[str, Any]) -> TaskInit:
    return msgspec.convert(data, TaskInit, dec_hook=dec_hook)


def sample(**changes: Any) -> TaskInit:
    return decoded(SAMPLE | changes)


def shown(what: RenderableType, width: int = 100) -> str:
    screen = console(width=width, record=True, file=io.StringIO())
    screen.print(what)
    return screen.export_text()


def report(init: TaskInit, width: int = 100, limit: int | None = None) -> str:
    return shown(Report(USER, init, limit=limit, now=NOW), width)


def section(text: str, name: str) -> str:
    """Return the part of a report from that title to the next blank line."""
    return text[text.index(name) :].partition("\n\n")[0]


def row(text: str, start: str) -> list[str]:
    """Return the cells of the row that begins like that."""
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    return re.split(r"\s{2,}", line.strip())


# --- the documented sample -----------------------------------------------------------------------


def test_both_ids_of_the_account_head_the_report() -> None:
    assert report(sample()).splitlines()[:2] == [f"Account {USER[0]}", f"Sub-account {USER[1]}"]


def test_a_line_is_shown_with_its_use_and_kind_and_free_concurrency_and_end() -> None:
    part = section(report(sample()), "Outbound lines")
    assert "1: 1 of 1 calls free" in part
    assert "ended" not in part
    assert row(part, "修改线路测试1111") == [
        "修改线路测试1111",
        "regular",
        "external",
        "━" * 14,
        "1/1",
        "2025-11-28",
        "yw代理-测试主账户1",
    ]


def test_a_line_whose_allocation_is_over_counts_as_ended() -> None:
    part = section(report(sample()), "Inbound lines")
    assert "1: 1 of 1 calls free, 1 ended" in part
    assert row(part, "呼入测试")[1:6] == [
        "regular",
        "internal",
        "━" * 14,
        "1/1",
        "2025-03-12 10:09",
    ]


def test_scripts_of_all_three_kinds_are_shown() -> None:
    text = report(sample())
    assert row(section(text, "Regular scripts"), "1 ") == ["1", "测试-抖音-1", "2024-09-26"]
    assert row(section(text, "LLM scripts"), "12542") == ["12542", "测试", "2025-03-13"]
    assert row(section(text, "Scripts 2.0"), "173172648300724225") == [
        "173172648300724225",
        "max-speak-time",
    ]


def test_variables_that_must_be_filled_stand_beside_their_script() -> None:
    scripts = section(report(sample()), "Scripts 2.0")
    assert row(scripts, "172094106779435008")[2] == "自定义变量1, 自定义变量2"


def test_variables_that_need_not_be_filled_are_only_counted() -> None:
    script = SAMPLE["outbound_group_v2"][1]
    first, second = script["variable"]
    some = sample(outbound_group_v2=[script | {"variable": [first, second | {"is_fill": False}]}])
    assert row(section(report(some), "Scripts 2.0"), script["id"])[2] == "自定义变量1 + 1 others"
    none = sample(outbound_group_v2=[script | {"variable": [second | {"is_fill": False}]}])
    assert row(section(report(none), "Scripts 2.0"), script["id"])[2] == "none of 1"


def test_a_time_group_is_shown_as_a_week() -> None:
    part = section(report(sample()), "Time groups")
    assert "1  系统呼叫时间  default" in part
    assert "week" not in part
    (line,) = [line for line in part.splitlines() if "Sun–Sat" in line]
    assert line.split() == [
        "Sun–Sat",
        "·" * 18 + "█" * 6 + "·" * 2 + "█" * 10 + "·" * 12,
        "09:00–12:00",
        "13:00–18:00",
    ]


def test_the_hours_stand_above_the_strip_of_the_day() -> None:
    lines = section(report(sample()), "Time groups").splitlines()
    axis, week = lines[2], lines[3]
    assert axis.index("9 ") == week.index("█")
    assert axis.index("21") == week.index("·", week.rindex("█")) + 6


def test_a_redial_rule_is_shown_with_what_it_calls_again_after() -> None:
    part = section(report(sample()), "Redial rules")
    assert row(part, "1 ") == ["1", "默认重呼规则", "on", "关机", "default"]
    assert "max_recycle_limit 50" in part


def test_what_a_rule_does_at_other_times_is_shown_as_it_was_sent() -> None:
    rule = SAMPLE["auto_recycle_rules"][0]
    details = [
        {"rule_id": 1, "number_status": 6, "time": 30, "number_status_str": "关机"},
        {"rule_id": 1, "number_status": 8, "time": None, "number_status_str": None},
    ]
    changed = sample(
        auto_recycle_rules=[rule | {"status": False, "is_default": False, "details": details}]
    )
    assert row(section(report(changed), "Redial rules"), "1 ") == [
        "1",
        "默认重呼规则",
        "off",
        "关机(time=30), 8",
    ]


@pytest.mark.parametrize(
    "held",
    [
        "转人工",
        "平均",
        "无操作",
        "暂停任务释放并发",
        "超市大厅",
        "质检条件1",
        "Bridge groups",
        "Backgrounds",
    ],
)
def test_the_small_sections_are_shown(held: str) -> None:
    assert held in report(sample()).partition("max_recycle_limit")[2]


def test_end_actions_are_in_the_order_of_their_keys() -> None:
    small = report(sample())
    assert small.index("无操作") < small.index("暂停任务释放并发")


def test_defaults_are_marked_in_every_section_that_has_them() -> None:
    changes: dict[str, Any] = {
        key: [SAMPLE[key][0] | {"default": True}]
        for key in ("outbound_group", "big_model_outbound_group")
    }
    changes["llm_intention_configs"] = [SAMPLE["llm_intention_configs"][0] | {"is_default": 1}]
    text = report(sample(**changes))
    for name in ("Regular scripts", "LLM scripts", "Time groups", "Redial rules", "Bridge groups"):
        assert section(text, name).count("default") == 1, name
    assert report(sample()).count("default") == 2


def test_flags_that_are_not_as_usual_are_shown_by_their_own_names() -> None:
    changed = sample(outbound_group=[SAMPLE["outbound_group"][0] | {"is_active": 0, "is_lock": 1}])
    assert row(section(report(changed), "Regular scripts"), "1 ")[3] == "is_active=0 is_lock=1"


# --- other answers -------------------------------------------------------------------------------


def test_what_is_none_is_shown_as_an_en_dash() -> None:
    line = SAMPLE["caller_line_list"][0]
    unknown = ("remark", "line_concurrency", "residue", "available_at", "new_line")
    nulls = sample(caller_line_list=[line | dict.fromkeys(unknown)], max_recycle_limit=None)
    text = report(nulls)
    assert row(section(text, "Outbound lines"), "–") == ["–", "–", "–", "–", "–/–", "–", "–"]
    assert "max_recycle_limit –" in text
    assert "None" not in text


def test_a_line_without_a_name_goes_by_its_remark() -> None:
    line = SAMPLE["caller_line_list"][0] | {"new_line": None, "remark": "备用"}
    assert (
        row(section(report(sample(caller_line_list=[line])), "Outbound lines"), "备用")[0] == "备用"
    )


def test_an_empty_answer_is_shown_as_such() -> None:
    text = report(TaskInit())
    assert text.count("none") == 11
    assert "0: 0 of 0 calls free" in text


@pytest.mark.parametrize("name", ["[red]red[/red]", "[/]", "[link=http://x]", ":smile:", "a[b]"])
def test_names_are_never_markup(name: str) -> None:
    line = SAMPLE["caller_line_list"][0]
    group = SAMPLE["task_dial_times"][0] | {"name": name, "remark": name}
    script = SAMPLE["outbound_group_v2"][1]
    variables = [script["variable"][0] | {"name": name}]
    text = report(
        sample(
            caller_line_list=[
                line | {"remark": name, "new_line": line["new_line"] | {"name": name}}
            ],
            task_dial_times=[group],
            outbound_group=[SAMPLE["outbound_group"][0] | {"name": name}],
            outbound_group_v2=[script | {"name": name, "variable": variables}],
            auto_recycle_rules=[SAMPLE["auto_recycle_rules"][0] | {"name": name}],
            end_actions={"0": name},
        )
    )
    assert text.count(name) == 9


def test_names_cannot_command_the_terminal() -> None:
    evil = "a\x1b[2J\x1b]0;title\x07\x9b31m\u202eb\r\nc\u3000d"
    assert plain(evil) == "a�[2J�]0;title��31m�b  c d"
    named = sample(background=[SAMPLE["background"][0] | {"name": evil}])
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & set(report(named))


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_nothing_is_wider_than_the_terminal(width: int) -> None:
    init = decoded(synthetic_task_init(0, USER))
    assert max(map(cell_len, report(init, width).splitlines())) <= width


def test_a_narrow_terminal_still_shows_every_line_and_whole_ids() -> None:
    init = decoded(synthetic_task_init(0, USER))
    text = report(init, 60)
    for line in init.caller_line_list:
        assert f" {line.residue}/{line.line_concurrency} " in text
        assert line.new_line is None or (line.new_line.name or "") in text
    assert all(f"{script.id} " in report(init, 42) for script in init.outbound_group_v2)


def test_a_tiny_terminal_shows_what_is_free_of_which_line() -> None:
    assert row(section(report(sample(), 40), "Outbound lines"), "修改线路测试1111") == [
        "修改线路测试1111",
        "━" * 7,
        "1/1",
    ]


def test_a_wide_terminal_shows_the_ids_of_lines() -> None:
    assert SAMPLE["caller_line_list"][0]["line_id"] in report(sample(), 150)
    assert "fs-node1" in report(sample(), 150)


def test_a_limit_shortens_every_section_and_says_by_how_much() -> None:
    init = decoded(synthetic_task_init(0, USER, lines=30, groups=9))
    text = report(init, limit=5)
    assert "… 25 more" in section(text, "Outbound lines")
    assert "… 4 more" in section(text, "Regular scripts")
    assert (init.caller_line_list[4].remark or "") in text
    assert (init.caller_line_list[5].remark or "") not in text
    assert "30: " in text
    assert "more" not in report(init)


def test_a_charset_without_lines_and_blocks_gets_plain_ones() -> None:
    class Plain(Console):
        @property
        def encoding(self) -> str:
            return "ascii"

    screen = Plain(width=100, file=io.StringIO(), record=True, markup=False)
    screen.print(Report(USER, sample(), now=NOW))
    text = screen.export_text()
    assert not {"━", "─", "█", "·"} & set(text)
    assert "#" * 14 in text


# --- bars ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "total", "drawn"),
    [
        (0, 10, "----------"),
        (1, 1000, "#---------"),
        (5, 10, "#####-----"),
        (999, 1000, "#########-"),
        (10, 10, "##########"),
        (12, 10, "##########"),
        (-1, 10, "----------"),
        (None, 10, "–"),
        (3, None, "–"),
        (0, 0, "–"),
    ],
)
def test_a_bar_is_full_only_if_all_is_free_and_empty_only_if_nothing_is(
    free: int | None, total: int | None, drawn: str
) -> None:
    assert bar(free, total, 10, ascii_only=True).plain == drawn


@pytest.mark.parametrize(
    ("free", "colour"), [(0, "red"), (4, "yellow"), (5, "green"), (10, "green")]
)
def test_the_colour_of_a_bar_says_how_much_is_free(free: int, colour: str) -> None:
    assert str(bar(free, 10, 10).spans[0].style) == colour


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (1, "regular"),
        (2, "LLM"),
        (4, "end-to-end"),
        (3, "regular+LLM"),
        (8, "8"),
        (0, "0"),
        (9, "9"),
        (None, "–"),
    ],
)
def test_usages_are_named_and_unknown_ones_left_as_they_are(value: int | None, name: str) -> None:
    assert usage(value) == name


def test_an_unknown_type_goes_by_its_label_and_without_one_by_its_number() -> None:
    line = SAMPLE["caller_line_list"][0]
    for type_, label, name in (
        (9, "卫星线路", "卫星线路"),
        (9, None, "9"),
        (None, None, "–"),
        (2, "内部线路", "internal"),
    ):
        new_line = line["new_line"] | {"type": type_, "type_str": label}
        table = LineTable([msgspec.convert(line | {"new_line": new_line}, Line)], now=NOW)
        assert row(shown(table), "修改线路测试1111")[2] == name


def test_a_moment_is_shown_without_what_says_nothing() -> None:
    assert day(datetime(2025, 11, 28)) == "2025-11-28"
    assert day(datetime(2025, 3, 12, 10, 9, 2)) == "2025-03-12 10:09"
    assert day(datetime(2025, 3, 12, 10, 9, 2), brief=True) == "2025-03-12"
    assert day(None) == "–"


# --- weeks ---------------------------------------------------------------------------------------


def group(*days: tuple[int | None, str]) -> TaskDialTime:
    """Make a time group of days with their hours, written like ``9:00-12:00 13:00-18:00``."""
    content = [
        {
            "week": week,
            "times": [
                dict(zip(("begin_time", "end_time"), span.split("-"), strict=True))
                for span in text.split()
            ],
        }
        for week, text in days
    ]
    return msgspec.convert(SAMPLE["task_dial_times"][0] | {"content": content}, TaskDialTime)


def weeks(each: TaskDialTime, width: int = 100) -> list[list[str]]:
    part = section(report(TaskInit(task_dial_times=(each,)), width), "Time groups")
    return [[line.split()[0], *line.split()[2:]] for line in part.splitlines()[3:]]


def test_week_0_is_sunday_and_days_that_are_missing_are_closed() -> None:
    assert weeks(group((0, "10:00-11:00"))) == [["Sun", "10:00–11:00"], ["Mon–Sat", "closed"]]


def test_neighbouring_days_with_the_same_hours_share_a_row() -> None:
    rows = weeks(group(*((day, "9:00-17:00") for day in range(1, 6))))
    assert rows == [["Sun", "closed"], ["Mon–Fri", "9:00–17:00"], ["Sat", "closed"]]


def test_the_strips_of_all_groups_stand_below_each_other() -> None:
    every_other = group(*((week, f"9:0{week}-17:00") for week in range(7)))
    part = section(report(TaskInit(task_dial_times=(group((0, "")), every_other))), "Time groups")
    assert {line.index("·") for line in part.splitlines() if "·" in line} == {len("  Sun–Sat  ")}


def test_a_day_that_is_listed_twice_has_the_hours_of_both() -> None:
    rows = weeks(group((6, "9:00-10:00"), (6, "12:00-13:00")))
    assert rows == [["Sun–Fri", "closed"], ["Sat", "9:00–10:00", "12:00–13:00"]]


def test_a_day_that_is_none_is_shown_for_what_it_is() -> None:
    part = report(TaskInit(task_dial_times=(group((7, "9:00-10:00"), (None, "11:00-12:00")),)))
    assert re.search(r"week 7 .*9:00–10:00", part)
    assert re.search(r"week – .*11:00–12:00", part)


@pytest.mark.parametrize(
    ("hours", "drawn"),
    [
        ("", "." * 24),
        ("9:00-11:00", "." * 9 + "##" + "." * 13),
        ("09:00-11:30", "." * 9 + "##+" + "." * 12),
        ("22:00-24:00", "." * 22 + "##"),
        ("22:00-00:00", "." * 22 + "##"),
        ("00:00-23:59", "#" * 24),
        ("00:00:00-01:00:00", "#" + "." * 23),
        ("0:10-0:20", "+" + "." * 23),
        ("8:00-8:30 8:30-9:00", "." * 8 + "#" + "." * 15),
        ("18:00-09:00", "." * 24),
        ("22:00-24:00:30", "." * 24),
        ("22:00-00:00:30", "." * 24),
        ("22:00:75-23:00", "." * 24),
        ("9-10:00", "." * 24),
        ("25:00-26:00", "." * 24),
        ("x-y", "." * 24),
    ],
)
def test_a_strip_shows_what_is_open(hours: str, drawn: str) -> None:
    times = [
        TimeRange(begin_time=begin, end_time=end)
        for begin, end in (span.split("-") for span in hours.split())
    ]
    assert strip(times, 24, ascii_only=True).plain == drawn

"""The benchmark runs, each part of it, and tells two runs apart. No figure is judged here: that takes a quiet machine.

Peers that are not installed are left out, so that these tests need the extra ``test`` alone.
"""

from __future__ import annotations

import gc
import xml.etree.ElementTree as ET
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from benchmarks import harness
from benchmarks.__main__ import PARTS, main
from benchmarks.compare import compare
from benchmarks.decodes import cattrs_decode
from benchmarks.harness import (
    Effort,
    Figure,
    Part,
    Spread,
    interleave,
    looped,
    ratio,
    spread,
    uncollected,
)
from benchmarks.report import Report, load
from benchmarks.subjects import ESCAPED, SAMPLE, decoder
from benchmarks.twins import pydantic_envelope

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TINY = Effort(rounds=2, slot=0.0001, shrink=1_000)


@pytest.mark.parametrize("part", PARTS, ids=[part.name for part in PARTS])
# peers import and close as they like; the collector's thread of one of them outlives the loop
@pytest.mark.filterwarnings("default")
def test_each_part_yields_figures_of_its_own(part: Part) -> None:
    figures = part.run(TINY)

    assert figures
    assert {figure.part for figure in figures} == {part.name}
    assert all(figure.value.low <= figure.value.median <= figure.value.high for figure in figures)
    assert len({(figure.name, figure.against, figure.unit) for figure in figures}) == len(figures)


REACHES = {
    "hit": {2.0}, "peek": {3.0}, "waiting": {1.25}, "failure": {1.5}, "miss": {1.0}, "decode": {1.05},
    "refresh": {0.35}, "held": {11.0, 2.0}, "scale": {1.5, 3.0}, "leaving": {1.5}, "storm": {1.5}, "import": {1.2},
}  # fmt: skip


def test_all_parts_of_the_table_are_there() -> None:
    assert REACHES.keys() | {"uvloop", "bulk", "instructions"} == {part.name for part in PARTS}


@pytest.mark.parametrize("name", ["hit", "peek", "refresh", "instructions"])
def test_what_is_asked_for_is_measured_saved_and_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([name, "--quick", "--out", str(tmp_path)])

    assert {figure.part for figure in load(tmp_path).figures} == {name}
    assert {figure.reach for figure in load(tmp_path).figures} >= REACHES.get(name, set())
    assert f"## {name}" in (tmp_path / "results.md").read_text(encoding="utf-8")
    assert ET.parse(tmp_path / "results.svg").getroot().tag.endswith("svg")
    assert f"results: {tmp_path}" in capsys.readouterr().out


def test_an_unknown_part_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["hits", "--out", str(tmp_path / "new")])

    assert "no such part: hits" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_the_two_forms_of_the_sample_say_the_same() -> None:
    assert msgspec.json.decode(SAMPLE) == msgspec.json.decode(ESCAPED)
    assert ESCAPED.isascii()
    assert not SAMPLE.isascii()


@pytest.mark.parametrize(
    ("package", "decode"),
    [
        ("pydantic", lambda: pydantic_envelope().model_validate_json(SAMPLE)),
        ("cattrs", lambda: cattrs_decode()(SAMPLE)),
    ],
)
def test_the_peers_decode_what_the_project_decodes(package: str, decode: Callable[[], Any]) -> None:
    pytest.importorskip(package)
    init = decode().data

    assert init.caller_line_list[0].line_id == "29c39ec4-b292-4af9-a88b-922d61866aag"
    assert init.caller_line_list[0].new_line.node is not None
    assert init.task_dial_times[0].created_at == datetime(2024, 6, 16, 14, 57, 12)
    assert init.end_actions == decoder.decode(SAMPLE).data.end_actions


# --- the harness -------------------------------------------------------------------------------------------------


def test_variants_take_turns_in_each_round() -> None:
    order: list[str] = []

    def measure(name: str) -> float:
        order.append(name)
        return 1.0

    interleave({name: partial(measure, name) for name in "abc"}, 5)

    rounds = [order[first : first + 3] for first in range(0, 15, 3)]
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert len({tuple(names) for names in rounds}) > 1


def test_a_ratio_is_taken_within_each_round() -> None:
    # each round found the machine at another speed: medians of each alone would say 1.1
    samples = {"slow": [2.0, 30.0, 4.4], "limit": [1.0, 10.0, 4.0]}

    value = ratio(samples, "slow", "limit")
    assert (value.low, value.median, value.high) == pytest.approx((1.55, 2.0, 2.5))


def test_a_spread_is_median_and_quartiles() -> None:
    assert spread([5, 1, 4, 2, 3]) == Spread(median=3, low=2, high=4)


async def test_a_loop_gives_the_time_of_one_execution_and_leaves_out_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    executed: list[int] = []

    async def call(value: int) -> None:
        executed.append(value)

    # a clock on which each execution takes three seconds, and the first one a hundred
    monkeypatch.setattr(harness, "process_time", lambda: 97.0 + 3.0 * len(executed))

    assert await looped("await call(7)", call=call)(10) == 3.0
    assert executed == [7] * 11


def test_the_collector_stays_away_from_what_is_measured() -> None:
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


# --- comparing ---------------------------------------------------------------------------------------------------


def report_of(*figures: Figure) -> Report:
    return Report({"Machine": "one"}, list(figures))


def figure(name: str, median: float, low: float, high: float, **more: object) -> Figure:
    return Figure(part="hit", name=name, value=Spread(median, low, high), against="bare", **more)  # type: ignore[arg-type]


def row(text: str, name: str) -> list[str]:
    line = next(line for line in text.splitlines() if f"| {name} " in line)
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_move_within_the_spread_is_not_flagged() -> None:
    text = compare(report_of(figure("a", 1.0, 0.9, 1.2)), report_of(figure("a", 1.1, 1.0, 1.3)))

    assert row(text, "a")[-3:] == ["1.100", "0.833 – 1.444", ""]
    assert "0 of 1 moved" in text


@pytest.mark.parametrize(("after", "flag"), [(2.0, "**more**"), (0.5, "**less**")])
def test_a_move_beyond_the_spread_is_flagged(after: float, flag: str) -> None:
    text = compare(
        report_of(figure("a", 1.0, 0.9, 1.1)),
        report_of(figure("a", after, after - 0.1, after + 0.1)),
    )

    assert row(text, "a")[-1] == flag
    assert "1 of 1 moved" in text


def test_counts_are_compared_exactly() -> None:
    before, same, more = (
        figure("a", count, count, count, exact=True) for count in (3126, 3126, 3127)
    )

    assert "0 of 1 moved" in compare(report_of(before), report_of(same))
    assert row(compare(report_of(before), report_of(more)), "a")[-1] == "**more**"


def test_a_figure_against_something_else_is_another_figure() -> None:
    other = msgspec.structs.replace(figure("a", 1.0, 1.0, 1.0), against="async-lru")
    text = compare(report_of(figure("a", 1.0, 1.0, 1.0)), report_of(other))

    assert "0 of 0 moved" in text
    assert "Only in A: 1" in text
    assert "Only in B: 1" in text


def test_two_saved_runs_are_compared_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        main(["instructions", "--quick", "--out", str(tmp_path / name)])
    capsys.readouterr()
    main(["compare", str(tmp_path / "a"), str(tmp_path / "b" / "results.json")])

    assert "0 of 2 moved beyond their spread" in capsys.readouterr().out


def test_a_missing_result_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no saved results in .*nowhere"):
        main(["compare", str(tmp_path / "nowhere"), str(tmp_path)])

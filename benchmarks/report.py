"""Show what was measured as tables for people, save it as JSON, and compare two saved runs."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import distributions
from pathlib import Path

import msgspec

from benchmarks.harness import Effort, Figure, Part, Spread

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
    size, unit = 1.0, figure.cost_unit
    if unit == "s":
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


def _cells(figure: Figure) -> tuple[str, str, str]:
    """Return what a figure is, what it took in itself, and whether it keeps to its reach."""
    met = {None: "", True: " met", False: " **missed**"}[figure.met]
    reach = "" if figure.reach is None else f"≤ {number(figure.reach)}{met}"
    return _median(figure), amount(figure), reach


def _row(figure: Figure) -> list[str]:
    value, cost, reach = _cells(figure)
    return [figure.name, value, figure.against, cost, reach, figure.note]


def _summary_row(figure: Figure, others: list[Figure]) -> list[str]:
    beside = ", ".join(f"{each.who} {number(each.value.median)} {each.unit}" for each in others)
    return [figure.title, *_cells(figure), figure.against, beside]


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


# --- two runs -------------------------------------------------------------------------------------


def _key(figure: Figure) -> tuple[str, str, str, str]:
    return figure.part, figure.name, figure.against, figure.unit


def _verdict(before: Spread, after: Spread) -> str:
    # what has no spread, such as a count, is different by any difference
    if after.low <= before.high and after.high >= before.low:
        return ""
    return "**more**" if after.median > before.median else "**less**"


def _compared(before: Figure, after: Figure) -> list[str]:
    values = before.value, after.value
    shown = [f"{number(value.median)} {before.unit}".strip() for value in values]
    change = f"{after.value.median / before.value.median:.3f}" if before.value.median else ""
    return [before.part, before.name, before.against, *shown, change, _verdict(*values)]


def compare(before: Report, after: Report) -> str:
    """Say in Markdown what moved beyond the quartiles of both runs."""
    then, now = ({_key(figure): figure for figure in report.figures} for report in (before, after))
    rows = [_compared(figure, now[key]) for key, figure in then.items() if key in now]
    moved = sum(bool(row[-1]) for row in rows)
    lines = [f"- {name} of A: {value}" for name, value in before.setting.items()]
    lines += [f"- {name} of B: {value}" for name, value in after.setting.items()]
    lines += ["", table(["part", "", "against", "A", "B", "B / A", "moved"], rows), ""]
    lines.append(f"{moved} of {len(rows)} moved beyond their spread.")
    for only, keys in (("A", then.keys() - now.keys()), ("B", now.keys() - then.keys())):
        if keys:
            parts = ", ".join(sorted({key[0] for key in keys}))
            lines.append(f"Only in {only}: {len(keys)} figures of {parts}.")
    return "\n".join(lines)

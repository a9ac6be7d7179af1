"""What was measured, as tables for people and as JSON for `compare`."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from benchmarks.harness import Effort, Figure, Part

__all__ = ["Report", "load", "markdown", "number", "save", "setting", "table"]

_PACKAGES = (
    *(
        "wolf-async",
        "aiohttp",
        "msgspec",
        "async-lru",
        "cachebox",
        "theine",
        "aiocache",
        "cashews",
        "cachetools",
    ),
    *("httpx", "pydantic", "orjson", "cattrs", "uvloop"),
)


class Report(msgspec.Struct, frozen=True):
    """One run."""

    setting: dict[str, str]
    figures: list[Figure]


def setting(effort: Effort) -> dict[str, str]:
    """On what and with what a run was made."""
    versions = (f"{name} {_version(name)}" for name in _PACKAGES)
    return {
        "Python": f"{platform.python_implementation()} {platform.python_version()}, {platform.python_compiler()}, "
        f"{' '.join(platform.python_build())}",
        "Machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}; "
        f"shared with others, load {_load()} at the end",
        "Versions": ", ".join(versions),
        "Rounds": f"up to {effort.rounds}"
        if effort.shrink == 1
        else "a smoke run: the figures mean nothing",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown processor"


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def number(value: float) -> str:
    """Three digits that count."""
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown that can be read as it stands."""
    cells = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    return "\n".join(
        [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
    )


def _row(figure: Figure) -> list[str]:
    value = figure.value
    met = {None: "", True: "yes", False: "**no**"}[figure.met]
    return [
        figure.name,
        f"{number(value.median)} {figure.unit}".strip(),
        ""
        if figure.exact or value.low == value.high
        else f"{number(value.low)} – {number(value.high)}",
        figure.against,
        "" if figure.reach is None else f"≤ {number(figure.reach)}",
        met,
        figure.note,
    ]


def part_markdown(part: Part, figures: Iterable[Figure]) -> str:
    head = ["", "median", "quartiles", "against", "reach", "met", "remarks"]
    return f"## {part.name}\n{part.title}\n\n{table(head, map(_row, figures))}\n"


def markdown(report: Report, parts: Iterable[Part]) -> str:
    """The whole report."""
    sections = [f"- {name}: {value}" for name, value in report.setting.items()]
    lines = ["# Benchmarks of wolf_async", "", _READING, "", *sections, ""]
    for part in parts:
        figures = [figure for figure in report.figures if figure.part == part.name]
        if figures:
            lines.append(part_markdown(part, figures))
    return "\n".join(lines)


_READING = (
    "× is how many times as long something took as what it is measured against: CPU time unless it says otherwise, both "
    "measured in the same short round. Shown are the median of the rounds and its quartiles. Less is better."
)


def save(report: Report, path: Path) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))


def load(path: Path) -> Report:
    """A saved report, from its file or from the folder of its run; raises `SystemExit` if there is none."""
    file = path / "results.json" if path.is_dir() else path
    try:
        return msgspec.json.decode(file.read_bytes(), type=Report)
    except (OSError, msgspec.MsgspecError) as error:
        raise SystemExit(f"no saved results in {file}: {error}") from error

"""``python -m benchmarks [PART ...]`` measures; ``python -m benchmarks compare A B`` compares two saved runs."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import msgspec

from benchmarks import calls, crowds, decodes, held, hits, imports, instructions, scale, streams
from benchmarks.compare import compare
from benchmarks.harness import QUICK, Effort, Figure, Part
from benchmarks.plot import svg
from benchmarks.report import Report, load, markdown, part_markdown, save, setting

__all__ = ["PARTS", "main"]


def _uvloop(effort: Effort) -> list[Figure]:
    if find_spec("uvloop") is None:
        print("uvloop is not installed")
        return []
    shorter = msgspec.structs.replace(
        effort, loop=import_module("uvloop").new_event_loop, rounds=effort.fewer(2)
    )
    figures = [figure for run in (hits.hit, crowds.waiting, calls.miss) for figure in run(shorter)]
    return [
        msgspec.structs.replace(figure, part="uvloop", name=f"{figure.part}: {figure.name}")
        for figure in figures
    ]


PARTS = (
    Part("hit", "An answer that is held, awaited.", hits.hit),
    Part("peek", "An answer that is held, without suspending.", hits.peek),
    Part(
        "waiting",
        "Many callers wait for one load: CPU per caller, its task included.",
        crowds.waiting,
    ),
    Part(
        "failure",
        "Many callers wait for a load that fails: CPU per caller, its task included.",
        crowds.failure,
    ),
    Part(
        "miss", "A load over HTTP, 50 at once, nothing kept: the client's CPU per call.", calls.miss
    ),
    Part("decode", "From the bytes of a body to an answer.", decodes.decode),
    Part("refresh", "A load that brings an answer equal to the one that is held.", decodes.refresh),
    Part("held", "Answers in memory.", held.held),
    Part("scale", "Each operation with more entries; `TTLCache` beside it.", scale.scale),
    Part("leaving", "All who wait for a load are cancelled: CPU per waiter.", crowds.leaving),
    Part("storm", "Many callers, few accounts, all cold: wall time.", calls.storm),
    Part("bulk", "Many cached accounts in one stream.", streams.bulk),
    Part("uvloop", "Hit, waiting and miss on uvloop, all sides alike.", _uvloop),
    Part("import", "Import time, by `python -X importtime`.", imports.imports),
    Part(
        "instructions",
        "What a hit executes; not a matter of time, and compared exactly.",
        instructions.instructions,
    ),
)
_FOLDER = Path(__file__).parent / "results"


def _measure(names: list[str], effort: Effort, folder: Path) -> Report:
    parts = [part for part in PARTS if not names or part.name in names]
    report = Report(setting(effort), [])
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(parts, start=1):
        begin = time.perf_counter()
        measured = part.run(effort)
        report = msgspec.structs.replace(report, figures=report.figures + measured)
        print(
            part_markdown(part, measured),
            f"({time.perf_counter() - begin:.0f} s)\n",
            sep="\n",
            flush=True,
        )
        # after each part: who interrupts a run of ten minutes keeps what there is
        _write(report, parts[:number], folder)
    return report


def _write(report: Report, parts: list[Part], folder: Path) -> None:
    save(report, folder / "results.json")
    (folder / "results.md").write_text(markdown(report, parts), encoding="utf-8")
    (folder / "results.svg").write_text(svg(report), encoding="utf-8")


def _say_missed(report: Report) -> None:
    missed = [figure for figure in report.figures if figure.met is False]
    for figure in missed:
        print(f"missed: {figure.part}: {figure.name}, against {figure.against}")
    print(
        f"{len(missed)} of {sum(figure.met is not None for figure in report.figures)} reaches missed"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    known = [part.name for part in PARTS]
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"one of {', '.join(known)}; all by default"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a smoke run, whose figures mean nothing"
    )
    parser.add_argument(
        "--out", type=Path, help="folder for the results (default: benchmarks/results/<time>)"
    )
    return parser


def main(arguments: list[str]) -> None:
    """Run as the command line asks."""
    if arguments[:1] == ["compare"]:
        if len(arguments) != 3:
            raise SystemExit("usage: python -m benchmarks compare A B")
        print(compare(*(load(Path(name)) for name in arguments[1:])))
        return
    parser = _parser()
    asked = parser.parse_args(arguments)
    unknown = set(asked.parts) - {part.name for part in PARTS}
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    folder = asked.out or _FOLDER / datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    report = _measure(asked.parts, QUICK if asked.quick else Effort(), folder)
    if not asked.quick:
        _say_missed(report)
    print(f"results: {folder}")


if __name__ == "__main__":
    main(sys.argv[1:])

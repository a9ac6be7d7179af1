"""Measure with ``python -m benchmarks [PART ...]``; compare two runs with ``… compare A B``."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import datetime
from importlib import import_module
from pathlib import Path

import msgspec

from benchmarks import answers, calls, crowds, dashboard, footprint, scale, shared
from benchmarks.harness import QUICK, Effort, Part
from benchmarks.plot import svg
from benchmarks.report import Report, compare, load, part_markdown, save, setting, summary

PARTS = (
    Part("hit", "An answer that is held, awaited.", answers.hit),
    Part("peek", "An answer that is held, without suspending.", answers.peek),
    Part("waiting", "Many callers of one load: CPU per caller with its task.", crowds.waiting),
    Part("failure", "The same where the load fails.", crowds.failure),
    Part("leaving", "All who wait for a load are cancelled: CPU per waiter.", crowds.leaving),
    Part("miss", "A load over HTTP, 50 at once, nothing kept: the client's CPU.", calls.miss),
    Part("decode", "From the bytes of a body to an answer.", answers.decode),
    Part("refresh", "A load that brings an answer equal to the one held.", answers.refresh),
    Part("storm", "Many callers, few accounts, all cold: wall time.", calls.storm),
    Part("held", "Answers in memory.", footprint.held),
    Part("scale", "Each operation with more entries; `TTLCache` beside it.", scale.scale),
    Part("bulk", "Many cached accounts in one stream.", footprint.bulk),
    Part("shared", "A tier on Valkey, beside others with their locks.", shared.shared),
    Part("dashboard", "The web page: many accounts, many browsers.", dashboard.dashboard),
    Part("import", "The CPU of an import, in fresh interpreters.", footprint.imports),
)
_NAMES = [part.name for part in PARTS]
_HOME = Path(__file__).parent
_BEGIN, _END = "<!-- figures: written by python -m benchmarks -->", "<!-- end of figures -->"


def _measure(names: list[str], effort: Effort, folder: Path) -> Report:
    report = Report(setting(effort), [])
    folder.mkdir(parents=True, exist_ok=True)
    for part in (part for part in PARTS if part.name in names):
        begin = time.perf_counter()
        measured = part.run(effort)
        report.figures.extend(measured)
        taken = time.perf_counter() - begin
        print(part_markdown(part, measured), f"({taken:.0f} s)\n", sep="\n", flush=True)
        # after each part: who interrupts a run of eight minutes keeps what there is
        save(report, folder / "results.json")
        (folder / "results.svg").write_text(svg(report), encoding="utf-8")
    return report


def publish(report: Report, folder: Path) -> None:
    """Put a whole run's table into the README of ``folder``, and its plot beside it."""
    readme = folder / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(_BEGIN)
    after = rest.partition(_END)[2]
    text = f"{before}{_BEGIN}\n{summary(report)}\n{_END}{after}"
    readme.write_text(text, encoding="utf-8")
    (folder / "figures.svg").write_text(svg(report), encoding="utf-8")


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    known = f"one of {', '.join(_NAMES)}; default: all"
    parser.add_argument("parts", nargs="*", metavar="PART", help=known)
    parser.add_argument("--quick", action="store_true", help="a smoke run: figures mean nothing")
    parser.add_argument("--uvloop", action="store_true", help="on uvloop, all sides alike")
    out = "for the results; without it, a run of all parts also renews benchmarks/README.md"
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=out)
    asked = parser.parse_args(arguments)
    if unknown := set(asked.parts) - set(_NAMES):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    return asked


def main(arguments: list[str]) -> None:
    """Run as the command line asks."""
    if arguments[:1] == ["compare"]:
        if len(arguments) != 3:
            raise SystemExit("usage: python -m benchmarks compare A B")
        print(compare(*(load(Path(name)) for name in arguments[1:])))
        return
    asked = _parse(arguments)
    now = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    folder = asked.out or _HOME / "results" / now
    effort = QUICK if asked.quick else Effort()
    if asked.uvloop:
        effort = msgspec.structs.replace(effort, loop=import_module("uvloop").new_event_loop)
    report = _measure(asked.parts or _NAMES, effort, folder)
    if not (asked.quick or asked.parts or asked.out or asked.uvloop):
        publish(report, _HOME)
    print(f"results: {folder}")


if __name__ == "__main__":
    main(sys.argv[1:])

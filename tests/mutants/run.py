"""Break the code in one place after the other, and see whether the tests notice.

    python tests/mutants/run.py                      all mutants, some minutes on two cores
    python tests/mutants/run.py NAME ...             these alone
    python tests/mutants/run.py --tests tests/cache/test_state_machine.py

Each mutant of `catalogue.py` is applied to a copy of the package in a temporary directory. Exits
with 1 if a mutant survives without an explanation, or is killed in spite of one, and with 2 if the
tests fail without any mutant or a mutant's text is not to be found exactly once.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from catalogue import MUTANTS, Mutant

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

ROOT: Final = Path(__file__).resolve().parents[2]
COPIED: Final = ("wolf_async", "tests", "pyproject.toml", "README.md")
TESTS: Final = {
    "api": (
        "tests/test_repair.py",
        "tests/test_response.py",
        "tests/test_request.py",
        "tests/test_redact.py",
    ),
    "upstream": (
        "tests/test_retry.py",
        "tests/client/test_retry.py",
        "tests/client/test_breaker.py",
        "tests/client/test_throttling.py",
    ),
    "": ("tests/cache", "tests/client/test_joining.py"),
}
"""By folder of the package, what is run against its mutants."""
FIRST_FAILURE: Final = re.compile(r"^(?:FAILED|ERROR) tests/(\S+)", re.MULTILINE)


class Verdict(NamedTuple):
    """What became of a mutant."""

    mutant: Mutant
    killed: bool
    by: str
    """The first test that failed, or what else ended the run."""
    seconds: float

    @property
    def expected(self) -> bool:
        return self.killed is not bool(self.mutant.survives)


def copy_to(folder: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source,
                folder / name,
                ignore=shutil.ignore_patterns("__pycache__", ".hypothesis"),
            )
        elif source.exists():
            shutil.copy(source, folder / name)


def apply(mutant: Mutant, folder: Path) -> None:
    path = folder / "wolf_async" / mutant.file
    path.write_text(broken(mutant), encoding="utf-8")


def broken(mutant: Mutant) -> str:
    """Return the text of the mutant's file, with the slip in it."""
    text = (ROOT / "wolf_async" / mutant.file).read_text(encoding="utf-8")
    return text.replace(mutant.old, mutant.new)


def run_tests(folder: Path, tests: Collection[str], timeout: float) -> tuple[bool, str]:
    """Tell whether they pass, and the first failure."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "--tb=no",
        "-p",
        "no:cacheprovider",
        *tests,
    ]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "WOLF_MUTANT": "1"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"no end within {timeout:.0f} s"
    if done.returncode not in (0, 1, 2):  # passed, failed, failed on import
        raise RuntimeError(f"pytest came to nothing:\n{done.stdout}\n{done.stderr}")
    found = FIRST_FAILURE.search(done.stdout)
    return done.returncode == 0, found[1] if found else (done.stdout + done.stderr).strip()[-300:]


def tests_of(mutant: Mutant) -> Sequence[str]:
    return next(tests for folder, tests in TESTS.items() if mutant.file.startswith(folder))


def judge(mutant: Mutant, given: Sequence[str] | None, timeout: float) -> Verdict:
    """Run ``given`` tests against a mutant, or else those of its folder."""
    tests = given or tests_of(mutant)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        folder = Path(name)
        copy_to(folder)
        apply(mutant, folder)
        # where it is known which file notices, the others need not be run
        first = [f"tests/{mutant.seen_by}"] if mutant.seen_by and not given else []
        passed, failure = run_tests(folder, first, timeout) if first else (True, "")
        if passed:
            passed, failure = run_tests(folder, tests, timeout)
    return Verdict(mutant, not passed, "" if passed else failure, time.monotonic() - began)


def misplaced() -> list[str]:
    """List what is wrong with the catalogue, such as texts that do not stand exactly once."""
    names = Counter(mutant.name for mutant in MUTANTS)
    wrong = [f"{count} mutants are called {name}" for name, count in names.items() if count > 1]
    for mutant in MUTANTS:
        found = (ROOT / "wolf_async" / mutant.file).read_text(encoding="utf-8").count(mutant.old)
        if found != 1:
            wrong.append(
                f"{mutant.name}: its text occurs {found} times in {mutant.file}:\n{mutant.old}"
            )
        try:
            compile(broken(mutant), mutant.file, "exec")
        except SyntaxError as error:  # which any test would notice
            wrong.append(f"{mutant.name}: {error}")
        if mutant.seen_by and not (ROOT / "tests" / mutant.seen_by).exists():
            wrong.append(f"{mutant.name}: there is no tests/{mutant.seen_by}")
    return wrong


def baseline(tests: Collection[str]) -> float:
    """Return the seconds that the tests take without any mutant; end the program if they fail."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-none-") as name:
        copy_to(Path(name))
        home = [sys.executable, "-c", "import wolf_async; print(wolf_async.__file__)"]
        where = subprocess.run(home, cwd=name, capture_output=True, text=True, check=True).stdout
        if not Path(where).resolve().is_relative_to(Path(name).resolve()):
            fail(f"the copy is not what gets imported, but {where}")
        passed, failure = run_tests(Path(name), tests, 1800)
    if not passed:
        fail(f"the tests fail without any mutant: {failure}")
    return time.monotonic() - began


def fail(message: str) -> None:
    print(message, file=sys.stderr)
    raise SystemExit(2)


def report(verdict: Verdict) -> None:
    state = (
        "killed  " if verdict.killed else "SURVIVED" if verdict.expected is False else "survived"
    )
    mutant = verdict.mutant
    print(
        f"{state} {mutant.file:18} {mutant.name:42} {verdict.seconds:4.0f} s  {verdict.by}",
        flush=True,
    )
    if not verdict.killed:
        print(
            f"         breaks: {mutant.breaks}\n         {mutant.survives or 'no explanation'}",
            flush=True,
        )
    elif not verdict.expected:
        print(
            "         was expected to survive: its explanation is wrong, remove it",
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Break the code in many places; see whether the tests notice."
    )
    parser.add_argument("names", nargs="*", help="mutants to try; all unless given")
    parser.add_argument("--tests", nargs="+", help="what to run; by default the folder's tests")
    parser.add_argument(
        "--jobs", "-j", type=int, default=os.cpu_count() or 1, help="how many at once"
    )
    options = parser.parse_args()
    if wrong := misplaced():
        fail("\n".join(wrong))
    chosen = [mutant for mutant in MUTANTS if not options.names or mutant.name in options.names]
    if not chosen:
        fail(f"no mutant is called {' or '.join(options.names)}")
    seconds = baseline(options.tests or {test for one in chosen for test in tests_of(one)})
    print(f"{len(chosen)} mutants; the tests take {seconds:.0f} s without any", flush=True)
    verdicts: list[Verdict] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        pending = [pool.submit(judge, mutant, options.tests, 60 + 4 * seconds) for mutant in chosen]
        for judged in pending:
            verdict = judged.result()
            report(verdict)
            verdicts.append(verdict)
    killed = sum(verdict.killed for verdict in verdicts)
    explained = sum(not verdict.killed and verdict.expected for verdict in verdicts)
    print(f"score: {killed} of {len(verdicts)} killed, {explained} survive with an explanation")
    return 0 if all(verdict.expected for verdict in verdicts) else 1


if __name__ == "__main__":
    raise SystemExit(main())

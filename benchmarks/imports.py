"""Part ``import``: what `import wolf_async` adds to importing aiohttp and msgspec."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

from benchmarks.harness import Effort, Figure, exact, spread

__all__ = ["imports"]

_NEEDED = "import aiohttp, msgspec"
_ALL = f"{_NEEDED}, wolf_async"
_UNWANTED = ("wolf_async.cli.", "wolf_async.testing.", "click.", "rich.")


def _imported(statement: str) -> Mapping[str, int]:
    """Microseconds that each module took by itself."""
    command = [sys.executable, "-X", "importtime", "-c", statement]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stderr.splitlines()
    rows = (
        line.removeprefix("import time:").split("|")
        for line in lines
        if line.startswith("import time:")
    )
    return {name.strip(): int(own) for own, _, name in rows if own.strip().isdigit()}


def imports(effort: Effort) -> list[Figure]:
    """In fresh interpreters, since an import happens once; both sides in each, since no two of them run alike."""
    base, needed = _imported("pass"), _imported(_NEEDED)
    _imported(_ALL)  # writes the bytecode
    added: list[float] = []
    modules: Mapping[str, int] = {}
    own: Mapping[str, int] = {}
    for _ in range(effort.fewer(2)):
        modules = {name: taken for name, taken in _imported(_ALL).items() if name not in base}
        own = {name: taken for name, taken in modules.items() if name not in needed}
        whole = sum(modules.values())
        added.append(whole / (whole - sum(own.values())))
    longest = sorted(own, key=lambda name: -own[name])[:5]
    unwanted = [name for name in modules if f"{name}.".startswith(_UNWANTED)]
    return [
        Figure(
            part="import",
            name="`import wolf_async`",
            value=spread(added),
            against="`import aiohttp, msgspec`",
            reach=1.2,
            note="longest: " + ", ".join(f"{name} {own[name] / 1000:.1f} ms" for name in longest),
        ),
        Figure(
            part="import",
            name="modules of the command line or the sandbox imported with it",
            value=exact(len(unwanted)),
            unit="",
            against="none",
            reach=0,
            exact=True,
            note=", ".join(unwanted),
        ),
    ]

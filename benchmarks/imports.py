"""Part ``import``: what `import wolf_async` adds to importing its dependencies."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from tempfile import TemporaryDirectory

from benchmarks.harness import Effort, Figure, spread

_NEEDED = "import aiohttp, msgspec, cachetools"
_ALL = f"{_NEEDED}, wolf_async"


def _imported(bytecode: str, statement: str) -> Mapping[str, int]:
    """Return the microseconds that each module took by itself."""
    # with bytecode, as a user has it, whatever this environment says of writing it
    env = os.environ | {"PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, "-X", "importtime", "-c", statement]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    lines = ended.stderr.splitlines()
    rows = (line.partition(":")[2].split("|") for line in lines if line.startswith("import time:"))
    return {name.strip(): int(own) for own, _, name in rows if own.strip().isdigit()}


def imports(effort: Effort) -> list[Figure]:
    """Measure in fresh interpreters, since an import happens once; both sides in each of them."""
    added: list[float] = []
    own: dict[str, int] = {}
    with TemporaryDirectory() as folder:
        imported = partial(_imported, folder)
        base, needed = imported("pass"), imported(_NEEDED)
        imported(_ALL)  # writes the bytecode
        for _ in range(effort.fewer(2)):
            modules = {name: taken for name, taken in imported(_ALL).items() if name not in base}
            own = {name: taken for name, taken in modules.items() if name not in needed}
            whole = sum(modules.values())
            added.append(whole / (whole - sum(own.values())))
    longest = sorted(own, key=lambda name: -own[name])[:5]
    return [
        Figure(
            who="`import wolf_async`",
            title="`import wolf_async`",
            value=spread(added),
            against=f"`{_NEEDED}`",
            cost=sum(own.values()) / 1e6,
            reach=1.2,
            note="longest: " + ", ".join(f"{name} {own[name] / 1000:.1f} ms" for name in longest),
        ),
    ]

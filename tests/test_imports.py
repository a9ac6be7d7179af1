"""What `import wolf_async` brings with it, and which layer of the library imports which."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import wolf_async

if TYPE_CHECKING:
    from collections.abc import Iterator

LATER = (
    "click",
    "rich",
    "zoneinfo",
)
NEVER = (
    "wolf_async.cli",
    "wolf_async.dashboard",
    "wolf_async.otel",
    "wolf_async.shared",
    "wolf_async.testing",
    "hypothesis",
    "opentelemetry",
    "pytest",
    "redis",
)
OF_OTHER_EXTRAS = ("backports", "opentelemetry", "pytest", "redis", "valkey")


def test_what_most_programs_do_not_need_is_not_imported() -> None:
    # in what aiohttp and msgspec import themselves nobody has a say
    code = (
        "import sys, aiohttp, msgspec; before = set(sys.modules); import wolf_async;"
        f"print(sorted({set(LATER + NEVER)!r} & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_the_command_line_needs_no_extra_but_its_own() -> None:
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({OF_OTHER_EXTRAS!r}));"
        "from wolf_async.cli.app import run; sys.exit(run(['demo', '--help']))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


LAYERS = (
    *("_version", "account", "errors", "logs", "clock", "turns"),
    *("policy", "events", "models", "api", "cache", "stats", "upstream", "settings"),
    *("answer", "bulk", "watch", "create", "client", "shared", "otel"),
    *("testing", "dashboard", "cli"),
)
"""The modules and packages of the library, the lowest first."""


def imports_of(path: Path, package: Path) -> Iterator[tuple[int, str]]:
    """Yield the line of each import from the library in a file, and what is imported.

    Those for type checkers alone are left out.
    """
    nodes: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package.name):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            nodes += node.orelse
        else:
            nodes += ast.iter_child_nodes(node)


def test_each_layer_imports_only_those_below_it_and_nothing_private() -> None:
    package = Path(wolf_async.__file__).parent
    for path in package.rglob("*.py"):
        place = path.relative_to(package).with_suffix("").parts
        if place == ("__init__",):
            continue
        for line, name in imports_of(path, package):
            _, layer, *within = name.split(".")
            where = f"{path.name}, line {line}: {name}"
            below = LAYERS[: LAYERS.index(place[0])]
            assert layer in (*below, place[0]), where
            assert not any(part.startswith("_") for part in within if part != "__version__"), where

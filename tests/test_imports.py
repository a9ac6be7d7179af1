"""What `import wolf_async` brings with it, and what only those pay for who use it."""

from __future__ import annotations

import subprocess
import sys

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

"""Part ``instructions``: how much is executed for a hit, which does not depend on who else uses the machine.

Bytecodes are always counted. Machine instructions are counted where valgrind is installed: callgrind runs this module
as a program, which calls `os.getppid` between what is to be told apart, and dumps its count at each such call.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.harness import Effort, Figure, Loop, exact, looped, uncollected
from benchmarks.subjects import SAMPLE, SUB, USER, OfflineClient
from wolf_async import Account

__all__ = ["instructions"]

BARE_HIT, BARE_PEEK = "bare hit", "bare peek"
HIT, PEEK = "`await client.task_init(u, s)`", "`client.peek(u, s)`"
_LIMITS = {HIT: BARE_HIT, PEEK: BARE_PEEK}
_TIMES = 1_000
_WARM = 200
"""Calls after which CPython has adapted the bytecode to what it meets."""
_TIMEOUT = 300


def _loops() -> dict[str, Loop]:
    """Each call in a loop, as an application has it: awaited by a coroutine, not driven from outside."""

    async def upstream(account: Account) -> bytes:
        return SAMPLE

    client = OfflineClient(upstream)
    held = {(USER, SUB): asyncio.run(client.task_init(USER, SUB))}

    async def bare(user_id: str, sub_user_id: str) -> object:
        return held[user_id, sub_user_id]

    def bare_peek(user_id: str, sub_user_id: str) -> object:
        return held[user_id, sub_user_id]

    return {
        BARE_HIT: looped("await bare(u, s)", bare=bare, u=USER, s=SUB),
        HIT: looped("await client.task_init(u, s)", client=client, u=USER, s=SUB),
        BARE_PEEK: looped("bare_peek(u, s)", bare_peek=bare_peek, u=USER, s=SUB),
        PEEK: looped("client.peek(u, s)", client=client, u=USER, s=SUB),
    }


def _run(loop: Loop, times: int) -> None:
    """Without an event loop, since nothing suspends: its own work would be in the count."""
    try:
        loop(times).send(None)
    except StopIteration:
        return
    raise RuntimeError("what is held was to be given at once")


def _bytecodes(loop: Loop) -> int:
    """Bytecodes of one call, as the difference of two runs, like `_marked`."""
    _run(loop, _WARM)
    with uncollected():  # a finalizer would be counted too
        return _traced(loop, 2) - _traced(loop, 1)


def _traced(loop: Loop, times: int) -> int:
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        _run(loop, times)
    finally:
        sys.settrace(before)
    return count


# --- machine instructions ------------------------------------------------------------------------------------------


def _marked() -> None:
    """What callgrind runs: each call n times and 2n times, so that their difference is n calls and nothing else."""
    for loop in _loops().values():
        for times in (_WARM, _TIMES, 2 * _TIMES):
            os.getppid()
            _run(loop, times)
    os.getppid()


def _callgrind() -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [
            "valgrind",
            "--tool=callgrind",
            "--dump-before=getppid",
            f"--callgrind-out-file={out}",
        ]
        subprocess.run(
            [*command, sys.executable, "-m", "benchmarks.instructions"],
            check=True,
            capture_output=True,
            timeout=_TIMEOUT,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
        dumps = sorted(Path(folder).glob("out.*"), key=lambda dump: int(dump.suffix[1:]))
        totals = [_total(dump.read_text()) for dump in dumps]
    # the first dump ends where the first run begins; after that each call has three
    once, twice = totals[2::3], totals[3::3]
    return {
        name: round((more - less) / _TIMES)
        for name, less, more in zip(_loops(), once, twice, strict=True)
    }


def _total(dump: str) -> int:
    found = re.search(r"^totals: (\d+)", dump, re.MULTILINE)
    assert found is not None
    return int(found[1])


def instructions(effort: Effort) -> list[Figure]:
    """Bytecodes, and machine instructions where they can be counted."""
    counts = {"bytecodes": {name: _bytecodes(loop) for name, loop in _loops().items()}}
    if effort.shrink == 1 and shutil.which("valgrind"):
        counts["instructions"] = _callgrind()
    figures: list[Figure] = []
    for unit, counted in counts.items():
        for name, limit in _LIMITS.items():
            note = f"{counted[name] / counted[limit]:.2f} × of the {limit}'s {counted[limit]:,}"
            figures.append(
                Figure(
                    part="instructions",
                    name=name,
                    value=exact(counted[name]),
                    unit=unit,
                    against="a call",
                    exact=True,
                    note=note,
                )
            )
    return figures


if __name__ == "__main__":
    with uncollected():
        _marked()

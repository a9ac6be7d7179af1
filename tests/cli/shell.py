"""Runs the command line as a process of its own, the way a shell does."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wolf_async.testing import Sandbox

COMMAND = (sys.executable, "-W", "error", "-m", "wolf_async.cli")
LIMIT = 60.0


class Ended(NamedTuple):
    status: int
    out: str
    err: str


class Process:
    """One process; it is killed at the end if it has not ended by then."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @property
    def pid(self) -> int:
        return self.process.pid

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    async def out_until(self, text: str) -> str:
        """Return what it prints, up to the line that holds ``text``."""
        assert self.process.stdout is not None
        said = ""
        async with asyncio.timeout(LIMIT):
            while text not in said:
                line = await self.process.stdout.readline()
                assert line, f"it ended before it said {text!r}: {said}"
                said += line.decode()
        return said

    async def ended(self) -> Ended:
        async with asyncio.timeout(LIMIT):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return Ended(self.process.returncode, (out or b"").decode(), (err or b"").decode())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.communicate()


def environment(**variables: str) -> dict[str, str]:
    """Return the process's environment: ours, and ``variables``.

    What would change the command line's behaviour is left out of ours.
    """
    dropped = (
        "WOLF_",
        "COLUMNS",
        "LINES",
        "NO_COLOR",
        "FORCE_COLOR",
        "TTY_",
        "PYTHONASYNCIODEBUG",
        "PYTHONUNBUFFERED",
        "PYTHONIOENCODING",
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return kept | {"COLUMNS": "100"} | variables


def service(box: Sandbox, **variables: str) -> dict[str, str]:
    """Return the environment in which that sandbox is the real service."""
    return environment(WOLF_BASE_URL=box.base_url, WOLF_TOKEN=box.token, **variables)


async def start(
    *args: str,
    env: Mapping[str, str],
    stdout: int = asyncio.subprocess.PIPE,
    command: tuple[str, ...] = COMMAND,
) -> Process:
    process = await asyncio.create_subprocess_exec(
        *command,
        *args,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
    )
    return Process(process)


async def wolf_async(
    *args: str, env: Mapping[str, str], stdout: int = asyncio.subprocess.PIPE
) -> Ended:
    """Run it to its end."""
    async with await start(*args, env=env, stdout=stdout) as process:
        return await process.ended()


def one_line(ended: Ended, status: int) -> str:
    """Return the line by which it failed, and see that nothing else was said."""
    assert ended.status == status, ended
    assert ended.out == ""
    line = ended.err.removesuffix("\n")
    assert line.startswith("wolf-async: ")
    assert line.isprintable(), line
    return line

"""Promise how commands end on a signal, and what terminals of all kinds are left with."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import struct
import sys
from typing import TYPE_CHECKING

import pytest

from wolf_async.testing import Sandbox, hold

from .fetching import Shell, lines_of
from .shell import COMMAND, Process, environment, service, start

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals and terminals")

SIGNALS = [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]


class Terminal:
    """A pseudo-terminal of a size, and what was written to it."""

    def __init__(self, columns: int, lines: int = 24) -> None:
        pty = pytest.importorskip("pty")
        self.master, self.slave = pty.openpty()
        self.resize(columns, lines)
        self.reading = asyncio.create_task(asyncio.to_thread(all_of, self.master))

    def resize(self, columns: int, lines: int = 24) -> None:
        fcntl = pytest.importorskip("fcntl")
        termios = pytest.importorskip("termios")
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, size)

    async def start(self, *args: str, env: Mapping[str, str], stdout: bool = False) -> Process:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *args,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self.slave if stdout else asyncio.subprocess.PIPE,
            stderr=self.slave,
        )
        return Process(process)

    async def said(self) -> str:
        os.close(self.slave)
        said = await self.reading
        os.close(self.master)
        return said


def all_of(fd: int) -> str:
    said = b""
    while True:
        try:
            part = os.read(fd, 65536)
        except OSError:  # how a terminal says that it is over
            part = b""
        if not part:
            return said.decode()
        said += part


def on_screen(said: str) -> list[str]:
    """Return the lines that a terminal shows after that, of lines that are drawn anew in place."""
    lines = [""]
    for part in re.split(r"(\r\n|\r|\n|\x1b\[K|\x1b\[\?25[hl])", said):
        if part in ("\r\n", "\n"):
            lines.append("")
        elif part == "\r":
            lines[-1] = f"\r{lines[-1]}"
        elif part == "\x1b[K":
            lines[-1] = ""
        elif part and not part.startswith("\x1b"):
            assert not lines[-1].startswith("\r"), "written over what stands there"
            lines[-1] += part
    return [line for line in lines if line.strip()]


def drawn_lines(said: str) -> list[str]:
    return [line for line in re.split(r"\r\x1b\[K|\r\n", said) if line]


# --- signals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "status"), SIGNALS)
async def test_fetch_ends_with_whole_lines_and_its_summary(
    number: int, status: int, box: Sandbox, shell: Shell
) -> None:
    gate = asyncio.Event()
    for user in box.users[3:5]:
        box.script(user, hold(gate))
    source = shell.write("a.csv", *box.users)
    args = ("fetch", source, "--out", str(shell.out), "--concurrency", "2", "--fsync")
    async with await start(*args, env=service(box)) as process:
        await box.wait_for_calls(5, timeout=60)
        process.process.send_signal(number)
        ended = await process.ended()
    count = len(lines_of(shell.out))
    assert 1 <= count <= 3
    said = f"stopped after {count} account{'s' * (count != 1)}: {count} answered\n"
    assert ended == (status, "", said)
    gate.set()


@pytest.mark.parametrize(("number", "status"), SIGNALS)
@pytest.mark.parametrize("command", ["init", "watch"])
async def test_other_commands_end_without_a_word(
    number: int, status: int, command: str, box: Sandbox
) -> None:
    gate = asyncio.Event()
    box.always(hold(gate))
    async with await start(command, box.users[0], env=service(box)) as process:
        await box.wait_for_calls(1, timeout=60)
        process.process.send_signal(number)
        assert await process.ended() == (status, "", "")


@pytest.mark.parametrize(("number", "status"), SIGNALS)
async def test_the_sandbox_ends_without_a_word(number: int, status: int) -> None:
    async with await start("sandbox", env=environment()) as process:
        await process.out_until("accounts; some more")
        process.process.send_signal(number)
        ended = await process.ended()
    assert (ended.status, ended.err) == (status, "")


async def test_a_command_that_waits_for_standard_input_ends(shell: Shell, box: Sandbox) -> None:
    options = ("--format", "csv", "--out", str(shell.out), "--concurrency", "1")
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        "fetch",
        "-",
        *options,
        env=service(box),
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with Process(process) as running:
        stdin = process.stdin
        assert stdin is not None
        stdin.write("".join(f"{user}\n" for user in box.users[:4]).encode())
        await box.wait_for_calls(4, timeout=60)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await process.wait() == 143
        assert running.pid
    assert len(lines_of(shell.out)) >= 2


async def test_a_signal_that_is_ignored_stays_ignored(box: Sandbox) -> None:
    """As under ``nohup``."""
    gate = asyncio.Event()
    box.always(hold(gate))
    ignoring = ("/bin/sh", "-c", 'trap "" HUP INT; exec "$@"', "sh", *COMMAND)
    async with await start("init", box.users[0], env=service(box), command=ignoring) as process:
        await box.wait_for_calls(1, timeout=60)
        process.process.send_signal(signal.SIGHUP)
        process.process.send_signal(signal.SIGINT)
        process.process.send_signal(signal.SIGTERM)
        assert (await process.ended()).status == 143


# --- terminals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "variables"),
    [
        (80, {}),
        (20, {}),
        (0, {"COLUMNS": "0"}),
        (80, {"COLUMNS": "0", "LINES": "0"}),
        (80, {"NO_COLOR": "1"}),
        (1, {}),
    ],
)
async def test_fetch_leaves_nothing_but_its_summary_on_a_terminal(
    columns: int, variables: dict[str, str], box: Sandbox, shell: Shell
) -> None:
    gate = asyncio.Event()
    box.script(box.users[2], hold(gate))
    source = shell.write("a.csv", *box.users[:3], "nobody")
    terminal = Terminal(columns)
    env = service(box, TERM="xterm", **variables)
    async with await terminal.start("fetch", source, "--out", str(shell.out), env=env) as process:
        await box.wait_for_calls(4, timeout=60)
        await asyncio.sleep(0.6)  # two pictures
        terminal.resize(max(columns // 2, 1))
        gate.set()
        assert (await process.ended()).status == 1
    said = await terminal.said()
    assert on_screen(said) == ["4 accounts: 3 answered, 1 WolfNotFoundError"]
    drawn = drawn_lines(said)[:-1]
    assert drawn
    assert all(len(line) < max(columns or 80, 2) for line in drawn)
    assert len(lines_of(shell.out)) == 3


async def test_a_dumb_terminal_gets_lines(box: Sandbox, shell: Shell) -> None:
    source = shell.write("a.csv", *box.users[:3])
    terminal = Terminal(80)
    env = service(box, TERM="dumb")
    async with await terminal.start("fetch", source, "--out", str(shell.out), env=env) as process:
        assert (await process.ended()).status == 0
    assert await terminal.said() == "3 accounts: 3 answered\r\n"


@pytest.mark.parametrize(("columns", "variables"), [(20, {}), (0, {"COLUMNS": "0"}), (1, {})])
async def test_an_answer_loses_nothing_in_a_narrow_terminal(
    columns: int, variables: dict[str, str], box: Sandbox
) -> None:
    user = box.users[0]
    terminal = Terminal(columns)
    env = service(box, TERM="xterm", NO_COLOR="1", **variables)
    if columns:
        del env["COLUMNS"]
    async with await terminal.start("init", user, env=env, stdout=True) as process:
        assert (await process.ended()).status == 0
    said = re.sub(r"[\s]|\x1b\[[0-9;]*m", "", await terminal.said())
    assert user.replace(" ", "") in said


@pytest.mark.parametrize(("number", "status"), SIGNALS)
@pytest.mark.parametrize("columns", [100, 20])
async def test_watch_leaves_its_last_picture_and_the_cursor(
    number: int, status: int, columns: int, box: Sandbox
) -> None:
    terminal = Terminal(columns)
    env = service(box, TERM="xterm", COLUMNS="0", LINES="0")
    args = ("watch", *box.users[:10], "nobody", "--every", "0.2", "--sort", "given")
    async with await terminal.start(*args, env=env, stdout=True) as process:
        await box.wait_for_calls(22, timeout=60)
        terminal.resize(columns // 2, 15)
        process.process.send_signal(signal.SIGWINCH)
        await box.wait_for_calls(44, timeout=60)
        process.process.send_signal(number)
        assert (await process.ended()).status == status
    said = await terminal.said()
    live, left, last = said.rpartition("\x1b[?1049l")
    assert left
    assert live.count("\x1b[?1049h") == 1
    assert last.rstrip().endswith("\x1b[?25h")
    rows = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", last).split("\r\n")[:11]
    assert [row[:5] for row in rows] == [user[:5] for user in box.users[:10]] + ["nobod"]
    assert all(len(row) <= columns // 2 for row in rows)


async def test_a_terminal_that_has_gone_ends_it_with_whole_lines(
    box: Sandbox, shell: Shell
) -> None:
    """Closing a window hangs up, and writing to it is an error from then on."""
    gate = asyncio.Event()
    box.script(box.users[2], hold(gate))
    source = shell.write("a.csv", *box.users[:3])
    terminal = Terminal(80)
    env = service(box, TERM="xterm")
    args = ("fetch", source, "--out", str(shell.out), "--concurrency", "1")
    async with await terminal.start(*args, env=env) as process:
        await box.wait_for_calls(3, timeout=60)
        os.close(terminal.slave)
        os.close(terminal.master)
        process.process.send_signal(signal.SIGHUP)
        assert (await process.ended()).status == 129
    # the third is asked for when the second is there, and the first is written by then
    assert 1 <= len(lines_of(shell.out)) <= 2
    gate.set()
    await asyncio.wait([terminal.reading])

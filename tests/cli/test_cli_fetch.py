"""``wolf-async fetch``: what it reads, what it writes, and what is left of it when it is stopped."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
import pytest
from shell import COMMAND, Ended, Process, one_line, service, start

from wolf_async import Account, TaskInit
from wolf_async.cli.accounts_file import LONGEST, BadRow, Rows, count
from wolf_async.cli.app import run
from wolf_async.cli.fetch import Tally
from wolf_async.cli.results_file import Done, Failure, Line, Outfile
from wolf_async.models import dec_hook
from wolf_async.testing import FakeClock, Sandbox, answer, error, hold, respond

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from wolf_async.cli.accounts_file import Format

ACCOUNTS = 40


@pytest.fixture
async def box() -> AsyncIterator[Sandbox]:
    async with Sandbox(accounts=ACCOUNTS, sub_accounts=1, clock=FakeClock(1000.0)) as running:
        yield running


class Shell:
    """Runs the command in a thread of this process, in a folder of its own, with the sandbox as the real service."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def write(self, name: str, *rows: str) -> str:
        path = self.folder / name
        path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
        return str(path)

    @property
    def out(self) -> Path:
        return self.folder / "out.jsonl"

    def lines(self) -> list[dict[str, Any]]:
        return lines_of(self.out)

    async def fetch(self, accounts: str, *options: str) -> Ended:
        args = ("fetch", accounts, "--out", str(self.out), *options)
        self._capsys.readouterr()
        status = await asyncio.to_thread(run, args)
        said = self._capsys.readouterr()
        return Ended(status, said.out, said.err)


def lines_of(path: Path) -> list[dict[str, Any]]:
    text = path.read_bytes()
    assert text == b"" or text.endswith(b"\n")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def shell(
    box: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Shell:
    monkeypatch.setenv("WOLF_TOKEN", box.token)
    monkeypatch.setenv("WOLF_BASE_URL", box.base_url)
    return Shell(tmp_path, capsys)


def account_of(line: dict[str, Any]) -> Account:
    return Account(line["user_id"], line["sub_user_id"])


# --- rows ----------------------------------------------------------------------------------------


async def rows_of(fd: int, form: Format) -> list[Account | BadRow]:
    return [row async for row in Rows(fd, form)]


async def rows(folder: Path, text: bytes, form: Format) -> list[Account | BadRow]:
    path = folder / "accounts"
    path.write_bytes(text)
    with path.open("rb") as file:
        return await rows_of(file.fileno(), form)


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        ("csv", "", []),
        ("csv", "a\nb", [Account("a"), Account("b")]),
        ("csv", "a,s\r\nb,\r\n\r\n", [Account("a", "s"), Account("b")]),
        ("csv", "\ufeffuser_id,sub_user_id\r\na,s\r\nb\r\n", [Account("a", "s"), Account("b")]),
        ("csv", "\ufeffa\n", [Account("a")]),
        ("csv", 'name,Sub_User_Id,"User_ID",n\n"x, y",s,a,1\n', [Account("a", "s")]),
        ("csv", "user_id,name\na,s\n", [Account("a")]),
        (
            "csv",
            ' "a" , s \n',
            [BadRow(1, '"a" , s', "expected user_id[,sub_user_id]: ',' expected after '\"'")],
        ),
        ("csv", "云 蝠,s\n", [Account("云 蝠", "s")]),
        (
            "jsonl",
            '\ufeff"a"\r\n\n["b","s"]\n["c",null]',
            [Account("a"), Account("b", "s"), Account("c")],
        ),
        (
            "jsonl",
            '{"user_id":"a"}\n{"sub_user_id":"s","user_id":"b","more":{}}\n{"user_id":"c","sub_user_id":null}',
            [Account("a"), Account("b", "s"), Account("c")],
        ),
    ],
)
async def test_rows_are_read_in_all_their_forms(
    form: Format, text: str, expected: list[Account], tmp_path: Path
) -> None:
    assert await rows(tmp_path, text.encode(), form) == expected


@pytest.mark.parametrize(
    ("form", "bad", "why"),
    [
        ("csv", b",s", "user_id must not be empty"),
        ("csv", b"x,y,z", "expected user_id[,sub_user_id], not 3 columns"),
        ("csv", b'"x', "expected user_id[,sub_user_id]: unexpected end of data"),
        ("csv", b"../x", "user_id must hold no dot segment"),
        ("csv", b"x\x00", "printable characters only"),
        ("csv", b"\xff", "expected UTF-8"),
        ("csv", b"x" * LONGEST, "a row is shorter than"),
        ("csv", b"x" * 3 * LONGEST, "a row is shorter than"),
        ("jsonl", b"x", "expected a string, a pair, or"),
        ("jsonl", b"34", "expected a string, a pair, or"),
        ("jsonl", b"[]", "not 0 elements"),
        ("jsonl", b"[null,null]", "user_id must be a str"),
        ("jsonl", b'{"user_id":7}', "Expected `str`, got `int` - at `$.user_id`"),
        ("jsonl", b'{"sub_user_id":"s"}', "missing required field `user_id`"),
        ("jsonl", b'"\xff"', "expected UTF-8"),
    ],
)
async def test_a_bad_row_is_told_by_its_line_and_spoils_no_other(
    form: Format, bad: bytes, why: str, tmp_path: Path
) -> None:
    first, last = (b'"a"\n\n', b'\n"b"\n')
    read = await rows(tmp_path, first + bad + last, form)
    assert read[0] == Account("a")
    assert read[2:] == [Account("b")]
    assert isinstance(read[1], BadRow)
    assert read[1].line == 3
    assert why in read[1].why
    assert bad.decode(errors="replace").startswith(read[1].text)
    assert 0 < len(read[1].text) <= 200


async def test_rows_of_a_pipe_come_as_they_are_written_and_lines_may_come_in_parts() -> None:
    reading, writing = os.pipe()
    came = aiter(Rows(reading, "csv"))
    os.write(writing, b"a\nb")
    assert await anext(came) == Account("a")
    os.write(writing, b"c\r")
    os.write(writing, b"\n")
    assert await anext(came) == Account("bc")
    assert count(reading) is None
    os.close(writing)
    assert [row async for row in came] == []
    os.close(reading)


@pytest.mark.parametrize(("text", "lines"), [(b"", 0), (b"a", 1), (b"a\n", 1), (b"a\nb\n\nc", 4)])
def test_counting_the_lines_of_a_file_leaves_it_to_be_read(
    text: bytes, lines: int, tmp_path: Path
) -> None:
    path = tmp_path / "accounts"
    path.write_bytes(b"skipped\n" + text)
    with path.open("rb", buffering=0) as file:
        file.readline()
        assert count(file.fileno()) == lines
        assert file.read() == text


# --- a run ---------------------------------------------------------------------------------------


async def test_each_account_gets_a_line_with_its_whole_answer(box: Sandbox, shell: Shell) -> None:
    accounts = [*box.accounts[:3], box.accounts[-1]]
    source = shell.write(
        "a.csv", "user_id,sub_user_id", *(f"{a.user_id},{a.sub_user_id or ''}" for a in accounts)
    )
    assert await shell.fetch(source) == (0, "", "4 accounts: 4 answered\n")
    assert {account_of(line) for line in shell.lines()} == set(accounts)
    for line in shell.lines():
        assert list(line) == ["user_id", "sub_user_id", "init"]
        expected = msgspec.convert(box.data_for(account_of(line)), TaskInit, dec_hook=dec_hook)
        assert msgspec.convert(line["init"], TaskInit, dec_hook=dec_hook) == expected


async def test_what_fails_is_an_error_line_and_stops_nothing(box: Sandbox, shell: Shell) -> None:
    box.script(box.users[1], error(6007, "余额不足"))
    box.script(box.users[2], *[respond(502)] * 3)
    source = shell.write(
        "a.jsonl", *(json.dumps(user) for user in (*box.users[:4], "nobody")), "[1]"
    )
    ended = await shell.fetch(source)
    assert (ended.status, ended.out) == (1, "")
    total, _, kinds = ended.err.strip().partition(", ")
    assert total == "6 accounts: 2 answered"
    assert set(kinds.split(", ")) == {
        "1 BadRow",
        "1 WolfAPIError",
        "1 WolfNotFoundError",
        "1 WolfServerError",
    }
    errors = {line["user_id"]: line["error"] for line in shell.lines() if "error" in line}
    assert len(shell.lines()) == 6
    assert {**errors[box.users[1]], "message": ""} == {
        "type": "WolfAPIError",
        "message": "",
        "http_status": 200,
        "code": 6007,
    }
    assert "余额不足" in errors[box.users[1]]["message"]
    assert {**errors[box.users[2]], "message": ""} == {
        "type": "WolfServerError",
        "message": "",
        "http_status": 502,
    }
    assert errors["nobody"]["type"] == "WolfNotFoundError"
    assert (errors[None]["type"], errors[None]["line"], errors[None]["row"]) == ("BadRow", 6, "[1]")
    assert errors[None]["message"].startswith("line 6: expected ")


def test_the_summary_counts_by_kind_most_frequent_first() -> None:
    tally = Tally()
    assert str(tally) == "0 accounts: 0 answered"
    tally.answered, tally.kept = 990, 5
    tally.failures.update(WolfTimeoutError=2, WolfNotFoundError=8)
    assert str(tally) == (
        "1005 accounts: 5 in the file already, 990 answered, 8 WolfNotFoundError, 2 WolfTimeoutError"
    )


async def test_quiet_says_nothing_and_the_status_still_tells(box: Sandbox, shell: Shell) -> None:
    assert await shell.fetch(shell.write("a.csv", box.users[0], "nobody"), "--quiet") == (1, "", "")


async def test_an_account_named_twice_is_asked_for_once_and_each_row_gets_a_line(
    box: Sandbox, shell: Shell
) -> None:
    source = shell.write("a.csv", *[box.users[0]] * 5)
    assert (await shell.fetch(source, "--concurrency", "2")).status == 0
    assert len(box.calls) == 1
    assert [account_of(line) for line in shell.lines()] == [Account(box.users[0])] * 5
    assert (
        await shell.fetch(source, "--overwrite", "--concurrency", "1", "--max-age", "0")
    ).status == 0
    assert len(box.calls) == 6


async def test_concurrency_bounds_the_requests_at_once(box: Sandbox, shell: Shell) -> None:
    gate = asyncio.Event()
    box.always(hold(gate))
    source = shell.write("a.csv", *box.users[:10])
    fetching = asyncio.create_task(shell.fetch(source, "--concurrency", "3"))
    await box.wait_for_calls(3)
    gate.set()
    assert (await fetching).status == 0
    assert box.concurrency_peak == 3


# --- what makes no sense -------------------------------------------------------------------------


async def test_an_output_that_is_there_is_touched_only_on_demand(
    box: Sandbox, shell: Shell
) -> None:
    shell.out.write_text("precious")
    source = shell.write("a.csv", box.users[0])
    assert "--resume continues it, --overwrite begins anew" in one_line(
        await shell.fetch(source), 2
    )
    assert shell.out.read_text() == "precious"
    assert (await shell.fetch(source, "--overwrite")).status == 0
    assert [account_of(line) for line in shell.lines()] == [Account(box.users[0])]


@pytest.mark.parametrize(
    ("accounts", "options", "said"),
    [
        ("a.csv", ("--resume", "--overwrite"), "exclude each other"),
        ("a.csv", ("--out", "-"), "--out /dev/stdout --overwrite"),
        ("a.csv", ("--max-age", "nan"), "--max-age must be a number from 0"),
        ("a.csv", ("--concurrency", "0"), "--concurrency"),
        ("a.csv", ("--base-url", "ftp://x"), "base_url must be like https://"),
        ("a.csv", ("--format", "xml"), "--format"),
        ("-", (), "--format csv or --format jsonl"),
        ("a.txt", (), "--format csv or --format jsonl"),
        ("missing.csv", (), "cannot read missing.csv: No such file"),
    ],
)
async def test_a_command_that_makes_no_sense_is_status_2_and_makes_no_file(
    accounts: str,
    options: tuple[str, ...],
    said: str,
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(shell.folder)
    shell.write("a.csv", "u")
    assert said in one_line(await shell.fetch(accounts, *options), 2)
    assert not shell.out.exists()


async def test_what_cannot_be_read_is_status_2(shell: Shell) -> None:
    line = one_line(await shell.fetch(str(shell.folder), "--format", "csv"), 2)
    assert f"cannot read {shell.folder}: Is a directory" in line
    assert not shell.out.exists()


async def test_an_output_that_cannot_be_made_is_status_2(shell: Shell) -> None:
    source = shell.write("a.csv", "u")
    line = one_line(await shell.fetch(source, "--out", str(shell.folder / "none" / "out.jsonl")), 2)
    assert "No such file or directory" in line


@pytest.mark.parametrize("option", ["--resume", "--overwrite"])
async def test_the_file_that_is_read_is_not_written(option: str, shell: Shell) -> None:
    source = shell.write("out.jsonl", '"a"')
    assert "is also what is read" in one_line(await shell.fetch(source, option), 2)
    assert shell.out.read_text() == '"a"\n'


# --- the output ----------------------------------------------------------------------------------

LINE = Line("u", None, error=Failure("T", "m" * 400))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.touch()
    return path


def outfile(path: Path, source: Path, **options: bool) -> Outfile:
    fd = os.open(source, os.O_RDONLY)
    try:
        return Outfile(path, source=fd, **options)
    finally:
        os.close(fd)


def test_a_disk_that_gets_full_leaves_whole_lines(tmp_path: Path, source: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "out.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with outfile(path, source) as out:
        out.write(LINE)
        # the next line has room for a part of it
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, before[1]))
        try:
            with pytest.raises(
                click.ClickException, match=r"cannot write .*out\.jsonl: File too large"
            ):
                out.write(LINE)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert len(lines_of(path)) == 1
        out.write(LINE)
    assert len(lines_of(path)) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
async def test_output_that_cannot_be_written_is_one_line_and_status_1(
    box: Sandbox, shell: Shell
) -> None:
    source = shell.write("a.csv", *box.users)
    ended = await shell.fetch(source, "--out", "/dev/full", "--overwrite")
    assert "cannot write /dev/full: No space left on device" in one_line(ended, 1)


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="needs names for open files")
def test_a_pipe_whose_reader_has_left_is_an_error(source: Path) -> None:
    reader, writer = os.pipe()
    try:
        with outfile(Path(f"/dev/fd/{writer}"), source, overwrite=True) as out:
            out.write(LINE)
            os.close(reader)
            with pytest.raises(click.ClickException, match="Broken pipe"):
                out.write(LINE)
    finally:
        os.close(writer)


@pytest.mark.skipif(sys.platform == "win32", reason="needs locks on files")
def test_two_processes_do_not_write_one_file(tmp_path: Path, source: Path) -> None:
    path = tmp_path / "out.jsonl"
    with outfile(path, source) as first:
        first.write(LINE)
        for option in ("resume", "overwrite"):
            with pytest.raises(click.UsageError, match="is being written by another process"):
                outfile(path, source, **{option: True})
        first.write(LINE)
    assert len(lines_of(path)) == 2


def test_the_last_line_of_an_account_counts(tmp_path: Path, source: Path) -> None:
    path = tmp_path / "out.jsonl"
    told = [
        ("u", "init"),
        ("v", "error"),
        ("u", "error"),
        ("v", "init"),
        ("w", "init"),
        ("x", "error"),
    ]
    path.write_text(
        "".join(f'{{"user_id":"{user}","sub_user_id":null,"{end}":{{}}}}\n' for user, end in told)
    )
    with outfile(path, source, resume=True) as out:
        assert [user for user in "uvwx" if Account(user) in out.done] == ["v", "w"]
        assert len(out.done) == 2


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser reads everything"
)
def test_what_cannot_be_read_cannot_be_continued(tmp_path: Path, source: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(b"")
    path.chmod(0o222)
    with pytest.raises(click.UsageError, match="cannot read"):
        outfile(path, source, resume=True)


TORN = [b"{", b'{"user_id"', b'{"user_id":"v","sub_user_id":null,"init":{"caller', b"\0" * 5000]
FOREIGN = [
    b"{}",
    b"precious notes",
    b'{"user":"v"',
    b'{"user_id":"v","sub_user_id":null}\n',
    b"\n",
    b"\0\n",
]
WHOLE = (
    b'{"user_id":"u","sub_user_id":null,"init":{}}\n{"user_id":"w","sub_user_id":null,"error":{}}\n'
)


@pytest.mark.parametrize("tail", [b"", *TORN])
def test_resuming_cuts_off_a_torn_line_and_nothing_else(
    tail: bytes, tmp_path: Path, source: Path
) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(WHOLE + tail)
    with outfile(path, source, resume=True) as out:
        assert path.read_bytes() == WHOLE
        assert len(out.done) == 1
        assert Account("u") in out.done
        out.write(LINE)
    assert len(lines_of(path)) == 3


@pytest.mark.parametrize("tail", FOREIGN)
def test_resuming_leaves_a_file_alone_that_is_not_of_this_command(
    tail: bytes, tmp_path: Path, source: Path
) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(WHOLE + tail)
    with pytest.raises(
        click.UsageError, match=r"line 3 of .* is not of this command: nothing was changed"
    ):
        outfile(path, source, resume=True)
    assert path.read_bytes() == WHOLE + tail


def test_the_accounts_that_are_done_take_little_memory_and_are_told_apart() -> None:
    done = Done()
    for number in range(50_000):
        done.add(f"user-{number}", None if number % 2 else "sub")
    assert len(done) == 50_000
    assert Account("user-1") in done
    assert Account("user-2", "sub") in done
    assert Account("user-1", "sub") not in done
    assert Account("user-2") not in done
    assert not any(Account(f"other-{number}") in done for number in range(50_000))
    done.add("user-1", None)
    assert len(done) == 50_000
    for _ in range(2):
        done.discard("user-1", None)
        assert len(done) == 49_999
        assert Account("user-1") not in done
    assert all(Account(f"user-{number}") in done for number in range(3, 50_000, 2))
    assert sum(map(sys.getsizeof, done._buckets)) < 50_000 * 30  # pyright: ignore[reportPrivateUsage]


# --- going on ------------------------------------------------------------------------------------


async def test_resuming_asks_again_for_what_failed_and_the_last_line_counts(
    box: Sandbox, shell: Shell
) -> None:
    box.script(box.users[1], error(6007))
    source = shell.write("a.csv", *box.users[:3])
    assert (await shell.fetch(source, "--resume")).status == 1
    box.reset_calls()
    assert await shell.fetch(source, "--resume") == (
        0,
        "",
        "3 accounts: 2 in the file already, 1 answered\n",
    )
    assert [call.account for call in box.calls] == [Account(box.users[1])]
    last = {account_of(line): line for line in shell.lines()}
    assert len(shell.lines()) == 4
    assert all("init" in line for line in last.values())
    assert await shell.fetch(source, "--resume") == (
        0,
        "",
        "3 accounts: 3 in the file already, 0 answered\n",
    )
    assert len(box.calls) == 1


async def test_after_a_kill_it_goes_on_without_asking_again(box: Sandbox, shell: Shell) -> None:
    gate = asyncio.Event()
    # of 40 accounts, 20 are answered; with 2 at once, 2 more are under way, and at most 4 answers are not written yet
    box.always(*[answer()] * 20, *[hold(gate)] * 20)
    source = shell.write("a.csv", *box.users)
    command = ("fetch", source, "--out", str(shell.out), "--concurrency", "2")
    async with await start(*command, env=service(box)) as process:
        await box.wait_for_calls(22, timeout=60)
        process.process.kill()
        assert (await process.ended()).status == -9
    gate.set()
    await box.wait_until_idle()
    there = {account_of(line) for line in shell.lines()}
    assert 16 <= len(there) <= 20
    # as if the operating system had torn the last write
    with shell.out.open("ab") as file:
        file.write(b'{"user_id":"' + box.users[-1].encode() + b'","sub_user_id":null,"init":{"task')
    box.heal()
    box.reset_calls()
    ended = await shell.fetch(source, "--resume")
    missing = ACCOUNTS - len(there)
    assert ended == (
        0,
        "",
        f"{ACCOUNTS} accounts: {len(there)} in the file already, {missing} answered\n",
    )
    asked = [call.account for call in box.calls]
    assert len(asked) == missing
    assert there.isdisjoint(asked)
    assert sorted(account_of(line).user_id for line in shell.lines()) == sorted(box.users)
    assert all("init" in line for line in shell.lines())


# --- as a process --------------------------------------------------------------------------------


async def piped(box: Sandbox, *args: str, stderr: int = asyncio.subprocess.PIPE) -> Process:
    return Process(
        await asyncio.create_subprocess_exec(
            *COMMAND,
            "fetch",
            "-",
            *args,
            env=service(box),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )
    )


async def test_standard_input_is_served_as_it_comes_and_ctrl_c_ends_it_at_once(
    box: Sandbox, shell: Shell
) -> None:
    args = ("--format", "csv", "--out", str(shell.out), "--concurrency", "1")
    async with await piped(box, *args) as process:
        stdin = process.process.stdin
        assert stdin is not None
        # one at a time, and the pipe stays open: what came before the last call is written
        stdin.write("".join(f"{user}\n" for user in box.users[:4]).encode())
        await box.wait_for_calls(4, timeout=60)
        process.interrupt()
        async with asyncio.timeout(60):
            assert process.process.stderr is not None
            said = await process.process.stderr.read()
            assert await process.process.wait() == 130
        stdin.close()
    written = len(shell.lines())
    assert 2 <= written <= 4
    assert said.decode() == f"stopped after {written} accounts: {written} answered\n"


async def test_a_terminal_shows_how_far_it_is(box: Sandbox, shell: Shell) -> None:
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    source = shell.write("a.csv", *box.users[:3], "nobody")
    process = Process(
        await asyncio.create_subprocess_exec(
            *COMMAND, "fetch", source, "--out", str(shell.out), env=service(box), stderr=slave
        )
    )
    async with process:
        assert (await process.ended()).status == 1
    os.close(slave)
    said = os.read(master, 100_000).decode()
    os.close(master)
    for part in ("4/4", "1 failed", "/s", " left"):
        assert part in said
    assert said.endswith("4 accounts: 3 answered, 1 WolfNotFoundError\r\n")

"""Promise what ``wolf-async fetch`` writes, and what is left of it when it is stopped."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import re
import sys
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
import pytest

from wolf_async import Account, TaskInit
from wolf_async.cli.app import run
from wolf_async.cli.fetch import Tally
from wolf_async.cli.results_file import Done, Failure, LinesFile, Result, beside, note_result
from wolf_async.models import dec_hook
from wolf_async.testing import (
    Sandbox,
    answer,
    disconnect,
    error,
    hold,
    html,
    respond,
    unauthorized,
)

from .fetching import Shell, account_of, lines_of
from .shell import COMMAND, Process, one_line, service, start

if TYPE_CHECKING:
    pass

ACCOUNTS = 40


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


async def test_what_fails_is_a_line_of_the_errors_file_and_stops_nothing(
    box: Sandbox, shell: Shell
) -> None:
    box.script(box.users[1], error(6007, "余额不足"))
    box.script(box.users[2], *[respond(502)] * 3)
    source = shell.write(
        "a.jsonl", *(json.dumps(user) for user in (*box.users[:4], "nobody")), "[]"
    )
    ended = await shell.fetch(source, "--patience", "0")
    assert (ended.status, ended.out) == (1, "")
    total, _, kinds = ended.err.strip().partition(", ")
    assert total == "6 accounts: 2 answered"
    assert set(kinds.split(", ")) == {
        "1 BadRow",
        "1 WolfAPIError",
        "1 WolfNotFoundError",
        "1 WolfServerError",
    }
    assert {line["user_id"] for line in shell.lines()} == {box.users[0], box.users[3]}
    errors = {line["user_id"]: line["error"] for line in shell.failures()}
    assert len(shell.failures()) == 4
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
    assert (errors[None]["type"], errors[None]["line"], errors[None]["row"]) == ("BadRow", 6, "[]")
    assert errors[None]["message"].startswith("line 6: expected ")


def test_the_summary_counts_by_kind_most_frequent_first() -> None:
    tally = Tally()
    assert str(tally) == "0 accounts: 0 answered"
    tally.answered, tally.kept = 990, 5
    tally.failures.update(WolfTimeoutError=2, WolfNotFoundError=8)
    assert str(tally) == (
        "1005 accounts: 5 in the file already, 990 answered,"
        " 8 WolfNotFoundError, 2 WolfTimeoutError"
    )


async def test_quiet_says_nothing_and_the_status_still_tells(box: Sandbox, shell: Shell) -> None:
    assert await shell.fetch(shell.write("a.csv", box.users[0], "nobody"), "--quiet") == (1, "", "")


async def test_an_account_named_again_is_asked_for_once_and_has_one_line(
    box: Sandbox, shell: Shell
) -> None:
    source = shell.write("a.csv", *[box.users[0]] * 5)
    assert await shell.fetch(source) == (0, "", "1 account: 1 answered, 4 named again\n")
    assert len(box.calls) == 1
    assert [account_of(line) for line in shell.lines()] == [Account(box.users[0])]
    ended = await shell.fetch(source, "--resume")
    assert ended == (0, "", "1 account: 1 in the file already, 0 answered, 4 named again\n")
    assert len(box.calls) == 1
    assert len(shell.lines()) == 1


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
        ("a.csv", ("--out", "-", "--resume"), "is no file that --resume could continue"),
        ("a.csv", ("--timeout", "0"), "--timeout must be a number above 0"),
        ("a.csv", ("--patience", "nan"), "--patience must be a number from 0"),
        ("a.csv", ("--progress-every", "0"), "--progress-every must be a finite number above 0"),
        ("a.csv", ("--attempts", "0"), "--attempts"),
        ("a.csv", ("--rate", "0"), "no number of requests a second"),
        ("a.csv", ("--rate", "3/min"), "no number of requests a second"),
        ("a.csv", ("--fields", "lines"), "'lines': the sections are task_dial_times, "),
        ("a.csv", ("--ca-file", "missing.pem"), "--ca-file missing.pem: No such file"),
        ("a.csv", ("--ca-file", "a.csv"), "--ca-file a.csv: "),
        ("a.csv", ("--encoding", "hex"), "--encoding hex is none"),
        ("a.csv", ("--user-column", "x", "--sub-user-column", "X"), "are the same column"),
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
    shell.write("a.csv", "u1")
    assert said in one_line(await shell.fetch(accounts, *options), 2)
    assert not shell.out.exists()


async def test_what_cannot_be_read_is_status_2(shell: Shell) -> None:
    line = one_line(await shell.fetch(str(shell.folder), "--format", "csv"), 2)
    assert f"cannot read {shell.folder}: it is a directory" in line
    assert not shell.out.exists()


async def test_an_output_that_cannot_be_made_is_status_2(shell: Shell) -> None:
    source = shell.write("a.csv", "u1")
    line = one_line(await shell.fetch(source, "--out", str(shell.folder / "none" / "out.jsonl")), 2)
    assert "No such file or directory" in line


@pytest.mark.parametrize("option", ["--resume", "--overwrite"])
async def test_the_file_that_is_read_is_not_written(option: str, shell: Shell) -> None:
    source = shell.write("out.jsonl", '"a"')
    assert "is also read or written for something else" in one_line(
        await shell.fetch(source, option), 2
    )
    assert shell.out.read_text() == '"a"\n'


# --- the output ----------------------------------------------------------------------------------

LINE = Result("u", None, error=Failure("T", "m" * 400))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.touch()
    return path


def results_file(
    path: Path,
    source: Path,
    done: Done | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> LinesFile:
    note = functools.partial(note_result, done=Done() if done is None else done)
    others = [source.stat()]
    return LinesFile(path, note=note, others=others, resume=resume, overwrite=overwrite)


async def test_a_disk_that_gets_full_leaves_whole_lines(tmp_path: Path, source: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "out.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with results_file(path, source) as out:
        await out.append(LINE)
        # the next line has room for a part of it
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, before[1]))
        try:
            with pytest.raises(
                click.ClickException, match=r"cannot write .*out\.jsonl: File too large"
            ):
                await out.append(LINE)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert len(lines_of(path)) == 1
        await out.append(LINE)
    assert len(lines_of(path)) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
async def test_output_that_cannot_be_written_is_one_line_and_status_1(
    box: Sandbox, shell: Shell
) -> None:
    source = shell.write("a.csv", *box.users)
    ended = await shell.fetch(source, "--out", "/dev/full", "--overwrite")
    assert "cannot write /dev/full: No space left on device" in one_line(ended, 1)


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="needs names for open files")
async def test_a_pipe_whose_reader_has_left_is_an_error_of_its_own(source: Path) -> None:
    reader, writer = os.pipe()
    try:
        with results_file(Path(f"/dev/fd/{writer}"), source, overwrite=True) as out:
            await out.append(LINE)
            os.close(reader)
            with pytest.raises(BrokenPipeError):
                await out.append(LINE)
    finally:
        os.close(writer)


@pytest.mark.skipif(sys.platform == "win32", reason="needs locks on files")
async def test_two_processes_do_not_write_one_file(tmp_path: Path, source: Path) -> None:
    path = tmp_path / "out.jsonl"
    with results_file(path, source) as first:
        await first.append(LINE)
        for resume in (True, False):
            with pytest.raises(click.UsageError, match="is being written by another process"):
                results_file(path, source, resume=resume, overwrite=not resume)
        await first.append(LINE)
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
    with results_file(path, source, done := Done(), resume=True):
        assert [user for user in "uvwx" if Account(user) in done] == ["v", "w"]
        assert len(done) == 2


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser reads everything"
)
def test_what_cannot_be_read_cannot_be_continued(tmp_path: Path, source: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(b"")
    path.chmod(0o222)
    with pytest.raises(click.UsageError, match="cannot read"):
        results_file(path, source, resume=True)


TORN = [b"{", b'{"user_id"', b'{"user_id":"v","sub_user_id":null,"init":{"caller', b"\0" * 5000]
FOREIGN = [
    b"{}",
    b"precious notes",
    b'{"user":"v"',
    b'{"user_id":"v","sub_user_id":null}\n',
    b"\n",
    b"\0\n",
    b'{"user_id":"v","sub_user_id":null,"init":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}\n",
]
WHOLE = (
    b'{"user_id":"u","sub_user_id":null,"init":{}}\n{"user_id":"w","sub_user_id":null,"error":{}}\n'
)


@pytest.mark.parametrize("tail", [b"", *TORN])
async def test_resuming_cuts_off_a_torn_line_and_nothing_else(
    tail: bytes, tmp_path: Path, source: Path
) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(WHOLE + tail)
    with results_file(path, source, done := Done(), resume=True) as out:
        assert path.read_bytes() == WHOLE
        assert len(done) == 1
        assert Account("u") in done
        await out.append(LINE)
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
        results_file(path, source, resume=True)
    assert path.read_bytes() == WHOLE + tail


def test_the_accounts_that_are_done_take_little_memory_and_are_told_apart() -> None:
    done = Done()
    tracemalloc.start()
    for number in range(50_000):
        done.add(f"user-{number}", None if number % 2 else "sub")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 50_000 * 30
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


# --- going on ------------------------------------------------------------------------------------


async def test_resuming_asks_again_for_what_failed_and_forgets_that_it_did(
    box: Sandbox, shell: Shell
) -> None:
    box.script(box.users[1], error(6007))
    source = shell.write("a.csv", *box.users[:3])
    assert (await shell.fetch(source, "--resume")).status == 1
    assert [account_of(line) for line in shell.failures()] == [Account(box.users[1])]
    box.reset_calls()
    for answered in (1, 0):
        ended = await shell.fetch(source, "--resume")
        kept = 3 - answered
        said = f"3 accounts: {kept} in the file already, {answered} answered\n"
        assert ended == (0, "", said)
        assert [call.account for call in box.calls] == [Account(box.users[1])]
        assert {account_of(line).user_id for line in shell.lines()} == set(box.users[:3])
        assert len(shell.lines()) == 3
        assert shell.failures() == []


async def test_a_file_of_the_earlier_form_is_continued(box: Sandbox, shell: Shell) -> None:
    """Continue a file whose failures stand among its answers.

    In that form the last line of an account counts.
    """
    first, second, third = box.users[:3]
    shell.out.write_text(
        f'{{"user_id":"{first}","sub_user_id":null,"init":{{}}}}\n'
        f'{{"user_id":"{second}","sub_user_id":null,"error":{{"type":"T","message":""}}}}\n'
        f'{{"user_id":null,"sub_user_id":null,"error":{{"type":"BadRow","message":""}}}}\n'
    )
    before = shell.out.read_bytes()
    source = shell.write("a.csv", first, second, third)
    assert (await shell.fetch(source, "--resume")).status == 0
    assert {call.account for call in box.calls} == {Account(second), Account(third)}
    assert shell.out.read_bytes().startswith(before)
    assert len(shell.lines()) == 5


async def test_an_errors_file_with_something_else_in_it_is_left_alone(
    box: Sandbox, shell: Shell
) -> None:
    shell.errors.write_text("precious notes\n")
    line = one_line(await shell.fetch(shell.write("a.csv", box.users[0])), 2)
    assert "out.errors.jsonl is not of this command: nothing was changed" in line
    assert shell.errors.read_text() == "precious notes\n"
    assert box.calls == []


@pytest.mark.parametrize("options", [(), ("--resume",), ("--overwrite",)])
async def test_an_errors_file_that_cannot_be_opened_leaves_no_output_behind(
    box: Sandbox, shell: Shell, options: tuple[str, ...]
) -> None:
    source = shell.write("a.csv", box.users[0])
    elsewhere = shell.folder / "none" / "errors.jsonl"
    line = one_line(await shell.fetch(source, "--errors", str(elsewhere), *options), 2)
    assert "No such file or directory" in line
    assert not shell.out.exists()
    assert (await shell.fetch(source)).status == 0
    answers = shell.out.read_text()
    await shell.fetch(source, "--errors", str(elsewhere), "--resume")
    assert shell.out.read_text() == answers


async def test_failures_go_where_it_is_said(box: Sandbox, shell: Shell) -> None:
    source = shell.write("a.csv", box.users[0], "nobody")
    elsewhere = shell.folder / "failures"
    assert (await shell.fetch(source, "--errors", str(elsewhere))).status == 1
    assert [account_of(line) for line in lines_of(elsewhere)] == [Account("nobody")]
    assert not shell.errors.exists()
    line = one_line(await shell.fetch(source, "--resume", "--errors", str(shell.out)), 2)
    assert "is also read or written for something else" in line or "another process" in line


@pytest.mark.parametrize(
    ("out", "errors"),
    [
        ("answers.jsonl", "answers.errors.jsonl"),
        ("a.b.ndjson", "a.b.errors.ndjson"),
        ("answers", "answers.errors.jsonl"),
    ],
)
def test_failures_stand_beside_the_answers(out: str, errors: str) -> None:
    assert beside(Path("folder", out), "errors") == Path("folder", errors)


async def test_fields_are_the_sections_that_are_kept(box: Sandbox, shell: Shell) -> None:
    source = shell.write("a.csv", box.users[0])
    fields = "caller_line_list, end_actions,caller_line_list"
    assert (await shell.fetch(source, "--fields", fields, "--fsync")).status == 0
    (line,) = shell.lines()
    assert list(line["init"]) == ["caller_line_list", "end_actions"]
    data = box.data_for(box.users[0])
    assert [each["line_id"] for each in line["init"]["caller_line_list"]] == [
        each["line_id"] for each in data["caller_line_list"]
    ]
    assert (await shell.fetch(source, "--resume")).err.startswith("1 account: 1 in the file")


async def test_attempts_and_timeout_bound_what_an_account_may_cost(
    box: Sandbox, shell: Shell
) -> None:
    box.script(box.users[0], *[respond(502)] * 2)
    gate = asyncio.Event()
    box.script(box.users[1], *[hold(gate)] * 2)
    source = shell.write("a.csv", *box.users[:2])
    ended = await shell.fetch(source, "--attempts", "1", "--timeout", "0.3", "--patience", "0")
    assert ended.status == 1
    assert "1 WolfServerError" in ended.err
    assert "1 WolfTimeoutError" in ended.err
    assert len(box.calls) == 2
    gate.set()


async def test_a_rate_spreads_the_requests(box: Sandbox, shell: Shell) -> None:
    begun = asyncio.get_running_loop().time()
    source = shell.write("a.csv", *box.users[:6])
    assert (await shell.fetch(source, "--rate", "10/s")).status == 0
    assert asyncio.get_running_loop().time() - begun >= 0.4


async def test_after_a_kill_it_goes_on_without_asking_again(box: Sandbox, shell: Shell) -> None:
    gate = asyncio.Event()
    # of 40 accounts, 20 are answered; with 2 at once, 2 more are under way,
    # and at most 4 answers are not written yet
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


# --- what ends a run before its end --------------------------------------------------------------

COUNTS = re.compile(r"(\d+) answered, (\d+) failed, (\d+) not asked; continue with --resume$")


def counts(line: str) -> list[int]:
    found = COUNTS.search(line)
    assert found is not None, line
    return [int(number) for number in found.groups()]


@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
async def test_a_refused_token_stops_at_once_and_all_accounts_are_counted(
    quiet: tuple[str, ...], box: Sandbox, shell: Shell
) -> None:
    box.script(box.users[1], error(6007))
    source = shell.write("a.csv", *box.users[:5])
    assert (await shell.fetch(source)).status == 1
    box.always(unauthorized())
    box.reset_calls()
    # the first three are there, the second failed, and a row stands twice
    source = shell.write("a.csv", *box.users, box.users[-1])
    ended = await shell.fetch(source, "--resume", "--concurrency", "3", *quiet)
    line = one_line(ended, 4)
    answered, failed, left = counts(line)
    assert (answered, failed + left) == (4, ACCOUNTS - 4)
    assert failed == len(shell.failures())
    assert len(box.calls) <= 6
    assert box.base_url.removeprefix("http://") in line
    assert "into WOLF_TOKEN" in line
    assert len(shell.lines()) == 4
    box.heal()
    assert (await shell.fetch(source, "--resume")).status == 0
    assert len(shell.lines()) == ACCOUNTS


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes")
@pytest.mark.parametrize("ends", [True, False])
async def test_what_is_not_asked_of_a_pipe_is_counted_as_far_as_it_is_known(
    ends: bool, box: Sandbox, shell: Shell
) -> None:
    box.always(unauthorized())
    reading, writing = os.pipe()
    os.write(writing, "".join(f"{user}\n" for user in box.users).encode())
    if ends:
        os.close(writing)
    options = ("--format", "csv", "--concurrency", "1")
    line = one_line(await shell.fetch(f"/dev/fd/{reading}", *options), 4)
    assert ("; 0 answered, 0 failed, at least 40 not asked" in line) is not ends
    assert ("; 0 answered, 0 failed, 40 not asked" in line) is ends
    os.close(reading)
    if not ends:
        os.close(writing)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs devices")
async def test_a_device_or_a_pipe_is_there_and_no_answers_that_could_be_lost(
    box: Sandbox, shell: Shell
) -> None:
    source = shell.write("a.csv", *box.users[:2])
    assert await asyncio.to_thread(run, ("fetch", source, "--out", "/dev/full")) == 1
    assert "cannot write /dev/full: No space left on device" in shell.said()[1]
    pipe = shell.folder / "pipe"
    os.mkfifo(pipe)
    reading = asyncio.create_task(asyncio.to_thread(pipe.read_bytes))
    assert await asyncio.to_thread(run, ("fetch", source, "--out", str(pipe))) == 0
    assert len((await reading).splitlines()) == 2


async def test_a_base_url_without_the_api_stops_it(box: Sandbox, shell: Shell) -> None:
    box.always(html(404))
    source = shell.write("a.csv", *box.users, "x,y")
    line = one_line(await shell.fetch(source, "--concurrency", "2"), 4)
    assert "check --base-url or WOLF_BASE_URL" in line
    assert line.split("; ")[1].startswith("0 answered, ")
    assert len(box.calls) <= 8
    found = re.search(r"(\d+) failed, (\d+) not asked, 1 bad row", line)
    assert found is not None
    assert sum(map(int, found.groups())) == ACCOUNTS


async def test_an_outage_that_outlasts_the_patience_stops_it(box: Sandbox, shell: Shell) -> None:
    box.always(*[answer()] * 5, *[disconnect()] * 10_000)
    source = shell.write("a.csv", *box.users)
    options = ("--concurrency", "1", "--patience", "0.2", "--attempts", "1")
    line = one_line(await shell.fetch(source, *options), 3)
    answered, failed, left = counts(line)
    assert answered + failed + left == ACCOUNTS
    assert answered == len(shell.lines()) >= 1
    box.heal()
    assert (await shell.fetch(source, "--resume")).status == 0
    assert len(shell.lines()) == ACCOUNTS


async def test_an_outage_within_the_patience_costs_no_account(box: Sandbox, shell: Shell) -> None:
    box.script(None, *[respond(503)] * 6)
    source = shell.write("a.csv", *box.users)
    assert (await shell.fetch(source, "--concurrency", "2")).status == 0
    assert len(shell.lines()) == ACCOUNTS


async def test_too_many_requests_name_the_option_that_helps(box: Sandbox, shell: Shell) -> None:
    box.script(box.users[0], respond(429, b"", {"Retry-After": "600"}))
    source = shell.write("a.csv", box.users[0])
    ended = await shell.fetch(source, "--patience", "0")
    assert ended.status == 1
    assert ended.err.startswith("1 account: 0 answered, 1 WolfRateLimitError; ask more slowly")
    assert "--rate" in ended.err
    box.script(box.users[0], respond(429, b"", {"Retry-After": "600"}))
    line = one_line(await shell.fetch(source, "--resume", "--patience", "0.1"), 3)
    assert "--rate" in line


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


async def test_standard_output_holds_the_answers_and_nothing_else(
    box: Sandbox, shell: Shell
) -> None:
    source = shell.write("a.csv", *box.users[:3], "nobody")
    args = ("fetch", source, "--out", "-", "--errors", str(shell.errors))
    async with await start(*args, env=service(box)) as process:
        ended = await process.ended()
    assert ended.status == 1
    assert len(ended.out.splitlines()) == 3
    assert {json.loads(line)["user_id"] for line in ended.out.splitlines()} == set(box.users[:3])
    assert [account_of(line) for line in shell.failures()] == [Account("nobody")]


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="needs names for open files")
async def test_standard_output_by_its_name_has_nothing_beside_it(
    box: Sandbox, shell: Shell
) -> None:
    source = shell.write("a.csv", box.users[0], "nobody")
    args = ("fetch", source, "--out", "/dev/stdout", "--overwrite")
    with shell.out.open("wb") as file:
        async with await start(*args, env=service(box), stdout=file.fileno()) as process:
            assert (await process.ended()).status == 1
    assert [account_of(line) for line in shell.lines()] == [Account(box.users[0])]
    assert not os.path.lexists("/dev/stdout.errors.jsonl")  # noqa: ASYNC240 - no file is read


async def test_a_reader_who_pauses_costs_no_answer_and_one_who_leaves_ends_it(
    box: Sandbox, shell: Shell
) -> None:
    reading, writing = os.pipe()
    source = shell.write("a.csv", *box.users)
    args = ("fetch", source, "--out", "-", "--concurrency", "2", "--timeout", "2")
    async with await start(*args, env=service(box), stdout=writing) as process:
        os.close(writing)
        # an answer is longer than what is read here, and all of them than what the pipe holds
        await asyncio.to_thread(os.read, reading, 1000)
        os.close(reading)
        assert await process.ended() == (141, "", "")
    assert len(box.calls) < ACCOUNTS


async def test_without_a_terminal_there_is_a_line_now_and_then(box: Sandbox, shell: Shell) -> None:
    gate = asyncio.Event()
    box.script(box.users[2], hold(gate))
    source = shell.write("a.csv", *box.users[:3], "nobody")
    args = ("fetch", source, "--out", str(shell.out), "--progress-every", "0.1")
    async with await start(*args, env=service(box, TERM="dumb")) as process:
        stderr = process.process.stderr
        assert stderr is not None
        while not (line := await stderr.readline()).startswith(b"3/4 "):
            assert line
        gate.set()
        ended = await process.ended()
    assert b" 1 failed " in line
    assert line.endswith(b" left\n")
    assert ended.err.endswith("4 accounts: 3 answered, 1 WolfNotFoundError\n")


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

"""Promise what ``wolf-async watch`` takes for a change, how it shows it, and how it ends."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from wolf_async import Account, AccountUpdate, Answer, Line, TaskInit, WolfError, WolfServerError
from wolf_async.cli.account_view import AccountView, ChangeLog
from wolf_async.cli.app import run
from wolf_async.cli.changes import LineChange, line_changes, other_changes, said
from wolf_async.cli.live import LiveScreen, Sorting
from wolf_async.cli.widgets import console
from wolf_async.models import dec_hook
from wolf_async.testing import FakeClock, Sandbox, answer, error, hold

from .shell import COMMAND, Ended, Process, one_line, service, start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SAMPLE = json.loads(
    (Path(__file__).parents[1] / "data" / "task-init.sample.json").read_text(encoding="utf-8")
)["data"]
USER = Account("main", "sub")


def line(id: str, free: int | None = 5, total: int | None = 10, **changes: Any) -> dict[str, Any]:
    first: dict[str, Any] = SAMPLE["caller_line_list"][0]
    return (
        first
        | {
            "line_id": id,
            "residue": free,
            "line_concurrency": total,
            "new_line": first["new_line"] | {"name": f"line {id}"},
            "available_at": None,
        }
        | changes
    )


def init_of(*lines: dict[str, Any], **sections: Any) -> TaskInit:
    data = SAMPLE | {"caller_line_list": list(lines)} | sections
    return msgspec.convert(data, TaskInit, dec_hook=dec_hook)


def changed(before: TaskInit, after: TaskInit) -> list[tuple[str, str, int | None]]:
    return [
        (change.line.line_id, said(change), change.difference)
        for change in line_changes(before, after)
    ]


AT = datetime(2026, 1, 2, 4, 3, 4, tzinfo=UTC)


def answered(account: Account, init: TaskInit, *, is_stale: bool = False) -> AccountUpdate:
    answer = Answer(init=init, fetched_at=AT, age=0.0, is_stale=is_stale)
    return AccountUpdate(account, answer, None)


def failed(account: Account, error: WolfError) -> AccountUpdate:
    return AccountUpdate(account, None, error)


# --- what counts as a change ---------------------------------------------------------------------


def test_lines_change_by_id_in_what_is_free_in_total_or_by_coming_and_going() -> None:
    before = init_of(line("a", 5), line("b", 5), line("c"), line("d", None), line("e", 5, 10))
    after = init_of(line("e", 3, 8), line("d", 2), line("b", 7), line("a", 5), line("n", 1))
    assert changed(before, after) == [
        ("e", "residue 5→3, line_concurrency 10→8", -2),
        ("d", "residue –→2", None),
        ("b", "residue 5→7", 2),
        ("n", "new, residue 1", None),
        ("c", "gone", None),
    ]
    assert changed(before, before) == []


def test_other_sections_are_named_and_numbers_of_lines_are_no_other_change() -> None:
    before = init_of(line("a", 5), max_recycle_limit=50)
    assert other_changes(before, init_of(line("a", 4), max_recycle_limit=50)) == []
    assert other_changes(before, init_of(line("a", 5), max_recycle_limit=51, background=[])) == [
        "max_recycle_limit",
        "background",
    ]
    assert other_changes(before, init_of(line("a", 5, remark="x"), max_recycle_limit=50)) == [
        "caller_line_list"
    ]
    # that a line has come is told by itself
    assert other_changes(before, init_of(line("a"), line("b"), max_recycle_limit=50)) == []


# --- plain lines ---------------------------------------------------------------------------------


class Log:
    """A change log of one account, and what it wrote."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._log = ChangeLog(self.lines.append)
        self._view = AccountView(USER)

    def answer(self, init: TaskInit) -> None:
        self._log.show(self._view, answered(USER, init))

    def fail(self, error: WolfError) -> None:
        self._log.show(self._view, failed(USER, error))


def without_time(lines: list[str]) -> list[str]:
    assert all(re.match(r"\d\d:\d\d:\d\d main:sub ", line) for line in lines), lines
    return [line[len("00:00:00 main:sub ") :] for line in lines]


def test_a_change_log_has_a_line_for_the_first_answer_and_one_for_each_change() -> None:
    log = Log()
    log.answer(init_of(line("a", 5), line("b", 2)))
    log.answer(init_of(line("a", 3), line("b", 4)))
    log.answer(init_of(line("a", 3), line("b", 4), max_recycle_limit=1))
    assert without_time(log.lines) == [
        "2 lines, 7 of 20 calls free",
        "a line a residue 5→3",
        "b line b residue 2→4",
        "changed: max_recycle_limit",
    ]


def test_a_change_log_tells_a_failure_and_its_end() -> None:
    log = Log()
    log.fail(WolfServerError("no\nanswer\x1b[2J"))
    log.answer(init_of(line("a", 5)))
    for _ in range(3):
        log.fail(WolfServerError("again"))
    log.answer(init_of(line("a", 5)))
    assert without_time(log.lines) == [
        "WolfServerError: no answer\ufffd[2J",
        "1 line, 5 of 10 calls free",
        "WolfServerError: again",
        "1 line, 5 of 10 calls free",
    ]


def test_a_name_cannot_command_the_terminal() -> None:
    log = Log()
    log.answer(init_of(line("a", 5)))
    log.answer(init_of(line("a", 4, new_line=None, remark="\x1b[2J\n")))
    assert all(text.isprintable() for text in log.lines)


# --- the picture ---------------------------------------------------------------------------------


class Screen:
    """A picture of accounts on a terminal of a size."""

    def __init__(
        self,
        *accounts: Account,
        width: int = 120,
        height: int = 40,
        sorting: Sorting = "free",
    ) -> None:
        self.clock = FakeClock(100.0)
        self.views = {account: AccountView(account) for account in accounts}
        self.live = LiveScreen(
            list(self.views.values()), lasting=1.0, sorting=sorting, clock=self.clock
        )
        self._size = width, height

    def answer(self, account: Account, init: TaskInit, *, is_stale: bool = False) -> None:
        update = answered(account, init, is_stale=is_stale)
        self.live.show(self.views[account], update)

    def fail(self, account: Account, error: WolfError) -> None:
        self.live.show(self.views[account], failed(account, error))

    def text(self, *, styled: bool = False) -> str:
        """Return what it shows, without the blanks at the ends of rows."""
        width, height = self._size
        screen = console(
            width=width, height=height, record=True, file=io.StringIO(), color_system="standard"
        )
        screen.print(self.live)
        return "\n".join(row.rstrip() for row in screen.export_text(styles=styled).splitlines())

    def row(self, start: str) -> str:
        (row,) = [row for row in self.text().splitlines() if row.startswith(start)]
        return re.sub(r"\s+", " ", row).strip()


OTHER = Account("other")


def test_the_picture_has_a_bar_for_each_line_of_each_account() -> None:
    screen = Screen(USER, OTHER)
    assert screen.text() == "main:sub  waiting\n\nother  waiting"
    screen.answer(USER, init_of(line("a", 5), line("b", 10)))
    assert re.match(
        r"main:sub 2 lines, 15 of 20 calls free since \d\d:\d\d:\d\d as of \d\d:\d\d:04$",
        screen.row("main:sub"),
    )
    assert screen.row("line a") == f"line a {'━' * 15}{'─' * 15} 5/10"
    assert screen.row("line b") == f"line b {'━' * 30} 10/10"


def test_a_change_is_highlighted_with_its_difference_for_one_refresh() -> None:
    screen = Screen(USER)
    screen.answer(USER, init_of(line("a", 5), line("b", 5), line("c")))
    screen.clock.advance(5)
    screen.answer(
        USER,
        init_of(
            line("a", 7), line("b", 2), line("n"), line("c", available_at="2020-01-01 00:00:00")
        ),
    )
    assert screen.row("line a").endswith(" 7/10 +2")
    assert screen.row("line b").endswith(" 2/10 −3")
    assert screen.row("line n").endswith(" 5/10 new")
    assert screen.row("line c").endswith(" 5/10 ended")
    assert re.search(r" changed \d\d:\d\d:\d\d as of ", screen.row("main:sub"))
    assert "\x1b[1;33m7/10\x1b[0m" in screen.text(styled=True)
    screen.clock.advance(1.0)
    assert screen.row("line a").endswith(" 7/10")
    assert re.search(r" changed \d\d:\d\d:\d\d as of ", screen.row("main:sub"))
    assert "\x1b[1;33m" not in screen.text(styled=True)


def test_what_is_gone_and_what_else_has_changed_stands_beside_the_account() -> None:
    screen = Screen(USER)
    screen.answer(USER, init_of(line("a"), line("b")))
    screen.answer(USER, init_of(line("a"), max_recycle_limit=1))
    assert screen.row("main:sub").endswith(" line b is gone max_recycle_limit")
    assert "line b " not in screen.text().splitlines()[1]


def test_an_account_that_fails_shows_why_above_its_last_answer_until_the_next() -> None:
    screen = Screen(USER, OTHER)
    screen.fail(OTHER, WolfServerError("down"))
    screen.answer(USER, init_of(line("a", 5)))
    screen.fail(USER, WolfServerError("no\nanswer"))
    shown = screen.text().splitlines()
    assert shown[1] == "WolfServerError: no answer"
    assert shown[2].startswith("line a ")
    assert shown[-2:] == ["other", "WolfServerError: down"]
    screen.answer(USER, init_of(line("a", 5)))
    assert "no answer" not in screen.text()


def test_the_picture_fits_the_terminal() -> None:
    screen = Screen(USER, OTHER, height=20)
    for account in (USER, OTHER):
        screen.answer(account, init_of(*(line(f"{number:03}") for number in range(100))))
    shown = screen.text()
    assert len(shown.splitlines()) < 20
    assert shown.count("… 93 more") == 2


# --- many accounts -------------------------------------------------------------------------------

MANY = [Account(f"user-{number:03}") for number in range(200)]


def many(width: int = 100, height: int = 30, sorting: Sorting = "free") -> Screen:
    """Return a screen of accounts of which each has as many calls free as its number says."""
    screen = Screen(*MANY, width=width, height=height, sorting=sorting)
    for number, account in enumerate(MANY):
        screen.answer(account, init_of(line("a", number, 200)))
    return screen


def test_accounts_that_do_not_fit_have_a_row_each_the_least_free_first() -> None:
    screen = many()
    shown = screen.text().splitlines()
    assert len(shown) == 29
    assert [row.split()[0] for row in shown[:3]] == ["user-000", "user-001", "user-002"]
    assert re.search(r"[━─]+ +0/200 .* (open|closed) +as of \d\d:\d\d:04$", shown[0])
    assert shown[-1] == "… 172 more, 0 of them fail"


def test_failing_accounts_come_first_and_keep_their_last_answer_marked_as_stale() -> None:
    screen = many()
    screen.fail(MANY[2], WolfServerError("no\nanswer"))
    for account in MANY[160:]:
        screen.answer(account, init_of(line("a", 3, 200)), is_stale=True)
    shown = screen.text().splitlines()
    row = shown[0]
    assert row.startswith("user-002")
    assert " 2/200 " in row
    assert re.search(r"as of \d\d:\d\d:04 stale  WolfServerError: no", row)
    assert all(" stale" in row for row in shown[:-1])
    assert shown[-1] == "… 172 more, 13 of them fail"


def test_an_answer_that_nothing_confirms_is_stale_before_anything_fails() -> None:
    """A service that hangs makes no error for a while."""
    for screen in (many(), Screen(USER)):
        accounts = list(screen.views)
        screen.answer(accounts[0], init_of(line("a", 5)))
        assert " stale" not in screen.text()
        screen.clock.advance(2.1)
        assert " stale" in screen.text().splitlines()[0]
        for account in accounts:
            screen.answer(account, init_of(line("a", 5)))
        assert " stale" not in screen.text()


def test_a_narrow_terminal_shows_what_is_stale_and_how_many_fail() -> None:
    screen = many(width=20)
    screen.answer(MANY[150], init_of(line("a", 3, 200)), is_stale=True)
    for account in MANY[:100]:
        screen.fail(account, WolfServerError("down"))
    shown = screen.text().splitlines()
    assert all(len(row) <= 20 for row in shown)
    assert all(" stale " in row for row in shown[:-1])
    assert shown[-1] == "… 172, 73 fail"


def test_the_order_may_be_another_one() -> None:
    for sorting in ("account", "given"):
        screen = many(sorting=sorting)
        screen.fail(MANY[150], WolfServerError("down"))
        assert screen.text().splitlines()[1].startswith("user-001")
        assert screen.text().endswith("… 172 more, 1 of them fail")


def test_a_row_tells_what_changed_for_one_refresh() -> None:
    screen = many()
    screen.answer(MANY[3], init_of(line("a", 1, 200)))
    assert " -2 " in screen.row("user-003")
    screen.clock.advance(1)
    assert " -2 " not in screen.row("user-003")


@pytest.mark.parametrize("width", [100, 60, 40, 20, 10, 1])
def test_rows_fit_any_terminal(width: int) -> None:
    screen = many(width, 10)
    screen.fail(MANY[7], WolfServerError("a long story" * 20))
    shown = screen.text().splitlines()
    assert len(shown) == 9
    assert all(len(row) <= width for row in shown)


def test_both_ids_of_a_sub_account_stay_to_be_told_apart() -> None:
    ids = [f"{number:08}-dd53-42a0-8ace-0bf8d660f4cc" for number in range(10)]
    screen = Screen(*(Account(ids[0], sub) for sub in ids[1:]), width=100, height=12)
    labels = [row.split()[0] for row in screen.text().splitlines()]
    assert len(set(labels)) == 9


def test_two_hundred_accounts_cost_a_tenth_of_a_core_to_draw() -> None:
    """A picture is drawn twice a second, so it may take a twentieth of one."""
    screen = many()
    terminal = console(
        width=100, height=30, file=io.StringIO(), color_system="standard", force_terminal=True
    )
    terminal.print(screen.live)
    took: list[float] = []
    for _ in range(5):
        begun = time.process_time()
        for account in MANY[:100]:
            screen.answer(account, init_of(line("a", 5, 200)))
        made = time.process_time()
        for account in MANY:
            screen.live.show(
                screen.views[account], answered(account, screen.views[account].init or init_of())
            )
        terminal.print(screen.live)
        took.append(time.process_time() - made)
        assert made >= begun
    assert min(took) < 0.05


def test_a_difference_needs_both_numbers() -> None:
    (known,) = init_of(line("a", 5)).caller_line_list
    unknown: Line = msgspec.structs.replace(known, residue=None)
    assert LineChange(known, unknown).difference is None
    assert LineChange(None, known).difference is None
    assert LineChange(known, known).difference == 0


# --- a run ---------------------------------------------------------------------------------------


@pytest.fixture
async def box() -> AsyncIterator[Sandbox]:
    async with Sandbox(accounts=2, clock=FakeClock(1000.0)) as running:
        yield running


class Shell:
    """Runs the command in a thread of this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    async def watch(self, *args: str) -> Ended:
        self._capsys.readouterr()
        status = await asyncio.to_thread(run, ("watch", *args))
        said = self._capsys.readouterr()
        return Ended(status, said.out, said.err)


@pytest.fixture
def shell(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    monkeypatch.setenv("WOLF_TOKEN", box.token)
    monkeypatch.setenv("WOLF_BASE_URL", box.base_url)
    return Shell(capsys)


async def test_without_a_refresh_it_is_one_line_for_each_account(
    box: Sandbox, shell: Shell
) -> None:
    sub = box.accounts[-1]
    ended = await shell.watch(
        box.users[0], f"{sub.user_id}:{sub.sub_user_id}", box.users[0], "--times", "0"
    )
    assert (ended.status, ended.err) == (0, "")
    assert {call.account for call in box.calls} == {Account(box.users[0]), sub}
    assert len(box.calls) == 2
    assert sorted(text.split()[1] for text in ended.out.splitlines()) == sorted(
        [box.users[0], f"{sub.user_id}:{sub.sub_user_id}"]
    )


async def test_it_ends_after_so_many_refreshes_and_prints_only_changes(
    box: Sandbox, shell: Shell
) -> None:
    user = box.users[0]
    before = box.data_for(user)
    gate = asyncio.Event()
    box.script(user, hold(gate))
    watching = asyncio.create_task(shell.watch(user, "--every", "0.5", "--times", "2"))
    await box.wait_for_calls(1)
    gate.set()
    await box.wait_until_idle()
    # between the first answer and the first refresh
    free = before["caller_line_list"][0]["residue"]
    before["caller_line_list"][0]["residue"] = free + 1
    box.set_data(user, before)
    ended = await watching
    assert (ended.status, ended.err) == (0, "")
    assert 2 <= len(box.calls) <= 3
    assert len(ended.out.splitlines()) == 2
    assert ended.out.endswith(f" residue {free}→{free + 1}\n")


async def test_an_account_that_failed_is_tried_again(box: Sandbox, shell: Shell) -> None:
    box.script(box.users[0], error(6007, "参数错误"))
    ended = await shell.watch(box.users[0], "--every", "0.3", "--times", "2")
    assert (ended.status, ended.err) == (0, "")
    failure, answer = ended.out.splitlines()
    assert "WolfAPIError: " in failure
    assert "calls free" in answer


async def test_an_account_without_an_answer_in_the_end_is_status_1(
    box: Sandbox, shell: Shell
) -> None:
    ended = await shell.watch("nobody", box.users[0], "--times", "0")
    assert (ended.status, ended.err) == (1, "")
    assert len(ended.out.splitlines()) == 2
    assert "WolfNotFoundError" in ended.out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "no account: name one, or a file of them with --accounts"),
        (("u:",), "sub_user_id must not be empty"),
        ((":s",), "user_id must not be empty"),
        (("u", "--every", "0"), "--every must be a finite number above 0"),
        (("u", "--every", "inf"), "--every must be a finite number above 0"),
        (("u", "--times", "-1"), "--times"),
    ],
)
async def test_what_makes_no_sense_is_one_line_and_status_2(
    args: tuple[str, ...], said: str, shell: Shell
) -> None:
    assert said in one_line(await shell.watch(*args), 2)


async def test_ctrl_c_in_a_terminal_leaves_the_picture_and_the_cursor(box: Sandbox) -> None:
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    command = (*COMMAND, "watch", box.users[0], "nobody", "--every", "0.2")
    env = service(box, LINES="40", TERM="xterm")
    process = Process(
        await asyncio.create_subprocess_exec(
            *command, env=env, stdout=slave, stderr=asyncio.subprocess.PIPE
        )
    )
    os.close(slave)
    reading = asyncio.create_task(asyncio.to_thread(all_of, master))
    async with process:
        # a second question for the first account: its first answer is shown
        while len(box.calls_for(box.users[0])) < 2:
            await box.wait_for_calls(len(box.calls) + 1, timeout=60)
        process.interrupt()
        ended = await process.ended()
    said = await reading
    os.close(master)
    assert (ended.status, ended.err) == (130, "")
    assert said.rstrip().endswith("\x1b[?25h")
    last = said[said.rindex(box.users[0]) :]
    assert "━" in last
    assert "nobody" in last
    assert "WolfNotFoundError" in last


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


async def test_accounts_of_a_file_are_watched_and_its_bad_rows_told(
    box: Sandbox, shell: Shell, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    sub = box.accounts[-1]
    text = f"用户ID;子账户ID\n{sub.user_id};{sub.sub_user_id}\nNULL;\n{box.users[0]};\n"
    path.write_bytes(text.encode("gb18030"))
    ended = await shell.watch(box.users[0], "--accounts", str(path), "--times", "0")
    assert ended.status == 1
    assert "a.csv, line 3: user_id NULL stands for nothing" in ended.err
    assert {call.account for call in box.calls} == {Account(box.users[0]), sub}
    assert len(ended.out.splitlines()) == 2


async def test_an_answer_is_stale_as_soon_as_the_next_one_fails(box: Sandbox, shell: Shell) -> None:
    box.script(box.users[0], answer(), *[error(6007)] * 20)
    ended = await shell.watch(box.users[0], "--every", "0.2", "--times", "2")
    assert ended.status == 1
    assert len(ended.out.splitlines()) == 2
    assert "WolfAPIError" in ended.out.splitlines()[1]


async def test_a_reader_that_has_gone_ends_it(box: Sandbox) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    async with await start("watch", box.users[0], env=service(box), stdout=writing) as process:
        assert await process.ended() == (141, "", "")
    os.close(writing)

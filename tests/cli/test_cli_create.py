"""Promise that ``wolf-async create`` checks drafts, and creates each task at most once."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from wolf_async import Account, WolfClient
from wolf_async.cli.app import run
from wolf_async.testing import answer, disconnect, error, hold, html, respond, unauthorized

from .fetching import Shell, lines_of
from .shell import Ended, one_line, service, start

if TYPE_CHECKING:
    from pathlib import Path

    from wolf_async.testing import Sandbox

HOUR = timedelta(hours=1)
BEGIN = datetime.now(timezone(8 * HOUR)) + HOUR
START, STOP = (f"{moment:%Y-%m-%d %H:%M:%S}" for moment in (BEGIN, BEGIN + 200 * HOUR))


class Tasks:
    """Writes drafts for the accounts of a sandbox, and creates them by the command."""

    def __init__(self, box: Sandbox, shell: Shell) -> None:
        self.box = box
        self.shell = shell

    @property
    def results(self) -> Path:
        return self.shell.folder / "results.jsonl"

    def arguments(self, user: str, **changes: Any) -> dict[str, Any]:
        """Return arguments of a draft that one line can carry."""
        data = self.box.data_for(user)
        line = max(data["caller_line_list"], key=lambda line: line["residue"])
        return {
            "name": "a task",
            "script": data["outbound_group_v2"][0]["id"],
            "calls": 1,
            "start": START,
            "stop": STOP,
            "dial_time": data["task_dial_times"][0]["id"],
            "lines": [{"id": line["line_id"], "limit": 1}],
        } | changes

    def row(self, number: int, key: str | None = None, **changes: Any) -> dict[str, Any]:
        user = self.box.users[number]
        key = f"k{number}" if key is None else key
        return {"key": key, "user_id": user, "draft": self.arguments(user, **changes)}

    def write(self, *rows: dict[str, Any] | str) -> str:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        return self.shell.write("drafts.jsonl", *lines)

    async def create(self, source: str, *options: str) -> Ended:
        self.shell.said()
        args = ("create", source, "--out", str(self.results), *options)
        status = await asyncio.to_thread(run, args)
        return Ended(status, *self.shell.said())

    def outcomes(self) -> dict[Any, list[str]]:
        """Return the outcomes of each key, in order."""
        found: dict[Any, list[str]] = {}
        for line in lines_of(self.results):
            found.setdefault(line["key"], []).append(line["outcome"])
        return found

    def posts(self) -> int:
        return sum(call.method == "POST" for call in self.box.calls)


@pytest.fixture
def tasks(box: Sandbox, shell: Shell) -> Tasks:
    # two lines whose allocation does not end within the test
    for user in box.users[:6]:
        data = box.data_for(user)
        for line in data["caller_line_list"]:
            line["residue"], line["line_concurrency"] = 5, 5
            line["available_at"] = "2099-01-01 00:00:00"
        box.set_data(user, data)
    return Tasks(box, shell)


# --- checking ------------------------------------------------------------------------------------


async def test_without_send_drafts_are_checked_and_nothing_is_created(tasks: Tasks) -> None:
    wrong = tasks.row(1, calls=7)
    ended = await tasks.create(tasks.write(tasks.row(0), wrong))
    assert ended.status == 1
    assert ended.err == "2 rows: 1 checked, 1 problems\n"
    assert tasks.outcomes() == {"k0": ["checked"], "k1": ["problems"]}
    assert "k1: error: $.maximumcall: " in ended.out
    (result,) = [line for line in lines_of(tasks.results) if line["key"] == "k1"]
    assert list(result) == ["key", "user_id", "sub_user_id", "outcome", "problems"]
    assert {"path", "code", "message"} <= set(result["problems"][0])
    assert tasks.posts() == 0
    assert tasks.box.tasks == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"script": 77}, "destination_extension"),
        ({"calls": "two"}, "maximumcall"),
        ({"lines": [{"id": "x"}]}, "task_extras.line"),
        ({"lines": "nonsense"}, "line"),
        ({"start": "tomorrow"}, "start_time"),
        ({"stop": None}, "stop_time"),
        ({"holidays": [5]}, "$"),
        ({"holidays": [{"begin": START[:16], "end": STOP[:16], "rule": 1}]}, "task_extras.holiday"),
        ({"legacy": "false"}, "legacy"),
        ({"at": "soon"}, "$"),
        ({"zone": "Nowhere/City"}, "$"),
        ({"colour": "red"}, "colour"),
        ({"name": 5}, "$.name"),
        ({"extra": [1]}, "$"),
    ],
)
async def test_a_draft_that_makes_no_sense_is_a_problem_of_its_row(
    changes: dict[str, Any], said: str, tasks: Tasks
) -> None:
    ended = await tasks.create(tasks.write(tasks.row(0, **changes), tasks.row(1)), "--send")
    assert (ended.status, ended.err) == (1, "2 rows: 1 created, 1 problems\n")
    assert tasks.outcomes() == {"k0": ["problems"], "k1": ["created"]}
    assert said in ended.out
    assert tasks.posts() == 1


async def test_a_missing_argument_is_named(tasks: Tasks) -> None:
    row = tasks.row(0)
    del row["draft"]["script"]
    ended = await tasks.create(tasks.write(row))
    assert "script" in ended.out
    assert tasks.outcomes() == {"k0": ["problems"]}


async def test_an_account_that_fails_is_a_failed_row(tasks: Tasks) -> None:
    row = tasks.row(0) | {"user_id": "nobody1"}
    tasks.box.script(tasks.box.users[1], error(6007, "余额不足"))
    ended = await tasks.create(tasks.write(row, tasks.row(1), tasks.row(2)), "--send")
    assert ended.status == 1
    assert tasks.outcomes() == {"k0": ["failed"], "k1": ["failed"], "k2": ["created"]}
    assert "k0: failed: " in ended.out
    assert "k1: failed: " in ended.out
    errors = {line["key"]: line["error"] for line in lines_of(tasks.results) if "error" in line}
    assert errors["k0"]["type"] == "WolfNotFoundError"
    assert errors["k1"]["code"] == 6007


# --- the file ------------------------------------------------------------------------------------


async def test_two_rows_with_one_key_are_refused(tasks: Tasks) -> None:
    for key in ("same", 7):
        rows = [tasks.row(0) | {"key": key}, tasks.row(1) | {"key": str(key)}]
        line = one_line(await tasks.create(tasks.write(*rows), "--send"), 2)
        assert f"two rows have the key {key}" in line
    assert tasks.box.calls == []
    assert not tasks.results.exists()


async def test_rows_that_are_no_draft_are_listed_and_the_others_done(tasks: Tasks) -> None:
    good = tasks.row(0)
    bad: list[dict[str, Any] | str] = [
        "x",
        "[1]",
        {"user_id": "a1", "draft": {}},
        {"key": "", "user_id": "a1", "draft": {}},
        {"key": "b", "user_id": "NULL", "draft": {}},
        {"key": "c", "user_id": "a1", "draft": 5},
        {"key": "d", "draft": {}},
        '{"key":"e","key":"f","user_id":"a1","draft":{}}',
        {"key": "\ud800", "user_id": "a1", "draft": {}},
        {"key": "g", "user_id": "a1", "draft": {"\ud800": 1}},
    ]
    ended = await tasks.create(tasks.write(*bad, good), "--send")
    assert (ended.status, ended.err) == (1, "11 rows: 1 created, 10 bad\n")
    assert tasks.outcomes() == {"k0": ["created"]}
    listed = lines_of(tasks.shell.folder / "results.errors.jsonl")
    assert [line["error"]["line"] for line in listed] == list(range(1, 11))
    assert {call.account for call in tasks.box.calls} == {Account(good["user_id"])}


async def test_the_file_may_be_of_another_encoding_and_name_accounts_otherwise(
    tasks: Tasks,
) -> None:
    row = tasks.row(0, name="云蝠")
    row["用户ID"] = row.pop("user_id")
    source = tasks.shell.write_bytes(
        "drafts.jsonl", json.dumps(row, ensure_ascii=False).encode("gb18030")
    )
    assert (await tasks.create(source, "--send")).status == 0
    assert [task.name for task in tasks.box.tasks] == ["云蝠"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--format", "csv"), "drafts are JSON Lines"),
        (("--out", "-"), "is no file"),
        (("--out", os.devnull), "is no file"),
        (("--retry-uncertain", "k0"), "goes with --send and --resume"),
        (("--send", "--resume", "--retry-uncertain", "k0"), "no row of that key is uncertain"),
    ],
)
async def test_what_makes_no_sense_is_status_2_and_nothing_is_asked(
    options: tuple[str, ...], said: str, tasks: Tasks
) -> None:
    assert said in one_line(await tasks.create(tasks.write(tasks.row(0)), *options), 2)
    assert tasks.box.calls == []


# --- creating ------------------------------------------------------------------------------------


async def test_a_task_is_created_with_what_was_drafted(tasks: Tasks) -> None:
    sub = next(account for account in tasks.box.accounts if account.sub_user_id)
    tasks.box.set_data(sub, tasks.box.data_for(sub.user_id))
    row: dict[str, Any] = tasks.row(0) | {"sub_user_id": sub.sub_user_id}
    assert await tasks.create(tasks.write(row), "--send") == (0, "", "1 row: 1 created\n")
    (task,) = tasks.box.tasks
    assert task.account == sub
    assert task.body["maximumcall"] == 1
    assert task.body["task_extras"]["line"] == row["draft"]["lines"]
    (result,) = lines_of(tasks.results)
    assert list(result) == ["key", "user_id", "sub_user_id", "outcome", "uuid", "data"]
    assert (result["key"], result["outcome"], result["uuid"]) == ("k0", "created", task.uuid)
    assert (result["user_id"], result["sub_user_id"]) == sub
    assert result["data"]["uuid"] == task.uuid


async def test_a_finished_body_is_sent_as_it_is(tasks: Tasks) -> None:
    async with WolfClient(tasks.box.token, base_url=tasks.box.base_url) as wolf:
        init = await wolf.task_init(tasks.box.users[0])
    arguments = tasks.arguments(tasks.box.users[0], lines=None)
    body = init.draft(**arguments, holidays=[(START[:16], STOP[:16])]).body()
    body |= {"unknown": {"x": 1}}
    body["task_extras"] |= {"pop_mode": 1}
    row = {"key": 5, "user_id": tasks.box.users[0], "draft": body}
    assert (await tasks.create(tasks.write(row), "--send")).status == 0
    assert tasks.box.tasks[0].body == body
    assert tasks.outcomes() == {5: ["created"]}


async def test_tasks_of_one_account_never_promise_more_than_is_free(tasks: Tasks) -> None:
    """Each draft is made for what the creations before it have left."""
    user = tasks.box.users[0]
    free = sum(line["residue"] for line in tasks.box.data_for(user)["caller_line_list"])
    rows = [tasks.row(0, key=f"k{number}", calls=3, lines=None) for number in range(free)]
    ended = await tasks.create(tasks.write(*rows), "--send")
    assert ended.status == 1
    outcomes = Counter(outcome for (outcome,) in tasks.outcomes().values())
    assert outcomes["created"] == len(tasks.box.tasks) >= 1
    assert outcomes["created"] + outcomes["problems"] == free
    taken: Counter[str] = Counter()
    for task in tasks.box.tasks:
        taken.update(task.limits)
    assert max(taken.values()) <= 5


@pytest.mark.parametrize("step", [disconnect(), respond(502), html(500)])
async def test_what_nobody_can_know_is_uncertain_and_not_sent_again(
    step: Any, tasks: Tasks
) -> None:
    tasks.box.script(tasks.box.users[0], answer(), step)
    source = tasks.write(tasks.row(0), tasks.row(1))
    ended = await tasks.create(source, "--send")
    assert ended.status == 1
    assert ended.out.startswith("k0: uncertain: ")
    assert tasks.outcomes() == {"k0": ["uncertain"], "k1": ["created"]}
    assert tasks.posts() == 2
    ended = await tasks.create(source, "--send", "--resume")
    assert (ended.status, tasks.posts()) == (1, 2)
    assert ended.err == "2 rows: 1 created before, 1 uncertain\n"
    assert tasks.outcomes() == {"k0": ["uncertain"], "k1": ["created"]}
    retry = ("--send", "--resume", "--retry-uncertain")
    line = one_line(await tasks.create(source, *retry, "k1"), 2)
    assert "--retry-uncertain k1: no row of that key is uncertain" in line
    assert await tasks.create(source, *retry, "k0") == (
        0,
        "",
        "2 rows: 1 created, 1 created before\n",
    )
    assert tasks.posts() == 3
    assert tasks.outcomes()["k0"] == ["uncertain", "created"]
    assert "no row of that key is uncertain" in one_line(
        await tasks.create(source, *retry, "k0"), 2
    )
    assert tasks.posts() == 3


@pytest.mark.parametrize("is_noted", [True, False])
@pytest.mark.parametrize(
    "steps",
    [
        [error(6007, "余额不足")],
        [answer(), error(422, "并发数异常", 422)],
        [unauthorized()],
        [answer(), unauthorized()],
    ],
)
async def test_what_is_uncertain_stays_so_if_trying_again_creates_nothing(
    steps: list[Any], is_noted: bool, tasks: Tasks
) -> None:
    tasks.box.script(tasks.box.users[0], answer(), disconnect())
    source = tasks.write(tasks.row(0))
    await tasks.create(source, "--send")
    if not is_noted:  # as after a kill
        tasks.results.write_bytes(b"")
        journal = tasks.shell.folder / "results.sending.jsonl"
        journal.write_bytes(b'{"key":"k0","state":"sending"}\n')
    tasks.box.script(tasks.box.users[0], *steps)
    retry = ("--send", "--resume", "--retry-uncertain", "k0")
    assert (await tasks.create(source, *retry)).status in (1, 4)
    sent = tasks.posts()
    tasks.box.heal()
    ended = await tasks.create(source, "--send", "--resume")
    assert (ended.status, ended.err, tasks.posts()) == (1, "1 row: 1 uncertain\n", sent)
    assert tasks.outcomes()["k0"][-1] == "uncertain"
    assert (await tasks.create(source, *retry)).status == 0
    assert tasks.posts() == sent + 1


async def test_a_key_is_the_same_as_a_number_and_as_a_text(tasks: Tasks) -> None:
    tasks.box.script(tasks.box.users[1], answer(), disconnect())
    rows = [tasks.row(0) | {"key": 7}, tasks.row(1) | {"key": 8}]
    assert (await tasks.create(tasks.write(*rows), "--send")).status == 1
    source = tasks.write(*(row | {"key": str(row["key"])} for row in rows))
    ended = await tasks.create(source, "--send", "--resume")
    assert (ended.err, tasks.posts()) == ("2 rows: 1 created before, 1 uncertain\n", 2)
    await tasks.create(source, "--send", "--resume", "--retry-uncertain", "8")
    assert tasks.posts() == 3


async def test_what_failed_for_certain_is_sent_again_by_resume(tasks: Tasks) -> None:
    tasks.box.script(tasks.box.users[0], answer(), error(422, "并发数异常", 422))
    source = tasks.write(tasks.row(0), tasks.row(1, calls=7))
    assert (await tasks.create(source, "--send")).status == 1
    assert tasks.outcomes() == {"k0": ["failed"], "k1": ["problems"]}
    assert (await tasks.create(source, "--send", "--resume")).status == 1
    assert tasks.outcomes() == {"k0": ["failed", "created"], "k1": ["problems", "problems"]}


async def test_results_that_are_there_are_touched_only_on_demand(tasks: Tasks) -> None:
    source = tasks.write(tasks.row(0))
    assert (await tasks.create(source)).status == 0
    before = tasks.results.read_bytes()
    assert "--resume continues" in one_line(await tasks.create(source, "--send"), 2)
    assert tasks.results.read_bytes() == before
    assert (await tasks.create(source, "--send", "--resume")).status == 0
    assert tasks.outcomes() == {"k0": ["checked", "created"]}


@pytest.mark.parametrize("name", ["results.jsonl", "results.sending.jsonl"])
async def test_what_is_nested_too_deeply_is_no_line_of_this_command(
    tasks: Tasks, name: str
) -> None:
    deep = "[" * 1_000_000 + "]" * 1_000_000
    text = f'{{"key":"k0","outcome":"failed","state":"nothing","data":{deep}}}\n'
    tasks.results.touch()
    tasks.results.with_name(name).write_text(text)
    line = one_line(await tasks.create(tasks.write(tasks.row(0)), "--resume"), 2)
    assert f"line 1 of {tasks.results.with_name(name)} is not of this command" in line


async def test_an_errors_file_that_cannot_be_opened_leaves_nothing_behind(tasks: Tasks) -> None:
    source = tasks.write(tasks.row(0))
    errors = tasks.shell.folder / "results.errors.jsonl"
    errors.mkdir()
    line = one_line(await tasks.create(source, "--send"), 2)
    assert "Is a directory" in line
    left = {path.name for path in tasks.shell.folder.iterdir()}
    assert left == {"drafts.jsonl", errors.name}
    errors.rmdir()
    assert (await tasks.create(source, "--send")).status == 0


async def test_results_without_what_was_sent_are_refused(tasks: Tasks) -> None:
    source = tasks.write(tasks.row(0))
    assert (await tasks.create(source, "--send")).status == 0
    journal = tasks.shell.folder / "results.sending.jsonl"
    journal.rename(tasks.shell.folder / "elsewhere")
    line = one_line(await tasks.create(source, "--send", "--resume"), 2)
    assert "results.sending.jsonl is missing or empty" in line
    (tasks.shell.folder / "elsewhere").rename(journal)
    assert (await tasks.create(source, "--send", "--resume")).status == 0
    tasks.results.unlink()
    line = one_line(await tasks.create(source, "--send"), 2)
    assert "results.sending.jsonl is there already" in line
    line = one_line(await tasks.create(source, "--send", "--resume"), 2)
    assert "results.jsonl is missing, which says what was created" in line
    assert not tasks.results.exists()
    assert tasks.posts() == 1


@pytest.mark.parametrize("is_emptied", [False, True])
async def test_a_row_whose_result_was_lost_is_uncertain_and_not_sent_again(
    is_emptied: bool, tasks: Tasks
) -> None:
    tasks.box.script(tasks.box.users[0], answer(), error(422, "并发数异常", 422))
    source = tasks.write(tasks.row(0), tasks.row(1))
    await tasks.create(source, "--send")
    assert (await tasks.create(source, "--send", "--resume")).status == 0
    assert len(tasks.box.tasks) == 2
    # cut off within the last line, which says that k0 was created after it had failed
    tasks.results.write_bytes(b"" if is_emptied else tasks.results.read_bytes()[:-20])
    ended = await tasks.create(source, "--send", "--resume")
    assert ended.status == 1
    assert tasks.outcomes()["k0"][-1] == "uncertain"
    assert len(tasks.box.tasks) == 2
    assert (await tasks.create(source, "--send", "--resume", "--retry-uncertain", "k0")).out == ""
    assert len(tasks.box.tasks) == 3


async def test_an_empty_journal_beside_results_of_sent_rows_is_refused(tasks: Tasks) -> None:
    source = tasks.write(tasks.row(0), tasks.row(1))
    assert (await tasks.create(source, "--send")).status == 0
    journal = tasks.shell.folder / "results.sending.jsonl"
    journal.write_bytes(b"")
    line = one_line(await tasks.create(source, "--send", "--resume"), 2)
    assert "results.sending.jsonl is missing or empty" in line
    assert journal.exists()


# --- what ends it --------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [unauthorized(), html(404)])
@pytest.mark.parametrize("at_post", [False, True])
async def test_a_refused_token_or_a_wrong_base_url_stops_it(
    at_post: bool, step: Any, tasks: Tasks
) -> None:
    source = tasks.write(*(tasks.row(number) for number in range(4)))
    tasks.box.script(tasks.box.users[0], answer(), answer())
    tasks.box.script(tasks.box.users[1], *([answer()] if at_post else []), step)
    line = one_line(await tasks.create(source, "--send", "--concurrency", "1"), 4)
    assert line.endswith("1 row: 1 created, 3 not asked; continue with --resume")
    assert len(tasks.box.tasks) == 1
    assert (await tasks.create(source, "--send", "--resume")).status == 0
    assert len(tasks.box.tasks) == 4
    assert {each[-1] for each in tasks.outcomes().values()} == {"created"}


async def test_rows_of_one_account_in_a_row_keep_no_other_account_waiting(tasks: Tasks) -> None:
    gate = asyncio.Event()
    tasks.box.script(tasks.box.users[0], answer(), hold(gate))
    source = tasks.write(*(tasks.row(0, f"a{number}") for number in range(5)), tasks.row(1))
    creating = asyncio.create_task(tasks.create(source, "--send", "--concurrency", "2"))
    try:
        # the check and the request of the first row, and those of the last one
        await tasks.box.wait_for_calls(4, timeout=60)
        assert [task.account.user_id for task in tasks.box.tasks] == [tasks.box.users[1]]
    finally:
        gate.set()
        ended = await creating
    assert ended.err == "6 rows: 6 created\n"


async def test_what_failed_for_certain_is_noted_so_even_if_the_reader_has_gone(
    tasks: Tasks,
) -> None:
    for user in tasks.box.users[:2]:
        tasks.box.script(user, answer(), error(422, "并发数异常", 422))
    source = tasks.write(tasks.row(0), tasks.row(1))
    args = ("create", source, "--out", str(tasks.results), "--send", "--concurrency", "1")
    reading, writing = os.pipe()
    os.close(reading)
    async with await start(*args, env=service(tasks.box), stdout=writing) as process:
        os.close(writing)
        assert (await process.ended()).status == 141
    assert tasks.outcomes() == {"k0": ["failed"]}
    await tasks.create(source, "--send", "--resume")
    assert tasks.outcomes() == {"k0": ["failed", "created"], "k1": ["failed"]}


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
async def test_a_kill_between_sending_and_noting_leaves_the_row_uncertain(tasks: Tasks) -> None:
    gate = asyncio.Event()
    user = tasks.box.users[1]
    tasks.box.script(user, answer(), hold(gate))
    source = tasks.write(*(tasks.row(number) for number in range(3)))
    args = ("create", source, "--out", str(tasks.results), "--send", "--concurrency", "1")
    async with await start(*args, env=service(tasks.box)) as process:
        await tasks.box.wait_for_calls(4, timeout=60)
        process.process.kill()
        await process.ended()
    gate.set()
    await tasks.box.wait_until_idle()
    assert tasks.outcomes() == {"k0": ["created"]}
    # as if a crash of the machine had torn the last write
    with tasks.results.open("ab") as file:
        file.write(b'{"key":"k1","user')
    tasks.box.reset_calls()
    ended = await tasks.create(source, "--send", "--resume")
    assert ended.status == 1
    assert {call.account.user_id for call in tasks.box.calls if call.account} == {
        tasks.box.users[2]
    }
    assert tasks.outcomes() == {"k0": ["created"], "k1": ["uncertain"], "k2": ["created"]}


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_lets_what_was_sent_end_and_sends_no_more(
    number: int, status: int, tasks: Tasks
) -> None:
    gate = asyncio.Event()
    tasks.box.script(tasks.box.users[0], answer(), hold(gate))
    source = tasks.write(*(tasks.row(number) for number in range(3)))
    args = ("create", source, "--out", str(tasks.results), "--send", "--concurrency", "1")
    async with await start(*args, env=service(tasks.box)) as process:
        await tasks.box.wait_for_calls(2, timeout=60)
        process.process.send_signal(number)
        asyncio.get_running_loop().call_later(0.3, gate.set)
        ended = await process.ended()
    assert (ended.status, ended.err) == (status, "stopped after 1 row: 1 created\n")
    assert tasks.outcomes() == {"k0": ["created"]}
    assert tasks.posts() == 1


async def test_a_disk_that_is_full_before_a_row_is_sent_sends_nothing(tasks: Tasks) -> None:
    resource = pytest.importorskip("resource")
    source = tasks.write(tasks.row(0))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        line = one_line(await tasks.create(source, "--send"), 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "results.sending.jsonl: File too large" in line
    assert tasks.posts() == 0
    assert (tasks.shell.folder / "results.sending.jsonl").read_bytes() == b""


async def test_a_disk_that_is_full_while_rows_are_out_is_one_line_and_leaves_them_uncertain(
    tasks: Tasks, caplog: pytest.LogCaptureFixture
) -> None:
    resource = pytest.importorskip("resource")
    gates = [asyncio.Event(), asyncio.Event()]
    for user, gate in zip(tasks.box.users, gates, strict=False):
        tasks.box.script(user, answer(), hold(gate))
    source = tasks.write(tasks.row(0), tasks.row(1), tasks.row(2))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # enough for the journal, and not for a result
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        creating = asyncio.create_task(tasks.create(source, "--send", "--concurrency", "2"))
        await tasks.box.wait_for_calls(4, timeout=60)
        gates[0].set()
        # the run is being stopped when the second result comes
        asyncio.get_running_loop().call_later(0.3, gates[1].set)
        line = one_line(await creating, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    gc.collect()
    assert "results.jsonl: File too large" in line
    assert caplog.records == []
    assert (await tasks.create(source, "--send", "--resume")).status == 1
    assert tasks.outcomes() == {"k0": ["uncertain"], "k1": ["uncertain"], "k2": ["created"]}
    assert tasks.posts() == 3

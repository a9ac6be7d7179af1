"""``wolf-async init`` as a process, against a server on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from wolf_async import Account, TaskInit
from wolf_async.cli.app import run
from wolf_async.models import dec_hook
from wolf_async.testing import (
    FakeClock,
    Sandbox,
    error,
    hold,
    html,
    respond,
    truncate,
    unauthorized,
)

from .shell import COMMAND, Ended, environment, one_line, service, start, wolf_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def box() -> AsyncIterator[Sandbox]:
    async with Sandbox(accounts=2, clock=FakeClock(1000.0)) as running:
        yield running


# --- answers -------------------------------------------------------------------------------------


async def test_it_shows_the_answer_of_the_account(box: Sandbox) -> None:
    user = box.users[0]
    ended = await wolf_async("init", user, env=service(box))
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith(f"Account {user}\n")
    for line in box.data_for(user)["caller_line_list"]:
        assert f"{line['residue']}/{line['line_concurrency']} " in ended.out
        assert line["remark"] in ended.out
    assert [call.account for call in box.calls] == [Account(user)]


async def test_it_shows_the_answer_of_a_sub_account(box: Sandbox) -> None:
    account = box.accounts[-1]
    ended = await wolf_async(
        "init", account.user_id, "--sub-user", str(account.sub_user_id), env=service(box)
    )
    assert ended.status == 0
    assert f"Sub-account {account.sub_user_id}\n" in ended.out
    assert [call.account for call in box.calls] == [account]


async def test_json_is_one_document_on_one_line_and_holds_all_of_the_answer(box: Sandbox) -> None:
    ended = await wolf_async(
        "init", box.users[0], "--json", env=service(box, PYTHONIOENCODING="ascii")
    )
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.count("\n") == 1
    expected = msgspec.convert(box.data_for(box.users[0]), TaskInit, dec_hook=dec_hook)
    assert msgspec.json.decode(ended.out, type=TaskInit, dec_hook=dec_hook) == expected


async def test_json_is_indented_on_a_terminal(box: Sandbox) -> None:
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    box.set_data(box.users[0], {"max_recycle_limit": 50, "caller_line_list": []})
    async with await start(
        "init", box.users[0], "--json", env=service(box), stdout=slave
    ) as process:
        assert (await process.ended()).status == 0
    os.close(slave)
    said = os.read(master, 100_000).decode().replace("\r\n", "\n")
    os.close(master)
    assert '\n  "max_recycle_limit": 50' in said
    assert json.loads(said)["max_recycle_limit"] == 50


async def test_an_option_beats_the_environment(box: Sandbox) -> None:
    env = service(box) | {"WOLF_BASE_URL": "http://127.0.0.1:9"}
    ended = await wolf_async("init", box.users[0], "--json", "--base-url", box.base_url, env=env)
    assert ended.status == 0
    assert len(box.calls) == 1


async def test_a_terminal_without_unicode_gets_an_answer_too(box: Sandbox) -> None:
    ended = await wolf_async("init", box.users[0], env=service(box, PYTHONIOENCODING="ascii"))
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.isascii()


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "variables", "said"),
    [
        (("init",), {}, "Missing argument 'USER_ID' (see wolf-async init --help)"),
        (("init", "u", "more"), {}, "unexpected extra argument"),
        (("init", "u", "--token=x"), {}, "No such option '--token'"),
        (("nonsense",), {}, "No such command 'nonsense'"),
        (("init", "u"), {}, "no token: put it into the environment as WOLF_TOKEN"),
        (("init", "u"), {"WOLF_TOKEN": ""}, "no token: put it into the environment as WOLF_TOKEN"),
        (("init", ""), {"WOLF_TOKEN": "canary-token"}, "user_id must not be empty"),
        (("init", "../x"), {"WOLF_TOKEN": "canary-token"}, "user_id must hold no dot segment"),
        (
            ("init", "u", "--base-url", "ftp://x"),
            {"WOLF_TOKEN": "canary-token"},
            "base_url must be like https://",
        ),
        (
            ("init", "u"),
            {"WOLF_TOKEN": "canary-token", "WOLF_BASE_URL": "http://example.com"},
            "--allow-http",
        ),
        (("sandbox", "--port", "99999"), {}, "99999 is not in the range"),
    ],
)
def test_a_command_that_makes_no_sense_is_one_line_and_status_2(
    args: tuple[str, ...],
    variables: dict[str, str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("WOLF_TOKEN", "WOLF_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    status = run(args)
    out, err = capsys.readouterr()
    assert said in one_line(Ended(status, out, err), 2)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("init", "u"), "no token"),
        (("init",), "Missing argument"),
        (("sandbox", "--port=x"), "--port"),
    ],
)
async def test_a_process_that_makes_no_sense_ends_in_one_line_and_status_2(
    args: tuple[str, ...], said: str
) -> None:
    assert said in one_line(await wolf_async(*args, env=environment()), 2)


async def test_without_a_command_there_is_help_and_status_2() -> None:
    ended = await wolf_async(env=environment())
    assert (ended.status, ended.out) == (2, "")
    assert all(command in ended.err for command in ("init", "sandbox", "demo"))


async def test_plain_http_is_permitted_on_demand() -> None:
    env = environment(WOLF_TOKEN="canary-token")
    line = one_line(
        await wolf_async("init", "u", "--allow-http", "--base-url", "http://0.0.0.0:9", env=env), 1
    )
    assert "0.0.0.0:9" in line
    assert "plain http" not in line


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (unauthorized(), "HTTP 401"),
        (error(6007, "余额不足"), "code 6007): 余额不足"),
        (respond(500), "(after 3 attempts)"),
        (html(), "HTTP 200"),
        (truncate(100), "(after 3 attempts)"),
    ],
)
async def test_an_answer_that_failed_is_one_line_and_status_1(
    box: Sandbox, step: object, said: str
) -> None:
    box.always(step)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert said in one_line(await wolf_async("init", box.users[0], env=service(box)), 1)


async def test_an_unknown_account_is_one_line_and_status_1(box: Sandbox) -> None:
    assert "用户不存在" in one_line(await wolf_async("init", "nobody", env=service(box)), 1)


async def test_what_the_server_says_cannot_command_the_terminal(box: Sandbox) -> None:
    box.always(error(6007, "\x1b[2Jgone\x07"))
    assert "�[2Jgone�" in one_line(await wolf_async("init", box.users[0], env=service(box)), 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("option", ["--json", "--base-url={}"])
async def test_output_that_cannot_be_written_is_one_line_and_status_1(
    box: Sandbox, option: str
) -> None:
    # short enough to wait in a buffer, so that only a flush shows that it cannot be written
    box.set_data(box.users[0], {"max_recycle_limit": 50, "caller_line_list": []})
    with Path("/dev/full").open("wb") as full:  # noqa: ASYNC230 - a device
        env = service(box)
        ended = await wolf_async(
            "init", box.users[0], option.format(box.base_url), env=env, stdout=full.fileno()
        )
    assert "No space left on device" in one_line(ended, 1)


@pytest.mark.parametrize("option", ["--json", "--base-url={}"])
async def test_a_reader_that_has_gone_is_no_news(box: Sandbox, option: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    env = service(box)
    ended = await wolf_async(
        "init", box.users[0], option.format(box.base_url), env=env, stdout=writing
    )
    os.close(writing)
    assert ended == (141, "", "")


async def test_a_closed_stdout_is_no_reason_to_fail(box: Sandbox) -> None:
    pytest.importorskip("pty")  # there is a POSIX shell
    closing = ("/bin/sh", "-c", 'exec "$@" >&-', "sh", *COMMAND)
    async with await start("init", box.users[0], env=service(box), command=closing) as process:
        assert await process.ended() == (0, "", "")


async def test_ctrl_c_is_quiet_and_status_130(box: Sandbox) -> None:
    gate = asyncio.Event()
    box.always(hold(gate))
    async with await start("init", box.users[0], env=service(box)) as process:
        await box.wait_for_calls(1, timeout=30)
        process.interrupt()
        assert await process.ended() == (130, "", "")
    await box.wait_until_idle()


# --- the token -----------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
async def test_the_token_is_in_no_process_list(box: Sandbox) -> None:
    gate = asyncio.Event()
    box.always(hold(gate))
    async with await start("init", box.users[0], env=service(box)) as process:
        await box.wait_for_calls(1, timeout=30)
        everywhere = Path(f"/proc/{process.pid}/cmdline").read_bytes()  # noqa: ASYNC240 - the kernel answers at once
        assert box.users[0].encode() in everywhere
        assert box.token.encode() not in everywhere
        gate.set()
        ended = await process.ended()
    assert ended.status == 0
    assert box.token not in ended.out + ended.err
    assert box.calls[0].authorized


async def test_a_token_that_slips_into_a_message_is_blotted_out(box: Sandbox) -> None:
    box.always(error(6007, f"bad {box.token}", 401))
    line = one_line(await wolf_async("init", f"../{box.token}", env=service(box)), 2)
    assert box.token not in line
    assert "***" in line
    line = one_line(await wolf_async("init", box.users[0], env=service(box)), 1)
    assert box.token not in line
    assert "bad ***" in line


# --- the package ---------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["click", "rich"])
async def test_a_missing_extra_is_one_line_that_says_how_to_install_it(package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None; "
        "from wolf_async.cli import main; sys.exit(main())"
    )
    async with await start(
        env=environment(), command=(sys.executable, "-W", "error", "-c", code)
    ) as process:
        line = one_line(await process.ended(), 2)
    assert line == f'wolf-async: {package} is not installed: pip install "wolf-async[cli]"'


async def test_the_library_imports_nothing_of_the_command_line() -> None:
    code = (
        "import sys, wolf_async, wolf_async.testing\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in ('click', 'rich')"
        " or name.startswith('wolf_async.cli.')))"
    )
    async with await start(env=environment(), command=(sys.executable, "-c", code)) as process:
        assert (await process.ended()).out == "[]\n"

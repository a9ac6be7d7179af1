"""``wolf-async dashboard``: where it listens, whom it shows, and how it ends."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
from base64 import b64encode
from typing import TYPE_CHECKING

import aiohttp
import pytest
from cli.shell import environment, one_line, service, start, wolf_async

from wolf_async.testing import Sandbox

from .serving import Stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from cli.shell import Process


@pytest.fixture
async def box() -> AsyncIterator[Sandbox]:
    async with Sandbox(accounts=2, sub_accounts=1) as sandbox:
        yield sandbox


async def address_of(process: Process) -> str:
    """Read where it listens."""
    found = re.search(r"http://\S+:\d+", await process.out_until("http://"))
    assert found is not None
    return found[0]


async def shown(url: str) -> list[str]:
    """Read the accounts of the page at that address."""
    async with Stream(url) as stream:
        return [row["id"] for row in (await stream.next()).data["rows"]]


async def test_it_shows_the_accounts_of_the_command_and_of_a_file_and_ends_on_sigterm(
    box: Sandbox, tmp_path: Path
) -> None:
    sub = next(account for account in box.accounts if account.sub_user_id)
    file = tmp_path / "accounts.csv"
    file.write_text(f"user_id\n{box.users[1]}\n{box.users[0]}\n", encoding="utf-8")
    named = f"{sub.user_id}:{sub.sub_user_id}"
    arguments = (box.users[0], named, "--accounts", str(file), "--port", "0", "--every", "0.2")
    async with await start("dashboard", *arguments, env=service(box)) as process:
        url = await address_of(process)
        assert await shown(url) == [box.users[0], named, box.users[1]]
        async with Stream(url) as stream:
            await stream.until("changes")
            begun = asyncio.get_running_loop().time()
            process.process.send_signal(signal.SIGTERM)
            ended = await process.ended()
            assert asyncio.get_running_loop().time() - begun < 5
    assert (ended.status, ended.err) == (143, "")


async def test_only_names_of_this_machine_are_answered_without_a_password(box: Sandbox) -> None:
    arguments = ("dashboard", box.users[0], "--port", "0")
    async with (
        await start(*arguments, env=service(box)) as process,
        aiohttp.ClientSession() as http,
    ):
        url = await address_of(process)
        for host, status in (("localhost", 200), ("127.0.0.1:1", 200), ("rebound.example", 421)):
            async with http.get(url, headers={"Host": host}) as response:
                assert response.status == status
        process.interrupt()
        assert (await process.ended()).status == 130


async def test_what_is_no_http_is_refused_without_a_word(box: Sandbox) -> None:
    async with await start("dashboard", box.users[0], "--port", "0", env=service(box)) as process:
        port = int((await address_of(process)).rpartition(":")[2])
        for target in (b"/\xff", b"/" + b"a" * 10_000):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b" 400 " in await reader.readline()
            writer.close()
        process.interrupt()
        ended = await process.ended()
    assert (ended.status, ended.err) == (130, "")


async def test_other_hosts_need_a_password_and_are_told_that_tls_belongs_in_front(
    box: Sandbox,
) -> None:
    arguments = ("dashboard", box.users[0], "--port", "0", "--host", "0.0.0.0")
    for password in ({}, {"WOLF_DASHBOARD_PASSWORD": ""}):
        ended = await wolf_async(*arguments, env=service(box, **password))
        assert "WOLF_DASHBOARD_PASSWORD" in one_line(ended, 2)
    env = service(box, WOLF_DASHBOARD_PASSWORD="secret")
    async with await start(*arguments, env=env) as process, aiohttp.ClientSession() as http:
        said = await process.out_until("in front")
        assert "TLS" in said
        assert "secret" not in said
        found = re.search(r":(\d+)/", said)
        assert found is not None
        url = f"http://127.0.0.1:{found[1]}/"
        right = {"Authorization": f"Basic {b64encode(b'any:secret').decode()}", "Host": "my.name"}
        for headers, status in (({}, 401), (right, 200)):
            async with http.get(url, headers=headers) as response:
                assert response.status == status


async def test_what_makes_no_sense_is_one_line_and_nothing_is_asked(
    box: Sandbox, tmp_path: Path
) -> None:
    file = tmp_path / "accounts.csv"
    file.write_text("user_id\nfine\n../up\n", encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, status, words in (
            ((), 2, "no account: name one"),
            (("a", "--every", "0"), 2, "--every must be"),
            (("a", "--idle", "-1"), 2, "--idle must be"),
            (("--accounts", str(file)), 2, "line 3"),
            (("a", "--port", port), 1, f"port {port} is in use"),
        ):
            ended = await wolf_async("dashboard", *arguments, env=service(box))
            assert words in one_line(ended, status)
    ended = await wolf_async("dashboard", "a", env=environment())
    assert "WOLF_TOKEN" in one_line(ended, 2)
    assert not box.calls

"""``--shared`` and ``wolf-async shared`` as a shell runs them."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from cli.shell import environment, one_line, service, start, wolf_async

from wolf_async.testing import Sandbox, answer, hold

if TYPE_CHECKING:
    from pathlib import Path

    from shared.servers import Server


async def test_it_tells_of_a_server_that_can_be_used(server: Server) -> None:
    with server.client() as client:
        info: Any = client.info("server")
    ended = await wolf_async("shared", env=environment(WOLF_SHARED=server.url))
    assert (ended.status, ended.err) == (0, "")
    assert info["redis_version"] in ended.out or info.get("valkey_version", "-") in ended.out
    assert server.url in ended.out
    assert "nothing" in ended.out


async def test_it_does_not_look_at_each_of_many_keys_of_others(own_server: Server) -> None:
    with own_server.client() as client:
        client.mset({f"other{number}": b"" for number in range(120_000)})
        client.config_resetstat()
        ended = await wolf_async("shared", env=environment(WOLF_SHARED=own_server.url))
        assert client.info("commandstats")["cmdstat_scan"]["calls"] <= 100
    assert (ended.status, ended.err) == (0, "")
    assert "0 or more" in ended.out


async def test_it_says_in_one_line_what_is_wrong(server: Server) -> None:
    ended = await wolf_async("shared", env=environment())
    assert "WOLF_SHARED" in one_line(ended, 2)
    ended = await wolf_async("shared", env=environment(WOLF_SHARED="http://u:pa55@host"))
    assert "pa55" not in one_line(ended, 2)
    ended = await wolf_async("shared", env=environment(WOLF_SHARED="redis://u:pa55@127.0.0.1:1/0"))
    assert "cannot be used" in one_line(ended, 1)
    assert "pa55" not in ended.err


async def test_it_names_what_the_user_may_not_do(own_server: Server) -> None:
    with own_server.client() as client:
        rights = ["~*", "&*", "+@all", "-publish", "-eval", "-scan"]
        client.execute_command("ACL", "SETUSER", "app", "on", ">secret", *rights)
    url = own_server.url.replace("//", "//app:secret@")
    ended = await wolf_async("shared", env=environment(WOLF_SHARED=url))
    assert ended.status == 1
    assert "lacks PUBLISH, EVAL" in ended.err
    assert "not told" in ended.out
    assert "secret" not in ended.out + ended.err


@pytest.mark.parametrize("command", ["init", "fetch"])
async def test_what_one_command_asked_for_serves_the_next(
    server: Server, tmp_path: Path, command: str
) -> None:
    async with Sandbox(accounts=1) as box:
        env = service(box, WOLF_SHARED=server.url)
        accounts = tmp_path / "accounts.csv"
        accounts.write_text(f"{box.users[0]}\n")
        args = {
            "init": ("init", box.users[0], "--json"),
            "fetch": ("fetch", str(accounts), "--out", "-"),
        }[command]
        alone = await wolf_async(*args, "--shared", env=env)
        again = await wolf_async(*args, "--shared", env=env)
        assert (alone.status, again.status) == (0, 0), alone
        assert len(box.calls) == 1
        assert alone.out[:50] == again.out[:50]


async def test_two_machines_that_create_for_one_account_never_promise_more_than_is_free(
    server: Server, tmp_path: Path
) -> None:
    gate = asyncio.Event()
    begin = datetime.now(timezone(timedelta(hours=8))) + timedelta(hours=1)
    async with Sandbox(accounts=1) as box:
        user, data = box.users[0], box.data_for(box.users[0])
        for line in data["caller_line_list"]:
            line |= {"residue": 0, "line_concurrency": 1, "available_at": "2099-01-01 00:00:00"}
        data["caller_line_list"][0]["residue"] = 1
        box.set_data(user, data)
        draft = {
            "name": "a task",
            "script": data["outbound_group_v2"][0]["id"],
            "calls": 1,
            "start": f"{begin:%Y-%m-%d %H:%M:%S}",
            "stop": f"{begin + timedelta(hours=200):%Y-%m-%d %H:%M:%S}",
        }
        source = tmp_path / "drafts.jsonl"
        source.write_text(json.dumps({"key": "k", "user_id": user, "draft": draft}))
        env = service(box, WOLF_SHARED=server.url)

        def args(name: str) -> tuple[str, ...]:
            out = str(tmp_path / f"{name}.jsonl")
            return ("create", str(source), "--out", out, "--send", "--shared")

        # the first one checks outside of its turn and in it, and then its request is out
        box.script(user, answer(), answer(), hold(gate))
        async with await start(*args("first"), env=env) as first:
            await box.wait_for_calls(3, timeout=60)
            async with await start(*args("second"), env=env) as second:
                await box.wait_for_calls(4, timeout=60)
                gate.set()
                assert (await first.ended()).err == "1 row: 1 created\n"
                assert (await second.ended()).err == "1 row: 1 problems\n"
        assert sum(call.method == "POST" for call in box.calls) == len(box.tasks) == 1


async def test_without_a_server_the_option_says_what_it_needs() -> None:
    async with Sandbox(accounts=1) as box:
        ended = await wolf_async("init", box.users[0], "--shared", env=service(box))
        assert "WOLF_SHARED" in one_line(ended, 2)
        assert box.calls == []
        await asyncio.sleep(0)

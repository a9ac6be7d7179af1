"""Promise what ``wolf-async sandbox`` does as a process: started, used, stopped."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import socket
import sys
import time
from collections import Counter
from typing import NamedTuple

import pytest

from wolf_async import (
    Account,
    RetryPolicy,
    TaskInit,
    WolfAPIError,
    WolfAuthError,
    WolfClient,
    WolfConnectionError,
    WolfRateLimitError,
)
from wolf_async.testing import synthetic_accounts, synthetic_token

from .shell import Process, environment, one_line, start, wolf_async

END_OF_GUIDE = "accounts; some more"


class Guide(NamedTuple):
    base_url: str
    token: str
    lines: list[str]
    """Those to copy."""


async def guide(process: Process, last: str = END_OF_GUIDE) -> Guide:
    text = await process.out_until(last)
    match = re.search(r"^ +export WOLF_BASE_URL=(\S+) WOLF_TOKEN=(\S+)$", text, re.MULTILINE)
    assert match is not None
    return Guide(
        match[1], match[2], [line.strip() for line in text.splitlines() if line.startswith("  ")]
    )


def owner(init: TaskInit) -> str | None:
    return init.task_dial_times[0].user_id


async def test_it_serves_accounts_until_ctrl_c() -> None:
    async with await start("sandbox", env=environment()) as process:
        base_url, token, _ = await guide(process)
        user, other = (account.user_id for account in synthetic_accounts(0, 10, 2)[:2])
        async with WolfClient(token, base_url=base_url) as wolf:
            assert owner(await wolf.task_init(user)) == user
            assert owner(await wolf.task_init(other)) == other
        async with WolfClient("wrong", base_url=base_url) as wolf:
            with pytest.raises(WolfAuthError):
                await wolf.task_init(user)
        process.interrupt()
        status, out, err = await process.ended()
    assert (status, err) == (130, "")
    assert synthetic_accounts(0, 10, 2)[2].user_id in out


async def test_ctrl_c_is_quiet_while_a_client_is_connected() -> None:
    async with await start("sandbox", env=environment()) as process:
        base_url, token, _ = await guide(process)
        async with WolfClient(token, base_url=base_url) as wolf:
            await wolf.task_init(synthetic_accounts(0, 1, 0)[0].user_id)
            process.interrupt()
            status, _, err = await process.ended()
    assert (status, err) == (130, "")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM")
async def test_sigterm_ends_it_well() -> None:
    async with await start("sandbox", env=environment()) as process:
        await guide(process)
        process.process.send_signal(signal.SIGTERM)
        status, _, err = await process.ended()
    assert (status, err) == (143, "")


async def test_it_lists_its_accounts_as_a_file_for_fetch() -> None:
    ended = await wolf_async("sandbox", "--list", "--accounts", "2", env=environment())
    assert (ended.status, ended.err) == (0, "")
    rows = [line.partition(",") for line in ended.out.splitlines()]
    assert rows[0] == ("user_id", ",", "sub_user_id")
    found = [Account(user, sub or None) for user, _, sub in rows[1:]]
    assert found == list(synthetic_accounts(0, 2, 2))


async def statuses(base_url: str, token: str, count: int) -> list[int]:
    """Ask so often, one after the other, and return the statuses; 0 for a broken connection."""
    user = synthetic_accounts(0, 1, 0)[0].user_id
    found: list[int] = []
    async with WolfClient(
        token, base_url=base_url, retry=RetryPolicy(attempts=1), breaker=None, cache=None
    ) as wolf:
        for _ in range(count):
            try:
                found.append((await wolf.raw_task_init(user)).status)
            except WolfAPIError as error:
                found.append(error.http_status)
            except WolfConnectionError:
                found.append(0)
    return found


async def test_it_has_the_bad_day_that_was_asked_for() -> None:
    faults = ("--fault", "503:0.2", "--fault", "422:.1", "--fault", "drop:0.3")
    async with await start("sandbox", "--token", "it's", *faults, env=environment()) as process:
        text = await process.out_until(END_OF_GUIDE)
        assert """WOLF_TOKEN='it'"'"'s'""" in text
        base_url = re.findall(r"WOLF_BASE_URL=(\S+)", text)[0]
        found = Counter(await statuses(base_url, "it's", 100))
        process.process.send_signal(signal.SIGUSR1)
        said = await process.out_until("so far")
    assert set(found) == {0, 200, 422, 503}
    assert 8 <= found[503] <= 40
    counts = re.search(r" so far: (\d+) requests, (\d+) refused, 1 accounts\n$", said)
    assert counts is not None
    # a client asks once more where a kept connection was closed, without counting it
    requests, refused = map(int, counts.groups())
    assert requests > 100
    assert requests - refused == found[200]


async def test_a_fault_may_say_when_to_ask_again() -> None:
    fault = ("--fault", "429:1:retry-after=7")
    async with await start("sandbox", *fault, "--latency", "0.1", env=environment()) as process:
        base_url, token, _ = await guide(process)
        begun = time.monotonic()
        async with WolfClient(
            token, base_url=base_url, retry=RetryPolicy(attempts=1, max_retry_after=1.0)
        ) as wolf:
            with pytest.raises(WolfRateLimitError) as caught:
                await wolf.task_init(synthetic_accounts(0, 1, 0)[0].user_id)
    assert caught.value.http_status == 429
    assert time.monotonic() - begun >= 0.1


async def test_it_tells_each_second_what_came() -> None:
    async with await start("sandbox", "--requests", env=environment()) as process:
        base_url, token, _ = await guide(process)
        asked = asyncio.create_task(statuses(base_url, token, 3))
        requests = 0
        while requests < 3:
            line = (await process.out_until("last second")).splitlines()[-1]
            found = re.fullmatch(
                r"[\d:]{8} last second: (\d+) requests, 0 refused, [01] accounts", line
            )
            assert found is not None
            requests += int(found[1])
        assert await asked == [200] * 3


@pytest.mark.parametrize(
    "fault", ["503", "503:2", "700:0.1", "503:0.1:retry=1", "drop:0.1:x", "503:-1", "teapot:0.1"]
)
async def test_a_fault_that_is_none_is_one_line_and_status_2(fault: str) -> None:
    line = one_line(await wolf_async("sandbox", "--fault", fault, env=environment()), 2)
    assert "503:0.1, 429:0.05:retry-after=1 or drop:0.01" in line


async def test_shares_above_one_are_refused() -> None:
    faults = ("--fault", "503:0.6", "--fault", "drop:0.6")
    assert "more than 1" in one_line(await wolf_async("sandbox", *faults, env=environment()), 2)


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("sh")), reason="needs sh and curl")
async def test_the_lines_it_prints_can_be_copied() -> None:
    """Each is one line, however narrow the terminal, and does what it says."""
    async with await start("sandbox", env=environment(COLUMNS="40")) as process:
        export, main, sub, curl = (await guide(process)).lines[:4]
        command = f'wolf_async() {{ "{sys.executable}" -m wolf_async.cli "$@"; }}'
        copied = "\n".join(
            line.replace("wolf-async ", "wolf_async ") for line in (export, main, sub, curl)
        )
        shell_command = ("sh", "-e", "-c", f"{command}\n{copied} --silent")
        async with await start(env=environment(), command=shell_command) as shell:
            status, out, err = await shell.ended()
    assert (status, err) == (0, "")
    user, sub_user = synthetic_accounts(0, 1, 1)[1]
    assert out.count(f"Account {user}\n") == 2
    assert f"Sub-account {sub_user}\n" in out
    assert '"status":"success"' in out


async def test_accounts_and_seed_are_what_was_asked_for() -> None:
    async with await start(
        "sandbox", "--accounts", "1", "--seed", "7", env=environment()
    ) as process:
        base_url, token, _ = await guide(process, "1 account.")
        assert token == synthetic_token(7)
        async with WolfClient(token, base_url=base_url) as wolf:
            account: Account = synthetic_accounts(7, 1, 2)[2]
            assert owner(await wolf.task_init(*account)) == account.sub_user_id


async def test_a_port_that_is_asked_for_is_used() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with await start("sandbox", "--port", str(port), env=environment()) as process:
        assert (await guide(process)).base_url == f"http://127.0.0.1:{port}"


async def test_a_port_in_use_is_one_line_and_status_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = await wolf_async("sandbox", "--port", str(port), env=environment())
    assert (
        one_line(ended, 1) == f"wolf-async: port {port} is in use: choose another one with --port"
    )


async def test_it_reads_no_settings_of_the_real_service() -> None:
    env = environment(WOLF_TOKEN="canary-token", WOLF_BASE_URL="https://example.com")
    async with await start("sandbox", env=env) as process:
        base_url, token, _ = await guide(process)
        assert base_url.startswith("http://127.0.0.1:")
        assert token == synthetic_token(0)
        process.interrupt()
        _, out, err = await process.ended()
    assert "canary" not in out + err


async def test_two_run_side_by_side() -> None:
    async with (
        await start("sandbox", env=environment()) as one,
        await start("sandbox", env=environment()) as two,
    ):
        guides = await asyncio.gather(guide(one), guide(two))
        assert guides[0].base_url != guides[1].base_url
